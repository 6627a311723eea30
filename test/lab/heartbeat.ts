import { O_RDONLY } from 'node:constants';
import { host } from '../../src/engines/host/host.ts';

/** Linux, include/uapi/linux/rtc.h: _IO('p', 3). */
const RTC_UIE_ON = 0x7003;

/**
 * Lets the machine's real-time clock interrupt it every second for as long as this process lives.
 *
 * QEMU's emulation of SVM (7.2, target/i386/tcg/sysemu/svm_helper.c) changes `interrupt_request` without its lock when it enters and
 * leaves a guest, and can so lose a timer's interrupt: it is pending in the local APIC then, the CPU is not told, and an idle kernel,
 * whose timers are one-shot, sleeps until some other interrupt makes QEMU look again. That was seen about once in ten minutes of guests.
 */
export function startHeartbeat(): void {
  const addon = host();
  addon.ioctl(addon.open('/dev/rtc0', O_RDONLY), RTC_UIE_ON);
}
