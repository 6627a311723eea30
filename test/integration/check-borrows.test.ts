import { describe, expect, it } from 'vitest';
import { checkBorrows } from '../../scripts/check-borrows.ts';

const BORROWER = 'devices/virtio/chain.ts';
const BORROW = 'const bytes = ram.borrow(address, length, 0);\n';

describe('checkBorrows', () => {
  it.each([
    ['devices/a.ts', 'const bytes = ram.pinned(ram.pin(address, length));\nawait disk.read(bytes);'],
    ['devices/a.ts', "// memory.view(0, 1)\n/* gate.borrow(0) */ const s = 'memory.view(0, 1)';"],
    ['devices/a.ts', 'const d = new DataView(view.buffer); view(bytes); config.view.getUint32(0);'],
    ['devices/a.ts', 'interface GuestRam { borrow(a: number): Uint8Array; view(a: number): Uint8Array }'],
    ['devices/a.test.ts', 'memory.view(0, 1);'],
    ['memory/a.ts', 'await memory.view(0, 1);'],
    ['machine/a.ts', 'for (const r of memory.regions) base = r.base;'],
    [BORROWER, BORROW],
    [BORROWER, `${BORROW}const port = { asynchronous: true, then: 1 }; // await\nport.async = 'await';`],
  ])('%s may: %s', (path, source) => {
    expect(checkBorrows(path, source)).toEqual([]);
  });

  it.each([
    ['devices/a.ts', '\nconst b = memory.view(a, 4);', "src/devices/a.ts:2: '.view(' gives a raw view"],
    ['devices/a.ts', 'this.#memory?.view(a, 4)', "'.view(' gives a raw view"],
    ['backends/disk/a.ts', 'const b = f.dma.borrow(a, 4);', "'.borrow(' gives a raw view"],
    ['devices/a.ts', "const b = f.dma(a, 4, 'w');", "'.dma(' gives a raw view"],
    ['machine/a.ts', `const s = \`\${memory.view(a, 4)}\`;`, "'.view(' gives a raw view"],
    ['devices/a.ts', 'for (const { bytes } of memory.regions) use(bytes);', "'regions' are all of guest memory"],
    ['devices/a.ts', 'const { regions } = memory;', "'regions' are all of guest memory"],
    [BORROWER, `${BORROW}async function f() {}`, "chain.ts:2: 'async' in a file that borrows"],
    [BORROWER, `${BORROW}await done;`, "'await' in a file that borrows"],
    [BORROWER, `${BORROW}disk.read(bytes).then(f);`, "'then' in a file that borrows"],
    [BORROWER, `${BORROW}busy.finally(f);`, "'finally' in a file that borrows"],
    [BORROWER, `${BORROW}setTimeout(f, 1);`, "'setTimeout' in a file that borrows"],
    [BORROWER, `${BORROW}queueMicrotask(f);`, "'queueMicrotask' in a file that borrows"],
    [BORROWER, `${BORROW}function* f() { yield bytes; }`, "'yield' in a file that borrows"],
    [BORROWER, `${BORROW}const p: Promise<void> = q;`, "'Promise' in a file that borrows"],
    [BORROWER, 'const bytes = new Uint8Array(1);', 'borrows nothing: take it off BORROWERS'],
  ])('%s may not: %s', (path, source, why) => {
    const broken = checkBorrows(path, source);
    expect(broken.length).toBe(1);
    expect(broken[0]).toContain(why);
  });
});
