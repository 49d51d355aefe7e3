import type { Progress } from './places.ts'

/** Rows out of the values of records: one decoder for each encoding. */
export interface RecordDecoder extends Progress {
  /**
   * Takes one value, valid until the next `commit` that answers true; `within` is where to go on in it (0: the beginning).
   * Never throws for bad input: what cannot be read is counted with its reason, and told to `onRejected`.
   */
  add(value: Buffer, source: RecordSource, within: number): void
  /** So much waits that a commit is due. */
  readonly due: boolean
  /** Makes rows of what was added. False: there is no room, and the gate is closed; call it again when it opens. */
  commit(): boolean
}

/** Where a record came from. */
export interface RecordSource {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
}

export interface Rejection {
  readonly reason: string
  readonly count: number
  readonly source: RecordSource
  readonly nodeId: string
  readonly bytes: Uint8Array
  /** Bytes after the start of the value. */
  readonly offset: number
}

export type OnRejected = (rejection: Rejection) => void
