import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { I8042 } from './device.ts';
import * as R from './regs.ts';

function connect() {
  let resets = 0;
  const device = new I8042({ reset: () => resets++ });
  const status = () => device.command.read(0, 1);
  const data = () => device.data.read(0, 1);
  const command = (value: number, ...parameters: number[]) => {
    device.command.write(0, 1, value);
    for (const p of parameters) device.data.write(0, 1, p);
  };
  /** What a driver gets as an answer: undefined when it waits in vain. */
  const answer = () => (status() & R.STATUS_OUTPUT_FULL ? data() : undefined);
  return { device, status, data, command, answer, resets: () => resets };
}

describe('I8042', () => {
  it('resets by a pulse on bit 0 of the output port, and by writing it low', () => {
    const { command, resets } = connect();
    command(0xfe);
    expect(resets()).toBe(1);
    command(0xf0);
    expect(resets()).toBe(2);
    for (const c of [0xff, 0xfd, 0xf1, 0x00, 0xc0, 0xef]) command(c);
    command(R.WRITE_OUTPUT_PORT, 0x03);
    expect(resets()).toBe(2);
    command(R.WRITE_OUTPUT_PORT, 0xfe);
    expect(resets()).toBe(3);
  });

  it('remembers A20', () => {
    const { command, answer } = connect();
    const port = () => {
      command(R.READ_OUTPUT_PORT);
      return answer();
    };
    expect(port()).toBe(0x03);
    command(R.DISABLE_A20);
    expect(port()).toBe(0x01);
    command(R.ENABLE_A20);
    expect(port()).toBe(0x03);
    command(R.WRITE_OUTPUT_PORT, 0xdd);
    expect(port()).toBe(0xcd);
    command(R.WRITE_OUTPUT_PORT, 0xdf);
    expect(port()).toBe(0xcf);
  });

  it('passes what drivers probe, and shows them that there is no mouse', () => {
    const { status, command, answer, data } = connect();
    expect([status(), answer()]).toEqual([0x18, undefined]);
    command(R.SELF_TEST);
    expect([status(), answer(), status(), answer()]).toEqual([0x1d, 0x55, 0x1c, undefined]);
    command(R.TEST_KEYBOARD);
    expect(answer()).toBe(0);
    command(R.WRITE_COMMAND_BYTE, 0x74);
    expect(status()).toBe(0x14);
    command(R.READ_COMMAND_BYTE);
    expect(answer()).toBe(0x74);
    command(R.ENABLE_KEYBOARD);
    command(R.READ_COMMAND_BYTE);
    expect(answer()).toBe(0x64);
    command(R.DISABLE_KEYBOARD);
    command(R.READ_COMMAND_BYTE);
    expect(answer()).toBe(0x74);
    // Linux's probe of an auxiliary device: the byte comes back, but not as from one, and the test fails.
    command(R.WRITE_AUXILIARY_BUFFER, 0x5a);
    expect([status() & 0x20, answer()]).toEqual([0, 0x5a]);
    command(R.TEST_AUXILIARY);
    expect(answer()).toBe(R.TEST_CLOCK_LOW);
    command(R.WRITE_KEYBOARD_BUFFER, 0x77);
    expect([answer(), data()]).toEqual([0x77, 0x77]);
  });

  it('has neither keyboard nor mouse, whose bytes get no answer', () => {
    const { device, command, answer, resets } = connect();
    device.data.write(0, 1, 0xff);
    expect(answer()).toBeUndefined();
    command(R.WRITE_AUXILIARY, 0xf4);
    expect(answer()).toBeUndefined();
    // A command without its byte is forgotten when another comes.
    command(R.WRITE_OUTPUT_PORT);
    command(R.READ_COMMAND_BYTE);
    device.data.write(0, 1, 0);
    expect([answer(), resets()]).toEqual([0x01, 0]);
  });

  it('goes on in another one, and forgets everything on reset', () => {
    const a = connect();
    a.command(R.WRITE_COMMAND_BYTE, 0x45);
    a.command(R.DISABLE_A20);
    a.command(R.SELF_TEST);
    a.command(R.WRITE_COMMAND_BYTE);
    const b = connect();
    b.device.restore(structuredClone(a.device.save()));
    expect([b.status(), b.answer()]).toEqual([0x1d, 0x55]);
    b.device.data.write(0, 1, 0x47);
    b.command(R.READ_COMMAND_BYTE);
    expect(b.answer()).toBe(0x47);
    b.device.reset();
    expect(b.device.save()).toEqual(connect().device.save());
  });

  it('under any accesses nothing throws, and values are bytes', () => {
    const access = fc.record({
      port: fc.constantFrom('data' as const, 'command' as const),
      size: fc.constantFrom(1 as const, 2 as const, 4 as const),
      value: fc.option(fc.nat(0xffff_ffff), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(access, { maxLength: 60 }), accesses => {
        const { device } = connect();
        for (const { port, size, value } of accesses) {
          if (value === undefined) expect(device[port].read(0, size)).toBeLessThan(256);
          else device[port].write(0, size, value);
        }
      }),
    );
  });
});
