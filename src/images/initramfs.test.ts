import { describe, expect, it } from 'vitest';
import { codeOf } from '../../test/support/kernels.ts';
import { moduleWith } from '../../test/support/modules.ts';
import { readCpio } from '../firmware/cpio.ts';
import { busyboxApplets, createInitramfs, resolveModules } from './initramfs.ts';

const text = (s: string) => new TextEncoder().encode(s);
const modules = (deps: Record<string, string>) =>
  new Map(
    Object.entries(deps).map(([name, depends]) => [`lib/modules/1/${name}.ko`, moduleWith(`depends=${depends}\0`)]),
  );
const names = (paths: string[]) => paths.map(p => p.replace(/.*\//, '').replace('.ko', ''));

describe('resolveModules', () => {
  it('loads dependencies first and each module once', () => {
    const { order, absent } = resolveModules(modules({ a: 'b,c', b: 'd', c: 'd', d: '', x: '' }), ['a', 'c', 'nosuch']);
    expect(names(order)).toEqual(['d', 'b', 'c', 'a']);
    expect(absent).toEqual(['nosuch']);
  });

  it('knows that - and _ are the same in a name', () => {
    expect(names(resolveModules(modules({ 'virtio-rng': '', top: 'virtio_rng' }), ['top']).order)).toEqual([
      'virtio-rng',
      'top',
    ]);
  });

  it('honours soft dependencies that exist and ignores others', () => {
    const soft = new Map([
      ['a.ko', moduleWith('depends=\0softdep=pre: b nosuch\0')],
      ['b.ko', moduleWith('depends=\0')],
    ]);
    expect(resolveModules(soft, ['a']).order).toEqual(['b.ko', 'a.ko']);
  });

  it('ends on a cycle and says when a dependency is missing', () => {
    expect(names(resolveModules(modules({ a: 'b', b: 'a' }), ['a']).order)).toEqual(['b', 'a']);
    expect(codeOf(() => resolveModules(modules({ a: 'b' }), ['a']))).toBe('ERR_DOWNLOAD');
  });
});

describe('createInitramfs', () => {
  const initramfs = createInitramfs({ busybox: text('\x7fELF'), modules: modules({ virtio_pci: '' }) });
  const files = new Map(readCpio(initramfs.bytes).map(e => [e.path, e]));

  it('has a console for the kernel to give to init (major 5, minor 1, Documentation/admin-guide/devices.txt)', () => {
    expect(files.get('dev/console')).toMatchObject({ mode: 0o020600, major: 5, minor: 1 });
  });

  it('has every command that /init uses, the folder of every file, and the modules in order', () => {
    const init = new TextDecoder().decode(files.get('init')?.data);
    const own = ['load-virtio', 'hotplug', 'dhcp-lease'];
    for (const command of [
      ...['mount', 'mkdir', 'ifconfig', 'base64', 'setsid', 'cttyhack', 'poweroff', 'sh', 'ip', 'udhcpc', 'uevent'],
      ...own,
    ]) {
      expect(init).toMatch(new RegExp(`\\b${command}\\b`));
      expect(files.has(`bin/${command}`)).toBe(true);
    }
    const scripts = own.map(name => new TextDecoder().decode(files.get(`bin/${name}`)?.data)).join('\n');
    for (const command of ['insmod', 'mkdir', 'ip']) {
      expect(scripts).toMatch(new RegExp(`\\b${command}\\b`));
      expect(files.has(`bin/${command}`)).toBe(true);
    }
    for (const path of files.keys()) if (path.includes('/')) expect(files.has(path.replace(/\/[^/]*$/, ''))).toBe(true);
    expect(new TextDecoder().decode(files.get('lib/modules/order')?.data)).toBe('virtio_pci.ko\n');
  });
});

describe('busyboxApplets', () => {
  it("reads the binary's own table", () => {
    const table = '[\0[[\0base64\0busybox\0cttyhack\0insmod\0mount\0poweroff\0sh\0zcat\0';
    const applets = busyboxApplets(text(`junk\0${table}\0more`));
    expect(applets).toEqual(['[', '[[', 'base64', 'cttyhack', 'insmod', 'mount', 'poweroff', 'sh', 'zcat']);
  });

  it('falls back to a list of its own when the table is not there or lacks what /init needs', () => {
    expect(busyboxApplets(text('nothing'))).toContain('cttyhack');
    expect(busyboxApplets(text('[\0[[\0ash\0\0'))).toContain('mount');
  });
});
