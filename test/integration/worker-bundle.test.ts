import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Vm } from 'tsvisor';
import { expect, test } from 'vitest';
import { makeArm64Image } from '../support/kernels.ts';

// The Worker's code is a bundle, and a device module has copies of its own of what both import (docs/adr/0013).

test("an error of the machine's is a VmError to a device module", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tsvisor-bundle-'));
  try {
    const module = join(folder, 'device.mjs');
    writeFileSync(
      module,
      `import { definePciDevice, VmError } from 'tsvisor/devices';
       export default definePciDevice({ name: 'd', vendor: 0x1234, device: 1 }, dev => {
         try {
           dev.bar(5);
         } catch (e) {
           dev.log([e instanceof VmError, e.constructor === VmError, e.code].join());
         }
       });`,
    );
    await using vm = await Vm.create({ kernel: makeArm64Image(), engine: 'emu', memory: '64M', pci: module });
    const said = once(vm, 'log');
    await vm.start();
    // The second says that there are two copies, without which this would show nothing.
    expect(await said).toEqual([expect.stringContaining('true,false,ERR_')]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
