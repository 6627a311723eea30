import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { host } from '../../src/engines/host/host.ts';
import { type GuestExit, KvmGuest, MMIO, PORT, PROGRAMS } from '../support/kvm-guest.ts';
import { missingGcc, missingKvm, NativeKit } from '../support/native.ts';

// The loop that runs vCPUs, with a real /dev/kvm and guests of a few instructions. The full run:
// TSVISOR_STRESS_SECONDS=60 TSVISOR_STRESS_LOADS=1000.

const SECONDS = Number(process.env.TSVISOR_STRESS_SECONDS ?? 3);
const LOADS = Number(process.env.TSVISOR_STRESS_LOADS ?? 50);
const PAUSES = 10_000;
const MILLISECOND = 1e6;
/** The kick's signal (native/vcpu.cc): SIGRTMIN + 4 of glibc. */
const KICK = 38;

const { addon, reason, attempts } = loadAddon();
const missing = addon === undefined ? reason : missingKvm();
if (missing !== undefined) console.log(`skipped: ${missing}`);
const withKvm = test.skipIf(missing !== undefined);
const noGcc = missingGcc();
if (noGcc !== undefined) console.log(`skipped, the tests with a storm of signals and with faults: ${noGcc}`);
const withGcc = test.skipIf(missing !== undefined || noGcc !== undefined);

const kit = new NativeKit();
afterAll(() => kit[Symbol.dispose]());
const addonPath = attempts.at(-1)?.path ?? '';

const turn = () => new Promise(resolve => setImmediate(resolve));

/** The number that run() returns when it is not -1, with turns of the event loop in between. */
async function next(guest: KvmGuest): Promise<number> {
  for (const end = performance.now() + 20_000; performance.now() < end; await turn()) {
    const n = guest.run(5 * MILLISECOND);
    if (n !== -1) return n;
  }
  throw new Error('nothing within 20 s');
}

async function exits(guest: KvmGuest, count: number): Promise<GuestExit[]> {
  const found: GuestExit[] = [];
  while (found.length < count) {
    const n = await next(guest);
    expect(n).toBe(0);
    found.push(guest.exit(0));
  }
  return found;
}

describe.each([
  ['inline', false],
  ['threads', true],
])('%s', (_, threads) => {
  withKvm('exits come one by one with their data', async () => {
    using five = new KvmGuest(host(), [PROGRAMS.five], threads);
    const out = [0, 1, 2, 3, 4].map(value => ({ reason: 'out', port: PORT, value }));
    expect(await exits(five, 6)).toEqual([...out, { reason: 'hlt' }]);
    using mmio = new KvmGuest(host(), [PROGRAMS.mmio], threads);
    const write = [1, 2, 3].map(value => ({ reason: 'mmio write', address: MMIO, value }));
    expect(await exits(mmio, 3)).toEqual(write);
    const [runs, delivered, inside, answer, , errno] = mmio.counters;
    expect(runs).toBeGreaterThanOrEqual(3);
    expect(delivered).toBe(3);
    expect(inside).toBeGreaterThan(0);
    expect(answer).toBeGreaterThan(0);
    expect(errno).toBe(0);
  });

  withKvm(
    'an answer is in kvm_run by the next run(); completeExit() takes it in without running the guest',
    async () => {
      const h = host();
      using guest = new KvmGuest(h, [PROGRAMS.sum], threads);
      for (const value of [5, 7, 200]) {
        expect(await exits(guest, 1)).toEqual([{ reason: 'in', port: PORT }]);
        guest.answerIn(0, value);
      }
      expect(h.pause(guest.runner, 5000)).toBe(true);
      expect(guest.register(0, 'rbx')).toBe(12);
      expect(h.completeExit(guest.runner, 0)).toBe(4);
      // The byte is in eax now, and not yet added.
      expect([guest.register(0, 'rax'), guest.register(0, 'rbx')]).toEqual([200, 12]);
      expect(await exits(guest, 1)).toEqual([{ reason: 'in', port: PORT }]);
      expect(h.pause(guest.runner, 5000)).toBe(true);
      expect(guest.register(0, 'rbx')).toBe(212);
    },
  );

  withKvm('the limit ends a run of a guest that never leaves by itself, and not before its time', async () => {
    using guest = new KvmGuest(host(), [PROGRAMS.spin], threads);
    let full = 0;
    // The event loop of the test's framework has work too, which ends a run early.
    for (let i = 0; i < 200 && full < 3; i++) {
      const start = performance.now();
      await turn();
      expect(guest.run(20 * MILLISECOND)).toBe(-1);
      if (performance.now() - start >= 20) full++;
    }
    expect(full).toBe(3);
    expect(guest.run(0)).toBe(-1);
    expect(guest.counters[1]).toBe(0);
  });

  withKvm('without a limit a run ends when the one before would have', async () => {
    const h = host();
    using guest = new KvmGuest(h, [PROGRAMS.count], threads);
    await turn();
    const start = performance.now();
    expect(guest.run(50 * MILLISECOND)).toBe(0);
    let exits = 0;
    for (let n = 0; n !== -1 || performance.now() - start < 50; n = h.run(guest.runner)) {
      // The event loop of the test's framework may end one early.
      if (n === -1) await turn();
      exits++;
    }
    expect(exits).toBeGreaterThan(3);
    // The time is over, and stays so.
    expect(h.run(guest.runner)).toBe(-1);
  });

  withKvm('the event loop ends a run: timers and callbacks come while the guest spins', async () => {
    using guest = new KvmGuest(host(), [PROGRAMS.spin], threads);
    await turn();
    const came: string[] = [];
    setTimeout(() => came.push('timer'), 5);
    readFile(fileURLToPath(import.meta.url)).then(() => came.push('file'));
    const end = performance.now() + 20_000;
    while (came.length < 2 && performance.now() < end) {
      expect(guest.run(Number.POSITIVE_INFINITY)).toBe(-1);
      await turn();
    }
    expect(came.sort()).toEqual(['file', 'timer']);
  });

  withKvm('kick() ends the next run', async () => {
    const h = host();
    using guest = new KvmGuest(h, [PROGRAMS.spin], threads);
    for (let i = 0; i < 20; i++) {
      await turn();
      h.kick(guest.runner);
      expect(guest.run(Number.POSITIVE_INFINITY)).toBe(-1);
    }
    expect(guest.counters[1]).toBe(0);
  });

  withKvm('a doorbell ends a run like an exit; the eventfd is empty then', async () => {
    const h = host();
    using guest = new KvmGuest(h, [PROGRAMS.ring], threads);
    const bell = guest.doorbell();
    h.runnerWatch(guest.runner, bell, 17);
    const own = h.eventfd(0, 0o4000);
    h.runnerWatch(guest.runner, own, 1_000_000);
    for (let i = 0; i < 3; i++) expect(await next(guest)).toBe(-1017);
    h.eventfdWrite(own, 3n);
    const rung = new Set<number>();
    while (!rung.has(-1_001_000)) rung.add(await next(guest));
    expect([...rung].filter(n => n !== -1017)).toEqual([-1_001_000]);
    expect(h.eventfdRead(own)).toBeUndefined();
    // No exit of the vCPU was needed.
    expect(guest.counters[1]).toBe(0);
    h.runnerUnwatch(guest.runner, own);
    h.runnerUnwatch(guest.runner, bell);
    expect(() => h.runnerUnwatch(guest.runner, bell)).toThrow('epoll_ctl failed: ENOENT');
    h.close(bell);
    h.close(own);
  });

  withKvm('after runnerDestroy() kvm_run is gone, the counters stay', async () => {
    const h = host();
    const guest = new KvmGuest(h, [PROGRAMS.five], threads);
    await exits(guest, 2);
    const state = h.runnerState(guest.runner, 0);
    expect(h.runnerState(guest.runner, 0)).toBe(state);
    expect(h.runnerCounters(guest.runner)).toBe(guest.counters);
    expect(guest.close()).toBe(true);
    expect(state.byteLength).toBe(0);
    expect(guest.counters[1]).toBe(2);
    expect(() => guest.run(0)).toThrow('the runner has been destroyed');
  });
});

withKvm('threads: exits of several vCPUs are handed out in turn', async () => {
  using guest = new KvmGuest(host(), [PROGRAMS.count, PROGRAMS.mmio, PROGRAMS.count, PROGRAMS.spin], true);
  const seen = [0, 0, 0, 0];
  for (let i = 0; i < 3000; i++) {
    const n = await next(guest);
    const exit = guest.exit(n);
    expect('value' in exit && exit.value).toBe(++seen[n]!);
    expect(exit.reason).toBe(n === 1 ? 'mmio write' : 'out');
  }
  for (const n of [0, 1, 2]) expect(seen[n]).toBeGreaterThan(300);
  expect(seen[3]).toBe(0);
});

withKvm(
  'threads: a vCPU that is not paused cannot be completed; pause() finds exits that nobody has seen',
  async () => {
    const h = host();
    using guest = new KvmGuest(h, [PROGRAMS.count, PROGRAMS.spin], true);
    while (guest.counters[6] !== 2) {
      guest.run(0);
      await turn();
      // run(0) may have taken it.
    }
    expect(h.completeExit(guest.runner, 1)).toBe(16);
    expect(h.pause(guest.runner, 5000)).toBe(true);
    expect([guest.counters[6], guest.counters[14]]).toEqual([2, 0]);
    const first = guest.exit(0);
    expect(h.completeExit(guest.runner, 0)).toBe(4);
    expect(guest.counters[6]).toBe(0);
    expect(await next(guest)).toBe(0);
    const second = guest.exit(0);
    expect('value' in second && second.value).toBe('value' in first && first.value + 1);
  },
);

withKvm('what is no runner, no vCPU and no descriptor is refused', () => {
  const h = host();
  expect(() => h.run({} as never, 0)).toThrow('must come from runnerCreate()');
  expect(() => h.runnerCreate([], 12_288, true)).toThrow('fds');
  expect(() => h.runnerCreate([1, 2], 12_288, false)).toThrow('fds');
  expect(() => h.runnerCreate([1], 100, false)).toThrow('mapSize is out of range');
  expect(() => h.runnerCreate([999_999], 12_288, true)).toThrow('failed: EBADF');
  using guest = new KvmGuest(h, [PROGRAMS.halt], false);
  expect(() => h.runnerState(guest.runner, 1)).toThrow('vcpu is out of range');
  expect(() => guest.run(-1)).toThrow('limitNs is out of range');
  expect(() => guest.run(Number.NaN)).toThrow('limitNs is out of range');
  expect(() => h.runnerWatch(guest.runner, 999_999, 0)).toThrow('epoll_ctl failed: EBADF');
  expect(() => h.runnerWatch(guest.runner, 0, 1e7)).toThrow('tag is out of range');
});

withKvm('loopTimeoutNs: a timer, or work that waits', async () => {
  const h = host();
  const timer = setTimeout(() => {}, 100_000);
  let least = Number.POSITIVE_INFINITY;
  let most = 0;
  await new Promise<void>(resolve => {
    // In a timer's callback no immediate waits.
    setTimeout(() => {
      least = h.loopTimeoutNs();
      setImmediate(() => {
        most = h.loopTimeoutNs();
        resolve();
      });
    }, 1);
  });
  clearTimeout(timer);
  expect(least).toBeGreaterThanOrEqual(0);
  expect(least).toBeLessThanOrEqual(100_000 * MILLISECOND);
  expect(most).toBe(0);
});

describe('stress', () => {
  for (const threads of [false, true]) {
    withGcc(
      `signals and kicks at random for ${SECONDS} s lose and double no exit, ${threads ? 'threads' : 'inline'}`,
      async () => {
        const thrower = kit.thrower();
        let thrown: Promise<number> | undefined;
        const result = await kit.run(addonPath, 'storm', {
          options: { seconds: SECONDS, threads },
          limit: (SECONDS + 60) * 1000,
          ready: child => {
            const p = spawn(thrower, [String(child.pid)], { stdio: ['ignore', 'pipe', 'inherit'] });
            child.once('exit', () => p.kill('SIGTERM'));
            let text = '';
            p.stdout.on('data', d => {
              text += d;
            });
            thrown = new Promise(resolve => p.once('close', () => resolve(Number(text))));
          },
        });
        expect(await thrown).toBeGreaterThan(100);
        // The task itself compares each exit, and the guest's register, and throws.
        expect(result.status).toBe(0);
        expect(result.exits).toBeGreaterThan(100);
        expect(result.timers).toBeGreaterThan(10);
        // Of the exits that a pause found some are never delivered.
        expect(result.delivered).toBeLessThanOrEqual(Number(result.exits));
        expect(result.runs).toBeGreaterThan(Number(result.exits));
      },
    );
  }

  for (const threads of [false, true]) {
    withKvm(
      `slots that come and go for ${SECONDS} s lose and double no write, ${threads ? 'threads' : 'inline'}`,
      async () => {
        const limit = (SECONDS + 60) * 1000;
        const result = await kit.run(addonPath, 'slots', { options: { seconds: SECONDS, threads }, limit });
        expect(result.status).toBe(0);
        expect(result.changes).toBeGreaterThan(100);
        // Writes went both ways.
        expect(result.exits).toBeGreaterThan(100);
        expect(result.inSlot).toBeGreaterThan(100);
      },
    );
  }

  withKvm(`threads are paused and resumed ${PAUSES} times`, async () => {
    const result = await kit.run(addonPath, 'pauses', { options: { times: PAUSES }, limit: 300_000 });
    expect(result.status).toBe(0);
    expect(result.exits).toBeGreaterThan(100);
    expect(result.kicks).toBeGreaterThan(PAUSES / 5);
  });

  withKvm(
    `${LOADS} Workers load the addon, make runners and end, by themselves and by terminate(): nothing is left`,
    async () => {
      const result = await kit.run(addonPath, 'loads', {
        options: { times: LOADS },
        node: ['--expose-gc'],
        limit: 60_000 + LOADS * 3000,
      });
      expect(result).toMatchObject({ status: 0, threads: 0, fds: 0 });
      // A Worker takes 9 MB while it lives.
      expect(result.rssMib).toBeLessThan(40);
    },
  );
});

describe('faults', () => {
  const stuck = (vcpu: number) => ({
    LD_PRELOAD: kit.shim(),
    KVM_SHIM_STUCK_VCPU: String(vcpu),
    KVM_SHIM_AFTER: '50',
  });

  withGcc(
    'threads: a vCPU that never comes out is told of, the others go on, the runner can be destroyed',
    async () => {
      const result = await kit.run(addonPath, 'stuckThread', { env: stuck(1) });
      expect(result).toMatchObject({ stuck: -3, paused: false, destroyed: false, status: 0 });
      expect(result.others).toBeGreaterThan(50);
      expect(result.ticks).toBeGreaterThan(5);
      expect(result.again).not.toBe(-3);
    },
  );

  withGcc('inline: the eventfd tells another thread, which answers and ends the process by exitNow()', async () => {
    const result = await kit.run(addonPath, 'stuckInline', { env: stuck(0) });
    expect(result.ms).toBeGreaterThan(0);
    expect(result.status).toBe(7);
  });

  for (const threads of [false, true]) {
    withGcc(`KVM_RUN that fails is told once, ${threads ? 'threads' : 'inline'}`, async () => {
      const [EFAULT, FAILED] = [14, 3];
      const result = await kit.run(addonPath, 'failing', {
        options: { threads },
        env: { LD_PRELOAD: kit.shim(), KVM_SHIM_RUN_ERRNO: String(EFAULT) },
      });
      expect(result).toEqual({
        ...{ first: 0, errno: EFAULT, state: FAILED, rested: true, parked: 0, second: 0 },
        status: 0,
      });
    });
  }
});

withKvm(
  'the kick has a signal of its own with a handler that stays, and the process has no other new one',
  async () => {
    const caught = async () => BigInt(`0x${/^SigCgt:\s*(\S+)/m.exec(await readFile('/proc/self/status', 'utf8'))![1]}`);
    new KvmGuest(host(), [PROGRAMS.halt], false).close();
    expect(((await caught()) >> BigInt(KICK - 1)) & 1n).toBe(1n);
    process.kill(process.pid, KICK);
    await turn();
  },
);
