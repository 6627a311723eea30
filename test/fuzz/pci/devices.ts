import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openDisk } from '../../../src/backends/disk/open.ts';
import { createUserNetwork } from '../../../src/backends/net/index.ts';
import { openShare } from '../../../src/backends/share/open-share.ts';
import { edu } from '../../../src/devices/edu/device.ts';
import { createPciDevice } from '../../../src/devices/kit/create.ts';
import { definePciDevice } from '../../../src/devices/kit/definition.ts';
import type { DmaPin } from '../../../src/devices/kit/device.ts';
import { pciTestdev } from '../../../src/devices/pci-testdev/device.ts';
import { VirtioBalloon } from '../../../src/devices/virtio/balloon/device.ts';
import { pinAwareDiscarder } from '../../../src/devices/virtio/balloon/discarder.ts';
import { VirtioBlk } from '../../../src/devices/virtio/blk/device.ts';
import { VirtioConsole } from '../../../src/devices/virtio/console/device.ts';
import type { VirtioDevice } from '../../../src/devices/virtio/device.ts';
import { VirtioFs } from '../../../src/devices/virtio/fs/device.ts';
import { VirtioMem } from '../../../src/devices/virtio/mem/device.ts';
import { VirtioNet } from '../../../src/devices/virtio/net/device.ts';
import { createVirtioPci } from '../../../src/devices/virtio/pci-transport.ts';
import { VirtioRng } from '../../../src/devices/virtio/rng/device.ts';
import { VirtioVsock } from '../../../src/devices/virtio/vsock/device.ts';
import type { VsockConnection, VsockHandlers } from '../../../src/devices/virtio/vsock/types.ts';
import type { MemorySlots } from '../../../src/memory/types.ts';
import { ExpressCapability } from '../../../src/pci/caps/express.ts';
import { PmCapability } from '../../../src/pci/caps/pm.ts';
import type { PciFunction } from '../../../src/pci/function.ts';
import type { VirtualClock } from '../../../src/time/types.ts';
import { MemoryFiles } from '../../support/fuse.ts';
import { type GuardedRam, HOTPLUG, HOTPLUG_BLOCK, HOTPLUG_SIZE, RAM, RAM_SIZE } from './guest-ram.ts';
import { ClockScheduler, FuzzDisk, FuzzSockets, InjectedError, Loopback } from './host-ends.ts';
import type { Random } from './random.ts';

/** What the devices are made with. */
export interface DeviceEnvironment {
  readonly random: Random;
  readonly ram: GuardedRam;
  readonly clock: VirtualClock;
  readonly slots: MemorySlots;
  log(line: string): void;
  /** Something that must not happen has happened. */
  broken(why: string): void;
}

/** A function that the guest attacks. */
export interface Victim {
  readonly f: PciFunction;
  /** Absent for functions that are not virtio's. */
  readonly virtio?: VirtioDevice;
  readonly transitional?: boolean;
}

/** All devices, and what happens at their host ends. */
export interface Devices {
  /** By themselves on the root bus. */
  readonly fixed: readonly Victim[];
  /** For the hot-plug slots. */
  readonly pluggable: readonly Victim[];
  /** Behind a bridge. */
  readonly bridged: readonly Victim[];
  /** Left alone by the guest. */
  readonly witnessRng: PciFunction;
  readonly witnessBlk: PciFunction;
  readonly witnessDisk: FuzzDisk;
  /** Bytes that the guest can read by way of a device. */
  readonly exposed: readonly Uint8Array[];
  /** A moment of the host: completions, arrivals. */
  step(): void;
  /** Whether files of the host are still being read or written. */
  readonly busy: boolean;
  /** Now and then: the host's programs throw away what the guest has made in its shared folder. */
  clean(): Promise<void>;
  close(): Promise<void>;
}

const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
export const GUEST_CID = 3;

export async function createDevices(env: DeviceEnvironment): Promise<Devices> {
  const { random, ram, clock } = env;
  // In memory where there is such a place: flushes by the thousand would be all that a run does.
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'tsvisor-fuzz-'));
  const share = join(folder, 'share');
  await mkdir(share);
  writeFileSync(join(folder, 'base.img'), random.bytes(1 << 20));
  writeFileSync(join(folder, 'raw.img'), '');
  truncateSync(join(folder, 'raw.img'), 256 << 10);
  const overlay = await openDisk({ path: join(folder, 'base.img'), cow: join(folder, 'over.cow') });
  const raw = await openDisk({ path: join(folder, 'raw.img'), synchronous: true });
  const shared = await openShare({ directory: share, readOnly: false });

  const scheduler = new ClockScheduler(clock);
  const sockets = new FuzzSockets(random);
  const network = await createUserNetwork({
    sockets,
    scheduler,
    random: () => random.u32(),
    forward: [
      { proto: 'tcp', hostPort: 2222, guestPort: 22 },
      { proto: 'udp', hostPort: 2223, guestPort: 23 },
    ],
  });

  const blk = (disk: ConstructorParameters<typeof VirtioBlk>[0]['disk'], queues = 1) =>
    new VirtioBlk({
      disk,
      queues,
      serial: 'fuzz',
      onError: e => {
        if (!(e instanceof InjectedError)) env.broken(`a disk: ${String(e)}`);
      },
    });
  const sync = new FuzzDisk(random, 'sync');
  const later = new FuzzDisk(random, 'async');
  const both = new FuzzDisk(random, 'both', 256 << 10, true);
  const witnessDisk = new FuzzDisk(random, 'async', 64 << 10, false, false);
  const files = new MemoryFiles();
  for (const name of ['a', 'b', 'hello']) files.put(name, 'x'.repeat(5000));
  const consoles = [
    new VirtioConsole({ console: consolePort(random), ports: [consolePort(random, 'p1'), consolePort(random, 'p2')] }),
    new VirtioConsole({ console: consolePort(random), cols: 80, rows: 25 }),
  ];
  const balloon = new VirtioBalloon({
    ram: [{ base: RAM, size: RAM_SIZE }],
    clock,
    statisticsPeriod: 1e6,
    discarder: pinAwareDiscarder(ram.pins),
  });
  const mem = new VirtioMem({ base: HOTPLUG, size: HOTPLUG_SIZE, blockSize: HOTPLUG_BLOCK, memory: ram.pins });
  const vsock = new VirtioVsock({ guestCid: GUEST_CID, clock, maxConnections: 64 });
  const sockEnds = new VsockEnds(vsock, random);
  const shareDevice = new VirtioFs({ tag: 'share', server: shared });
  const rng = () => new VirtioRng({ fill: into => void random.fill(into) });

  let made = 0;
  const virtio = (device: VirtioDevice, transitional = false, packed = true): Victim => ({
    virtio: device,
    transitional,
    f: createVirtioPci({
      device: watched(device, env),
      name: `${device.name} ${made++}`,
      transitional,
      packed,
      capabilities: [new PmCapability(), new ExpressCapability({ type: 'endpoint', functionReset: true })],
      log: line => env.log(line),
    }),
  });
  const kit = (definition: Parameters<typeof createPciDevice>[0], options = {}): Victim => ({
    f: createPciDevice(
      definition,
      {
        name: `kit ${made++}`,
        clock,
        slots: env.slots,
        log: line => env.log(line),
        failed: failure => env.broken(`${failure.message}\n${failure.stack}`),
      },
      options,
    ),
  });

  const disks = [sync, later, both, witnessDisk];
  return {
    fixed: [
      virtio(blk(sync)),
      virtio(blk(later, 2), true),
      virtio(blk(overlay)),
      virtio(new VirtioNet({ mac: MAC, backend: network })),
      virtio(new VirtioNet({ mac: MAC, backend: new Loopback() }), true),
      virtio(consoles[0]!),
      virtio(balloon, true),
      virtio(vsock),
      virtio(new VirtioFs({ tag: 'memory', server: files })),
      virtio(shareDevice),
      virtio(mem),
      kit(edu, { dma_mask: '0xffffffffffffffff' }),
      kit(pciTestdev),
      kit(everything),
    ],
    pluggable: [
      virtio(rng()),
      virtio(blk(both), true),
      virtio(consoles[1]!, true, false),
      kit(edu),
      virtio(new VirtioNet({ mac: MAC, backend: new Loopback() })),
    ],
    bridged: [virtio(rng(), true), virtio(blk(raw))],
    witnessRng: virtio(new VirtioRng({ fill: into => into.set(Uint8Array.from(into, (_, i) => i)) })).f,
    witnessBlk: virtio(blk(witnessDisk)).f,
    witnessDisk,
    exposed: disks.map(d => d.bytes),
    step: () => {
      for (const d of disks) d.step(d === witnessDisk);
      sockets.step();
      scheduler.settle();
      sockEnds.step();
      stepConsoles(consoles, random);
      if (random.oneIn(8)) balloon.target = random.below(RAM_SIZE >> 12) << 12;
      if (random.oneIn(8)) mem.requested = random.below(HOTPLUG_SIZE / HOTPLUG_BLOCK + 1) * HOTPLUG_BLOCK;
      if (random.oneIn(64)) mem.systemReset();
      if (random.oneIn(8)) balloon.requestStatistics().catch(() => undefined);
      files.calls.length = 0;
      clock.advanceTo(clock.nowNs() + random.below(20e6));
      clock.runDue();
      scheduler.settle();
    },
    get busy() {
      return overlay.inFlight > 0 || raw.inFlight > 0 || shareDevice.busy;
    },
    clean: async () => {
      // The guest's names are bytes, which need not be UTF-8.
      for (const name of await readdir(share, { encoding: 'buffer' })) {
        await rm(Buffer.concat([Buffer.from(`${share}/`), name]), { recursive: true, force: true });
      }
    },
    close: async () => {
      for (const d of disks) d.step(true);
      await network.close();
      shared.close();
      await overlay.close();
      await raw.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/**
 * The same device, whose exceptions are seen: the transport turns them into DEVICE_NEEDS_RESET, so that the machine lives on,
 * but each one is a defect.
 */
function watched(device: VirtioDevice, env: DeviceEnvironment): VirtioDevice {
  const guard = <A extends unknown[], R>(what: string, f: (...args: A) => R) => {
    return (...args: A): R => {
      try {
        return f(...args);
      } catch (e) {
        env.broken(`${device.name} ${what}: ${e instanceof Error ? e.stack : String(e)}`);
        throw e;
      }
    };
  };
  const { name, type, queueSizes, features, configSize } = device;
  return {
    ...{ name, type, queueSizes, features, configSize },
    readConfig: guard('readConfig', (offset, size) => device.readConfig(offset, size)),
    writeConfig: guard('writeConfig', (offset, size, value) => device.writeConfig(offset, size, value)),
    activate: guard('activate', host => device.activate(host)),
    notify: guard('notify', index => device.notify(index)),
    reset: guard('reset', () => device.reset()),
  };
}

function consolePort(random: Random, name?: string) {
  return { ...(name === undefined ? {} : { name }), output: (bytes: Uint8Array) => random.below(bytes.length + 1) };
}

function stepConsoles(consoles: readonly VirtioConsole[], random: Random): void {
  const c = random.pick(consoles);
  const port = random.pick(c.ports);
  if (random.oneIn(2)) port.outputRoom();
  if (random.oneIn(2)) port.input(random.bytes(random.below(300)));
  if (random.oneIn(8)) c.resize(random.below(300), random.below(100));
}

/** Programs of the host that listen for the guest, and that call it. */
class VsockEnds {
  readonly #open = new Set<VsockConnection>();

  constructor(
    readonly vsock: VirtioVsock,
    readonly random: Random,
  ) {
    vsock.listen(1, c => this.#handlers(c, bytes => c.write(bytes) || undefined));
    vsock.listen(2, c => this.#handlers(c, () => false));
    vsock.listen(3, async c => (random.oneIn(2) ? this.#handlers(c, () => undefined) : undefined));
    vsock.listen(4, () => undefined);
  }

  step(): void {
    const { random, vsock } = this;
    if (vsock.active && this.#open.size < 32 && random.oneIn(4)) {
      let connection: VsockConnection | undefined;
      // Handlers may be told before connect() returns.
      let closed = false;
      connection = vsock.connect(random.below(4), {
        data: () => undefined,
        closed: () => {
          closed = true;
          if (connection !== undefined) this.#open.delete(connection);
        },
      });
      if (!closed) this.#open.add(connection);
    }
    for (const c of this.#open) {
      if (!random.oneIn(16)) continue;
      const act = random.below(6);
      if (act < 2) c.write(random.bytes(random.below(3000)));
      else if (act === 2) c.end();
      else if (act === 3) c.destroy();
      else if (act === 4) c.pause();
      else c.resume();
    }
    if (random.oneIn(64)) vsock.resetTransport();
  }

  #handlers(c: VsockConnection, data: (bytes: Uint8Array) => boolean | undefined): VsockHandlers {
    this.#open.add(c);
    return { data, closed: () => void this.#open.delete(c) };
  }
}

/** A device of the kit with one of everything: memory, registers, ports, ROM, MSI-X, DMA by whatever address it is told. */
const everything = definePciDevice(
  {
    name: 'everything',
    vendor: 0x1234,
    device: 0x0001,
    bars: [
      { index: 0, kind: 'mem64', size: 64 << 10, memory: true },
      { index: 2, kind: 'io', size: 64 },
      { index: 3, kind: 'mem32', size: 4096 },
    ],
    msix: 65,
    msi: 32,
    intx: true,
    rom: new Uint8Array(3000).fill(0x55),
    extraCapabilities: [
      { id: 9, bytes: new Uint8Array(14), writable: new Uint8Array(14).fill(0xff) },
      { id: 0xb, extendedVersion: 1, bytes: new Uint8Array(60), writable: new Uint8Array(60).fill(0x5a) },
    ],
  },
  dev => {
    let address = 0n;
    let length = 0;
    const held: DmaPin[] = [];
    dev.bar(2).on({
      read: offset => offset,
      write: (offset, value) => {
        if (offset === 0) dev.msi(value % 65).trigger();
        else if (offset === 4) dev.intx.set(value !== 0);
      },
    });
    dev.bar(3).on({
      read: offset => dev.config.read(offset, 4),
      write: (_offset, value) => {
        length = value;
      },
      read64: () => BigInt(dev.dma.read(address, length)?.length ?? 0),
      write64: (offset, value) => {
        address = value;
        if (offset < 2048) return;
        dev.dma.write(address, dev.bar(0).memory.subarray(0, length));
        dev.dma.view(address, length, 'w')?.fill(7, 0, 100);
        const pin = dev.dma.pin(address, length, length % 2 === 0 ? 'r' : 'w', { longterm: length % 3 === 0 });
        if (pin === undefined) return;
        // Some stay until a reset or an unplug, which the device does not care about.
        held.push(pin);
        if (held.length > 3) held.shift()!.unpin();
      },
    });
    dev.onUnplug(() => undefined);
  },
);
