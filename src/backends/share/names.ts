import { FileError } from '../../devices/virtio/fs/errno.ts';
import { NAME_MAX } from '../../devices/virtio/fs/protocol.ts';

/** Names that are devices on Windows, whatever their extension and in whatever folder. */
const WINDOWS_DEVICE = /^(con|prn|aux|nul|conin\$|conout\$|com[0-9\xb9\xb2\xb3]|lpt[0-9\xb9\xb2\xb3])\s*(\.|:|$)/i;

/**
 * Accepts what is a single component of a path on the host, as a string of bytes, and nothing that leads elsewhere.
 * @throws FileError EINVAL, ENAMETOOLONG beyond 255 bytes
 */
export function checkName(name: string, platform: NodeJS.Platform = process.platform): void {
  if (name.length > NAME_MAX) throw new FileError('ENAMETOOLONG');
  if (name === '' || name === '.' || name === '..' || name.includes('/')) throw new FileError('EINVAL');
  checkBytes(name);
  if (platform !== 'win32') return;
  // Windows takes more for separators, for streams of a file (`:`) and for patterns, and drops dots and spaces at the end.
  if (/[<>:"\\|?*]|[. ]$/.test(name) || WINDOWS_DEVICE.test(name)) throw new FileError('EINVAL');
  for (let i = 0; i < name.length; i++) if (name.charCodeAt(i) < 32) throw new FileError('EINVAL');
}

/** Accepts a string of bytes without a zero; a character beyond 255 would turn into another one on its way to the host. */
export function checkBytes(text: string): void {
  for (let i = 0; i < text.length; i++) {
    const byte = text.charCodeAt(i);
    if (byte === 0 || byte > 255) throw new FileError('EINVAL');
  }
}
