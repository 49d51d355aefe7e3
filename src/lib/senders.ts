/**
 * Bounds of one sender over all listeners: connections, streams, bytes a second. A sender is an address without its
 * port; all proxies behind one translating gateway are one sender.
 *
 * Bytes are a bucket of one second: who is over it is not read from until the debt is paid, so TCP and HTTP/2 hold him
 * back. Nothing is dropped.
 */
export interface SenderLimits {
  /** Zero: no bound. */
  readonly connectionsMax: number
  readonly streamsMax: number
  readonly bytesPerSecond: number
}

export interface Senders {
  /** Null: the sender has as many connections as it may. Counted until `close`. */
  open(host: string): Sender | null
  /** Of an address that has a connection open; null when it has none. */
  find(host: string): Sender | null
  /** Other bounds from now on; what is open stays. */
  set(limits: SenderLimits): void
  readonly counters: Readonly<SenderCounters>
  /** Senders with an open connection. */
  readonly size: number
}

export interface SenderCounters {
  connectionsRefused: number
  streamsRefused: number
  /** Times that a sender was not read from because it was over its bytes a second. */
  held: number
}

/** Of one address; its connections share it. */
export interface Sender {
  readonly host: string
  /** A connection is gone. Once for each `open`. */
  close(): void
  /** False: it has as many streams as it may. */
  openStream(): boolean
  closeStream(): void
  /** Bytes have been read. Returns for how many ms nothing more should be; 0: go on. */
  spend(bytes: number): number
  /** The same without new bytes. */
  waitMs(): number
}

export const NO_SENDER_LIMITS: SenderLimits = { connectionsMax: 0, streamsMax: 0, bytesPerSecond: 0 }

export function createSenders(limits: SenderLimits, clock: () => number = () => performance.now()): Senders {
  return new SenderTable(limits, clock)
}

class SenderTable implements Senders {
  readonly counters: SenderCounters = { connectionsRefused: 0, streamsRefused: 0, held: 0 }
  readonly clock: () => number
  readonly table = new Map<string, OneSender>()
  limits: SenderLimits

  constructor(limits: SenderLimits, clock: () => number) {
    this.limits = limits
    this.clock = clock
  }

  get size(): number {
    return this.table.size
  }

  set(limits: SenderLimits): void {
    this.limits = limits
  }

  find(host: string): Sender | null {
    return this.table.get(plainHost(host)) ?? null
  }

  open(host: string): Sender | null {
    const plain = plainHost(host)
    let sender = this.table.get(plain)
    const { connectionsMax } = this.limits
    if (connectionsMax > 0 && sender !== undefined && sender.connections >= connectionsMax) {
      this.counters.connectionsRefused++
      return null
    }
    if (sender === undefined) {
      sender = new OneSender(plain, this)
      this.table.set(plain, sender)
    }
    sender.connections++
    return sender
  }
}

/** IPv4 behind a socket of both kinds is the same sender. */
function plainHost(host: string): string {
  return host.startsWith('::ffff:') ? host.slice(7) : host
}

class OneSender implements Sender {
  readonly host: string
  connections = 0
  #streams = 0
  readonly #table: SenderTable
  /** Bytes that may still be read; below zero is debt. */
  #room: number
  #filledMs: number

  constructor(host: string, table: SenderTable) {
    this.host = host
    this.#table = table
    this.#room = table.limits.bytesPerSecond
    this.#filledMs = table.clock()
  }

  close(): void {
    this.connections--
    if (this.connections > 0) return
    // Who leaves in debt and comes back finds it again.
    const waitMs = this.waitMs()
    if (waitMs === 0) this.#forget()
    else setTimeout(() => this.#forget(), waitMs).unref()
  }

  #forget(): void {
    const { table } = this.#table
    if (this.connections === 0 && table.get(this.host) === this) table.delete(this.host)
  }

  openStream(): boolean {
    const { limits, counters } = this.#table
    if (limits.streamsMax > 0 && this.#streams >= limits.streamsMax) {
      counters.streamsRefused++
      return false
    }
    this.#streams++
    return true
  }

  closeStream(): void {
    this.#streams--
  }

  spend(bytes: number): number {
    const rate = this.#table.limits.bytesPerSecond
    if (rate === 0) return 0
    this.#fill(rate)
    this.#room -= bytes
    if (this.#room >= 0) return 0
    this.#table.counters.held++
    return (-this.#room / rate) * 1000
  }

  waitMs(): number {
    const rate = this.#table.limits.bytesPerSecond
    if (rate === 0) return 0
    this.#fill(rate)
    return this.#room >= 0 ? 0 : (-this.#room / rate) * 1000
  }

  #fill(rate: number): void {
    const now = this.#table.clock()
    this.#room = Math.min(rate, this.#room + ((now - this.#filledMs) / 1000) * rate)
    this.#filledMs = now
  }
}
