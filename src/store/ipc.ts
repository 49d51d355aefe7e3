import type { EngineCounts } from './engine.ts'
import type { StoreLimits } from './limits.ts'
import type { User } from './settings.ts'

/** What goes over the channel between the process and its store. Passwords go here, not by the command line. */
export type ChildRequest =
  | ChildStart
  | { readonly type: 'health'; readonly id: number }
  | { readonly type: 'stop'; readonly graceMs: number }

export interface ChildStart {
  readonly type: 'start'
  readonly directory: string
  /** 0 for any free port. */
  readonly port: number
  readonly passwords: Readonly<Record<User, string>>
  readonly limits: StoreLimits
}

export type ChildReport =
  | { readonly type: 'ready'; readonly port: number }
  | { readonly type: 'failed'; readonly message: string }
  | ({ readonly type: 'healthy'; readonly id: number; readonly rssBytes: number } & EngineCounts)
