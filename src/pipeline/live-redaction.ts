import { createRedaction, type Redaction, type RedactionRules } from './redact.ts'

/** Redaction whose rules can be exchanged while rows come. What was read before stays as it is. */
export interface LiveRedaction extends Redaction {
  /** The rules of now: whoever makes something of them makes it again when they are replaced. */
  readonly current: Redaction
  /** Throws a `SyntaxError` when a pattern is no regular expression. What it returns makes the rules count. */
  prepare(rules: RedactionRules): () => void
  onReplaced(listener: () => void): void
}

export function createLiveRedaction(rules: RedactionRules): LiveRedaction {
  const listeners: (() => void)[] = []
  let current = createRedaction(rules)
  return {
    get current() {
      return current
    },
    get maskAddresses() {
      return current.maskAddresses
    },
    get plainUrlsPass() {
      return current.plainUrlsPass
    },
    header: (name) => current.header(name),
    url: (bytes, start, length, out) => current.url(bytes, start, length, out),
    addresses: (bytes, start, length, out) => current.addresses(bytes, start, length, out),
    prepare(next) {
      const prepared = createRedaction(next)
      return () => {
        current = prepared
        for (const listener of listeners) listener()
      }
    },
    onReplaced(listener) {
      listeners.push(listener)
    },
  }
}
