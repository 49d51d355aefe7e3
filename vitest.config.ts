import { defineConfig } from 'vitest/config'

// unit: pure and fast, no child process. integration: real programs and child processes. e2e: the whole product.
// A test's project is its folder or its suffix: test/**/*.test.ts is unit, *.int.test.ts integration, test/e2e e2e.

/**
 * What is not a unit test waits for other processes more than it works, so two files run beside each other, on any machine.
 * None may take a fixed port, or count what others may have as well. The files of e2e, the longest, are the first.
 */
const BESIDE_EACH_OTHER = {
  maxWorkers: 2,
  sequence: { groupOrder: 1 },
  // A wait ends when it has what it waits for: bounds are for what never comes, on machines of any speed.
  expect: { poll: { timeout: 60_000 } },
}

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.int.test.ts', 'test/e2e/**', 'test/web/**/*.browser.test.ts'],
          testTimeout: 60_000,
          expect: { poll: { timeout: 20_000 } },
          // Modules are loaded once for each worker, not for each file: nothing in them has a state of its own.
          isolate: false,
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/**/*.int.test.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
          ...BESIDE_EACH_OTHER,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
          ...BESIDE_EACH_OTHER,
        },
      },
    ],
  },
})
