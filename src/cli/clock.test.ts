import fc from 'fast-check';
import { SaxesParser } from 'saxes';
import { describe, expect, test } from 'vitest';
import { CLOCK_HEAD, clockRow, describeClock, describeSamples, formatClockScreen, formatPpm } from './clock-format.ts';
import { clockSvg } from './clock-svg.ts';
import { type ClockAnswer, fitOffsets, percentile, summarize, thin } from './clock-window.ts';

const SECOND = 1e9;

/** A sample at `s` seconds. */
const at = (s: number, rest: Partial<ClockAnswer> = {}): ClockAnswer => ({
  name: 'one',
  engine: 'emu',
  state: 'running',
  mode: 'host',
  source: 'native',
  errorNs: 150,
  ptp: { answeredBy: 'tsvisor', calls: 4 * s },
  nowNs: 7e12 + s * SECOND,
  timeNs: s * SECOND,
  wallNs: '1700000000000000000',
  offsetNs: 0,
  offsetErrorNs: 400,
  ...rest,
});
/** Samples of one second each. */
const series = (length: number, of: (n: number) => Partial<ClockAnswer>) =>
  Array.from({ length }, (_, n) => at(n, of(n)));

describe('several samples together', () => {
  test('drift is the slope of the offset', () => {
    // 2 us each second, with a noise that is the same at either end.
    const noise = [30, -30, 0, -30, 30];
    const samples = series(5, n => ({ offsetNs: 500 + 2000 * n + noise[n]! }));
    expect(summarize(samples).driftPpm).toBeCloseTo(2);
    expect(fitOffsets(samples)!.start).toBeCloseTo(500);
    expect(summarize(samples)).toMatchObject({ spanNs: 4 * SECOND, callsPerSecond: 4 });
  });

  test('a line is found exactly wherever it lies', () => {
    const offset = fc.integer({ min: -1e15, max: 1e15 });
    fc.assert(
      fc.property(
        offset,
        fc.integer({ min: -1e6, max: 1e6 }),
        fc.integer({ min: 2, max: 50 }),
        (start, each, count) => {
          const fit = fitOffsets(series(count, n => ({ offsetNs: start + each * n })))!;
          expect(fit.slope * 1e9).toBeCloseTo(each, 3);
          expect(Math.abs(fit.start - start)).toBeLessThan(1);
        },
      ),
    );
  });

  test('one sample has no drift and no rate; neither have two of the same moment', () => {
    expect(summarize([at(3)])).toEqual({
      spanNs: 0,
      driftPpm: undefined,
      bracket: { nowNs: 300, medianNs: 300, p99Ns: 300 },
      callsPerSecond: undefined,
    });
    expect(summarize([at(3), at(3)])).toMatchObject({ driftPpm: undefined, callsPerSecond: undefined });
  });

  test('where the kernel answers nobody counts', () => {
    const samples = series(3, () => ({ ptp: { answeredBy: 'kernel' } }));
    expect(summarize(samples).callsPerSecond).toBeUndefined();
  });

  test('the bracket is twice the error bound; percentiles are by nearest rank', () => {
    const samples = series(200, n => ({ errorNs: n === 7 ? 5000 : n === 8 ? 900 : n === 9 ? 800 : 100 + (n % 2) }));
    expect(summarize(samples).bracket).toEqual({ nowNs: 202, medianNs: 202, p99Ns: 1600 });
    expect([0, 0.5, 0.51, 1].map(p => percentile([1, 2, 3, 4], p))).toEqual([1, 2, 3, 4]);
  });

  test('fewer samples keep the extremes, the ends and the order', () => {
    const samples = series(10_000, n => ({
      offsetNs: n === 4321 ? 9e6 : n === 5555 ? -9e6 : n % 100,
      errorNs: n === 77 ? 1e6 : 150,
    }));
    const few = thin(samples, 50);
    expect(few.length).toBeLessThanOrEqual(152);
    for (const n of [0, 77, 4321, 5555, 9999]) expect(few).toContain(samples[n]);
    expect(few.map(s => s.nowNs)).toEqual(few.map(s => s.nowNs).sort((a, b) => a - b));
    expect(thin(few, 100)).toBe(few);
  });
});

describe('text', () => {
  test('says what the time is made of, and who answers', () => {
    expect(describeClock('one', at(0))).toEqual([
      'one: emu, running; clock host, native (read by the addon)',
      'ptp_kvm: tsvisor answers',
    ]);
    expect(describeClock('two', at(0, { engine: 'kvm', source: 'estimated', ptp: { answeredBy: 'kernel' } }))).toEqual([
      'two: kvm, running; clock host, estimated (there is no addon)',
      "ptp_kvm: the host's kernel answers",
    ]);
    const off = at(0, { mode: 'virtual', source: 'virtual', ptp: { answeredBy: 'nobody', reason: 'switched off' } });
    expect(describeClock('one', off)).toEqual([
      'one: emu, running; clock virtual, virtual (counted instructions)',
      'ptp_kvm: nobody answers: switched off',
    ]);
  });

  test('a sample is a row under its heads', () => {
    const samples = series(3, n => ({ offsetNs: -1500 * n, errorNs: 155.25 }));
    const row = clockRow(samples[2]!, summarize(samples));
    expect(`${CLOCK_HEAD}\n${row}`).toBe(
      [
        '      TIME      OFFSET   DRIFT PPM     BRACKET      MEDIAN         P99       CALLS     CALLS/S',
        '     2.0 s     -3.0 us      -1.500      311 ns      311 ns      311 ns           8         4.0',
      ].join('\n'),
    );
    const kernel = at(1, { ptp: { answeredBy: 'kernel' } });
    expect(
      clockRow(kernel, summarize([kernel]))
        .split(/ {2,}/)
        .slice(-2),
    ).toEqual(['-', '-']);
  });

  test('figures of a window', () => {
    expect(describeSamples(series(3, n => ({ offsetNs: 100 * n })))).toEqual([
      'offset +200 ns, exact to 400 ns, drift +0.100 ppm in 2.0 s',
      'bracket 300 ns, median 300 ns, p99 300 ns',
      'ptp calls 8, 4.0/s',
    ]);
    expect(describeSamples([at(0, { ptp: { answeredBy: 'kernel' } })])).toEqual([
      'offset 0 ns, exact to 400 ns',
      'bracket 300 ns, median 300 ns, p99 300 ns',
    ]);
    expect([-0.0004, 0.0004, 0.0006, -12].map(formatPpm)).toEqual(['0.000', '0.000', '+0.001', '-12.000']);
  });

  /** The rows of the plot with this title: labels, and in which row each column has something. */
  const plotOf = (screen: string, title: string) => {
    const lines = screen.split('\n');
    const from = lines.findIndex(l => l.startsWith(`${title}, `));
    const rows = lines.slice(from + 1).map(l => /^ *(-?[\d.]+)[┤┼](.*)$/.exec(l));
    const end = rows.indexOf(null);
    return rows.slice(0, end < 0 ? undefined : end).map(m => ({ label: Number(m![1]), ink: m![2]!.trimEnd() }));
  };

  test('a screen has plots of offset and bracket, with the values beside them', () => {
    const samples = series(40, n => ({ offsetNs: n < 20 ? -4e6 : 2e6, errorNs: n === 30 ? 2000 : 500 }));
    const screen = formatClockScreen('one', samples, { rows: 29, columns: 80 });
    expect(screen).toContain('\noffset, ms\n');
    expect(screen).toContain('\nbracket, us\n');
    const offset = plotOf(screen, 'offset');
    expect(offset[0]!.label).toBe(2);
    expect(offset.at(-1)!.label).toBe(-4);
    // First half below, second half above.
    expect(offset[0]!.ink).toMatch(/^ {19}╭─{19}$/);
    expect(offset.at(-1)!.ink).toMatch(/^─{19}╯$/);
    const bracket = plotOf(screen, 'bracket');
    expect(bracket[0]!.label).toBe(4);
    expect(bracket[0]!.ink.trim()).toBe('╭╮');
    expect(bracket.at(-1)).toEqual({ label: 0, ink: '' });
  });

  test('fits the terminal, whatever there is to show', () => {
    const size = fc.record({ rows: fc.integer({ min: 1, max: 60 }), columns: fc.integer({ min: 1, max: 140 }) });
    const offsets = fc.array(fc.double({ min: -1e13, max: 1e13, noNaN: true }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(size, offsets, fc.double({ min: 0, max: 1e9, noNaN: true }), ({ rows, columns }, values, errorNs) => {
        const samples = values.map((offsetNs, n) => at(n, { offsetNs, errorNs }));
        const screen = formatClockScreen('one', samples, { rows, columns });
        const lines = screen.split('\n').slice(0, -1);
        expect(lines.length).toBeLessThanOrEqual(rows);
        for (const line of lines) expect(line.length).toBeLessThanOrEqual(columns);
        expect(screen).not.toContain('NaN');
        // Text takes five rows, the smallest plot six with what is around it.
        if (columns >= 20) expect(lines.some(l => l.startsWith('offset, '))).toBe(rows >= 11);
      }),
    );
  });

  test('an offset that stands has labels that differ, however large it is', () => {
    for (const offsetNs of [0, 5, -3600e9, 4e9 + 1]) {
      const screen = formatClockScreen('one', [at(0, { offsetNs }), at(1, { offsetNs })], { rows: 30, columns: 80 });
      const labels = plotOf(screen, 'offset').map(r => r.label);
      expect(new Set(labels).size).toBe(labels.length);
    }
  });
});

/** The elements of an XML document with their attributes and text; throws when it is not well-formed. */
function parseXml(xml: string) {
  const elements: { name: string; attributes: Record<string, string>; text: string }[] = [];
  const open: (typeof elements)[number][] = [];
  const parser = new SaxesParser();
  parser.on('error', e => {
    throw e;
  });
  parser.on('opentag', ({ name, attributes }) => {
    const element = { name, attributes, text: '' };
    elements.push(element);
    open.push(element);
  });
  parser.on('closetag', () => open.pop());
  parser.on('text', t => {
    if (open.length > 0) open.at(-1)!.text += t;
  });
  parser.write(xml).close();
  return elements;
}

/** The points of the n-th line. */
function lineOf(svg: string, n: number): { x: number; y: number }[] {
  const lines = parseXml(svg).filter(e => e.attributes.class === 'line');
  return lines[n]!.attributes.points!.split(' ').map(p => {
    const [x, y] = p.split(',').map(Number);
    return { x: x!, y: y! };
  });
}

describe('the picture', () => {
  test('is a well-formed document by itself, in light and dark', () => {
    const svg = clockSvg(
      'a<b>&"c"\u0000',
      series(50, n => ({ offsetNs: 10 * n })),
    );
    const elements = parseXml(svg);
    expect(elements[0]).toMatchObject({ name: 'svg', attributes: { xmlns: 'http://www.w3.org/2000/svg' } });
    expect(elements[1]).toMatchObject({ name: 'title', text: 'Clock of a<b>&"c"?' });
    // Nothing is fetched; every class has a colour in both.
    expect(svg.match(/href|url\(|@import/)).toBeNull();
    const [light = '', dark = ''] = elements
      .find(e => e.name === 'style')!
      .text.split('@media (prefers-color-scheme: dark)');
    for (const kind of new Set(elements.flatMap(e => e.attributes.class ?? []))) {
      expect(light).toMatch(new RegExp(`\\.${kind}\\b`));
      expect(dark).toMatch(new RegExp(`\\.${kind}\\b`));
    }
  });

  test('says the figures, and has axes in units of what they show', () => {
    const texts = (samples: readonly ClockAnswer[]) =>
      parseXml(clockSvg('one', samples))
        .filter(e => e.name === 'text')
        .map(e => e.text);
    const short = texts(series(11, n => ({ offsetNs: 100 * n })));
    expect(short).toContain('offset +1.0 us, exact to 400 ns, drift +0.100 ppm in 10.0 s');
    expect(short).toContainEqual(expect.stringMatching(/^Offset .*, us \(/));
    expect(short).toContainEqual(expect.stringMatching(/^Bracket: .*, ns \(/));
    expect(short.filter(t => t === 'time of the host, s')).toHaveLength(2);
    const long = texts(series(1800, n => ({ offsetNs: 100 * n, errorNs: 3e6 })));
    expect(long).toContainEqual(expect.stringMatching(/^Bracket: .*, ms \(/));
    expect(long).toContain('time of the host, min');
    expect(texts(series(9, () => ({ errorNs: 10 })))).toContainEqual(expect.stringMatching(/^Offset .*, ns \(/));
  });

  test('draws later to the right, more above, and what is there twice as wide twice as high', () => {
    const svg = clockSvg(
      'one',
      series(5, n => ({ offsetNs: [0, 1000, 500, -1000, 0][n]!, errorNs: n === 2 ? 1000 : 500 })),
    );
    const offset = lineOf(svg, 0);
    expect(offset.map(p => p.x)).toEqual([96, 291, 486, 681, 876]);
    const [a, b, c, d, e] = offset.map(p => p.y);
    expect(a).toBe(e);
    expect(a! - b!).toBeCloseTo(d! - a!, 0);
    expect(a! - c!).toBeCloseTo((a! - b!) / 2, 0);
    const frame = parseXml(svg).filter(p => p.attributes.class === 'frame')[1]!.attributes;
    const zero = Number(frame.y) + Number(frame.height);
    const bracket = lineOf(svg, 1).map(p => zero - p.y);
    expect(bracket[2]! / bracket[1]!).toBeCloseTo(2, 1);
  });

  test('stays inside its frames, and small, whatever there is to show', () => {
    const values = fc.array(fc.double({ min: -1e13, max: 1e13, noNaN: true }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(values, fc.double({ min: 0, max: 1e9, noNaN: true }), (offsets, errorNs) => {
        const svg = clockSvg(
          'one',
          offsets.map((offsetNs, n) => at(n, { offsetNs, errorNs })),
        );
        expect(svg).not.toMatch(/NaN|Infinity/);
        const elements = parseXml(svg);
        const frames = elements.filter(e => e.attributes.class === 'frame').map(e => e.attributes);
        if (offsets.length === 1) {
          expect(elements.filter(e => e.name === 'circle')).toHaveLength(2);
          return;
        }
        for (const [n, frame] of frames.entries()) {
          for (const { x, y } of lineOf(svg, n)) {
            expect(x).toBeGreaterThanOrEqual(Number(frame.x));
            expect(x).toBeLessThanOrEqual(Number(frame.x) + Number(frame.width));
            expect(y).toBeGreaterThanOrEqual(Number(frame.y));
            expect(y).toBeLessThanOrEqual(Number(frame.y) + Number(frame.height));
          }
        }
      }),
    );
    const many = clockSvg(
      'one',
      series(20_000, n => ({ offsetNs: (n * 7919) % 10_007 })),
    );
    expect(many.length).toBeLessThan(200_000);
  });
});
