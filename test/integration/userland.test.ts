import { createCipheriv, createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Vm } from 'tsvisor';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { concatBytes } from '../../src/firmware/cpio.ts';
import type { Image } from '../../src/images/index.ts';
import { debian } from '../e2e/debian.ts';
import { installed } from '../support/debs.ts';
import { type Job, jobArchive, jobOutputs, runBelowQemu, type Userland, userland } from '../support/userland.ts';

// Debian's own programs in Debian's kernel on the emulator. What they print is compared with what the same programs print
// below QEMU's user mode, or with what Node computes.

const qemu = installed('qemu-aarch64');
if (!qemu) console.log('skipped: comparing with QEMU: qemu-aarch64 is not installed');

/** Bytes that look random: the key stream of AES-128-CTR with a key of zeros. */
function keyStream(size: number): Buffer {
  return createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(size));
}

const DATA = keyStream(1 << 20);
/** Lines that can be compressed and sorted. */
const WORDS = ['alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta', 'iota', 'kappa'];
const LINES = Array.from({ length: 20_000 }, (_, i) => {
  const n = DATA.readUInt32LE(4 * i);
  return `${n} ${WORDS[n % 10]} ${WORDS[(n >>> 8) % 10]} ${i % 97}`;
});
const TEXT = Buffer.from(`${LINES.join('\n')}\n`);
const SHARED = { 'data.bin': DATA, 'text.txt': TEXT };

const hash = (algorithm: string, bytes: Uint8Array | string) => createHash(algorithm).update(bytes).digest('hex');
const sorted = (lines: readonly string[], by: (a: string, b: string) => number) =>
  `${[...lines].sort(by).join('\n')}\n`;
const bytewise = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
const first = (line: string) => Number(line.slice(0, line.indexOf(' ')));

/** A job that is one Python program. */
const python = (name: string, text: string): Job => ({
  name,
  script: 'python3 main.py',
  files: { 'main.py': text.trimStart() },
});

const SUMS = { md5sum: 'md5', sha1sum: 'sha1', sha224sum: 'sha224', sha256sum: 'sha256', sha384sum: 'sha384' };
const DIGESTS = ['md5', 'sha1', 'sha256', 'sha512', 'sha3-256', 'sha3-512', 'blake2b512', 'blake2s256', 'ripemd160'];
const CIPHERS = ['aes-128-cbc', 'aes-192-cbc', 'aes-256-cbc', 'aes-256-ctr', 'aes-128-ecb'];
const MORE_CIPHERS = ['aes-128-cfb', 'chacha20', 'camellia-256-cbc', 'aria-256-ctr', 'des-ede3-cbc', 'sm4-cbc'];
const KEY = '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f';
const IV = '0f0e0d0c0b0a09080706050403020100';

function opensslCipher(name: string): string {
  const key = KEY.slice(0, name.includes('192') || name.startsWith('des') ? 48 : /256|chacha/.test(name) ? 64 : 32);
  return `-${name} -K ${key} ${name.endsWith('ecb') ? '' : `-iv ${name.startsWith('des') ? IV.slice(0, 16) : IV}`}`;
}

/** The digest of what OpenSSL in Node makes of the same data, key and IV. */
function cipherDigest(name: string): string {
  const key = Buffer.from(KEY, 'hex').subarray(0, Number(name.slice(4, 7)) / 8);
  const cipher = createCipheriv(name, key, name.endsWith('ecb') ? null : Buffer.from(IV, 'hex'));
  return hash('sha256', Buffer.concat([cipher.update(DATA), cipher.final()]));
}

const KNOWN: readonly Job[] = [
  {
    name: 'sums',
    script: `${Object.keys(SUMS)
      .map(s => `${s} ../data.bin ../text.txt`)
      .join('\n')}\nfor i in ${DIGESTS.join(' ')}; do openssl dgst -r -$i ../data.bin; done`,
    expected: `${Object.values(SUMS)
      .map(a => `${hash(a, DATA)}  ../data.bin\n${hash(a, TEXT)}  ../text.txt\n`)
      .join('')}${DIGESTS.map(a => `${hash(a, DATA)} *../data.bin\n`).join('')}exit 0\n`,
  },
  {
    name: 'ciphers',
    script: CIPHERS.map(
      c => `openssl enc ${opensslCipher(c)} -in ../data.bin -out c && sha256sum <c
openssl enc -d ${opensslCipher(c)} -in c | cmp - ../data.bin && echo ${c}`,
    ).join('\n'),
    expected: `${CIPHERS.map(c => `${cipherDigest(c)}  -\n${c}\n`).join('')}exit 0\n`,
  },
  {
    name: 'sort',
    script: `sort ../text.txt | sha256sum
sort -n -S 1M ../text.txt | sha256sum
cut -d' ' -f2 ../text.txt | sort | uniq -c | sed 's/^ *//'
tac ../text.txt | sha256sum; wc -l <../text.txt; wc -w <../text.txt; wc -c <../text.txt
base64 ../data.bin | base64 -d | cmp - ../data.bin; base64 -w0 ../data.bin | md5sum`,
    expected: `${hash('sha256', sorted(LINES, bytewise))}  -
${hash(
  'sha256',
  sorted(LINES, (a, b) => first(a) - first(b) || bytewise(a, b)),
)}  -
${[...WORDS]
  .sort()
  .map(w => `${LINES.filter(l => l.split(' ')[1] === w).length} ${w}\n`)
  .join('')}${hash('sha256', `${LINES.toReversed().join('\n')}\n`)}  -
${LINES.length}
${LINES.length * 4}
${TEXT.length}
${hash('md5', DATA.toString('base64'))}  -
exit 0
`,
  },
  {
    name: 'compress',
    script: `cat ../text.txt >in; head -c 400000 ../data.bin >>in; cat ../text.txt >>in
for c in "gzip -6" "xz -1 -T2" "zstd -q -6 -T2"; do
	$c -c in >packed && \${c%% *} -dc packed | cmp - in && echo "$c"
done`,
    expected: 'gzip -6\nxz -1 -T2\nzstd -q -6 -T2\nexit 0\n',
  },
  {
    name: 'processes',
    script: `i=0; while [ $i -lt 500 ]; do /usr/bin/true || echo bad; i=$((i+1)); done; echo $i
i=0; while [ $i -lt 60 ]; do (exit $((i % 7))) & i=$((i+1)); done; wait; echo waited
seq 1 50 | xargs -P 8 -n 1 sh -c 'echo $(($0 * $0))' | sort -n | md5sum
perl main.pl
seq 1 300000 | cat | tac | rev 2>/dev/null | head -1 >/dev/null
seq 1 200000 | cat | sed 's/5/x/' | tr x 5 | cat | md5sum
dd if=/dev/zero bs=64k count=200 2>/dev/null | dd bs=1k iflag=fullblock 2>/dev/null | tr '\\0' a | md5sum`,
    files: {
      'main.pl': `use POSIX ();
# 200 children, each with its own exit status; then signals that a parent and a child send each other.
my %pid; for my $i (1..200) { my $p = fork; if (!$p) { my @x = map { $_ * $i } 1..50; POSIX::_exit($i % 120) } $pid{$p} = $i % 120 }
my $bad = 0; while ((my $p = wait) > 0) { $bad++ if $? >> 8 != $pid{$p} } print "children $bad\\n";
my $n = 0; $SIG{USR1} = sub { $n++ };
for (1..300) { kill USR1 => $$ } print "self $n\\n";
my $got = 0; $SIG{USR2} = sub { $got++ }; my $parent = $$;
for (1..50) { my $p = fork; if (!$p) { kill USR2 => $parent; POSIX::_exit(0) } waitpid $p, 0 } print "from children $got\\n";
pipe my $r, my $w; if (!fork) { close $r; print $w "line $_\\n" for 1..20000; exit } close $w; my $sum = 0; while (<$r>) { $sum += (split)[1] } print "pipe $sum\\n"; wait;
my $p = fork; if (!$p) { sleep 100; exit } kill TERM => $p; waitpid $p, 0; print "term ", $? & 127, "\\n";
my $q = fork; if (!$q) { $SIG{SEGV} = sub { print "segv\\n"; POSIX::_exit(3) }; $| = 1; kill SEGV => $$; sleep 1; exit } waitpid $q, 0; print "status ", $? >> 8, "\\n";
$SIG{ALRM} = sub { die "alarm\\n" }; eval { alarm 1; 1 while 1 }; print $@;
`,
    },
    expected: `500\nwaited\n${hash('md5', Array.from({ length: 50 }, (_, i) => `${(i + 1) ** 2}\n`).join(''))}  -
children 0
self 300
from children 50
pipe 200010000
term 15
segv
status 3
alarm
${hash('md5', Array.from({ length: 200_000 }, (_, i) => `${i + 1}\n`).join(''))}  -
${hash('md5', 'a'.repeat(200 << 16))}  -
exit 0
`,
  },
  {
    ...python(
      'threads',
      `
import threading, queue, mmap, os, select, signal, socket, ctypes, time, hashlib, faulthandler
from concurrent.futures import ThreadPoolExecutor
faulthandler.enable()
total = 0; lock = threading.Lock()
def add():
    global total
    for _ in range(3000):
        with lock: total += 1
ts = [threading.Thread(target=add) for _ in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]; print(total)
q = queue.Queue(10); got = []
def consume():
    while (x := q.get()) is not None: got.append(x)
c = threading.Thread(target=consume); c.start()
for i in range(2000): q.put(i)
q.put(None); c.join(); print(sum(got))
# hashlib lets go of the interpreter's lock: these really run at the same time.
data = open('../data.bin', 'rb').read()
with ThreadPoolExecutor(4) as p: print(set(p.map(lambda _: hashlib.sha256(data).hexdigest(), range(8))) == {hashlib.sha256(data).hexdigest()})
m = mmap.mmap(-1, 1 << 20); m[0:4] = b'init'
pid = os.fork()
if pid == 0:
    for i in range(0, 1 << 20, 4096): m[i] = i >> 12 & 255
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sum(m[i] for i in range(0, 1 << 20, 4096)))
with open('f', 'w+b') as f:
    f.truncate(3 << 20); w = mmap.mmap(f.fileno(), 0); w[100:100+len(data)//2] = data[:len(data)//2]; w.flush(); w.close()
    f.seek(100); print(f.read(len(data) // 2) == data[:len(data) // 2])
a, b = socket.socketpair(); a.sendall(b'x' * 1000); n = 0
while select.select([b], [], [], 0.1)[0] and n < 1000: n += len(b.recv(64))
print(n)
s = socket.create_server(('127.0.0.1', 0))
def serve():
    k, _ = s.accept()
    while d := k.recv(65536): k.sendall(d.upper())
    k.close()
threading.Thread(target=serve).start()
k = socket.create_connection(s.getsockname()); back = b''
for i in range(50): k.sendall(b'%05d abc' % i * 10)
k.shutdown(socket.SHUT_WR)
while d := k.recv(4096): back += d
print(hashlib.md5(back).hexdigest() == hashlib.md5(b''.join(b'%05d ABC' % i * 10 for i in range(50))).hexdigest())
ticks = []
signal.signal(signal.SIGALRM, lambda *_: ticks.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
while len(ticks) < 20: pass
signal.setitimer(signal.ITIMER_REAL, 0); print('ticks')
t = time.monotonic(); time.sleep(0.2); print(0.2 <= time.monotonic() - t < 30)
libc = ctypes.CDLL(None); CB = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
arr = (ctypes.c_int * 500)(*[(i * 7919) % 503 for i in range(500)])
libc.qsort(arr, 500, 4, CB(lambda x, y: x[0] - y[0])); print(list(arr) == sorted(arr))
# A fault of the program itself, with the kernel's word for it.
for code, sig in ((lambda: ctypes.string_at(8), signal.SIGSEGV), (lambda: os.abort(), signal.SIGABRT)):
    pid = os.fork()
    if pid == 0:
        faulthandler.disable(); signal.signal(signal.SIGSEGV, signal.SIG_DFL); code()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -sig)
`,
    ),
    expected: `24000\n1999000\nTrue\n7 ${128 * 255}\nTrue\n1000\nTrue\nticks\nTrue\nTrue\nTrue\nTrue\nexit 0\n`,
  },
];

const COMPARED: readonly Job[] = [
  {
    name: 'openssl',
    script: `${MORE_CIPHERS.map(
      c => `openssl enc ${opensslCipher(c)} -in ../text.txt -out c && sha256sum <c
openssl enc -d ${opensslCipher(c)} -in c | cmp - ../text.txt && echo ${c}`,
    ).join('\n')}
# GCM's multiplication is PMULL; the others are integer code.
openssl mac -cipher AES-128-GCM -macopt hexkey:${KEY.slice(0, 32)} -macopt hexiv:${IV.slice(0, 24)} -in ../data.bin GMAC
openssl mac -cipher AES-256-CBC -macopt hexkey:${KEY} -in ../text.txt CMAC
openssl mac -macopt hexkey:${KEY} -in ../data.bin Poly1305
openssl mac -digest SHA256 -macopt hexkey:${KEY} -in ../data.bin HMAC
openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt pass:secret -kdfopt salt:salt -kdfopt iter:3000 PBKDF2
openssl kdf -keylen 16 -kdfopt pass:secret -kdfopt salt:salt -kdfopt n:1024 -kdfopt r:8 -kdfopt p:1 SCRYPT
openssl prime 170141183460469231731687303715884105727 170141183460469231731687303715884105729
for k in "-algorithm RSA -pkeyopt rsa_keygen_bits:1024" "-algorithm EC -pkeyopt ec_paramgen_curve:P-256" "-algorithm EC -pkeyopt ec_paramgen_curve:secp384r1"; do
	openssl genpkey $k -out key 2>/dev/null && openssl pkey -in key -pubout -out pub
	openssl pkey -in key -check -noout
	openssl dgst -sha256 -sign key -out sig ../text.txt && openssl dgst -sha256 -verify pub -signature sig ../text.txt
	openssl dgst -sha256 -verify pub -signature sig ../data.bin >no 2>/dev/null || cat no
done
# Deterministic signatures with fixed keys: Ed25519, Ed448; and a key agreement.
python3 -c 'open("ed.der","wb").write(bytes.fromhex("302e020100300506032b657004220420${KEY}")); open("x.der","wb").write(bytes.fromhex("302e020100300506032b656e04220420${KEY}"))'
openssl pkey -inform DER -in ed.der -out ed.pem && openssl pkey -in ed.pem -pubout
head -c 1000 ../text.txt >msg; openssl pkeyutl -sign -inkey ed.pem -rawin -in msg | od -An -tx1
openssl pkey -inform DER -in x.der -out x.pem && openssl pkey -in x.pem -pubout -out xp.pem && openssl pkeyutl -derive -inkey x.pem -peerkey xp.pem | od -An -tx1
openssl speed -seconds 1 -bytes 1024 -evp aes-128-gcm >speed 2>/dev/null; echo "speed $?"`,
  },
  python(
    'integers',
    `
import math, random, hashlib
h = lambda x: hashlib.sha256(repr(x).encode()).hexdigest()[:16]
print(pow(3, 10**18 + 9, 2**521 - 1)); print(h(str(math.factorial(1200)))); print(math.isqrt(10**121)); print(math.gcd(2**400 - 1, 2**300 - 1))
def pi(n):
    q, r, t, k, m, x, out = 1, 0, 1, 1, 3, 3, []
    while len(out) < n:
        if 4*q + r - t < m*t: out.append(m); q, r, m = 10*q, 10*(r - m*t), (10*(3*q + r))//t - 10*m
        else: q, r, t, k, m, x = q*k, (2*q + r)*x, t*x, k + 1, (q*(7*k + 2) + r*x)//(t*x), x + 2
    return ''.join(map(str, out))
print(pi(300))
random.seed(12345)
for bits in (8, 31, 32, 63, 64, 65, 127, 300, 2000):
    s = []
    for _ in range(60):
        a = random.getrandbits(bits) * random.choice((1, -1)); b = (random.getrandbits(bits // 2 + 1) + 1) * random.choice((1, -1))
        q, r = divmod(a, b); assert q*b + r == a
        s += [a*b, a + b, a - b, q, r, a & b, a | b, a ^ b, ~a, a >> 13, a << 17, a.bit_length(), a.bit_count(), hash(a), pow(a, 5, abs(b)), a.bit_length() < 1000 and (float(a), a / b)]
    print(bits, h(s))
print(h([random.random() for _ in range(2000)]), h([random.gauss(0, 1) for _ in range(500)]), h(random.sample(range(10**6), 500)))
sieve = bytearray([1]) * 200000
for i in range(2, 448):
    if sieve[i]: sieve[i*i::i] = bytes(len(range(i*i, 200000, i)))
print(sum(sieve) - 2)
`,
  ),
  python(
    'floats',
    `
import math, cmath, struct, random, hashlib, decimal, fractions, statistics
h = lambda x: hashlib.sha256(repr(x).encode()).hexdigest()[:16]
random.seed(99)
nums = [0.0, -0.0, 0.5, 1.0, -1.0, 1.5, 2.5, 1/3, math.pi, -math.e, 1e-5, 1e10, 123456.789, 2.0**53, 2.0**-1074, 2.2250738585072014e-308, 1.7976931348623157e308, 1e-300, math.inf, -math.inf, math.nan]
nums += [random.uniform(-20, 20) for _ in range(60)] + [struct.unpack('<d', struct.pack('<Q', random.getrandbits(64)))[0] for _ in range(60)]
def call(f, *a):
    try: return repr(f(*a))
    except (ValueError, OverflowError, ZeroDivisionError) as e: return str(e)
for n in 'sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp exp2 expm1 log log2 log10 log1p sqrt cbrt erf erfc gamma lgamma floor ceil trunc frexp modf ulp degrees radians fabs'.split():
    r = [call(getattr(math, n), x) for x in nums]; print(n, h(r), r[7], r[25], r[90])
for n in 'pow fmod atan2 hypot copysign remainder nextafter'.split(): print(n, h([call(getattr(math, n), x, y) for x in nums[::2] for y in nums[::3]]))
for n in 'sqrt exp log sin tanh phase'.split(): print(n, h([call(getattr(cmath, n), complex(x, y)) for x in nums[::3] for y in nums[::5]]))
for n, f in dict(add=lambda x, y: x + y, sub=lambda x, y: x - y, mul=lambda x, y: x * y, div=lambda x, y: x / y, mod=lambda x, y: x % y, lt=lambda x, y: (x < y, x <= y, x == y, x != y)).items():
    print(n, h([call(f, x, y) for x in nums[::2] for y in nums[::3]]))
for f in '.0f .3f .17g e .30e % g 20.5f'.split(): print(f, h([format(x, f) for x in nums]))
print(h([x.hex() for x in nums]), h([call(round, x, 2) for x in nums]), h([call(int, x) for x in nums]), h([call(x.as_integer_ratio) for x in nums]), h([hash(x) for x in nums[:-61]  if x == x]))
for c in 'ef':
    print(c, h([call(struct.pack, '<' + c, x) for x in nums]), h([struct.unpack('<' + c, random.randbytes(struct.calcsize(c)))[0] for _ in range(500)]))
print(h([float(repr(x)) for x in nums]), math.fsum([0.1] * 1000), sum([0.1] * 1000), statistics.stdev(nums[21:60]))
decimal.getcontext().prec = 60
D = decimal.Decimal; print(D(2).sqrt(), D(3).ln(), D('1.1').exp(), D(7) / D(13), D(2) ** D('0.3')); print(h([D(x) * 3 for x in nums[:10]]))
print(sum(fractions.Fraction(1, k) for k in range(1, 60)))
# A chaotic map and a small linear system: one wrong bit shows.
x = 0.1
for _ in range(20000): x = 3.99 * x * (1 - x)
print(x)
n = 24; a = [[1 / (i + j + 1) + (i == j) for j in range(n)] for i in range(n)]; b = [math.sin(i) for i in range(n)]
for i in range(n):
    for k in range(i + 1, n):
        m = a[k][i] / a[i][i]; b[k] -= m * b[i]
        for j in range(i, n): a[k][j] -= m * a[i][j]
for i in reversed(range(n)): b[i] = (b[i] - sum(a[i][j] * b[j] for j in range(i + 1, n))) / a[i][i]
print(b)
`,
  ),
  python(
    'data',
    `
import struct, hashlib, hmac, zlib, bz2, lzma, json, re, base64, pickle, binascii, unicodedata, datetime, itertools, collections, heapq, sqlite3, difflib, string, textwrap, array, copy, random, gzip, io, ast
data = open('../data.bin', 'rb').read(1 << 18); text = open('../text.txt').read()
h = lambda x: hashlib.sha256(x if isinstance(x, bytes) else repr(x).encode()).hexdigest()[:16]
for n in sorted(hashlib.algorithms_guaranteed): d = hashlib.new(n, data[:100001]) if not n.startswith('shake') else None; print(n, d.hexdigest() if d else hashlib.new(n, data[:99999]).hexdigest(20))
print(hmac.new(b'key', data, 'sha256').hexdigest(), hashlib.pbkdf2_hmac('sha512', b'p', b's', 500).hex()[:20], zlib.crc32(data), zlib.adler32(data), binascii.crc_hqx(data[:5000], 0))
for level in (1, 6, 9):
    for d in (data[:200000], text.encode()[:150000]):
        c = zlib.compress(d, level); assert zlib.decompress(c) == d; print(level, len(c), h(c))
c = bz2.compress(text.encode()[:300000]); assert bz2.decompress(c) == text.encode()[:300000]; print(h(c))
c = lzma.compress(text.encode()[:200000], preset=3); assert lzma.decompress(c) == text.encode()[:200000]; print(h(c))
rows = [line.split() for line in text.splitlines()[:2500]]
j = json.dumps([dict(n=int(a), w=b, x=[c, float(d) / 3, None, True, 'é\\u2028\\\\']) for a, b, c, d in rows]); assert json.dumps(json.loads(j)) == j; print(h(j))
p = pickle.dumps(rows); assert pickle.loads(p) == rows; print(h(p))
print(len(re.findall(r'\\b(?:al|be)\\w+ (?!theta)(\\w+) 4\\d$', text, re.M)), h(re.sub(r'(\\d)(\\d)', r'\\2\\1', text[:100000])), re.fullmatch(r'(a+)+b?', 'a' * 18) is not None)
print(h(base64.b85encode(data[:40000])), h(base64.b32encode(data[:40000])), h(struct.unpack('<500i500I200q200Q', data[:7200])), h(struct.unpack('>1000h', data[:2000])))
a = array.array('i', data[:40000]); a.byteswap(); print(h(sorted(a)), h(a.tobytes()))
print(h([unicodedata.normalize('NFD', chr(i)) for i in range(0xa0, 0x2000)]), h([chr(i).casefold() for i in range(0x2000)]))
print(h([str(datetime.date(1970, 1, 1) + datetime.timedelta(i)) for i in range(0, 40000, 7)]), datetime.datetime.fromtimestamp(2**31, datetime.timezone.utc).isoformat())
print(collections.Counter(r[1] for r in rows).most_common(3), heapq.nsmallest(3, (int(r[0]) for r in rows)), h(list(itertools.permutations('abcdef'))))
db = sqlite3.connect(':memory:'); db.execute('create table t (n integer, w text, x text, d real)'); db.executemany('insert into t values (?,?,?,?)', rows); db.execute('create index i on t (w, n)')
print(db.execute('select w, count(*), sum(n), avg(d), max(n) from t group by w order by w').fetchall()); print(db.execute('select sum(a.d * b.d) from t a join t b on a.n = b.n').fetchone(), db.execute('pragma integrity_check').fetchone())
print(difflib.SequenceMatcher(None, text[:600], text[300:900]).ratio(), h(textwrap.wrap(text[:5000])), h(ast.dump(ast.parse(open('main.py').read()))))
random.seed(5); t = {}
for i in range(8000): t[random.getrandbits(20)] = i
print(len(t), sum(t), h(sorted(t.items())))
def f(n): return n if n < 2 else f(n - 1) + f(n - 2)
print(f(20), h([copy.deepcopy(rows[:500])]))
`,
  ),
  {
    name: 'perl',
    script: 'perl main.pl',
    files: {
      'main.pl': `use strict; use warnings; use List::Util qw(sum max reduce); use POSIX qw(floor fmod);
# MD5 by hand: 32-bit integer arithmetic.
sub md5 { my $m = shift; my $l = 8 * length $m; $m .= "\\x80"; $m .= "\\0" while length($m) % 64 != 56; $m .= pack 'V2', $l & 0xffffffff, $l >> 32;
  my @k = map { floor(abs(sin $_) * 2**32) } 1..64; my @s = ((7,12,17,22) x 4, (5,9,14,20) x 4, (4,11,16,23) x 4, (6,10,15,21) x 4);
  my @h = (0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  for my $w (unpack '(a64)*', $m) { my @w = unpack 'V16', $w; my ($a, $b, $c, $d) = @h;
    for my $i (0..63) { my ($f, $g) = $i < 16 ? (($b & $c) | (~$b & $d), $i) : $i < 32 ? (($d & $b) | (~$d & $c), (5*$i + 1) % 16) : $i < 48 ? ($b ^ $c ^ $d, (3*$i + 5) % 16) : ($c ^ ($b | (~$d & 0xffffffff)), 7*$i % 16);
      my $x = ($a + $f + $k[$i] + $w[$g]) & 0xffffffff; ($a, $d, $c, $b) = ($d, $c, $b, ($b + (($x << $s[$i]) | ($x >> (32 - $s[$i])))) & 0xffffffff) }
    my @n = ($a, $b, $c, $d); $h[$_] = ($h[$_] + $n[$_]) & 0xffffffff for 0..3 }
  unpack 'H*', pack 'V4', @h }
open my $fh, '<', '../text.txt' or die; my $text = do { local $/; <$fh> }; my @lines = split /\\n/, $text;
print md5(''), ' ', md5(substr $text, 0, 3000), "\\n";
# The sums of bytes, half words and words: quick, and they see the order.
sub sig { my $s = join ',', @_; join '.', length $s, map { unpack "%32$_*", $s } qw(C v V) }
my @n = map { (split)[0] } @lines[0..1999];
print sig(map { sprintf '%d %x %o %b %e %g %.15g %s %08.3f', $_, $_, $_, $_, $_, $_ / 7, sqrt $_, $_ * $_ * $_, $_ / 1000 } @n[0..300]), "\\n";
print sig(map { sin($_), cos($_), exp(-$_ / 1e9), log(1 + $_), atan2($_, 3), $_ ** 0.3, fmod($_, 7.3), int($_ / 3), $_ % 97, -$_ % 97 } @n[0..300]), "\\n";
print sig(map { ($_ * 2654435761) & ~0, $_ << 31, ~$_, $_ ^ 0x5555555555, $_ | 1, -7 ** 3 } @n[0..300]), "\\n";
print 18446744073709551615 + 1, ' ', 9223372036854775807 + 0, ' ', -9223372036854775808 - 1, ' ', 0.1 + 0.2, ' ', 1e21, ' ', 1/3, ' ', 9**9**9, ' ', -sin(9**9**9), "\\n";
print sig(sort { $a <=> $b } @n), ' ', sig(sort @lines[0..3000]), ' ', sig(reverse @n), "\\n";
my %c; $c{$_}++ for $text =~ /[a-z]+/g; print join(' ', map { "$_=$c{$_}" } sort keys %c), "\\n";
(my $t = substr $text, 0, 200000) =~ s/(\\w+) (\\w+)(?= \\d)/\\U$2\\E-$1/g; print sig($t), "\\n"; $t =~ tr/a-y/b-z/; print sig($t), ' ', ($t =~ tr/0-9//), "\\n";
print sig(unpack 'w*', pack 'w*', @n), ' ', sig(pack 'd*', @n), ' ', sig(unpack 'q<100 s>100 f50 C*', substr $text, 0, 4000), ' ', unpack('%32C*', $text), "\\n";
my $m = join ' ', map { my $x = $_; sum map { $_ * $x % 13 } 1..50 } 1..60; print "$m\\n"; print reduce { ($a * 31 + $b) % 1000003 } @n; print "\\n";
sub ack { my ($m, $n) = @_; no warnings 'recursion'; $m == 0 ? $n + 1 : $n == 0 ? ack($m - 1, 1) : ack($m - 1, ack($m, $n - 1)) } print ack(2, 60), "\\n";
print "\\x{263a}\\x{1F600}" =~ /^\\p{So}+$/ ? 1 : 0, ' ', length "\\x{263a}é", ' ', lc "ÀÉ", ' ', sig(map { chr($_) =~ /\\w/ ? 1 : 0 } 0..2000), "\\n";
my @q = (1); for my $i (1..200) { @q = (1, (map { ($q[$_-1] + $q[$_]) % 1000007 } 1..$#q), 1) } print sig(@q), "\\n";
eval { die { code => 42 } }; print $@->{code}, "\\n"; local $_ = 'abc' x 1000; my $k = 0; $k++ while /(?<=b)c(?=a)/g; print "$k\\n";
`,
    },
  },
  {
    name: 'numbers',
    script: `echo 'scale=400; 4*a(1); e(1); sqrt(2); l(10); s(1)' | BC_LINE_LENGTH=0 bc -l
echo '2^1000; 3^500 % 2^200; obase=16; 10^60' | bc
factor 18446744073709551557 1000000007 12345678901234567890 2305843009213693951
gawk 'BEGIN { for (i = 1; i < 40; i++) printf "%.17g %.15e %a %d %x\\n", sin(i) * exp(i / 3), log(i) / 7, sqrt(i), i * 1e9, i * 77777 }' | md5sum
gawk -M 'BEGIN { PREC = 300; print 2 ^ 300, sqrt(2), exp(1), atan2(1, 2) }'
gawk '{ n[$2]++; s[$3] += $1 / 3 } END { PROCINFO["sorted_in"] = "@ind_str_asc"; for (k in n) print k, n[k]; for (k in s) printf "%s %.15g\\n", k, s[k] }' ../text.txt
gawk '{ gsub(/[aeiou]+/, "<&>"); print toupper(substr($0, 5)) }' ../text.txt | md5sum
seq -f %.10g 0 0.37 300 | md5sum; seq 1 3 1000 | paste -sd+ | bc; printf '%.20f %e %a %g\\n' 0.1 12345.678 0.3 1e-7
numfmt --to=iec 1234567890 987654321 1025; od -An -tf8 -tf4 -N 4096 ../data.bin | md5sum; od -An -tx8 -td4 -N 65536 ../data.bin | md5sum
cksum ../data.bin ../text.txt; b2sum ../data.bin; sum ../data.bin; cksum -a sm3 ../text.txt
shuf -n 2000 --random-source=../data.bin ../text.txt | md5sum; split -n l/7 ../text.txt x; cat x?? | cmp - ../text.txt; grep -cE '^[0-9]{9} (alpha|(e?ta)+) ' ../text.txt
sed -E 's/([0-9]+) (\\w+)/\\2 \\1/;y/abc/xyz/;2~3d' ../text.txt | md5sum; comm --nocheck-order -12 xaa xab 2>/dev/null | wc -l; tr -d 0-9 <../text.txt | fold -w 70 | expand | nl | md5sum
gzip -n9c ../text.txt | md5sum; xz -1 -c ../text.txt | md5sum; zstd -q -5 -c ../text.txt | md5sum; zstd -q -1 -c ../data.bin | md5sum`,
  },
];

/** Which jobs run with how many vCPUs: one after the other, or all at the same time. */
const RUNS = [
  { cpus: 1, jobs: ['sums', 'compress', 'threads', 'integers', 'floats', 'perl'] },
  { cpus: 4, jobs: ['ciphers', 'sort', 'processes', 'threads', 'openssl', 'data', 'numbers'] },
];
/** What the kernel must not have said, of itself or of a program. */
const COMPLAINTS =
  /\b(BUG|Oops|WARNING:|rcu: INFO|[Uu]ndefined instruction|Call trace|soft lockup|hung task|segfault|unhandled|Internal error)/;
/** The one fault that the job `threads` makes on purpose. */
const ON_PURPOSE = /python3\[\d+\]: unhandled exception: DABT .* translation fault in libc/;

let system: { readonly image: Image; readonly userland: Userland } | string;
let folder = '';
let theirs: Promise<Map<string, string>> | undefined;

beforeAll(async () => {
  const image = await debian();
  const user = typeof image === 'string' ? image : await userland();
  if (typeof image === 'string' || typeof user === 'string') {
    system = String(user);
    console.log(`skipped: Debian's userland in a guest: ${system}`);
    return;
  }
  system = { image, userland: user };
  folder = await mkdtemp(join(tmpdir(), 'tsvisor-userland-'));
  if (qemu) {
    theirs = runBelowQemu(user, COMPARED, SHARED, folder);
    theirs.catch(() => undefined); // reported where it is awaited
  }
});
afterAll(() => (folder === '' ? undefined : rm(folder, { recursive: true, force: true })));

describe("Debian's userland", () => {
  for (const { cpus, jobs } of RUNS) {
    test(`computes the same with ${cpus} vCPUs`, async ctx => {
      if (typeof system === 'string') return ctx.skip(system);
      const known = KNOWN.filter(j => jobs.includes(j.name));
      const compared = COMPARED.filter(j => jobs.includes(j.name));
      const initrd = concatBytes([
        new Uint8Array(await readFile(system.image.initrd)),
        system.userland.cpio,
        jobArchive([...known, ...compared], SHARED),
      ]);
      const mode = cpus === 1 ? 'serial' : 'parallel';
      await using vm = await Vm.create({
        kernel: system.image.kernel,
        initrd,
        cpus,
        memory: '1G',
        params: `console=ttyAMA0 panic=-1 tsvisor.exec="/debian/t/start ${mode}"`,
      });
      await vm.start();
      const exit = await vm.exited;
      const ours = jobOutputs(vm.console.text);
      const log = ours.get('dmesg');
      if (log === undefined) expect.fail(`the guest ended early (${exit.reason}):\n${vm.console.text.slice(-3000)}`);
      for (const { name, expected } of known) expect.soft(ours.get(name), name).toBe(expected);
      const reference = await theirs;
      for (const { name } of compared) {
        const text = ours.get(name);
        expect.soft(text, name).toMatch(/\nexit 0\n$/);
        if (reference) expect.soft(text, name).toBe(reference.get(name));
      }
      const complaints = log.split('\n').filter(l => COMPLAINTS.test(l));
      expect.soft(complaints).toEqual([expect.stringMatching(ON_PURPOSE)]);
      expect(exit.reason).toBe('shutdown');
    });
  }
});
