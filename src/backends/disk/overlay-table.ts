import { ENTRY_SIZE, HEADER_SIZE } from './overlay-format.ts';

/** Bytes of a page of the table: 512 entries, for 32 MiB of the disk. */
export const PAGE_SIZE = 4096;
const PAGE_ENTRIES = PAGE_SIZE / ENTRY_SIZE;
/** Pages kept, 4 MiB; more only while that many are changed. */
const MAX_PAGES = 1024;

/** Where a table's pages come from. */
export interface PageSource {
  readSync(offset: number, into: Uint8Array): void;
}

/** A piece of the table as it is to be written. */
export interface ChangedPage {
  /** Byte offset in the file. */
  readonly offset: number;
  readonly bytes: Uint8Array;
}

interface Page {
  readonly index: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Differs from the file. */
  dirty: boolean;
  /** A copy is on its way to the file, so the file must not be asked. */
  committing: boolean;
}

/**
 * The table of an overlay in memory, in pages that are read when they are needed. It writes nothing by itself: changes
 * gather until they are taken with {@link begin}, since data has to be durable before an entry that points to it.
 */
export class OverlayTable {
  readonly #source: PageSource;
  /** Least recently used first. */
  readonly #pages = new Map<number, Page>();
  #latest: Page | undefined;
  #dirty = 0;

  constructor(source: PageSource) {
    this.#source = source;
  }

  /** Number of pages that differ from the file. */
  get dirtyPages(): number {
    return this.#dirty;
  }

  /** The entry of a cluster of the disk. Reads the file if need be, and throws what that throws. */
  get(cluster: number): number {
    const page = this.#page(Math.floor(cluster / PAGE_ENTRIES));
    const at = (cluster % PAGE_ENTRIES) * ENTRY_SIZE;
    return page.view.getUint32(at + 4, true) * 2 ** 32 + page.view.getUint32(at, true);
  }

  set(cluster: number, entry: number): void {
    const page = this.#page(Math.floor(cluster / PAGE_ENTRIES));
    // MAX_CLUSTERS keeps entries below 2^32.
    page.view.setUint32((cluster % PAGE_ENTRIES) * ENTRY_SIZE, entry, true);
    if (page.dirty) return;
    page.dirty = true;
    this.#dirty++;
  }

  /** Copies of all pages that have changed; {@link end} says what became of them. One commit at a time. */
  begin(): ChangedPage[] {
    const changed: ChangedPage[] = [];
    for (const page of this.#pages.values()) {
      if (!page.dirty) continue;
      page.dirty = false;
      page.committing = true;
      changed.push({ offset: HEADER_SIZE + page.index * PAGE_SIZE, bytes: page.bytes.slice() });
    }
    this.#dirty = 0;
    return changed;
  }

  /** The copies were written, or else have to be once more. */
  end(written: boolean): void {
    for (const page of this.#pages.values()) {
      if (!page.committing) continue;
      page.committing = false;
      if (written || page.dirty) continue;
      page.dirty = true;
      this.#dirty++;
    }
  }

  #page(index: number): Page {
    if (this.#latest?.index === index) return this.#latest;
    let page = this.#pages.get(index);
    if (page === undefined) {
      this.#makeRoom();
      const bytes = new Uint8Array(PAGE_SIZE);
      this.#source.readSync(HEADER_SIZE + index * PAGE_SIZE, bytes);
      page = { index, bytes, view: new DataView(bytes.buffer), dirty: false, committing: false };
    } else this.#pages.delete(index);
    this.#pages.set(index, page);
    this.#latest = page;
    return page;
  }

  #makeRoom(): void {
    if (this.#pages.size < MAX_PAGES) return;
    for (const page of this.#pages.values()) {
      if (page.dirty || page.committing) continue;
      this.#pages.delete(page.index);
      return;
    }
  }
}
