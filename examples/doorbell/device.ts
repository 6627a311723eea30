// A doorbell. Registers in BAR 0: a write to 0 rings; a read of 0 tells how often the bell has rung, of 4 how many of the
// callers somebody has come to the door for, 1 ms after the last ring. BAR 2 is memory, with a name plate that the guest reads.
import { definePciDevice } from 'tsvisor/devices';

export default definePciDevice(
  {
    name: 'doorbell',
    vendor: 0x1234,
    device: 0xbe11,
    bars: [
      { index: 0, kind: 'mem32', size: 4096 },
      { index: 2, kind: 'mem64', size: 4096, memory: true },
    ],
  },
  dev => {
    let rings = 0;
    let answered = 0;
    let walking: Disposable | undefined;

    dev.bar(2).memory.set(new TextEncoder().encode(String(dev.options.plate ?? 'tsvisor')));

    dev.bar(0).on({
      read: offset => (offset === 0 ? rings : offset === 4 ? answered : undefined),
      write: (offset, caller) => {
        if (offset !== 0) return;
        rings++;
        dev.log(`caller ${caller} at the door`);
        walking?.[Symbol.dispose]();
        walking = dev.after(1_000_000, () => {
          answered = rings;
          dev.msi(0).trigger();
        });
      },
    });

    dev.onReset(() => {
      walking?.[Symbol.dispose]();
      rings = answered = 0;
    });
  },
);
