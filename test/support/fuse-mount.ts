// Serves a shared directory to this host's Linux: node --import tsx fuse-mount.ts DIRECTORY MOUNTPOINT
// A process of its own, since whoever waits for the mounted files must not be who serves them; when it ends, for whatever
// reason, so does the mount. Sends 'mounted', and answers each message with what the guest holds.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { promisify } from 'node:util';
import { openShare } from '../../src/backends/share/open-share.ts';
import { FuseSession } from '../../src/devices/virtio/fs/session.ts';

const [directory, mountpoint] = process.argv.slice(2);
const BUFFER = (1 << 20) + 4096;
const fuse = fs.openSync('/dev/fuse', 'r+');
const share = await openShare({ directory: directory!, readOnly: false });
const session = new FuseSession(share);

const options = 'fd=3,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other';
const mount = spawn('mount', ['-i', '-t', 'fuse', '-o', options, 'share', mountpoint!], {
  stdio: ['ignore', 'inherit', 'inherit', fuse],
});
mount.on('exit', status => {
  if (status !== 0) process.exit(1);
  process.send!('mounted');
});
process.on('message', () => process.send!(share.holds));
process.on('disconnect', () => process.exit());

const read = promisify(fs.read);
const request = new Uint8Array(BUFFER);
// Before the file system is mounted and after it has been unmounted there is nothing to read.
for (let mounted = false; ; ) {
  let length: number;
  try {
    length = (await read(fuse, request, 0, BUFFER, null)).bytesRead;
    mounted = true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (mounted && code === 'ENODEV') break;
    await new Promise(resolve => setTimeout(resolve, 10));
    continue;
  }
  const readable = [request.slice(0, length)];
  const answer = new Uint8Array(new SharedArrayBuffer(BUFFER));
  const chain = { readable, writable: [answer], readableLength: length, writableLength: BUFFER };
  const reply = (bytes: number) => {
    try {
      if (bytes > 0) fs.writeSync(fuse, answer, 0, bytes);
    } catch (error) {
      // ENOENT: the program that asked has been interrupted
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  };
  // As on a virtqueue, the next request does not wait for this one.
  const written = session.handle(chain);
  if (typeof written === 'number') reply(written);
  else written.then(reply);
}
share.close();
process.exit();
