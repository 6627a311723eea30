import { ConfigGuest } from './config-guest.ts';
import { FuzzFailure, FuzzMachine } from './machine.ts';
import { pack } from './pack.ts';
import { Places } from './places.ts';
import { Random } from './random.ts';
import { VirtioGuest } from './virtio-guest.ts';
import { Witness } from './witness.ts';

/** How long {@link fuzzPci} goes on, and with what. */
export interface FuzzOptions {
  readonly seed: number;
  /** Accesses, requests and acts of the host; the run ends at the first check beyond. */
  readonly operations: number;
  /** Called after each check. */
  progress?(report: FuzzReport): void;
}

/** What a run did. Sizes are bytes, times milliseconds. */
export interface FuzzReport {
  readonly seed: number;
  readonly operations: number;
  readonly counts: Readonly<Record<string, number>>;
  /** Initializations of drivers, and requests that came back to them. */
  readonly initializations: number;
  readonly returned: number;
  readonly messages: number;
  readonly moves: number;
  readonly plugs: number;
  readonly ejected: number;
  /** Requests of the witnesses, all of which were answered as they should be. */
  readonly witnessed: number;
  /** Pages that devices have pinned, and released again. */
  readonly pinned: number;
  readonly slowest: { readonly ms: number; readonly what: string };
  readonly heapGrowth: number;
  readonly rssGrowth: number;
}

/** Steps between two turns of the event loop, and turns between two checks of everything. */
const STEPS = 64;
const TURNS_PER_CHECK = 16;
const CHECKS_PER_CLEANING = 64;
/** The caches and buffers of all devices are some MiB; more than this is a leak. */
const GROWTH_LIMIT = 256 << 20;
/** Turns that requests of files may take; a second and more. */
const MAX_TURNS = 100_000;

const turn = () => new Promise<void>(resolve => setImmediate(resolve));

/**
 * Runs a hostile guest against all PCI devices. The seed decides what the guest does, as long as the host's files answer alike.
 * @throws FuzzFailure with the last operations for an exception, an access of more than a second, host memory that was touched,
 *   growing memory, or a witness that got no answer.
 */
export async function fuzzPci(options: FuzzOptions): Promise<FuzzReport> {
  const random = new Random(options.seed);
  const m = await FuzzMachine.create(random);
  const lost = (e: unknown) => m.broken(`lost: ${e instanceof Error ? e.stack : String(e)}`);
  process.on('unhandledRejection', lost);
  process.on('uncaughtException', lost);
  try {
    return await run(m, options);
  } catch (e) {
    if (e instanceof Error) e.message = `seed ${options.seed}: ${e.message}`;
    throw e;
  } finally {
    process.off('unhandledRejection', lost);
    process.off('uncaughtException', lost);
    await m.devices.close();
  }
}

async function run(m: FuzzMachine, options: FuzzOptions): Promise<FuzzReport> {
  const { random, devices } = m;
  const places = new Places(m);
  const guest = new ConfigGuest(m, places);
  const drivers = m.victims.filter(v => v.virtio !== undefined).map((v, i) => new VirtioGuest(m, v, places, i));
  const witnesses = [new Witness(m, devices.witnessRng, 0), new Witness(m, devices.witnessBlk, 1)] as const;
  m.reserve(witnesses.flatMap(w => w.ranges));
  for (const w of witnesses) w.start();
  places.openAll();

  // Drawn anew with each check: how often of 1000 steps configuration space is attacked. Storms break everything at once; in calm
  // weather drivers get far enough to reach what is deep inside of a device.
  let storm = 20;
  const step = () => {
    const n = random.below(1000);
    if (n < storm) guest.configure();
    else if (n < storm + 60) guest.access();
    else if (n < storm + 62) guest.host();
    else if (n < storm + 66) places.open(random.pick(m.victims).f);
    else if (n === storm + 66 && random.oneIn(10)) places.openAll();
    else random.pick(drivers).step();
  };
  const settle = async () => {
    devices.step();
    await turn();
    for (let n = 0; devices.busy; n++) {
      if (n === MAX_TURNS) throw new FuzzFailure('a file of the host never answers');
      await turn();
    }
  };
  const witness = async () => {
    for (const w of witnesses) {
      // The host's user may reset the machine; a driver begins anew then.
      if (random.oneIn(64)) w.start();
    }
    const [rng, blk] = witnesses;
    const entropy = await rng.request(new Uint8Array(0), 64, settle);
    if (entropy.some((b, i) => b !== i)) throw new FuzzFailure('witness: wrong entropy');
    const sector = random.below(128);
    const data = random.bytes(512);
    const header = (type: number) => pack('IIQ', type, 0, sector);
    const wrote = await blk.request(Buffer.concat([header(1), data]), 1, settle);
    const read = await blk.request(header(0), 513, settle);
    if (wrote[0] !== 0 || read[512] !== 0 || Buffer.compare(read.subarray(0, 512), data) !== 0)
      throw new FuzzFailure('witness: the disk lost what was written');
    const id = m.memory.read(0x40_1000_0000, 4);
    if (id !== 0x0008_1b36) throw new FuzzFailure(`the host bridge says ${id.toString(16)}`);
  };

  let before: NodeJS.MemoryUsage | undefined;
  const report = (): FuzzReport => {
    const now = process.memoryUsage();
    const sum = (f: (d: VirtioGuest) => number) => drivers.reduce((total, d) => total + f(d), 0);
    return {
      seed: options.seed,
      operations: m.operations,
      counts: { ...m.counts },
      initializations: sum(d => d.initializations),
      returned: sum(d => d.returned),
      messages: m.messages,
      moves: m.moves,
      plugs: guest.plugs,
      ejected: guest.ejected,
      witnessed: witnesses.reduce((total, w) => total + w.requests, 0),
      pinned: m.ram.pins.stats().pinAcquired,
      slowest: m.slowest,
      heapGrowth: now.heapUsed - (before?.heapUsed ?? now.heapUsed),
      rssGrowth: now.rss - (before?.rss ?? now.rss),
    };
  };
  for (let checks = 1; m.operations < options.operations; checks++) {
    storm = random.pick([0, 5, 5, 20, 100, 300]);
    for (let t = 0; t < TURNS_PER_CHECK; t++) {
      for (let s = 0; s < STEPS; s++) step();
      m.check();
      await settle();
    }
    m.check();
    await witness();
    m.check();
    const problem = checks % 4 === 0 ? m.ram.problem(devices.exposed) : undefined;
    if (problem !== undefined) throw new FuzzFailure(problem);
    if (checks % CHECKS_PER_CLEANING === 0) await devices.clean();
    // What everything takes once it is warm.
    if (checks === 8) before = process.memoryUsage();
    const now = report();
    if (now.heapGrowth > GROWTH_LIMIT) throw new FuzzFailure(`the heap has grown by ${now.heapGrowth} bytes`);
    options.progress?.(now);
  }
  await release(m, settle);
  if (process.env.FUZZ_LOG !== undefined)
    for (const d of drivers)
      process.stderr.write(`${d.name}: ${d.offered} ${d.returned} ${d.initializations} ${JSON.stringify(d.stats)}\n`);
  return report();
}

/**
 * PIN-5 for all that has happened: long-term pins are those of rings and of one device that likes them, three areas a ring; and
 * after a reset, once the host's ends have done what was under way, nobody holds a page.
 */
async function release(m: FuzzMachine, settle: () => Promise<void>): Promise<void> {
  const { pins } = m.ram;
  const areas = new Map<string, number>();
  for (const p of pins.pins()) if (p.longterm) areas.set(p.owner, (areas.get(p.owner) ?? 0) + 1);
  for (const [owner, n] of areas) {
    const ring = / queue \d+$/.test(owner);
    if (ring ? n !== 3 : n > 3) throw new FuzzFailure(`${owner} has ${n} long-term pins`);
  }
  m.host.reset();
  for (let turns = 0; pins.leaks().length > 0; turns++) {
    if (turns === 1000) throw new FuzzFailure(`pins that are never released: ${JSON.stringify(pins.leaks())}`);
    await settle();
  }
  const { pinAcquired, pinReleased } = pins.stats();
  if (pinAcquired !== pinReleased) throw new FuzzFailure(`${pinAcquired} pages pinned, ${pinReleased} released`);
}
