import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { chmodSync, constants, copyFileSync, mkdirSync } from 'node:fs';
import { createServer as createHttpServer, get } from 'node:http';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { debian } from '../e2e/debian.ts';
import { boot, install, MIB, md5, program, testFolder } from '../support/debian-test.ts';
import type { Guest } from '../support/guest.ts';

// virtio-net under Debian's own driver, on the user-mode network, and what a user of the guest does with it.

const folder = testFolder('net-debian');
const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const MAC = '52:54:00:c0:ff:ee';
const NOBODY = 65534;

/** `sockaddr_in` as data. */
const sockaddr = (address: string, port: number) =>
  `.hword 2\n.byte ${port >> 8}, ${port & 255}, ${address.split('.').join(', ')}\n.quad 0`;

/** Sends what it reads as one datagram and writes the answer. */
const udpClient = (address: string, port: number) =>
  program(`
    mov x0, #2
    mov x1, #2
    mov x2, #0
    mov x8, #198        // socket
    svc #0
    mov x19, x0
    adr x1, to
    mov x2, #16
    mov x8, #203        // connect
    svc #0
    adr x20, buffer
    mov x21, #0
1:  mov x0, #0
    add x1, x20, x21
    mov x2, #0x10000
    mov x8, #63         // read
    svc #0
    add x21, x21, x0
    cbnz x0, 1b
    mov x0, x19
    mov x1, x20
    mov x2, x21
    mov x8, #64         // write
    svc #0
    mov x0, x19
    mov x1, x20
    mov x2, #0x10000
    mov x8, #63
    svc #0
    mov x2, x0
    mov x0, #1
    mov x1, x20
    mov x8, #64
    svc #0
    mov x0, #0
    mov x8, #93         // exit
    svc #0
    .balign 8
to: ${sockaddr(address, port)}
buffer:
  `);

/** Sends every datagram back to where it came from. */
const udpEcho = (port: number) =>
  program(`
    mov x0, #2
    mov x1, #2
    mov x2, #0
    mov x8, #198        // socket
    svc #0
    mov x19, x0
    adr x1, from
    mov x2, #16
    mov x8, #200        // bind
    svc #0
    adr x20, buffer
1:  mov x0, x19
    mov x1, x20
    mov x2, #0x10000
    mov x3, #0
    adr x4, from
    adr x5, length
    mov x8, #207        // recvfrom
    svc #0
    mov x2, x0
    mov x0, x19
    mov x1, x20
    mov x3, #0
    adr x4, from
    mov x5, #16
    mov x8, #206        // sendto
    svc #0
    b 1b
    .balign 8
length: .quad 16
from: ${sockaddr('0.0.0.0', port)}
buffer:
  `);

/** Listens on any port of the loopback and gives the port. */
async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** The body that a path has on the guest's web server. */
function fetchFrom(port: number, path: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, agent: false }, response => {
      const chunks: Buffer[] = [];
      response.on('data', chunk => chunks.push(chunk));
      response.on('end', () => resolve(Buffer.concat(chunks)));
      response.on('error', reject);
    }).on('error', reject);
  });
}

/** Bytes that are different for each `n`. */
function pattern(n: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) * 7 + (i >> 16) + n * 101) & 0xff;
  return bytes;
}

const big = pattern(0, 16 * MIB);
/** Web server of the host: `/big`, and `/N` for a body of its own. */
const web = createHttpServer((request, response) => {
  response.end(
    request.url === '/big'
      ? big
      : pattern(Number(request.url?.slice(1)), 100_000 + 1000 * Number(request.url?.slice(1))),
  );
});
/** Answers with the MD5 of what came, after its end. */
const sink = createServer({ allowHalfOpen: true }, socket => {
  const hash = createHash('md5');
  socket.on('data', chunk => hash.update(chunk));
  socket.on('end', () => socket.end(`${hash.digest('hex')}\n`));
  socket.on('error', () => socket.destroy());
});
const echo: UdpSocket = createSocket('udp4', (message, peer) => echo.send(message, peer.port, peer.address));
let webPort = 0;
let sinkPort = 0;

beforeAll(async () => {
  webPort = await listen(web);
  sinkPort = await listen(sink);
  echo.bind(0, '127.0.0.1');
  await once(echo, 'listening');
});
afterAll(() => {
  web.close();
  web.closeAllConnections();
  sink.close();
  echo.close();
});

describe('two interfaces', () => {
  let guest: Guest | undefined;
  const forwards = new Map<string, number>();
  afterAll(async () => {
    await guest?.[Symbol.asyncDispose]();
  });

  it('each has its own address, and the first one has a lease at boot', async ({ skip }) => {
    guest = await boot(
      skip,
      {
        net: [
          {
            backend: 'user',
            forward: [
              { hostPort: 0, guestPort: 80 },
              { hostPort: 0, guestPort: 81 },
              { protocol: 'udp', hostPort: 0, guestPort: 7 },
            ],
          },
          `user,mac=${MAC}`,
        ],
        cpus: 2,
      },
      undefined,
      vm => {
        vm.on('forward', ({ name, forward }) =>
          forwards.set(`${name} ${forward.protocol} ${forward.guestPort}`, forward.hostPort),
        );
      },
    );
    expect([...forwards.keys()]).toEqual(['net0 tcp 80', 'net0 tcp 81', 'net0 udp 7']);
    expect(await guest.run('cat /sys/class/net/eth0/address /sys/class/net/eth1/address')).toBe(
      `52:54:00:12:34:56\n${MAC}`,
    );
    expect(await guest.run('ip -4 addr show dev eth0')).toMatch(/inet 10\.0\.2\.15\/24 /);
    expect(await guest.run('ip route')).toMatch(/^default via 10\.0\.2\.2 dev eth0/);
    expect(await guest.run('cat /etc/resolv.conf')).toBe('nameserver 10.0.2.3');
    expect(
      await guest.run('cat /sys/class/net/eth0/carrier /sys/class/net/eth0/speed /sys/class/net/eth0/mtu | xargs'),
    ).toBe('1 10000 1500');
    expect(await guest.run('ping -c 3 -W 20 10.0.2.2')).toMatch(/3 packets received, 0% packet loss/);
    expect(await guest.run('ping -c 1 -s 8000 -W 20 10.0.2.2')).toMatch(/8008 bytes from 10\.0\.2\.2/);
  });

  it('16 MiB from a server of the host, and back, with their checksum', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    expect(await guest.run(`wget -q -O /tmp/big http://10.0.2.2:${webPort}/big && md5sum </tmp/big`)).toBe(
      `${md5(big)}  -`,
    );
    expect(await guest.run(`nc 10.0.2.2 ${sinkPort} </tmp/big`)).toBe(md5(big));
  });

  it('twenty connections at once from the guest', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run(
      `for i in $(seq 20); do wget -q -O - http://10.0.2.2:${webPort}/$i | md5sum >/tmp/sum$i & done; wait`,
    );
    for (let n = 1; n <= 20; n++) {
      expect(await guest.run(`cat /tmp/sum${n}`), `connection ${n}`).toBe(`${md5(pattern(n, 100_000 + 1000 * n))}  -`);
    }
  });

  it("the guest's web server through a forwarded port, twenty at once and 16 MiB", async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    const port = forwards.get('net0 tcp 80')!;
    await guest.run(
      'mkdir /tmp/www && cd /tmp/www && for i in $(seq 20); do seq $i 5000 >$i; done; cd /; mv /tmp/big /tmp/www',
    );
    await guest.run('httpd -h /tmp/www -p 80');
    const bodies = await Promise.all(Array.from({ length: 20 }, (_, n) => fetchFrom(port, `/${n + 1}`)));
    for (const [n, body] of bodies.entries()) {
      const wanted = Array.from({ length: 5000 - n }, (_, i) => `${n + 1 + i}\n`).join('');
      expect(body.toString('latin1') === wanted, `connection ${n + 1}`).toBe(true);
    }
    expect(md5(await fetchFrom(port, '/big'))).toBe(md5(big));
  });

  it('a port where nobody listens refuses, in both directions', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    const closed = createServer();
    const port = await listen(closed);
    await new Promise(done => closed.close(done));
    expect(await guest.run(`nc 10.0.2.2 ${port}`, { status: 1 })).toMatch(/refused/);
    const socket = connect(forwards.get('net0 tcp 81')!, '127.0.0.1');
    const [error] = await once(socket, 'error').catch(e => [e]);
    expect(error).toMatchObject({ code: 'ECONNRESET' });
  });

  it('datagrams of one frame and of several, out and back', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run(install('/tmp/udp', udpClient('10.0.2.2', echo.address().port)));
    for (const size of [1, 1400, 9000, 60_000]) {
      // Nothing repeats a datagram that is lost, and none is on the way between the same two programs on one host.
      const sums = await guest.run(
        `dd if=/tmp/www/big bs=${size} count=1 2>/dev/null >/tmp/d; /tmp/udp </tmp/d | md5sum; md5sum </tmp/d`,
      );
      const [answer, sent] = sums.split('\n');
      expect(answer, `${size} bytes`).toBe(sent);
    }
  });

  it('a forwarded port for datagrams', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run(install('/tmp/echo', udpEcho(7)));
    await guest.run('/tmp/echo &');
    const socket = createSocket('udp4');
    try {
      for (const size of [1, 1400, 9000]) {
        const message = pattern(size, size);
        // The program may not have bound its port yet.
        const again = setInterval(() => socket.send(message, forwards.get('net0 udp 7')!, '127.0.0.1'), 500);
        socket.send(message, forwards.get('net0 udp 7')!, '127.0.0.1');
        const answer = await new Promise<Buffer>(done => {
          socket.on('message', m => m.length === size && done(m));
        });
        clearInterval(again);
        expect(answer.equals(message)).toBe(true);
      }
    } finally {
      socket.close();
    }
  });

  it('names are looked up at 10.0.2.3, which always answers', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    // Whether the host has a name server is its business; a name that cannot exist has no address in any case.
    const text = await guest.run('nslookup nothing.invalid', { status: 1 });
    expect(text).toMatch(/^Server:\s+10\.0\.2\.3/);
    expect(text).toMatch(/NXDOMAIN|SERVFAIL|REFUSED/);
  });

  it('the second one works as well, alone', async ({ skip }) => {
    if (guest === undefined) return skip('no guest');
    await guest.run('ip addr flush dev eth0; ip link set eth0 down; ip link set eth1 up');
    await guest.run('udhcpc -i eth1 -n -q -t 20 -T 3 -s /bin/dhcp-lease');
    expect(await guest.run('ip route')).toMatch(/^default via 10\.0\.2\.2 dev eth1/);
    expect(await guest.run(`wget -q -O - http://10.0.2.2:${webPort}/5 | md5sum`)).toBe(
      `${md5(pattern(5, 105_000))}  -`,
    );
    expect(await guest.run('dmesg | grep -ci "eth.*error\\|timed out\\|virtio.*fail"', { status: 1 })).toBe('0');
    expect(await guest.poweroff()).toBe('shutdown');
    guest = undefined;
  });
});

describe('a user without privileges', () => {
  it('has the network, too', async ({ skip }) => {
    if (process.getuid?.() !== 0) return skip('the other tests have run without privileges: nothing to give up');
    const version = spawnSync(process.execPath, [main, '--version'], { uid: NOBODY, gid: NOBODY, encoding: 'utf8' });
    if (version.status !== 0) return skip(`somebody else cannot run this package: ${version.error ?? version.stderr}`);
    const image = await debian();
    if (typeof image === 'string') return skip(image);
    const home = folder.at('home');
    chmodSync(folder.at('.'), 0o755);
    mkdirSync(home);
    chmodSync(home, 0o777);
    copyFileSync(image.kernel, `${home}/kernel`, constants.COPYFILE_FICLONE);
    copyFileSync(image.initrd, `${home}/initrd`, constants.COPYFILE_FICLONE);
    const script = Buffer.from(
      `ping -c 1 -W 20 10.0.2.2 >/dev/null && echo "pong" ; wget -q -O - http://10.0.2.2:${webPort}/7 | md5sum`,
    ).toString('base64');
    const params = `console=ttyAMA0 panic=-1 quiet tsvisor.exec64=${script}`;
    const args = [
      'run',
      '-k',
      `${home}/kernel`,
      '-i',
      `${home}/initrd`,
      '-m',
      '256M',
      '-n',
      'user',
      '--rng',
      '-p',
      params,
    ];
    const child = spawn(process.execPath, [main, ...args], {
      uid: NOBODY,
      gid: NOBODY,
      cwd: home,
      env: { PATH: process.env.PATH, HOME: home },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', text => {
        output += text;
      });
    }
    const [code] = await Promise.race([once(child, 'close'), once(child, 'error')]);
    expect(output).toMatch(/^pong\r?$/m);
    expect(output).toContain(md5(pattern(7, 107_000)));
    expect(code).toBe(0);
  });
});
