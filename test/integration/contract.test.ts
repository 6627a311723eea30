import { describe, it } from 'vitest';
import { ARM64_CASES, runArm64 } from '../contract/index.ts';
import { emulatedArm } from '../contract/subjects.ts';

describe('the contract of engines: arm64, emulated', () => {
  for (const c of ARM64_CASES) it(c.title, () => runArm64(c, emulatedArm));
});
