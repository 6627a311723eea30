/**
 * Entry of a VM's Worker: builds the machine and runs it, one slice of about 1 ms per turn of the event loop, so that
 * messages and asynchronous I/O get their chance between any two slices. An idle guest puts this thread to sleep.
 */

import { performance } from 'node:perf_hooks';
import { parentPort, workerData } from 'node:worker_threads';
import type { CreateMachine, ExitReason, Machine, MachineConfig, MachineInfo } from './machine.ts';
import {
  type Answers,
  CONSOLE_WINDOW,
  type FromWorker,
  type Question,
  type ToWorker,
  toPlainError,
  type WorkerStart,
} from './protocol.ts';

/** Sleeps up to this long block the thread: a timer of the event loop is exact to a millisecond only. */
const SHORT_SLEEP_MS = 2;
/** The longest time that setTimeout() takes. */
const LONGEST_TIMER_MS = 0x7fff_ffff;

const port = parentPort!;
const { wake, createModule, onKvm } = workerData as WorkerStart;

function send(m: FromWorker): void {
  port.postMessage(m);
}

/** Collects the small writes of one slice, so that one slice costs one message. */
class ConsoleBatch {
  #bytes = new Uint8Array(4096);
  #length = 0;
  /** Bytes sent and not yet consumed. */
  outstanding = 0;

  add(b: Uint8Array): void {
    if (this.#length + b.length > this.#bytes.length) {
      const bigger = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + b.length));
      bigger.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = bigger;
    }
    this.#bytes.set(b, this.#length);
    this.#length += b.length;
  }

  flush(): void {
    if (this.#length === 0) return;
    send({ type: 'console', bytes: this.#bytes.slice(0, this.#length) });
    this.outstanding += this.#length;
    this.#length = 0;
  }
}

class Runner {
  readonly #console = new ConsoleBatch();
  #traceLines: string[] = [];
  #machine: Machine | undefined;
  #deterministic = false;
  #started = false;
  #ended = false;
  #exit: { reason: ExitReason; detail: string | undefined } | undefined;
  /** True while a turn is queued with setImmediate. */
  #queued = false;
  #timer: NodeJS.Timeout | undefined;
  /** `wake` as it was before the last chance to receive messages: if it has changed since, a message is waiting. */
  #seen = 0;
  /** Time in short sleeps, of which the event loop knows nothing. */
  #sleptNs = 0;
  readonly #input: Uint8Array[] = [];

  async create(createMachine: CreateMachine, config: MachineConfig): Promise<void> {
    this.#deterministic = config.clock === 'virtual';
    const machine = await createMachine(config, {
      console: bytes => this.#console.add(bytes),
      exit: (reason, detail) => {
        this.#exit ??= { reason, detail };
      },
      log: line => send({ type: 'log', line }),
      trace: line => {
        this.#traceLines.push(line);
      },
      wake: () => this.#resume(),
      report: event => send({ type: 'report', event }),
    });
    this.#machine = machine;
    machine.onConsoleRoom(() => {
      try {
        this.#feed();
        this.#resume();
      } catch (e) {
        this.fail(e);
      }
    });
    this.#sendWatchdog();
    send({ type: 'ready', info: machine.info(), kickWord: machine.kickWord });
  }

  receive(m: Exclude<ToWorker, { type: 'create' }>): void {
    if (this.#ended) return;
    const machine = this.#machine!;
    switch (m.type) {
      case 'start':
        this.#started = true;
        break;
      case 'input':
        this.#input.push(m.bytes);
        this.#feed();
        break;
      case 'consumed':
        this.#console.outstanding -= m.bytes;
        break;
      case 'stop':
        machine.stop();
        if (!this.#started) {
          this.#finish();
          return;
        }
        // A reader that does not read must not keep a stopped machine from ending.
        this.#console.outstanding = Number.NEGATIVE_INFINITY;
        break;
      case 'reset':
        this.#reset(machine);
        break;
      case 'ask':
        this.#answer(m.id, m.question).catch(e => send({ type: 'refused', id: m.id, error: toPlainError(e) }));
        break;
    }
    this.#resume();
  }

  #sendWatchdog(): void {
    const fd = this.#machine?.watchdog?.();
    if (fd !== undefined) send({ type: 'watchdog', fd });
  }

  async #reset(machine: Machine): Promise<void> {
    try {
      await machine.reset();
      this.#sendWatchdog();
    } catch (e) {
      this.fail(e);
    }
    this.#resume();
  }

  async #answer(id: number, q: Question): Promise<void> {
    const machine = this.#machine!;
    let value: Answers[keyof Answers];
    switch (q.what) {
      case 'info':
      case 'clock':
      case 'memoryHash':
      case 'pci':
      case 'pins':
      case 'memoryMap':
      case 'balloon':
      case 'hotplugged':
        value = machine[q.what]();
        break;
      case 'pause':
      case 'resume':
        machine[q.what]();
        break;
      case 'registers':
        value = machine.registers(q.vcpu);
        break;
      case 'setRegisters':
        machine.setRegisters(q.vcpu, q.values);
        break;
      case 'stats':
        value = machine.stats(performance.eventLoopUtilization().idle * 1e6 + this.#sleptNs);
        break;
      case 'forkMemory':
        value = await machine.forkMemory(q.limitMs);
        break;
      case 'forkMachine':
        value = await machine.forkMachine(q.copies, q.limitMs);
        break;
      case 'ram':
        value = machine.ram();
        break;
      case 'restore':
        machine.restore(q.state);
        break;
      case 'writeBackMemory':
        value = await machine.writeBackMemory(q.path);
        break;
      case 'flushMemory':
        value = await machine.flushMemory(q.file, q.limitMs);
        break;
      case 'closeMemory':
        await machine.closeMemory(q.file);
        break;
      case 'forked':
        value = await machine.forked(q.fork, q.call);
        break;
      case 'plug':
        await machine.plug(q.device);
        break;
      case 'unplug':
        await machine.unplug(q.name);
        break;
      case 'vsockConnect':
        machine.vsockConnect(q.port, q.stream);
        break;
      case 'vsockListen':
        machine.vsockListen(q.port, q.control);
        break;
      case 'channel':
        machine.channel(q.name, q.stream);
        break;
      case 'setBalloon':
      case 'requestHotplug':
        machine[q.what](q.bytes);
        break;
      case 'balloonStatistics':
        value = await machine.balloonStatistics(q.limitMs);
        break;
    }
    if (!this.#ended) send({ type: 'answer', id, value });
  }

  /** Any error from here on is ours: the guest's mistakes never throw. */
  fail(e: unknown): void {
    if (this.#machine === undefined) {
      send({ type: 'failed', error: toPlainError(e) });
      port.close();
      return;
    }
    this.#finish(e);
  }

  #feed(): void {
    if (this.#ended) return;
    const machine = this.#machine!;
    for (let b = this.#input[0]; b !== undefined; b = this.#input[0]) {
      const taken = machine.consoleInput(b);
      if (taken < b.length) {
        this.#input[0] = b.subarray(taken);
        return;
      }
      this.#input.shift();
      send({ type: 'inputTaken' });
    }
  }

  #resume(): void {
    if (this.#queued || this.#ended || !this.#started) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#queued = true;
    this.#seen = Atomics.load(wake, 0);
    setImmediate(() => {
      this.#queued = false;
      try {
        this.#turn();
      } catch (e) {
        this.fail(e);
      }
    });
  }

  #turn(): void {
    if (this.#ended) return;
    // The reader is behind: wait for its 'consumed'.
    if (this.#console.outstanding > CONSOLE_WINDOW) return;
    const machine = this.#machine!;
    const state = machine.step();
    this.#flush();
    if (state === 'stopped') {
      this.#finish();
      return;
    }
    if (state === 'idle') {
      const ms = machine.idleMs();
      if (ms > SHORT_SLEEP_MS) {
        // Wakes a little early; the rest is a short sleep.
        if (ms !== Number.POSITIVE_INFINITY) {
          this.#timer = setTimeout(() => this.#resume(), Math.min(Math.floor(ms) - 1, LONGEST_TIMER_MS));
        }
        return;
      }
      // While a disk or a socket may answer, turns of the event loop take the place of sleep.
      if (ms > 0 && !machine.expectsIo()) {
        const began = performance.now();
        Atomics.wait(wake, 0, this.#seen, ms);
        this.#sleptNs += (performance.now() - began) * 1e6;
      }
    }
    this.#resume();
  }

  #flush(): void {
    this.#console.flush();
    if (this.#traceLines.length > 0) {
      send({ type: 'trace', lines: this.#traceLines });
      this.#traceLines = [];
    }
  }

  #finish(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    const machine = this.#machine!;
    this.#flush();
    // While there are vCPUs to ask.
    const info = error === undefined ? machine.info() : undefined;
    // What the devices have open on the host is written out first; a failure there is the VM's.
    void machine.close().then(
      () => this.#sayExit(machine, info, error),
      e => this.#sayExit(machine, info, error ?? e),
    );
  }

  #sayExit(machine: Machine, info: MachineInfo | undefined, error: unknown): void {
    const ok = error === undefined;
    send({
      type: 'exit',
      reason: ok ? (this.#exit?.reason ?? 'killed') : 'crash',
      detail: ok ? this.#exit?.detail : undefined,
      error: ok ? undefined : toPlainError(error),
      info: ok ? info : undefined,
      memoryHash: ok && this.#deterministic ? machine.memoryHash() : undefined,
    });
    port.close();
  }
}

const runner = new Runner();
try {
  const module = createModule === undefined ? await import('./create.ts') : await import(createModule);
  const { createMachine, prepare } = module as { createMachine: CreateMachine; prepare?: () => void };
  port.on('message', (m: ToWorker) => {
    try {
      if (m.type === 'create') runner.create(createMachine, m.config).catch(e => runner.fail(e));
      else runner.receive(m);
    } catch (e) {
      runner.fail(e);
    }
  });
  if (!onKvm) prepare?.();
} catch (e) {
  runner.fail(e);
}
