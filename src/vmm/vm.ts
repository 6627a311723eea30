import { EventEmitter } from 'node:events';
import { createWriteStream, type WriteStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type MessagePort, Worker } from 'node:worker_threads';
import type { ClockSample, ExitReason, MachineInfo, MachineReport, MachineStats } from '../machine/machine.ts';
import {
  type Answers,
  CONSOLE_WINDOW,
  type FromWorker,
  fromPlainError,
  type Question,
  type ToWorker,
  type WorkerStart,
} from '../machine/protocol.ts';
import { watchForStuck } from '../machine/stuck-watch.ts';
import { VmError } from '../util/errors.ts';
import { VmBalloon } from './balloon.ts';
import { type VmChannel, VmChannels } from './channel.ts';
import { VmConsole } from './console.ts';
import { chooseEngine, type EngineChoice } from './engine-choice.ts';
import { type ForkOptions, forkVm } from './fork.ts';
import type { InlineHost } from './inline-devices.ts';
import { checkMachine, chooseMachine } from './machine-choice.ts';
import { makeConfig, readFiles } from './machine-config.ts';
import { VmMemory } from './memory.ts';
import { type ResolvedOptions, resolveOptions, type VmOptions } from './options.ts';
import { VmPci } from './pci.ts';
import type { StreamHost } from './port-stream.ts';
import { Transcript } from './transcript.ts';
import { VmVcpu } from './vcpu.ts';
import { VmVsock } from './vsock.ts';

/** How a VM ended; the value of {@link Vm.exited}. */
export interface VmExit {
  readonly reason: ExitReason;
  /** What the guest or the machine said about it, e.g. the text of a kernel panic. */
  readonly detail: string | undefined;
  /** Set when the end was a fault of the host's side: ERR_INTERNAL, ERR_DISK_FULL, ... */
  readonly error: VmError | undefined;
  /** The machine's last vital signs, where it could still tell. */
  readonly info: VmInfo | undefined;
  /** SHA-256 of the guest's memory at its end; only with `clock: 'virtual'`. */
  readonly memoryHash: string | undefined;
}

/** A machine's vital signs with the VM's own. */
export interface VmInfo extends MachineInfo {
  readonly name: string | undefined;
  readonly state: VmState;
  /** Why this engine was taken. */
  readonly engineReason: string;
}

/** 'paused': it was started, and no vCPU runs. */
export type VmState = 'created' | 'running' | 'paused' | 'ended';

/** What a machine has counted, with the VM's own; see {@link Vm.stats}. */
export interface VmStats extends MachineStats {
  readonly name: string | undefined;
  readonly engine: EngineChoice['kind'];
  readonly state: VmState;
}

/** What a VM's clocks show, with the VM's own; see {@link Vm.clock}. */
export interface VmClock extends ClockSample {
  readonly name: string | undefined;
  readonly engine: EngineChoice['kind'];
  readonly state: VmState;
}

/** Events of a {@link Vm} and their arguments. */
export interface VmEvents {
  engine: [choice: EngineChoice];
  start: [];
  exit: [exit: VmExit];
  /** A line about the machine, for a person. */
  log: [line: string];
  /** A line about a topic of {@link VmOptions.trace}. */
  trace: [line: string];
  /** The guest has moved, mapped or unmapped a BAR. */
  'bar-moved': [move: Extract<MachineReport, { type: 'bar-moved' }>];
  /** A device's own code threw; the device answers nothing any more, the VM lives. */
  'device-failed': [failure: Extract<MachineReport, { type: 'device-failed' }>];
  /** The VM has ended and a device still holds guest memory: a defect of that device. */
  'pins-leaked': [leaked: Extract<MachineReport, { type: 'pins-leaked' }>];
  /** A port of the host leads into the guest. */
  forward: [forward: Extract<MachineReport, { type: 'forward' }>];
}

export interface CreateOptions {
  /** Aborts the creation. */
  readonly signal?: AbortSignal | undefined;
  /** URL of a module whose createMachine() replaces the built-in one. For tests of the VMM. @internal */
  readonly createModule?: URL | undefined;
}

/** How long stop() waits for the machine before its Worker is ended by force. */
const STOP_GRACE_MS = 2000;
/** Where a panic is looked for when the guest has reset itself. */
const PANIC_WINDOW = 16 * 1024;

interface Asked {
  resolve(value: Answers[keyof Answers]): void;
  reject(e: Error): void;
}

/**
 * A virtual machine. It lives in a Worker of its own, so neither side can block the other; this object is its handle.
 *
 * A Vm keeps the process alive only while it runs or while something is being asked of it.
 */
export class Vm extends EventEmitter<VmEvents> implements AsyncDisposable {
  /** The guest's console; silent with `console: 'off'`. */
  readonly console: VmConsole;
  /** Resolves when the VM has ended and its resources are free. Never rejects. */
  readonly exited: Promise<VmExit>;
  readonly name: string | undefined;
  /** The guest's PCI bus: what is on it, and plugging. */
  readonly pci: VmPci;
  /** Sockets between the host and the guest. */
  readonly vsock: VmVsock;
  /** The guest's memory: who holds what of it. */
  readonly memory: VmMemory;
  /** The guest's memory balloon. */
  readonly balloon: VmBalloon;
  /** The guest's CPUs. */
  readonly vcpus: readonly VmVcpu[];

  readonly #options: ResolvedOptions;
  /** Set while the VM is made: by the kernel, which has to be read for it. */
  #engine: EngineChoice | undefined;
  readonly #worker: Worker;
  readonly #wake: Int32Array;
  readonly #transcript = new Transcript();
  readonly #file: WriteStream | undefined;
  readonly #inputs: (() => void)[] = [];
  readonly #questions = new Map<number, Asked>();
  readonly #streams: StreamHost = {
    ask: (q, transfer) => this.#askLiving(q, transfer),
    wake: () => this.#wakeWorker(),
    live: new Set(),
  };
  readonly #channels = new VmChannels(this.#streams);
  #kickWord: Int32Array | undefined;
  /** Tells when the Worker hangs. */
  #stuckWatch: Disposable | undefined;
  /** Console output that has been consumed and not told yet, bytes. */
  #untold = 0;
  #state: VmState = 'created';
  #info: MachineInfo | undefined;
  #exit: VmExit | undefined;
  #failure: VmError | undefined;
  /** The Worker's end is our doing. */
  #ending = false;
  #nextQuestion = 1;
  /** What happened before anybody could listen: told at the start. */
  #early: (() => void)[] = [];
  #resolveExited!: (e: VmExit) => void;
  #ready: ((e: VmError | undefined) => void) | undefined;

  private constructor(options: ResolvedOptions, worker: Worker, wake: Int32Array, file: WriteStream | undefined) {
    super();
    this.#options = options;
    this.name = options.name;
    this.pci = new VmPci((q, transfer) => this.#askLiving(q, transfer), options.devices, this.#inlineHost);
    this.vsock = new VmVsock(this.#streams);
    this.memory = new VmMemory(this.#streams.ask, () => [...this.#inlineHost.programs].flatMap(p => p.pins()));
    this.balloon = new VmBalloon(this.#streams.ask);
    this.vcpus = Array.from({ length: options.cpus }, (_, id) => new VmVcpu(id, this.#streams.ask));
    this.#worker = worker;
    this.#wake = wake;
    this.#file = file;
    this.exited = new Promise(resolve => {
      this.#resolveExited = resolve;
    });
    this.console = new VmConsole(
      {
        input: (bytes, done) => {
          this.#inputs.push(done);
          this.#send({ type: 'input', bytes });
        },
        consumed: bytes => {
          if (this.#file === undefined) this.#consumed(bytes);
        },
      },
      this.#transcript,
    );
    file?.on('error', e => this.#fail(fileError(options.console.slice('file:'.length), e)));
    worker.on('message', (m: FromWorker) => this.#receive(m));
    worker.on('error', e => {
      this.#failure ??= new VmError('ERR_INTERNAL', `the machine's thread failed: ${e.message}`, {
        hint: 'this is a defect of tsvisor: please report it with the stack and the command that led to it',
        cause: e,
      });
    });
    // A message that cannot be read here would be waited for forever.
    worker.on('messageerror', e => {
      this.#fail(new VmError('ERR_INTERNAL', `a message of the machine's thread was lost: ${e.message}`, { cause: e }));
    });
    worker.on('exit', () => this.#workerGone());
  }

  /**
   * Builds a VM: checks the options, reads the files, makes the machine and loads the guest. Nothing runs before start().
   * @throws VmError for options and files that are wrong or do not fit; see docs/errors.md.
   */
  static async create(options: VmOptions, create: CreateOptions = {}): Promise<Vm> {
    create.signal?.throwIfAborted();
    return await Vm.#make(resolveOptions(options), create);
  }

  /** @param startNs for a fork, which begins with nothing loaded: what its clock shows, ns. */
  static async #make(o: ResolvedOptions, create: CreateOptions, startNs?: number): Promise<Vm> {
    const { signal, createModule } = create;
    const path = o.console.startsWith('file:') ? o.console.slice('file:'.length) : undefined;
    const handle = path === undefined ? undefined : await openForWriting(path);
    const wake = new Int32Array(new SharedArrayBuffer(4));
    const workerData: WorkerStart = {
      wake,
      ...(createModule === undefined ? {} : { createModule: createModule.href }),
      ...(o.engine === 'kvm' ? { onKvm: true } : {}),
    };
    // src/machine/machine-worker.ts, bundled (scripts/bundle-worker.ts).
    // No execArgv: the user's loaders and inspectors belong to the user's thread.
    const worker = new Worker(new URL('../worker/machine-worker.js', import.meta.url), { workerData, execArgv: [] });
    const file = handle === undefined ? undefined : createWriteStream('', { fd: handle });
    const vm = new Vm(o, worker, wake, file);
    const onAbort = () => vm.#terminate();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      const ready = new Promise<VmError | undefined>(resolve => {
        vm.#ready = resolve;
      });
      // Files and the Worker's own start take about as long, so they go side by side.
      const files = await readFiles(o, signal);
      const machine = chooseMachine(o.machine, files.kernel);
      vm.#engine = chooseEngine(o.engine, o.clock, machine);
      checkMachine(o, machine, vm.#engine.kind);
      const { config, transfer } = makeConfig(o, files, { machine, engine: vm.#engine.kind }, vm.#inlineHost);
      vm.#send({ type: 'create', config: startNs === undefined ? config : { ...config, startNs } }, transfer);
      const error = await ready;
      signal?.throwIfAborted();
      if (error !== undefined) throw error;
    } catch (e) {
      await vm.kill();
      throw e;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
    worker.unref();
    return vm;
  }

  /** The engine that was chosen, and why. */
  get engine(): EngineChoice {
    return this.#engine!;
  }

  get state(): VmState {
    return this.#state;
  }

  /**
   * Starts the guest; resolves when it has been told to run.
   * @param options.signal when aborted, kills the VM, now or later.
   * @throws VmError ERR_STATE when the VM was started before.
   */
  async start(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<void> {
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#state !== 'created') {
      throw new VmError('ERR_STATE', `the VM is ${this.#state}, it cannot be started`, {
        hint: 'a VM runs once: make another with Vm.create()',
      });
    }
    this.#state = 'running';
    this.#worker.ref();
    if (signal !== undefined) {
      const onAbort = () => void this.kill();
      signal.addEventListener('abort', onAbort, { once: true });
      void this.exited.then(() => signal.removeEventListener('abort', onAbort));
    }
    this.emit('engine', this.engine);
    this.emit('start');
    for (const tell of this.#early.splice(0)) tell();
    this.#send({ type: 'start' });
  }

  /**
   * Ends the machine between two slices, keeping everything it has printed; the reason is 'killed'. The guest is not
   * asked: to power it off in order, type the command into its console. Resolves when the VM has ended.
   */
  async stop(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<VmExit> {
    options.signal?.throwIfAborted();
    this.#worker.ref();
    this.#send({ type: 'stop' });
    if (this.#kickWord !== undefined) Atomics.store(this.#kickWord, 0, 1);
    const force = () => this.#terminate();
    const timer = setTimeout(force, STOP_GRACE_MS);
    options.signal?.addEventListener('abort', force, { once: true });
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', force);
    }
  }

  /** Ends the VM's Worker at once, whatever it is doing; the reason is 'killed'. Resolves when it has ended. */
  async kill(): Promise<VmExit> {
    this.#worker.ref();
    this.#terminate();
    return await this.exited;
  }

  /**
   * A named stream into the guest: a port of the virtio-console that the option `channel` makes, which Linux's programs find as
   * `/dev/vport*` with the name in `/sys/class/virtio-ports`; `'hvc0'` is its terminal. Each call gives the same stream until it is
   * destroyed. A name that is not there destroys it with ERR_STATE. Without a stream the guest's writers wait, but what is
   * written to the terminal is thrown away.
   * @throws VmError ERR_STATE when the VM has ended.
   */
  channel(name: string): VmChannel {
    return this.#channels.get(name);
  }

  /**
   * Makes a second VM that is this one at one moment: memory, vCPUs, devices and console's UART; it is not started yet. Its writable
   * disks are copies, made meanwhile, for which the VM stands still; its memory is shared until it has been copied, for which the VM
   * runs. Requests of devices that are under way are waited for. VMs with other devices than disks, rng, balloon and memory hot-plug
   * cannot be forked: what those are connected to is there once.
   * @throws VmError ERR_STATE for such a device, ERR_USAGE for a writable disk without a place for its copy, ERR_DISK, ERR_DISK_FULL,
   *   ERR_PINNED when requests take longer than `options.timeout`, 10 s unless told; the signal's reason.
   */
  async fork(options: ForkOptions = {}): Promise<Vm> {
    const { signal } = options;
    const make = (o: ResolvedOptions, startNs: number) => Vm.#make(o, { signal }, startNs);
    const askOf = (vm: Vm) => vm.#streams.ask;
    return await forkVm({ ask: this.#streams.ask, options: this.#options, make, askOf }, options);
  }

  /**
   * Holds the VM: no vCPU runs from the moment that this resolves until {@link resume}. The guest's own time stands, too: its counter
   * (on x86-64 kvmclock) goes on later from where it was, so that no timeout of the guest's passes; the guest's wall-clock time is late
   * then by the length of the pause, until its NTP or PTP client corrects it. What devices have under way is finished, and the host's
   * side of them lives: the console takes input, connections stay open, plugging and forking work.
   * @throws VmError ERR_STATE when the VM has not been started, is paused, or has ended.
   */
  async pause(): Promise<void> {
    this.#mustRun('paused');
    await this.#ask({ what: 'pause' });
    if (this.#state === 'running') this.#state = 'paused';
  }

  /** Lets a VM go on that was paused. @throws VmError ERR_STATE when it is not paused. */
  async resume(): Promise<void> {
    this.#mustRun('resumed');
    await this.#ask({ what: 'resume' });
    if (this.#state === 'paused') this.#state = 'running';
  }

  /**
   * What the machine has counted so far: accesses to devices by register with the time that their answers took, where the time of its
   * thread and of its vCPUs went. Take the difference of two. Accesses are counted from the first call on, which makes each about 0.5 us
   * longer; until then nothing is paid for them.
   * @throws VmError ERR_STATE when the VM has ended.
   */
  async stats(): Promise<VmStats> {
    const stats = await this.#askLiving({ what: 'stats' });
    return { name: this.name, engine: this.engine.kind, state: this.#state, ...stats };
  }

  /**
   * What the guest's time is made of: wall clock and machine's own time of one moment, how far they may miss each other, how far they
   * have moved apart since the start, and who answers the guest's ptp_kvm. Take several to see a drift.
   * @throws VmError ERR_STATE when the VM has ended.
   */
  async clock(): Promise<VmClock> {
    const sample = await this.#askLiving({ what: 'clock' });
    return { name: this.name, engine: this.engine.kind, state: this.#state, ...sample };
  }

  /** Resets the machine, as its reset button would. */
  async reset(): Promise<void> {
    this.#mustLive('reset');
    this.#send({ type: 'reset' });
  }

  /** The VM's vital signs; after its end, the last ones. */
  async info(): Promise<VmInfo> {
    const m = this.#state === 'ended' ? this.#info : await this.#ask({ what: 'info' });
    if (m === undefined) throw new VmError('ERR_STATE', 'the VM ended before it could tell anything about itself');
    return this.#vmInfo(m);
  }

  /**
   * SHA-256 (hex) of the guest's memory as it is now; after the end of a VM with `clock: 'virtual'`, as it was then.
   * @throws VmError ERR_STATE after the end of a VM with `clock: 'host'`.
   */
  async memoryHash(): Promise<string> {
    if (this.#exit?.memoryHash !== undefined) return this.#exit.memoryHash;
    this.#mustLive('hashed');
    return await this.#ask({ what: 'memoryHash' });
  }

  /** Kills the VM and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #mustLive(what: string): void {
    if (this.#state === 'ended') throw new VmError('ERR_STATE', `the VM has ended and cannot be ${what}`);
  }

  /** The machine itself knows whether it is paused: calls may be under way. */
  #mustRun(what: string): void {
    this.#mustLive(what);
    if (this.#state !== 'created') return;
    throw new VmError('ERR_STATE', `the VM has not been started and cannot be ${what}`, {
      hint: 'vm.start() starts it',
    });
  }

  #vmInfo(m: MachineInfo): VmInfo {
    return { name: this.name, state: this.#state, engineReason: this.engine.reason, ...m };
  }

  #send(m: ToWorker, transfer: readonly (ArrayBuffer | MessagePort)[] = []): void {
    if (this.#state === 'ended') return;
    this.#worker.postMessage(m, transfer);
    // Ends a short sleep of the Worker, which does not look at its messages meanwhile.
    this.#wakeWorker();
  }

  #wakeWorker(): void {
    Atomics.add(this.#wake, 0, 1);
    Atomics.notify(this.#wake, 0);
  }

  #askLiving<Q extends Question>(question: Q, transfer?: readonly MessagePort[]): Promise<Answers[Q['what']]> {
    this.#mustLive('asked');
    return this.#ask(question, transfer);
  }

  #ask<Q extends Question>(question: Q, transfer?: readonly MessagePort[]): Promise<Answers[Q['what']]> {
    return new Promise((resolve, reject) => {
      const id = this.#nextQuestion++;
      this.#questions.set(id, { resolve: value => resolve(value as Answers[Q['what']]), reject });
      this.#worker.ref();
      this.#send({ type: 'ask', id, question }, transfer);
    });
  }

  #receive(m: FromWorker): void {
    switch (m.type) {
      case 'ready':
        this.#info = m.info;
        this.#kickWord = m.kickWord;
        this.#ready?.(undefined);
        this.#ready = undefined;
        break;
      case 'watchdog':
        this.#stuckWatch?.[Symbol.dispose]();
        this.#stuckWatch = watchForStuck(m.fd, e => this.#stuck(e));
        break;
      case 'failed':
        this.#ready?.(fromPlainError(m.error));
        this.#ready = undefined;
        break;
      case 'console':
        this.#consoleOutput(m.bytes);
        break;
      case 'inputTaken':
        this.#inputs.shift()?.();
        break;
      case 'log':
        this.#log(m.line);
        break;
      case 'trace':
        for (const line of m.lines) this.emit('trace', line);
        break;
      case 'report':
        this.#report(m.event);
        break;
      case 'answer':
        this.#answered(m.id)?.resolve(m.value);
        break;
      case 'refused':
        this.#answered(m.id)?.reject(fromPlainError(m.error));
        break;
      case 'exit': {
        this.#info = m.info ?? this.#info;
        const panic = m.reason === 'reset' ? this.#panic() : undefined;
        this.#exit = {
          reason: panic === undefined ? m.reason : 'crash',
          detail: panic ?? m.detail,
          error: m.error === undefined ? undefined : fromPlainError(m.error),
          info: undefined,
          memoryHash: m.memoryHash,
        };
        // Its port is closed and it would end by itself; this makes sure of it.
        this.#terminate();
        break;
      }
    }
  }

  #answered(id: number): Asked | undefined {
    const asked = this.#questions.get(id);
    this.#questions.delete(id);
    if (this.#questions.size === 0 && this.#state === 'created') this.#worker.unref();
    return asked;
  }

  /** What this thread does for devices that are closures. */
  readonly #inlineHost: InlineHost = {
    programs: new Set(),
    wake: () => this.#wakeWorker(),
    log: line => this.#log(line),
    failed: ({ name, message, stack }) => {
      this.#log(message);
      this.#report({ type: 'device-failed', name, message, stack });
    },
  };

  #log(line: string): void {
    this.#tell(() => this.emit('log', line));
  }

  #report(event: MachineReport): void {
    this.#tell(() => this.#emitReport(event));
  }

  #tell(tell: () => void): void {
    if (this.#state === 'created') this.#early.push(tell);
    else tell();
  }

  #emitReport(event: MachineReport): void {
    switch (event.type) {
      case 'bar-moved':
        this.emit(event.type, event);
        break;
      case 'device-failed':
        this.emit(event.type, event);
        break;
      case 'pins-leaked':
        this.emit(event.type, event);
        break;
      case 'forward':
        this.emit(event.type, event);
        break;
    }
  }

  #consoleOutput(bytes: Uint8Array): void {
    if (this.#options.console === 'off') {
      this.#consumed(bytes.length);
      return;
    }
    this.#file?.write(bytes, () => this.#consumed(bytes.length));
    this.console.receive(bytes);
  }

  /** Console output has found its reader: told in portions, since each message ends what the guest is doing. */
  #consumed(bytes: number): void {
    this.#untold += bytes;
    if (this.#untold < CONSOLE_WINDOW / 4) return;
    this.#send({ type: 'consumed', bytes: this.#untold });
    this.#untold = 0;
  }

  /** A panicked Linux resets itself (panic=-1); the message is the only difference to a wanted reset. */
  #panic(): string | undefined {
    const end = this.#transcript.text.slice(-PANIC_WINDOW);
    return /^.*?(Kernel panic - not syncing: [^\r\n]*)/m.exec(end)?.[1];
  }

  #fail(e: VmError): void {
    this.#failure ??= e;
    this.#exit ??= { reason: 'killed', detail: e.message, error: e, info: undefined, memoryHash: undefined };
    this.#terminate();
  }

  /** The Worker hangs in the kernel and will not end: the VM does without it. */
  #stuck(e: VmError): void {
    this.#fail(e);
    this.#worker.unref();
    this.#workerGone();
  }

  #terminate(): void {
    this.#ending = true;
    void this.#worker.terminate();
  }

  #workerGone(): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#stuckWatch?.[Symbol.dispose]();
    this.#kickWord = undefined;
    if (!this.#ending) this.#failure ??= new VmError('ERR_INTERNAL', "the machine's thread ended without a word");
    const failure = this.#failure;
    const e = this.#exit ?? {
      reason: failure === undefined ? ('killed' as const) : ('crash' as const),
      detail: failure?.message,
      error: failure,
      memoryHash: undefined,
    };
    const exit: VmExit = { ...e, info: this.#info === undefined ? undefined : this.#vmInfo(this.#info) };
    this.#exit = exit;
    this.#ready?.(failure);
    this.#ready = undefined;
    const why = `the guest ended (${exit.reason}${exit.detail === undefined ? '' : `: ${exit.detail}`})`;
    for (const done of this.#inputs.splice(0)) done();
    for (const q of this.#questions.values()) q.reject(new VmError('ERR_STATE', why));
    this.#questions.clear();
    for (const stream of [...this.#streams.live]) stream.finish();
    this.#transcript.end(new VmError('ERR_STATE', why, { details: { reason: exit.reason } }));
    this.console.finish();
    const done = () => {
      this.#resolveExited(exit);
      this.emit('exit', exit);
    };
    if (this.#file === undefined || this.#file.destroyed) done();
    else this.#file.once('close', done).end();
  }
}

async function openForWriting(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'w');
  } catch (e) {
    throw fileError(path, e as NodeJS.ErrnoException);
  }
}

function fileError(path: string, e: NodeJS.ErrnoException): VmError {
  const full = e.code === 'ENOSPC' || e.code === 'EDQUOT';
  return new VmError(
    full ? 'ERR_DISK_FULL' : 'ERR_FILE_UNREADABLE',
    `console: cannot write to ${path} (${e.code ?? e.message})`,
    {
      hint: full ? 'free some space, or send the console elsewhere' : 'check the path and its permissions',
      cause: e,
      details: { option: 'console', path, errno: e.code },
    },
  );
}
