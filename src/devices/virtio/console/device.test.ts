import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type FakeHost, type FakeQueue, fakeHost, joined } from '../../../../test/support/fake-virtio.ts';
import { VirtioConsole, type VirtioConsoleOptions } from './device.ts';

const text = (b: Uint8Array) => new TextDecoder().decode(Uint8Array.from(b));
const bytes = (s: string) => new TextEncoder().encode(s);

/** The host's end of a port: takes at most `window` bytes until it is given more. */
class Terminal {
  got = '';
  window = Number.POSITIVE_INFINITY;
  rooms = 0;
  readonly opens: boolean[] = [];
  readonly name: string;
  constructor(name = 'org.test.0') {
    this.name = name;
  }
  output = (b: Uint8Array) => {
    expect(b.buffer).toBeInstanceOf(ArrayBuffer);
    const taken = Math.min(b.length, this.window);
    this.window -= taken;
    this.got += text(b.subarray(0, taken));
    return taken;
  };
  onRoom = () => {
    this.rooms++;
  };
  onOpen = (open: boolean) => {
    this.opens.push(open);
  };
}

function setUp(options: Partial<VirtioConsoleOptions> = {}) {
  const terminal = new Terminal();
  const device = new VirtioConsole({ console: terminal, ...options });
  return { terminal, device, port: device.ports[0]! };
}

const written = (queue: FakeQueue) =>
  queue.pushed.map(p => text(joined(p.chain.writable).subarray(0, p.written))).join('');

describe('the console port', () => {
  test('output arrives whole and in order, however it is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.string({ unit: 'grapheme-ascii' }), { maxLength: 4 }), { maxLength: 6 }),
        all => {
          const { terminal, device } = setUp();
          const tx = fakeHost(device).queues[1]!;
          for (const pieces of all) tx.offer(pieces.map(bytes));
          device.notify(1);
          expect(terminal.got).toBe(all.flat().join(''));
          expect(tx.pushed.map(p => p.written)).toEqual(all.map(() => 0));
          expect(tx.interrupts).toBe(all.length > 0 ? 1 : 0);
        },
      ),
      { numRuns: 50 },
    );
  });

  test('what the host does not take stays in the guest until it has room', () => {
    const { terminal, device, port } = setUp();
    const tx = fakeHost(device).queues[1]!;
    terminal.window = 5;
    tx.offer([bytes('abc'), bytes('def')]);
    tx.offer([bytes('ghi')]);
    device.notify(1);
    expect([terminal.got, tx.pushed.length, tx.interrupts]).toEqual(['abcde', 0, 0]);
    device.notify(1); // still no room
    expect(terminal.got).toBe('abcde');
    terminal.window = 2;
    port.outputRoom();
    expect([terminal.got, tx.pushed.length, tx.interrupts]).toEqual(['abcdefg', 1, 1]);
    terminal.window = 100;
    port.outputRoom();
    expect([terminal.got, tx.pushed.length, tx.interrupts]).toEqual(['abcdefghi', 2, 2]);
  });

  test('a host may say from inside of output() that it has room', () => {
    let got = '';
    const device: VirtioConsole = new VirtioConsole({
      console: {
        output: b => {
          device.ports[0]!.outputRoom();
          got += text(b);
          return b.length;
        },
      },
    });
    fakeHost(device).queues[1]!.offer([bytes('once')]);
    device.notify(1);
    expect(got).toBe('once');
  });

  test('long output comes in pieces of 4 KiB', () => {
    const sizes: number[] = [];
    const device = new VirtioConsole({ console: { output: b => sizes.push(b.length) && b.length } });
    fakeHost(device).queues[1]!.offer([new Uint8Array(10_000)]);
    device.notify(1);
    expect(sizes).toEqual([4096, 4096, 1808]);
  });

  test('input goes as far as there are buffers; the rest waits for room', () => {
    const { terminal, device, port } = setUp();
    const rx = fakeHost(device).queues[0]!;
    expect(rx.driverNotifications).toBe(false);
    rx.offer([], [2, 1]);
    rx.offer([], [4]);
    expect(port.input(bytes('hello, guest'))).toBe(7);
    expect(written(rx)).toBe('hello, ');
    expect([rx.interrupts, rx.driverNotifications]).toEqual([1, true]);
    rx.offer([], [100]);
    device.notify(0);
    expect([terminal.rooms, rx.driverNotifications]).toEqual([1, false]);
    expect(port.input(bytes('guest'))).toBe(5);
    expect(written(rx)).toBe('hello, guest');
    device.notify(0);
    expect(terminal.rooms).toBe(1);
  });

  test('input before there is a driver waits for it', () => {
    const { terminal, device, port } = setUp();
    expect(port.input(bytes('early'))).toBe(0);
    fakeHost(device);
    expect([terminal.rooms, terminal.opens]).toEqual([1, [true]]);
  });

  test('receive buffers without room are returned', () => {
    const { device, port } = setUp();
    const rx = fakeHost(device).queues[0]!;
    rx.offer([bytes('x')]);
    rx.offer([], [0]);
    rx.offer([], [9]);
    expect(port.input(bytes('ab'))).toBe(2);
    expect(rx.pushed.map(p => p.written)).toEqual([0, 0, 2]);
  });

  test('a reset forgets output that was taken in part', () => {
    const { terminal, device } = setUp();
    const old = fakeHost(device).queues[1]!;
    terminal.window = 1;
    old.offer([bytes('old')]);
    device.notify(1);
    device.reset();
    terminal.window = 100;
    device.ports[0]!.outputRoom();
    const tx = fakeHost(device).queues[1]!;
    tx.offer([bytes('new')]);
    device.notify(1);
    expect([terminal.got, old.pushed]).toEqual(['onew', []]);
    expect(terminal.opens).toEqual([true, false, true]);
  });
});

describe('configuration', () => {
  test('emerg_wr prints a character, with or without a driver', () => {
    const { terminal, device } = setUp();
    device.writeConfig(8, 4, 0x141);
    device.writeConfig(8, 1, 0x42);
    device.writeConfig(0, 4, 0x43);
    device.writeConfig(9, 1, 0x44);
    expect(terminal.got).toBe('AB');
  });

  test('cols, rows and max_nr_ports', () => {
    const { device } = setUp({ cols: 132, rows: 43, ports: [new Terminal()] });
    expect([device.readConfig(0, 2), device.readConfig(2, 2), device.readConfig(4, 4)]).toEqual([132, 43, 2]);
    expect(device.readConfig(0, 4)).toBe(132 + 43 * 65_536);
    expect(device.readConfig(8, 4)).toBe(0);
  });

  test('a new size is a configuration change', () => {
    const { device } = setUp();
    device.resize(80, 24);
    const host = fakeHost(device);
    expect(host.configChanges).toBe(0);
    device.resize(100, 70_000);
    expect([host.configChanges, device.readConfig(0, 2), device.readConfig(2, 2)]).toEqual([1, 100, 65_535]);
    expect(host.has(1)).toBe(false);
  });

  test('a driver without VIRTIO_CONSOLE_F_SIZE is not bothered', () => {
    const { device } = setUp();
    const host = fakeHost(device, 1n << 32n);
    device.resize(80, 24);
    expect(host.configChanges).toBe(0);
  });

  test('bad port names are refused', () => {
    for (const ports of [[new Terminal('')], [new Terminal('a'), new Terminal('a')], [new Terminal('x'.repeat(256))]]) {
      expect(() => setUp({ ports })).toThrow(expect.objectContaining({ code: 'ERR_DEVICE' }));
    }
    const many = Array.from({ length: 31 }, (_, i) => new Terminal(`p${i}`));
    expect(() => setUp({ ports: many })).toThrow('at most 30');
    expect(setUp({ ports: many.slice(1) }).device.queueSizes.length).toBe(64);
  });
});

describe('multiport', () => {
  function multiport() {
    const agent = new Terminal('agent');
    const { terminal, device } = setUp({ ports: [agent], cols: 80, rows: 25 });
    const host = fakeHost(device);
    return { terminal, agent, device, host };
  }

  function control(device: VirtioConsole, host: FakeHost, id: number, event: number, value: number): void {
    const m = new DataView(new ArrayBuffer(8));
    m.setUint32(0, id, true);
    m.setUint16(4, event, true);
    m.setUint16(6, value, true);
    host.queues[3]!.offer([new Uint8Array(m.buffer)]);
    device.notify(3);
  }

  /** Control messages that the driver got, as [id, event, value, the rest's bytes]. */
  function messages(host: FakeHost): [number, number, number, number[]][] {
    const all = host.queues[2]!.pushed.map(p => joined(p.chain.writable).subarray(0, p.written));
    host.queues[2]!.pushed.length = 0;
    return all.map(m => {
      const v = new DataView(m.buffer, m.byteOffset);
      return [v.getUint32(0, true), v.getUint16(4, true), v.getUint16(6, true), [...m.subarray(8)]];
    });
  }

  const provide = (host: FakeHost, n: number) => {
    for (let i = 0; i < n; i++) host.queues[2]!.offer([], [5, 200]);
  };

  test('the driver learns of the ports, their names and the size', () => {
    const { device, host } = multiport();
    provide(host, 16);
    control(device, host, 0, 0, 1);
    expect(messages(host)).toEqual([
      [0, 1, 1, []],
      [1, 1, 1, []],
    ]);
    control(device, host, 0, 3, 1);
    const name = [...bytes('org.test.0')];
    expect(messages(host)).toEqual([
      [0, 4, 1, []],
      [0, 5, 0, [80, 0, 25, 0]],
      [0, 7, 1, name],
      [0, 6, 1, []],
    ]);
    control(device, host, 1, 3, 1);
    expect(messages(host)).toEqual([
      [1, 7, 1, [...bytes('agent')]],
      [1, 6, 1, []],
    ]);
    device.resize(132, 50);
    expect(messages(host)).toEqual([[0, 5, 0, [132, 0, 50, 0]]]);
    expect(host.configChanges).toBe(1);
  });

  test('ports carry bytes on their own queues once the guest has opened them', () => {
    const { terminal, agent, device, host } = multiport();
    const port = device.ports[1]!;
    host.queues[4]!.offer([], [100]);
    expect(port.input(bytes('ping'))).toBe(0);
    control(device, host, 1, 6, 1);
    expect([agent.opens, agent.rooms]).toEqual([[true], 1]);
    expect(port.input(bytes('ping'))).toBe(4);
    expect(written(host.queues[4]!)).toBe('ping');
    host.queues[5]!.offer([bytes('pong')]);
    device.notify(5);
    expect([agent.got, terminal.got]).toEqual(['pong', '']);
    control(device, host, 1, 6, 0);
    control(device, host, 0, 6, 1);
    expect([agent.opens, terminal.opens]).toEqual([[true, false], [true]]);
  });

  test('messages wait for buffers, and asking again does not pile them up', () => {
    const { device, host } = multiport();
    for (let i = 0; i < 1000; i++) {
      control(device, host, 0, 0, 1);
      control(device, host, i % 2, 3, 1);
    }
    expect(messages(host)).toEqual([]);
    provide(host, 100);
    device.notify(2);
    expect(messages(host).length).toBe(8);
    expect(host.queues[2]!.waiting).toBe(92);
  });

  test('a driver that does not know MULTIPORT gets the console alone', () => {
    const { terminal, device } = setUp({ ports: [new Terminal('agent')] });
    const host = fakeHost(device, 1n << 32n);
    host.queues[1]!.offer([bytes('hi')]);
    for (let i = 0; i < host.queues.length; i++) device.notify(i);
    expect([terminal.got, terminal.opens]).toEqual(['hi', [true]]);
  });

  test('any control message is survived and returned', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 12 }), { maxLength: 20 }), all => {
        const { device, host } = multiport();
        for (const m of all) host.queues[3]!.offer([m.subarray(0, 3), m.subarray(3)], [4]);
        host.queues[2]!.offer([bytes('no room')], []);
        provide(host, 2);
        device.notify(3);
        expect(host.queues[3]!.pushed.map(p => p.written)).toEqual(all.map(() => 0));
        expect(host.failures).toEqual([]);
      }),
    );
  });
});
