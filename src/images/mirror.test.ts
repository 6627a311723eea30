import { describe, expect, it } from 'vitest';
import { codeOf } from '../../test/support/kernels.ts';
import { findStanza, parseStanza, releaseFiles } from './deb822.ts';
import { proxyFor } from './http.ts';
import { stripClearsign } from './mirror.ts';
import { kernelPackage } from './packages.ts';

const H = 'a'.repeat(64);

describe('deb822', () => {
  const list =
    'Package: linux-a\nVersion: 1\n\nSize: 3\nPackage: b\nDescription: x\n more\n .\n\nPackage: c\nVersion: 2\n';

  it('finds a stanza by its whole name, wherever it stands and in whatever order its fields are', () => {
    expect(findStanza(list, 'linux-a')?.get('Version')).toBe('1');
    expect(findStanza(list, 'b')).toEqual(
      new Map([
        ['Size', '3'],
        ['Package', 'b'],
        ['Description', 'x\nmore\n.'],
      ]),
    );
    expect(findStanza(list, 'c')?.get('Version')).toBe('2');
    expect(findStanza(list, 'linux')).toBeUndefined();
    expect(findStanza('', 'c')).toBeUndefined();
  });

  it("reads a Release file's digests, and only SHA-256 ones", () => {
    const release = parseStanza(
      `Codename: x\nMD5Sum:\n ${'b'.repeat(32)} 1 p/Q\nSHA256:\n ${H}   12 p/Q\n ${H} 13 p/R.xz\n`,
    );
    expect([...releaseFiles(release).values()]).toEqual([
      { path: 'p/Q', size: 12, sha256: H },
      { path: 'p/R.xz', size: 13, sha256: H },
    ]);
  });
});

describe('kernelPackage', () => {
  it.each([
    ['linux-image-6.1.0-9-cloud-arm64 (= 6.1.1-1)', 'linux-image-6.1.0-9-cloud-arm64'],
    ['kmod, linux-image-6.12+deb13-cloud-arm64:arm64', 'linux-image-6.12+deb13-cloud-arm64'],
  ])('%s', (depends, name) => {
    expect(kernelPackage(new Map([['Depends', depends]]))).toBe(name);
  });

  it('refuses a package that depends on no kernel', () => {
    expect(codeOf(() => kernelPackage(new Map([['Depends', 'kmod']])))).toBe('ERR_DOWNLOAD');
  });
});

describe('stripClearsign', () => {
  it('takes the text out of a clear-signed message and undoes its dash escapes', () => {
    const message =
      '-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nA: 1\n- -x\n-----BEGIN PGP SIGNATURE-----\n\nxx\n';
    expect(stripClearsign(message)).toBe('A: 1\n-x');
    expect(stripClearsign('A: 1\n')).toBe('A: 1\n');
  });
});

describe('proxyFor', () => {
  const url = (s: string) => new URL(s);

  it("takes the scheme's own variable, in lower case first, then all_proxy", () => {
    const env = { http_proxy: 'http://low:1', HTTP_PROXY: 'http://up:2', all_proxy: 'all:3' };
    expect(proxyFor(url('http://h/'), env)?.host).toBe('low:1');
    expect(proxyFor(url('https://h/'), env)?.host).toBe('all:3');
    expect(proxyFor(url('http://h/'), {})).toBeUndefined();
  });

  it.each(['h.example', '.example', '*.example', 'x, example:80', '*'])('no_proxy=%s exempts a host', no_proxy => {
    expect(proxyFor(url('http://h.example/'), { http_proxy: 'http://p:1', no_proxy })).toBeUndefined();
  });

  it('does not exempt a host whose name only ends alike, and refuses other kinds of proxies', () => {
    expect(proxyFor(url('http://h.example/'), { http_proxy: 'p:1', no_proxy: 'ample' })?.host).toBe('p:1');
    expect(codeOf(() => proxyFor(url('http://h/'), { http_proxy: 'socks5://p:1' }))).toBe('ERR_DOWNLOAD');
  });
});
