import { vi } from 'vitest'

/** Resolves when `holds` does; for what never comes it fails after a time that a busy machine has no need of. */
export function waitUntil(
  holds: () => boolean | Promise<boolean>,
  options: { readonly timeout?: number; readonly interval?: number } = {},
): Promise<unknown> {
  return vi.waitUntil(holds, { timeout: 20_000, interval: 5, ...options })
}

/** The same for expectations: resolves when none of them fails any longer. */
export function waitFor<Result>(expectations: () => Result | Promise<Result>): Promise<Result> {
  return vi.waitFor(expectations, { timeout: 20_000, interval: 5 })
}
