import type { ExitSink, Hypercall, SystemEvent } from '../../../src/engines/engine.ts';

/** Something that a vCPU did, as the sink was told: kind, vCPU, and what comes with it. */
export type SinkEvent = readonly (string | number | bigint)[];

/** Devices that write down what reaches them. Tests replace the methods that they want an answer of. */
export class RecordingSink implements ExitSink {
  readonly events: SinkEvent[] = [];
  /** What reads get, next first; without one it is 0. */
  readonly values: (number | bigint)[] = [];
  onSystem: (event: SystemEvent) => void = () => undefined;
  onHypercall: (call: Hypercall) => void = () => undefined;
  /** Called for each event, after it is written down. */
  onEvent: () => void = () => undefined;

  mmioRead(cpu: number, address: number, size: number): number | bigint {
    this.#tell('mmioRead', cpu, address, size);
    return this.values.shift() ?? 0;
  }

  mmioWrite(cpu: number, address: number, size: number, value: number | bigint): void {
    this.#tell('mmioWrite', cpu, address, size, value);
  }

  portIn(cpu: number, port: number, size: number): number {
    this.#tell('portIn', cpu, port, size);
    return Number(this.values.shift() ?? 0);
  }

  portOut(cpu: number, port: number, size: number, value: number): void {
    this.#tell('portOut', cpu, port, size, value);
  }

  hypercall(call: Hypercall): void {
    this.#tell('hypercall', call.cpu, call.id);
    this.onHypercall(call);
  }

  system(event: SystemEvent, cpu: number): void {
    this.#tell('system', cpu, event);
    this.onSystem(event);
  }

  failed(cpu: number, why: string): void {
    this.#tell('failed', cpu, why);
  }

  #tell(...event: SinkEvent): void {
    this.events.push(event);
    this.onEvent();
  }
}
