import { describe, expect, it } from 'vitest';
import { fakeChain } from '../../../../test/support/fake-virtio.ts';
import { answerOf, FuseClient, MemoryFiles, pack, request, zero } from '../../../../test/support/fuse.ts';
import { FileError } from './errno.ts';
import { FuseSession } from './session.ts';

async function mounted() {
  const files = new MemoryFiles();
  const session = new FuseSession(files);
  const guest = new FuseClient(session);
  await guest.init();
  files.calls.length = 0;
  return { files, session, guest };
}

describe('FUSE_INIT', () => {
  it('agrees on the smaller minor version and on what both know', async () => {
    const guest = new FuseClient(new FuseSession(new MemoryFiles()));
    const a = await guest.init(37);
    expect([a.error, a.bytes.length, a.u32(0), a.u32(4)]).toEqual([0, 64, 7, 37]);
    expect(a.u32(8)).toBe(1 << 17); // max_readahead as the guest has it
    const flags = a.u32(12);
    for (const bit of [0, 3, 5, 12, 13, 14, 15, 18, 22]) expect((flags >>> bit) & 1, `flag ${bit}`).toBe(1);
    // Neither locks nor a writeback cache, DAX, submounts, ACLs, or a second word of flags.
    for (const bit of [1, 10, 16, 20, 26, 27, 30]) expect((flags >>> bit) & 1, `flag ${bit}`).toBe(0);
    expect([a.view.getUint16(16, true), a.view.getUint16(18, true)]).toEqual([64, 48]);
    expect([a.u32(20), a.u32(24), a.view.getUint16(28, true)]).toEqual([1 << 20, 1000, 256]);
    expect((await guest.init(99)).u32(4)).toBe(38);
  });

  it('answers a newer major version with its own, and refuses what is older than virtio-fs', async () => {
    const guest = new FuseClient(new FuseSession(new MemoryFiles()));
    const newer = await guest.call(26, 0, [pack('IIII', 8, 0, 0, 0)], 64);
    expect([newer.error, newer.u32(0), newer.u32(4)]).toEqual([0, 7, 38]);
    expect((await guest.lookup(1, 'a')).error).toBe(5); // not agreed yet
    expect((await guest.init(30)).error).toBe(71);
    expect((await guest.call(26, 0, [pack('IIII', 6, 31, 0, 0)], 64)).error).toBe(71);
  });

  it('comes before everything else, and FUSE_DESTROY ends it', async () => {
    const { files, guest } = await mounted();
    files.put('a', '');
    expect((await guest.lookup(1, 'a')).error).toBe(0);
    expect((await guest.call(38, 0, [])).error).toBe(0);
    expect(files.calls.at(-1)).toEqual(['reset']);
    expect((await guest.lookup(1, 'a')).error).toBe(5);
  });
});

describe('names and attributes', () => {
  it('LOOKUP gives node and attributes, times before 1970 too', async () => {
    const { files, guest } = await mounted();
    const node = files.put('n\xe4me', 'data');
    const a = await guest.lookup(1, 'n\xe4me');
    expect(a.bytes.length).toBe(128);
    expect(a.entry).toEqual({ node, mode: 0o100644, size: 4 });
    expect([a.u64(8), a.u64(16), a.u64(24)]).toEqual([0, 1, 1]); // generation, entry_valid, attr_valid
    const at = 40;
    expect([a.u64(at), a.u64(at + 16)]).toEqual([node, 8]);
    expect([a.u64(at + 24), a.u32(at + 48)]).toEqual([1, 1]);
    expect([a.u64(at + 32), a.u32(at + 52)]).toEqual([2, 2]);
    expect([a.view.getBigInt64(at + 40, true), a.u32(at + 56)]).toEqual([-1n, 999_999_999]);
    expect([64, 68, 72, 80].map(o => a.u32(at + o))).toEqual([1, 1000, 1001, 4096]); // nlink, uid, gid, blksize
    expect((await guest.lookup(1, 'other')).error).toBe(2);
  });

  it('a name ends at its zero, and nothing may follow', async () => {
    const { files, guest } = await mounted();
    files.put('a', '');
    expect((await guest.call(1, 1, [zero('a\0b')])).error).toBe(22);
    expect((await guest.call(1, 1, [Uint8Array.of(97)])).error).toBe(22);
    expect((await guest.call(1, 1, [])).error).toBe(22);
    expect((await guest.lookup(1, 'x'.repeat(256))).error).toBe(36);
  });

  it('GETATTR tells of the handle where the guest names one', async () => {
    const { files, guest } = await mounted();
    const node = files.put('a', 'abc');
    const a = await guest.call(3, node, [pack('IIQ', 0, 0, 9)]);
    expect([a.bytes.length, a.u64(0), a.u64(16 + 8)]).toEqual([104, 1, 3]);
    await guest.call(3, node, [pack('IIQ', 1, 0, 9)]);
    expect(files.calls).toEqual([
      ['attributes', node, undefined],
      ['attributes', node, 9],
    ]);
  });

  it('SETATTR passes on what is valid only', async () => {
    const { files, guest } = await mounted();
    const set = (valid: number) =>
      guest.call(4, 5, [
        pack('IIQQQQQQIIIIIIII', valid, 0, 77, 1234, 0, 10, -1n, 30, 1, 2, 3, 0o104755, 0, 1000, 1001, 0),
      ]);
    expect((await set(0)).error).toBe(0);
    expect((await set(0x7f)).u64(16 + 8)).toBe(1234);
    await set(0x180);
    expect(files.calls.map(c => c[2])).toEqual([
      {},
      {
        mode: 0o4755,
        uid: 1000,
        gid: 1001,
        size: 1234,
        handle: 77,
        atimeNs: 10_000_000_001n,
        mtimeNs: -999_999_998n,
      },
      { atimeNs: 'now', mtimeNs: 'now' },
    ]);
  });

  it('makes, links, moves and removes', async () => {
    const { files, guest } = await mounted();
    expect((await guest.call(6, 1, [zero('l'), zero('/etc/passwd')])).entry.mode).toBe(0o120777);
    expect((await guest.call(8, 1, [pack('IIII', 0o100600, 0, 0o22, 0), zero('f')])).entry.mode).toBe(0o100600);
    expect((await guest.call(9, 1, [pack('II', 0o750, 0o22), zero('d')])).entry.mode).toBe(0o040750);
    const node = files.files.get('f')!.node;
    expect((await guest.call(13, 1, [pack('Q', node), zero('g')])).entry.node).toBe(node);
    expect((await guest.call(12, 1, [pack('Q', 1), zero('g'), zero('h')])).error).toBe(0);
    expect((await guest.call(45, 1, [pack('QII', 1, 1, 0), zero('g'), zero('i')])).error).toBe(0);
    expect((await guest.call(45, 1, [pack('QII', 1, 2, 0), zero('g'), zero('i')])).error).toBe(22); // EXCHANGE
    expect((await guest.call(10, 1, [zero('f')])).error).toBe(0);
    expect((await guest.call(10, 1, [zero('f')])).error).toBe(2);
    expect((await guest.call(11, 1, [zero('d')])).error).toBe(0);
    expect(files.calls).toEqual([
      ['makeLink', 1, 'l', '/etc/passwd'],
      ['link', node, 1, 'g'],
      ['rename', 1, 'g', 1, 'h', false],
      ['rename', 1, 'g', 1, 'i', true],
    ]);
  });

  it('READLINK gives bytes without a zero', async () => {
    const { guest } = await mounted();
    expect((await guest.call(5, 2, [])).text).toBe('../t\xe4rget');
    expect((await guest.call(5, 2, [], 3)).error).toBe(36);
  });

  it('ACCESS and STATFS', async () => {
    const { guest } = await mounted();
    expect((await guest.call(34, 1, [pack('II', 4, 0)])).error).toBe(0);
    expect((await guest.call(34, 1, [pack('II', 2, 0)])).error).toBe(30);
    const a = await guest.call(17, 1, []);
    expect(a.bytes.length).toBe(80);
    expect([0, 8, 16, 24, 32].map(o => a.u64(o))).toEqual([1000, 500, 400, 64, 32]);
    expect([40, 44, 48].map(o => a.u32(o))).toEqual([4096, 255, 4096]);
  });
});

describe('files', () => {
  it('reads the flags of open(2) that all architectures share', async () => {
    const { files, guest } = await mounted();
    const node = files.put('a', '');
    expect((await guest.open(node, 0o1001)).u64(0)).toBe(node + 100);
    expect(files.calls[0]![2]).toEqual({ read: false, write: true, append: false, truncate: true, exclusive: false });
    await guest.open(node, 0o2002 | 0o400000 | 0o100000);
    expect(files.calls[1]![2]).toEqual({ read: true, write: true, append: true, truncate: false, exclusive: false });
    expect((await guest.open(node, 3)).error).toBe(22);
    const made = await guest.create(1, 'new', 0o201, 0o100640);
    expect(made.bytes.length).toBe(144);
    expect([made.entry.mode, made.u64(128)]).toEqual([0o100640, made.entry.node + 100]);
    expect(files.calls[2]!.slice(1, 4)).toEqual([1, 'new', 0o640]);
    expect(files.calls[2]![4]).toMatchObject({ read: false, write: true, exclusive: true });
  });

  it('READ fills the buffers behind the header, however they are cut', async () => {
    const { files, session } = await mounted();
    const node = files.put('a', '0123456789');
    for (const cut of [[26], [16, 10], [1, 1, 16, 1, 7], [15, 3, 8], [20, 6]]) {
      const chain = fakeChain([request(15, node, pack('QQIIQII', node + 100, 2, 10, 0, 0, 0, 0))], cut);
      const a = answerOf(await session.handle(chain), chain.writable);
      expect(a.text, String(cut)).toBe('23456789');
    }
  });

  it('WRITE takes the data behind its structure, however they are cut', async () => {
    const { files, session } = await mounted();
    const whole = request(16, 5, pack('QQIIQII', 9, 3, 4, 0, 0, 0, 0), Buffer.from('data'));
    for (const cut of [0, 1, 39, 40, 41, 79, 80, 81, 84]) {
      const chain = fakeChain([whole.slice(0, cut), whole.slice(cut)], [16, 8]);
      expect(answerOf(await session.handle(chain), chain.writable).u32(0)).toBe(4);
    }
    expect(files.calls).toEqual(Array(9).fill(['write', 9, 3, 'data']));
  });

  it('WRITE refuses more than there is and more than max_write', async () => {
    const { guest } = await mounted();
    const write = (size: number, bytes: number) =>
      guest.call(16, 5, [pack('QQIIQII', 9, 0, size, 0, 0, 0, 0), new Uint8Array(bytes)]);
    expect((await write(5, 4)).error).toBe(22);
    expect((await write(0xffff_ffff, 4)).error).toBe(22);
    expect((await write((1 << 20) + 1, (1 << 20) + 1)).error).toBe(22);
    expect((await write(1 << 20, 1 << 20)).u32(0)).toBe(1 << 20);
  });

  it('FSYNC, FSYNCDIR, RELEASE and RELEASEDIR', async () => {
    const { files, guest } = await mounted();
    for (const [opcode, args] of [
      [20, pack('QII', 9, 1, 0)],
      [30, pack('QII', 8, 0, 0)],
      [18, pack('QIIQ', 9, 0, 0, 0)],
      [29, pack('QIIQ', 8, 0, 0, 0)],
    ] as const) {
      expect((await guest.call(opcode, 1, [args])).error).toBe(0);
    }
    expect(files.calls).toEqual([
      ['sync', 9, true],
      ['sync', 8, false],
      ['release', 9],
      ['release', 8],
    ]);
  });

  it('maps errors by name, and what has none to EIO', async () => {
    const { files, guest } = await mounted();
    const node = files.put('a', '');
    files.sync = () => Promise.reject(new FileError('EDQUOT'));
    expect((await guest.call(20, node, [pack('QII', 9, 0, 0)])).error).toBe(122);
    files.sync = () => Promise.reject(new Error('something else'));
    expect((await guest.call(20, node, [pack('QII', 9, 0, 0)])).error).toBe(5);
    files.access = () => {
      throw Object.assign(new Error(), { code: 'constructor' });
    };
    expect((await guest.call(34, node, [pack('II', 4, 0)])).error).toBe(5);
  });
});

describe('directories', () => {
  const NAMES = ['a', 'bb', 'name-of-8', 'x'.repeat(255), 'n\xf6n-utf8'];

  it('READDIR gives all names in answers of any size, with their types', async () => {
    const { files, guest } = await mounted();
    for (const name of NAMES) files.put(name, '', name === 'bb' ? 0o040755 : 0o100644);
    for (const room of [280, 300, 333, 4096]) {
      const list = await guest.list(1, false, room);
      expect(list.map(e => e.name)).toEqual(['.', '..', ...NAMES]);
      expect(list.map(e => e.type)).toEqual([4, 4, 8, 4, 8, 8, 8]);
    }
    expect(files.lookups.size).toBe(0);
  });

  it('READDIRPLUS counts a lookup of exactly what it gives', async () => {
    const { files, guest } = await mounted();
    for (const name of NAMES) files.put(name, '');
    for (const room of [408, 500, 4096]) {
      files.lookups.clear();
      const list = await guest.list(1, true, room);
      expect(list.map(e => e.name)).toEqual(['.', '..', ...NAMES]);
      expect(list.map(e => e.node)).toEqual([0, 0, ...NAMES.map(n => files.files.get(n)!.node)]);
      expect([...files.lookups.values()]).toEqual(NAMES.map(() => 1));
    }
  });

  it('leaves out what has gone meanwhile, and gives the name alone of what cannot be looked up', async () => {
    const { files, guest } = await mounted();
    for (const name of ['gone', 'full', 'there']) files.put(name, '');
    const lookup = files.lookup.bind(files);
    files.lookup = (parent, name) => {
      if (name === 'there') return lookup(parent, name);
      throw new FileError(name === 'gone' ? 'ENOENT' : 'ENFILE');
    };
    const list = await guest.list(1, true);
    expect(list.map(e => e.name)).toEqual(['.', '..', 'full', 'there']);
    expect(list[2]).toEqual({ name: 'full', type: 0, node: 0 });
  });

  it('EINVAL where not even one entry has room', async () => {
    const { guest } = await mounted();
    expect((await guest.call(28, 1, [pack('QQIIQII', 101, 0, 31, 0, 0, 0, 0)])).error).toBe(22);
  });
});

describe('requests without an answer', () => {
  it('FORGET and BATCH_FORGET take lookups back, INTERRUPT does nothing', async () => {
    const { files, session } = await mounted();
    const send = (bytes: Uint8Array) => session.handle(fakeChain([bytes], []));
    expect(send(request(2, 5, pack('Q', 3)))).toBe(0);
    expect(send(request(42, 0, pack('IIQQQQ', 2, 0, 6, 1, 7, 2)))).toBe(0);
    expect(send(request(42, 0, pack('IIQQ', 0xffff_ffff, 0, 8, 1)))).toBe(0); // no more than there are
    expect(send(request(36, 0, pack('Q', 1)))).toBe(0);
    expect(files.calls).toEqual([
      ['forget', 5, 3],
      ['forget', 6, 1],
      ['forget', 7, 2],
      ['forget', 8, 1],
    ]);
  });
});

describe('malformed requests', () => {
  it('ENOSYS for what is not implemented', async () => {
    const { guest } = await mounted();
    for (const opcode of [0, 21, 22, 23, 24, 25, 31, 39, 43, 46, 47, 48, 50, 51, 52, 4096, 0xffff_ffff]) {
      expect((await guest.call(opcode, 1, [])).error, `opcode ${opcode}`).toBe(38);
    }
  });

  it('EINVAL for a length that is not there, or a structure that is cut off', async () => {
    const { session, guest } = await mounted();
    for (const length of [0, 39, 43, 0xffff_ffff]) {
      const bytes = request(1, 1, zero('a'));
      bytes.set(pack('I', length));
      const chain = fakeChain([bytes], [16, 128]);
      expect(answerOf(await session.handle(chain), chain.writable).error, String(length)).toBe(22);
    }
    for (const opcode of [3, 4, 8, 9, 12, 13, 14, 15, 16, 18, 20, 28, 34, 35, 44, 45]) {
      expect((await guest.call(opcode, 1, [Uint8Array.of(1, 2, 3)])).error, `opcode ${opcode}`).toBe(22);
    }
  });

  it('does nothing where the answer has no room', async () => {
    const { files, session } = await mounted();
    files.put('a', '');
    const tooSmall = fakeChain([request(1, 1, zero('a'))], [16, 127]);
    expect(answerOf(await session.handle(tooSmall), tooSmall.writable).error).toBe(22);
    expect(session.handle(fakeChain([request(10, 1, zero('a'))], [15]))).toBe(0);
    expect(session.handle(fakeChain([request(10, 1, zero('a')).slice(0, 39)], [16]))).toBe(0);
    expect(session.handle(fakeChain([], [16]))).toBe(0);
    expect([files.lookups.size, files.files.size]).toEqual([0, 1]);
  });
});
