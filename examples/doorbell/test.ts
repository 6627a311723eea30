// Rings the bell from inside of a Debian guest. Run it with: npx tsx --test examples/doorbell/test.ts
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Vm } from 'tsvisor';
import doorbell from './device.ts';

const MODULE = fileURLToPath(new URL('./device.ts', import.meta.url));

/** Kernel and initrd of `tsvisor pull debian-arm64`. */
function debian(): { kernel: string; initrd: string } {
  const cli = new URL('./dist/cli/main.js', import.meta.resolve('tsvisor/package.json'));
  const json = execFileSync(process.execPath, [fileURLToPath(cli), 'images', '--json'], { encoding: 'utf8' });
  // A line for each image.
  const images = json
    .trim()
    .split('\n')
    .map(line => JSON.parse(line));
  const { kernel, initrd } = images.find(image => image.name === 'debian-arm64');
  return { kernel, initrd };
}

/** A guest at its shell, with the device enabled; `sh` runs a command there and gives what it prints. */
async function boot(pci: string | typeof doorbell) {
  const vm = await Vm.create({ ...debian(), pci });
  const log: string[] = [];
  vm.on('log', line => log.push(line));
  await vm.start();
  await vm.console.waitFor('~ # ', { timeout: '180s' });
  // Without the echo, the first thing that is printed is the answer.
  vm.console.write('stty -echo; PS1=; echo quiet\n');
  await vm.console.waitFor('\nquiet\r\n', { timeout: '30s' });
  const sh = async (command: string) => {
    vm.console.write(`${command}; echo "<end>"\n`);
    return (await vm.console.waitFor('<end>\r\n', { timeout: '60s' })).before.replaceAll('\r', '').trim();
  };
  await sh('d=$(dirname $(grep -l 0xbe11 /sys/bus/pci/devices/*/device)); echo 1 > $d/enable; dmesg -n 1');
  // The address of BAR n is the first number in line n of `resource`.
  await sh('bar() { sed -n "$(($1 + 1))s/ .*//p" $d/resource; }; bell=$(bar 0); plate=$(bar 2)');
  return { vm, log, sh };
}

for (const [where, pci] of [
  ['in a module, beside the machine', MODULE],
  ['as closures, on this thread', doorbell],
] as const) {
  test(`a guest rings the doorbell: ${where}`, async () => {
    const { vm, log, sh } = await boot(pci);
    try {
      assert.equal(await sh('devmem $bell 32'), '0x00000000');
      await sh('devmem $bell 32 7; devmem $bell 32 42; usleep 10000');
      assert.equal(await sh('devmem $bell 32; devmem $((bell + 4)) 32'), '0x00000002\n0x00000002');
      assert.equal(await sh('devmem $((bell + 8)) 16'), '0xFFFF');
      // "tsv", read through memory that the device filled.
      assert.equal(await sh('devmem $plate 32'), '0x69767374');
      const callers = log.flatMap(line => /caller (\d+) at the door$/.exec(line)?.[1] ?? []);
      assert.deepEqual(callers, ['7', '42']);
    } finally {
      await vm.kill();
    }
  });
}
