import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MemoryCell, MemoryMap } from '../vmm/index.ts';
import { escapeXml } from './picture.ts';
import { pinsSvg } from './pins-svg.ts';

const FREE: MemoryCell = { short: 0, long: 0, write: 0, discarded: 0, unplugged: 0 };
const BASE = 0x4000_0000;

function map(cells: readonly Partial<MemoryCell>[], cellBytes = 8192): MemoryMap {
  const whole = cells.map(c => ({ ...FREE, ...c }));
  return { regions: [{ base: BASE, size: cells.length * cellBytes, kind: 'ram', cellBytes, cells: whole }] };
}

/** The cells that are drawn by themselves: what each says, its colour, how strong that is, and whether it is marked. */
function drawn(svg: string) {
  const cell = /<g><title>(.*?)<\/title><rect x="(\d+)" y="(\d+)" .*?fill="(.*?)" fill-opacity="(.*?)"\/>(<circle)?/g;
  return [...svg.matchAll(cell)].map(m => ({
    says: m[1]!,
    x: Number(m[2]),
    y: Number(m[3]),
    colour: m[4]!,
    strength: Number(m[5]),
    marked: m[6] !== undefined,
  }));
}

/** Colour of each line of the legend. */
function legend(svg: string): Record<string, string> {
  const entries = [...svg.matchAll(/<rect [^>]*fill="(#\w+)"\/>\n<text x="36" y="\d+">([\w-]+)/g)];
  return Object.fromEntries(entries.map(m => [m[2]!, m[1]!]));
}

describe('the picture of pins', () => {
  test('shows every state in the colour of its legend', () => {
    const states = ['short', 'long', 'discarded', 'unplugged'] as const;
    const svg = pinsSvg({ name: 'one', map: map([{}, ...states.map(s => ({ [s]: 2 }))]), notes: [] });
    const colours = legend(svg);
    expect(new Set(Object.values(colours)).size).toBe(5);
    expect(drawn(svg).map(c => c.colour)).toEqual([
      colours.short,
      colours['long-term'],
      colours.discarded,
      colours.unplugged,
    ]);
    expect(svg).toContain(`fill="${colours.free}"`);
  });

  test('a pin counts more than a discard, a long-term one more than a short one; a write is marked', () => {
    const svg = pinsSvg({
      name: 'one',
      map: map([
        { discarded: 1, short: 1 },
        { short: 2, long: 1, write: 1 },
      ]),
      notes: [],
    });
    const colours = legend(svg);
    expect(drawn(svg)).toMatchObject([
      { colour: colours.short, marked: false, says: '0x40000000, of 2 pages: 1 short, 1 discarded' },
      { colour: colours['long-term'], marked: true, says: '0x40002000, of 2 pages: 2 short, 1 long, 1 write' },
    ]);
  });

  test('a cell is the stronger the more of it is held, and a single page of many can be seen', () => {
    const [one, half, all] = drawn(
      pinsSvg({ name: 'one', map: map([{ short: 1 }, { short: 256 }, { short: 512 }], 2 ** 21), notes: [] }),
    );
    expect(one!.strength).toBeGreaterThan(0.35);
    expect(half!.strength).toBeGreaterThan(one!.strength);
    expect(all!.strength).toBe(1);
  });

  test('cells are in rows of 64 by address, with addresses beside them', () => {
    const cells = Array.from({ length: 64 * 9 }, (_, n) => (n === 0 || n === 63 || n === 64 ? { long: 2 } : {}));
    const svg = pinsSvg({ name: 'one', map: map(cells), notes: [] });
    const [first, last, next] = drawn(svg);
    expect(last!.x - first!.x).toBe(630);
    expect([next!.x, next!.y]).toEqual([first!.x, first!.y + 10]);
    expect(svg).toContain(`>0x${BASE.toString(16)}</text>`);
    expect(svg).toContain(`>0x${(BASE + 8 * 64 * 8192).toString(16)}</text>`);
  });

  test('memory that nobody holds makes a small file', () => {
    const svg = pinsSvg({ name: 'one', map: map(Array.from({ length: 4096 }, () => ({}))), notes: [] });
    expect(svg.length).toBeLessThan(12_000);
  });

  test('names the VM and has the notes, with nothing in them taken for markup', () => {
    const svg = pinsSvg({ name: 'a<b>&"c"\u0000', map: map([{}]), notes: ["</svg>'"] });
    expect(svg).toContain('Pinned memory of a&lt;b&gt;&amp;&quot;c&quot;?');
    expect(svg).toContain('>&lt;/svg&gt;&#39;</text>');
    expect(svg.match(/<\/svg>/g)).toHaveLength(1);
  });

  test('text of any characters becomes text that XML allows', () => {
    // Code points of all kinds, halves of surrogate pairs too.
    const points = fc.array(fc.oneof(fc.integer({ min: 0, max: 0x10_ffff }), fc.integer({ min: 0, max: 0x7f })));
    fc.assert(
      fc.property(points, p => {
        const escaped = escapeXml(p.map(c => String.fromCodePoint(c)).join(''));
        expect(/[<>"']|&(?!(amp|lt|gt|quot|#39);)/.test(escaped)).toBe(false);
        expect(/^[\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]*$/u.test(escaped)).toBe(true);
      }),
    );
  });
});
