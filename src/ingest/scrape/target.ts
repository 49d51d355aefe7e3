import type { Label } from '../../metrics/store.ts'
import type { Attach } from './commit.ts'

/** One thing to scrape, after the labels of configuration and file have been read. */
export interface Target {
  /** The same for the same target, from one refresh to the next. */
  readonly key: string
  readonly job: string
  readonly url: URL
  /** host:port. */
  readonly address: string
  /** When the configuration or a file says so; null: node id where it can be learnt, else `address`. */
  readonly instance: string | null
  /** Without job and instance. */
  readonly labels: readonly Label[]
  readonly intervalMs: number
  readonly timeoutMs: number
}

export interface TargetDefaults {
  readonly job: string
  readonly scheme: 'http' | 'https'
  /** With a query, if any. */
  readonly path: string
  readonly labels: Readonly<Record<string, string>>
  readonly intervalMs: number
  readonly timeoutMs: number
}

/**
 * A target from an address and the labels of its group. Labels that begin with `__` have Prometheus's meaning (`__address__`,
 * `__scheme__`, `__metrics_path__`, `__param_x`, `__scrape_interval__`, `__scrape_timeout__`) or none; other labels are put on
 * every series. A text says what is wrong.
 */
export function targetOf(
  target: string,
  group: Readonly<Record<string, string>>,
  defaults: TargetDefaults,
  duration: (text: string) => number | null,
): Target | string {
  const all: Record<string, string> = { ...defaults.labels, ...group }
  const scheme = all.__scheme__ ?? defaults.scheme
  const path = all.__metrics_path__ ?? defaults.path
  const address = withPort(all.__address__ ?? target, scheme)
  if (address === null) return `${target.slice(0, 200)} is not host:port`
  if (scheme !== 'http' && scheme !== 'https') return `scheme ${scheme.slice(0, 40)} of ${address} is not http or https`
  const url = URL.parse(`${scheme}://${address}${path.startsWith('/') ? '' : '/'}${path}`)
  if (url === null || url.username !== '') return `${address}${path.slice(0, 200)} is not an address`
  const intervalMs = all.__scrape_interval__ === undefined ? defaults.intervalMs : duration(all.__scrape_interval__)
  const timeoutMs = all.__scrape_timeout__ === undefined ? defaults.timeoutMs : duration(all.__scrape_timeout__)
  if (intervalMs === null || timeoutMs === null) return `interval or timeout of ${address} is not a duration`
  const labels: Label[] = []
  let job = defaults.job
  let instance: string | null = null
  for (const [name, value] of Object.entries(all)) {
    if (name.startsWith('__param_')) url.searchParams.set(name.slice('__param_'.length), value)
    else if (name.startsWith('__') || value === '') continue
    else if (name === 'job') job = value
    else if (name === 'instance') instance = value
    else labels.push([name, value])
  }
  labels.sort(([a], [b]) => (a < b ? -1 : 1))
  return {
    key: JSON.stringify([job, instance, url.href, intervalMs, timeoutMs, labels]),
    job,
    url,
    address,
    instance,
    labels,
    intervalMs: Math.max(INTERVAL_MIN_MS, intervalMs),
    timeoutMs: Math.max(1, Math.min(timeoutMs, intervalMs)),
  }
}

/** A shorter interval is a mistake, and would only be load. */
const INTERVAL_MIN_MS = 100

function withPort(address: string, scheme: string): string | null {
  if (!/^(?:\[[0-9a-fA-F:.]+\]|[^\s:/?#@[\]]+)(?::\d{1,5})?$/.test(address)) return null
  if (/:\d+$/.test(address.replace(/^\[.*\]/, ''))) return address
  return `${address}:${scheme === 'https' ? 443 : 80}`
}

/**
 * Joins the target's labels to those of its page. Where both have a label, the page's goes on as `exported_…`, or with
 * `honorLabels` stays as it is.
 */
export function attachTo(target: Target, instance: string, honorLabels: boolean): Attach {
  const own = new Map<string, string>([...target.labels, ['job', target.job], ['instance', instance]])
  return (scraped) => {
    let { job } = target
    let at = instance
    if (!scraped.some(([name]) => own.has(name))) {
      return { job, instance: at, labels: target.labels.length === 0 ? scraped : [...target.labels, ...scraped] }
    }
    const labels: Label[] = []
    const taken = new Set(scraped.map(([name]) => name))
    for (const [name, value] of scraped) {
      if (!own.has(name)) labels.push([name, value])
      else if (!honorLabels) {
        let exported = `exported_${name}`
        while (taken.has(exported) || own.has(exported)) exported = `exported_${exported}`
        taken.add(exported)
        labels.push([exported, value])
      } else if (name === 'job') job = value
      else if (name === 'instance') at = value
      else labels.push([name, value])
    }
    for (const [name, value] of target.labels) if (!honorLabels || !taken.has(name)) labels.push([name, value])
    return { job, instance: at, labels }
  }
}

/** Time of the first scrape after `nowMs`, ms: always at the same place in the interval, which the key decides. */
export function firstDueMs(target: Target, nowMs: number, hash: number): number {
  const offset = (hash >>> 0) % target.intervalMs
  const within = (((nowMs - offset) % target.intervalMs) + target.intervalMs) % target.intervalMs
  return nowMs + ((target.intervalMs - within) % target.intervalMs)
}
