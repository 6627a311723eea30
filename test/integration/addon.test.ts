import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterAll, expect, test } from 'vitest';
import { loadAddon } from '../../src/engines/host/addon.ts';
import { elfMachine, libcOf, MACHINES } from '../../src/engines/host/elf.ts';
import { host } from '../../src/engines/host/host.ts';
import { probeHost } from '../../src/engines/host/probe.ts';

// The native file-descriptor layer, where `npm install` could build it.

const { addon, reason, attempts } = loadAddon();
if (addon === undefined) console.log(`skipped: ${reason}`);
const withAddon = test.skipIf(addon === undefined);

const EFD_NONBLOCK = 0o4000;
/** _IOR('T', 0x30, unsigned int): the size is in the number. */
const TIOCGPTN = 0x8004_5430;
/** Legacy numbers without a size. */
const TCGETS = 0x5401;
const FIONREAD = 0x541b;

const fds: number[] = [];
afterAll(() => fds.forEach(closeSync));
function keep(fd: number): number {
  fds.push(fd);
  return fd;
}

test('the state says whether there is an addon, and why not', () => {
  if (addon === undefined) {
    expect(reason).toBeTruthy();
    expect(host).toThrow(expect.objectContaining({ code: 'ERR_ENGINE_UNAVAILABLE' }));
  } else expect(typeof host().ioctl).toBe('function');
});

test('the probe never throws and explains what is missing', () => {
  const p = probeHost();
  expect(p.addon.loaded).toBe(addon !== undefined);
  expect(p.kvm.opens || p.kvm.reason !== undefined).toBe(true);
});

test.skipIf(process.platform !== 'linux')(
  "Node's own executable: its machine, and the C library that its report names",
  () => {
    const bytes = readFileSync(process.execPath);
    const file = (offset: number, length: number) => bytes.subarray(offset, offset + length);
    expect(elfMachine(file)).toBe(MACHINES[process.arch]);
    const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } };
    expect(libcOf(file)).toBe(header.glibcVersionRuntime === undefined ? 'musl' : 'glibc');
  },
);

withAddon('it is of this version, and says what Node-API it needs', () => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  expect(host()).toMatchObject({ version, napi: 8 });
  expect(probeHost().addon).toMatchObject({ version, napi: 8, fatal: false });
});

withAddon('an eventfd carries 64-bit numbers', () => {
  const h = host();
  const fd = keep(h.eventfd(3, EFD_NONBLOCK));
  expect(h.eventfdRead(fd)).toBe(3n);
  expect(h.eventfdRead(fd)).toBeUndefined();
  h.eventfdWrite(fd, 0xffff_ffff_0000_0001n);
  h.eventfdWrite(fd, 1n);
  expect(h.eventfdRead(fd)).toBe(0xffff_ffff_0000_0002n);
  expect(() => h.eventfdWrite(fd, 1n << 64n)).toThrow('out of range');
});

withAddon('ioctl: a buffer that is too small is refused before the kernel sees it', () => {
  const h = host();
  const fd = keep(openSync('/dev/ptmx', 'r+'));
  const number = new Uint32Array([0xffff_ffff]);
  expect(h.ioctl(fd, TIOCGPTN, number)).toBe(0);
  expect(number[0]).toBeLessThan(0xffff);
  expect(h.ioctl(fd, TIOCGPTN, new DataView(new ArrayBuffer(8), 4))).toBe(0);
  expect(h.ioctl(fd, TIOCGPTN, new Uint8Array(new SharedArrayBuffer(4)))).toBe(0);
  expect(() => h.ioctl(fd, TIOCGPTN, new Uint8Array(3))).toThrow('needs 4 bytes, the buffer has 3');
  expect(() => h.ioctl(fd, TIOCGPTN, 0)).toThrow('takes a buffer, not a number');
  expect(() => h.ioctl(fd, TCGETS, new Uint8Array(256))).toThrow('has no size');
  expect(() => h.ioctl(fd, FIONREAD, 'x' as never)).toThrow('must be a typed array');
  expect(() => h.ioctl(fd, 2 ** 32, 0)).toThrow('request is out of range');
  expect(() => h.ioctl(1.5, TIOCGPTN, number)).toThrow('fd is out of range');
});

withAddon('a failed system call has the name of its errno', () => {
  const h = host();
  expect(() => h.open('/does/not/exist', constants.O_RDONLY)).toThrow(
    expect.objectContaining({
      code: 'ERR_HOST_CALL',
      message: 'open (/does/not/exist) failed: ENOENT',
      details: { call: 'open', errno: 'ENOENT' },
    }),
  );
  expect(() => h.close(999_999)).toThrow('close failed: EBADF');
  const fd = h.open('/dev/null', constants.O_RDWR);
  expect(() => h.ioctl(fd, 0xae00, 0)).toThrow(/ioctl \(request 0xae00\) failed: E(NOTTY|INVAL)/);
  h.close(fd);
});

withAddon('mmap gives memory; MAP_FIXED is refused', () => {
  const h = host();
  const [PROT_READ_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED] = [3, 2, 0x20, 0x10];
  const bytes = new Uint8Array(h.mmap(65_536, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  expect(bytes.length).toBe(65_536);
  expect(bytes.every(b => b === 0)).toBe(true);
  bytes.fill(7);
  expect(bytes[65_535]).toBe(7);
  expect(() => h.mmap(4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)).toThrow('MAP_FIXED');
  expect(() => h.mmap(4096, 3, MAP_PRIVATE, 999_999, 0)).toThrow('mmap failed: EBADF');
});

withAddon('an address is opaque, goes into structures only, and not after its release', () => {
  const h = host();
  const memory = new Uint8Array(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer);
  const whole = h.addressOf(memory);
  const part = h.addressOf(memory.subarray(4096));
  const struct = new BigUint64Array(3);
  h.storeAddress(struct, 0, whole);
  h.storeAddress(struct, 16, part);
  expect(struct[0]! % 4096n).toBe(0n);
  expect(struct[2]! - struct[0]!).toBe(4096n);
  expect(() => h.storeAddress(struct, 17, whole)).toThrow('out of range');
  expect(() => h.storeAddress(struct, 0, {} as never)).toThrow('must come from addressOf');
  expect(JSON.stringify(whole)).toBe('{}');
  h.releaseAddress(whole);
  h.releaseAddress(whole);
  expect(() => h.storeAddress(struct, 0, whole)).toThrow('has been released');
});

withAddon('prlimit reads and sets', () => {
  const h = host();
  const RLIMIT_CORE = 4;
  const [soft, hard] = h.prlimit(RLIMIT_CORE);
  expect(soft <= hard).toBe(true);
  expect(h.prlimit(RLIMIT_CORE, 0n, hard)).toEqual([soft, hard]);
  expect(h.prlimit(RLIMIT_CORE, soft, hard)).toEqual([0n, hard]);
});

withAddon('Workers load it too, at the same time', async () => {
  const script = `
    const { parentPort } = require('node:worker_threads');
    const a = require(${JSON.stringify(attempts.at(-1)?.path)});
    const fd = a.eventfd(5, 0);
    parentPort.postMessage(a.eventfdRead(fd));
    a.close(fd);`;
  const answers = Array.from(
    { length: 4 },
    () =>
      new Promise((resolve, reject) => {
        const w = new Worker(script, { eval: true });
        w.once('message', resolve);
        w.once('error', reject);
      }),
  );
  expect(await Promise.all(answers)).toEqual([5n, 5n, 5n, 5n]);
});
