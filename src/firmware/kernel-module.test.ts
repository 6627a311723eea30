import { describe, expect, it } from 'vitest';
import { codeOf } from '../../test/support/kernels.ts';
import { moduleWith } from '../../test/support/modules.ts';
import { elfSection } from './elf.ts';
import { moduleName, readModuleInfo } from './kernel-module.ts';

describe('moduleName', () => {
  it.each([
    ['lib/modules/6.1/kernel/drivers/char/hw_random/virtio-rng.ko', 'virtio_rng'],
    ['virtio_net.ko.xz', 'virtio_net'],
    ['a/9pnet.ko.zst', '9pnet'],
  ])('%s is %s', (path, name) => {
    expect(moduleName(path)).toBe(name);
  });
});

describe('readModuleInfo', () => {
  it('finds dependencies among the other keys', () => {
    const ko = moduleWith('license=GPL\0depends=virtio,virtio-ring\0softdep=pre: crc32c crc16 post: foo\0name=x\0');
    expect(readModuleInfo(ko)).toEqual({ depends: ['virtio', 'virtio_ring'], softPre: ['crc32c', 'crc16'] });
    expect(readModuleInfo(moduleWith('depends=\0softdep=post: a\0'))).toEqual({ depends: [], softPre: [] });
  });

  it('takes a module without .modinfo for one without dependencies', () => {
    expect(readModuleInfo(moduleWith('', '.other'))).toEqual({ depends: [], softPre: [] });
  });

  it('refuses what is no ELF file, and broken section tables', () => {
    expect(codeOf(() => readModuleInfo(new Uint8Array(100)))).toBe('ERR_NOT_A_KERNEL');
    const ko = moduleWith('depends=a\0');
    expect(codeOf(() => elfSection(ko.subarray(0, ko.length - 1), '.modinfo'))).toBe('ERR_KERNEL_CORRUPT');
    new DataView(ko.buffer).setUint16(62, 9, true); // e_shstrndx behind the table
    expect(codeOf(() => elfSection(ko, '.modinfo'))).toBe('ERR_KERNEL_CORRUPT');
  });
});
