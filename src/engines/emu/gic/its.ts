import type { GuestMemory } from '../../../memory/types.ts';
import { type DeviceEntry, ENTRY_SIZE, GITS_BASER_VALID, ItsTables } from './its-tables.ts';
import type { LpiUnit } from './lpi.ts';
import {
  CLEAR,
  DISCARD,
  GITS_BASER,
  GITS_CBASER,
  GITS_CREADR,
  GITS_CTLR,
  GITS_CTLR_Enabled,
  GITS_CTLR_Quiescent,
  GITS_CWRITER,
  GITS_IIDR,
  GITS_TYPER,
  IIDR,
  INT,
  INTID_BITS,
  INV,
  INVALL,
  identification,
  LPI_BASE,
  MAPC,
  MAPD,
  MAPI,
  MAPTI,
  MOVALL,
  MOVI,
  SYNC,
} from './regs.ts';
import { RegisterFrame, toHex } from './wide.ts';

const EVENT_BITS = 16;
const DEVICE_BITS = 16;
const COMMAND_SIZE = 32;
/** Commands done in one register access. A guest that polls GITS_CREADR gets the rest done with its next accesses. */
const BATCH = 4096;
const STALLED = 1;

/** Physical LPIs, ITT entry size, EventID and DeviceID bits; PTA 0: RDbase is a processor number (section 12.19.10). */
const TYPER = BigInt(1 | ((ENTRY_SIZE - 1) << 4) | ((EVENT_BITS - 1) << 8) | ((DEVICE_BITS - 1) << 13));

// GITS_BASER0 is the device table, GITS_BASER1 the collection table; their Type and Entry_Size are read-only.
const BASER_FIXED = [1n, 4n].map(type => (type << 56n) | (BigInt(ENTRY_SIZE - 1) << 48n));
const BASER_FIELDS = 0xf8e0_ffff_ffff_ffffn;
const CBASER_FIELDS = 0xb8ef_ffff_ffff_fcffn;
const CBASER_PA = 0x000f_ffff_ffff_f000n;

/** Why the ITS refused a command; counted, for diagnosis. */
export interface ItsCounters {
  readonly commands: number;
  readonly ignored: number;
}

export interface ItsState {
  readonly enabled: boolean;
  readonly stalled: boolean;
  readonly cbaser: string;
  readonly cwriter: number;
  readonly creadr: number;
  readonly baser: string[];
}

const CACHE_SIZE = 1024;

/**
 * The Interrupt Translation Service (IHI 0069 chapter 5 and sections 12.18, 12.19): turns (DeviceID, EventID) into an
 * LPI of a CPU. Offsets are of two 64 KiB frames, control and translation. Its tables live in guest memory, see
 * {@link ItsTables}. A malformed command is ignored (section 5.3.1 allows it); a queue outside memory stalls.
 * A CPU's write to GITS_TRANSLATER has no DeviceID and is dropped: devices come through {@link signal}.
 */
export class Its extends RegisterFrame {
  readonly name = 'GITS';
  #enabled = false;
  #stalled = false;
  #cbaser = 0n;
  #cwriter = 0;
  #creadr = 0;
  readonly #baser = [...BASER_FIXED];
  readonly #tables: ItsTables;
  #commands = 0;
  #ignored = 0;
  // Direct-mapped cache of translations; every command that changes one empties it.
  readonly #cacheDevice = new Int32Array(CACHE_SIZE).fill(-1);
  readonly #cacheEvent = new Int32Array(CACHE_SIZE);
  readonly #cacheIntid = new Int32Array(CACHE_SIZE);
  readonly #cacheCpu = new Int32Array(CACHE_SIZE);

  constructor(
    private readonly memory: GuestMemory,
    private readonly lpis: readonly LpiUnit[],
    private readonly changed: (cpu: number) => void,
  ) {
    super();
    this.#tables = new ItsTables(memory);
  }

  get counters(): ItsCounters {
    return { commands: this.#commands, ignored: this.#ignored };
  }

  reset(): void {
    this.#enabled = false;
    this.#stalled = false;
    this.#cbaser = 0n;
    this.#cwriter = 0;
    this.#creadr = 0;
    this.#baser.splice(0, this.#baser.length, ...BASER_FIXED);
    this.forget();
  }

  save(): ItsState {
    return {
      enabled: this.#enabled,
      stalled: this.#stalled,
      cbaser: toHex(this.#cbaser),
      cwriter: this.#cwriter,
      creadr: this.#creadr,
      baser: this.#baser.map(toHex),
    };
  }

  restore(state: ItsState): void {
    this.#enabled = state.enabled;
    this.#stalled = state.stalled;
    this.#cbaser = BigInt(state.cbaser);
    this.#cwriter = state.cwriter;
    this.#creadr = state.creadr;
    this.#baser.splice(0, this.#baser.length, ...state.baser.map(BigInt));
    this.forget();
  }

  /** A device's message: makes the LPI pending that (`deviceId`, `eventId`) maps to; nothing when it maps to none. */
  signal(deviceId: number, eventId: number): void {
    if (!this.#enabled) return;
    const slot = (deviceId * 67 + eventId) & (CACHE_SIZE - 1);
    if (this.#cacheDevice[slot] !== deviceId || this.#cacheEvent[slot] !== eventId) {
      const entry = this.translate(deviceId, eventId);
      if (entry === undefined) return;
      this.#cacheDevice[slot] = deviceId;
      this.#cacheEvent[slot] = eventId;
      this.#cacheIntid[slot] = entry.intid;
      this.#cacheCpu[slot] = entry.cpu;
    }
    const cpu = this.#cacheCpu[slot]!;
    this.lpis[cpu]!.setPending(this.#cacheIntid[slot]!);
    this.changed(cpu);
  }

  protected override read32(offset: number): number {
    switch (offset) {
      case GITS_CTLR:
        return this.#enabled ? GITS_CTLR_Enabled : GITS_CTLR_Quiescent;
      case GITS_IIDR:
        return IIDR;
      default:
        return offset >= 0xffd0 && offset < 0x1_0000 ? identification(offset - 0xffd0, 3) : 0;
    }
  }

  protected override write32(offset: number, value: number): void {
    if (offset !== GITS_CTLR) return;
    this.#enabled = (value & GITS_CTLR_Enabled) !== 0;
    this.forget();
    this.process();
  }

  protected override readWide(offset: number): bigint | undefined {
    switch (offset) {
      case GITS_TYPER:
        return TYPER;
      case GITS_CBASER:
        return this.#cbaser;
      case GITS_CWRITER:
        return BigInt(this.#cwriter);
      case GITS_CREADR:
        this.process();
        return BigInt(this.#creadr | (this.#stalled ? STALLED : 0));
      default:
        // GITS_BASER2..7 are there with Type 0, "unimplemented".
        return offset >= GITS_BASER && offset < GITS_BASER + 64
          ? (this.#baser[(offset - GITS_BASER) >> 3] ?? 0n)
          : undefined;
    }
  }

  protected override writeWide(offset: number, value: bigint): void {
    if (offset === GITS_CWRITER) {
      const cwriter = Number(value & 0xf_ffe0n);
      if (cwriter >= this.queueSize) return;
      this.#cwriter = cwriter;
      if (value & 1n) this.#stalled = false; // Retry
      this.process();
    } else if (this.#enabled) {
      // Changing a table or the queue of an enabled ITS is UNPREDICTABLE: ignored.
    } else if (offset === GITS_CBASER) {
      this.#cbaser = value & CBASER_FIELDS;
      this.#creadr = 0;
      this.#cwriter = 0;
      this.#stalled = false;
    } else if (offset >= GITS_BASER && offset < GITS_BASER + 8 * BASER_FIXED.length) {
      const n = (offset - GITS_BASER) >> 3;
      let fields = value & BASER_FIELDS;
      // Page_Size 0b11 is reserved and treated as 0b10, 64 KiB.
      if ((fields & 0x300n) === 0x300n) fields &= ~0x100n;
      this.#baser[n] = fields | BASER_FIXED[n]!;
      this.forget();
    }
  }

  private get queueSize(): number {
    return (Number(this.#cbaser & 0xffn) + 1) * 0x1000;
  }

  private forget(): void {
    this.#cacheDevice.fill(-1);
  }

  /** Does commands until the queue is empty or a batch is done, then tells every CPU once. */
  private process(): void {
    if (!this.#enabled || this.#stalled || (this.#cbaser & GITS_BASER_VALID) === 0n) return;
    if (this.#creadr === this.#cwriter) return;
    const base = Number(this.#cbaser & CBASER_PA);
    for (let n = 0; n < BATCH && this.#creadr !== this.#cwriter; n++) {
      const at = base + this.#creadr;
      if (!this.memory.contains(at, COMMAND_SIZE)) {
        this.#stalled = true;
        break;
      }
      this.#commands++;
      if (!this.command(at)) this.#ignored++;
      this.#creadr = (this.#creadr + COMMAND_SIZE) % this.queueSize;
    }
    for (let cpu = 0; cpu < this.lpis.length; cpu++) this.changed(cpu);
  }

  /** Does the command at `at`; false when it is malformed. The fields are those of section 5.3. */
  private command(at: number): boolean {
    const word = (n: number) => this.memory.u32(at + 4 * n);
    const deviceId = word(1);
    const eventId = word(2);
    const icid = word(4) & 0xffff;
    const valid = word(5) >>> 31 === 1;
    // RDbase: bits [50:16] of a doubleword, here a processor number.
    const target = (n: number) => ((word(n) >>> 16) | (word(n + 1) << 16)) & 0x7fff_ffff;
    switch (word(0) & 0xff) {
      case SYNC:
        return true; // Every command has taken effect when the next one starts.
      case MAPD: {
        const eventBits = (eventId & 0x1f) + 1;
        if (deviceId >>> DEVICE_BITS || (valid && eventBits > EVENT_BITS)) return false;
        this.forget();
        const itt = (word(5) & 0xf_ffff) * 2 ** 32 + word(4) - (word(4) & 0xff);
        return this.#tables.setDevice(this.#baser[0]!, deviceId, valid ? { itt, eventBits } : undefined);
      }
      case MAPC:
        if (valid && target(4) >= this.lpis.length) return false;
        this.forget();
        return this.#tables.setCollection(this.#baser[1]!, icid, valid ? target(4) : undefined);
      case MAPTI:
        return this.map(deviceId, eventId, word(3), icid);
      case MAPI:
        return this.map(deviceId, eventId, eventId, icid);
      case MOVI:
        return this.move(deviceId, eventId, icid);
      case DISCARD:
        return this.discard(deviceId, eventId);
      case INT:
      case CLEAR:
      case INV: {
        const entry = this.translate(deviceId, eventId);
        if (entry === undefined) return false;
        const lpis = this.lpis[entry.cpu]!;
        if ((word(0) & 0xff) === INT) lpis.setPending(entry.intid);
        else if ((word(0) & 0xff) === CLEAR) lpis.clearPending(entry.intid);
        else lpis.invalidate(entry.intid);
        return true;
      }
      case INVALL: {
        const cpu = this.targetOf(icid);
        if (cpu === undefined) return false;
        this.lpis[cpu]!.invalidateAll();
        return true;
      }
      case MOVALL: {
        const from = this.lpis[target(4)];
        const to = this.lpis[target(6)];
        if (from === undefined || to === undefined) return false;
        from.moveAll(to);
        return true;
      }
      default:
        return false;
    }
  }

  private device(deviceId: number): DeviceEntry | undefined {
    return deviceId >>> DEVICE_BITS ? undefined : this.#tables.device(this.#baser[0]!, deviceId);
  }

  /** CPU of a collection, if there is one with that number. */
  private targetOf(icid: number): number | undefined {
    const cpu = this.#tables.collection(this.#baser[1]!, icid);
    return cpu !== undefined && cpu < this.lpis.length ? cpu : undefined;
  }

  private translate(deviceId: number, eventId: number): { intid: number; cpu: number } | undefined {
    const device = this.device(deviceId);
    const entry = device && this.#tables.translation(device, eventId);
    const cpu = entry && this.targetOf(entry.icid);
    return cpu === undefined ? undefined : { intid: entry!.intid, cpu };
  }

  private map(deviceId: number, eventId: number, intid: number, icid: number): boolean {
    const device = this.device(deviceId);
    if (device === undefined || intid < LPI_BASE || intid >= 2 ** INTID_BITS) return false;
    this.forget();
    return this.#tables.setTranslation(device, eventId, { intid, icid });
  }

  /** MOVI: the pending state goes with the interrupt. */
  private move(deviceId: number, eventId: number, icid: number): boolean {
    const device = this.device(deviceId);
    const entry = device && this.#tables.translation(device, eventId);
    const from = entry && this.targetOf(entry.icid);
    const to = this.targetOf(icid);
    if (device === undefined || entry === undefined || from === undefined || to === undefined) return false;
    this.forget();
    this.#tables.setTranslation(device, eventId, { intid: entry.intid, icid });
    if (from !== to && this.lpis[from]!.isPending(entry.intid)) {
      this.lpis[from]!.clearPending(entry.intid);
      this.lpis[to]!.setPending(entry.intid);
    }
    return true;
  }

  private discard(deviceId: number, eventId: number): boolean {
    const device = this.device(deviceId);
    const entry = device && this.#tables.translation(device, eventId);
    if (device === undefined || entry === undefined) return false;
    this.forget();
    const cpu = this.targetOf(entry.icid);
    if (cpu !== undefined) this.lpis[cpu]!.clearPending(entry.intid);
    return this.#tables.setTranslation(device, eventId, undefined);
  }
}
