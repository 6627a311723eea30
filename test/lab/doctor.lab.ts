import assert from 'node:assert/strict';
import { hostFindings } from '../../src/cli/doctor-host.ts';
import { probeHost } from '../../src/machine/host.ts';
import { labCase } from './lab-case.ts';

// What `tsvisor doctor` says where there is a KVM that we did not write.

labCase('KVM has what the engine needs, and what it lacks is said', { smoke: true }, ({ note }) => {
  const probe = probeHost();
  const { capabilities = [], reason } = probe.kvm;
  assert.equal(reason, undefined);
  assert.ok(capabilities.length > 15, `${capabilities.length} capabilities`);
  assert.deepEqual(
    capabilities.filter(c => c.needed && c.value <= 0),
    [],
  );
  const [kvm] = hostFindings(probe, false).filter(f => f.check === 'kvm');
  assert.equal(kvm?.status, 'ok');
  const missing = capabilities.filter(c => c.value <= 0).map(c => c.name);
  assert.deepEqual(kvm.table?.slice(1).map(row => row[0]) ?? [], missing);
  note(`${kvm.text}; missing: ${missing.join(', ')}`);
});
