import { defineConfig } from 'vitest/config';

// `unit` may use no thread, no clock and no device; everything else lives under test/ and may be slow.
export default defineConfig({
  test: {
    projects: [
      // Nothing of theirs outlives a test, so that files can share a thread: half the time.
      { test: { name: 'unit', include: ['src/**/*.test.ts'], pool: 'threads', isolate: false } },
      { test: { name: 'conformance', include: ['test/conformance/**/*.test.ts'], testTimeout: 300_000 } },
      { test: { name: 'fuzz', include: ['test/fuzz/**/*.test.ts'], testTimeout: 300_000 } },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts', 'test/e2e/**/*.test.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
