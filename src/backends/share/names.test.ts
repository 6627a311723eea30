import { describe, expect, it } from 'vitest';
import { checkBytes, checkName } from './names.ts';

const codeOf = (name: string, platform: NodeJS.Platform) => {
  try {
    checkName(name, platform);
    return 'ok';
  } catch (error) {
    return (error as { code: string }).code;
  }
};

describe('checkName', () => {
  it('takes any component of a path that is not this or the parent directory', () => {
    for (const name of ['a', '...', '.a', '..a', 'a..', ' ', '\\', 'C:', '\xff\x80', '\n', 'x'.repeat(255)]) {
      expect(codeOf(name, 'linux'), JSON.stringify(name)).toBe('ok');
    }
    for (const name of ['', '.', '..', '/', 'a/', '/a', '../x', 'a\0', '\0']) {
      expect(codeOf(name, 'linux'), JSON.stringify(name)).toBe('EINVAL');
    }
    expect(codeOf('x'.repeat(256), 'linux')).toBe('ENAMETOOLONG');
  });

  it('refuses characters that would become other bytes: U+012F ends in that of a slash', () => {
    for (const name of ['a\u012fb', '\u012e\u012e', '\u0100']) expect(codeOf(name, 'linux')).toBe('EINVAL');
    expect(() => checkBytes('\u012f')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => checkBytes('/any/path\xff')).not.toThrow();
  });

  it('refuses on Windows what leads elsewhere there', () => {
    for (const name of [
      'a\\b',
      '..\\x',
      'C:',
      'file:stream',
      '.. ',
      '. .',
      'a.',
      'a ',
      'NUL',
      'con',
      'Com1.txt',
      'a*',
      '\x01',
    ]) {
      expect(codeOf(name, 'win32'), JSON.stringify(name)).toBe('EINVAL');
    }
    for (const name of ['a', '.a', 'console', 'com', 'com10', 'nul1']) expect(codeOf(name, 'win32'), name).toBe('ok');
  });
});
