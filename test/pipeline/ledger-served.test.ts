import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { seededRandom } from '../../src/lib/random.ts'
import { isSavedServed } from '../../src/pipeline/ledger-served.ts'
import { readStats } from '../../src/pipeline/ledger-stats.ts'
import { ServedWorld } from '../support/served.ts'

const TOTAL = 'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix=main}'
const ADMIN = 'envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix=admin}'
const ACTIVE = 'envoy_http_downstream_rq_active{envoy_http_conn_manager_prefix=main}'
const UPTIME = 'envoy_server_uptime'
const WRITTEN = 'envoy_access_logs_grpc_access_log_logs_written'
const DROPPED = 'envoy_access_logs_grpc_access_log_logs_dropped'
const TCP = 'envoy_tcp_downstream_cx_total{envoy_tcp_prefix=tcp}'

/** An Envoy that began with the world: every second it serves, logs, and tells its counters. */
class Served {
  total = 0
  active = 0
  written = 0
  tcp = 0
  readonly #world: ServedWorld
  #startedMs: number

  constructor(world: ServedWorld) {
    this.#world = world
    this.#startedMs = world.clock.now()
  }

  /** `arrive`: rows of them that get here. `logged`: entries that pass the filter of the access log. */
  second(served: number, arrive = served, logged = served): void {
    this.total += served
    this.written += logged
    this.#world.rows(arrive)
    this.tell()
    this.#world.pass(1)
  }

  tell(): void {
    const { total, active, written, tcp } = this
    const uptime = Math.floor((this.#world.clock.now() - this.#startedMs) / 1000)
    this.#world.stats({ [TOTAL]: total + active, [ACTIVE]: active, [UPTIME]: uptime, [WRITTEN]: written, [DROPPED]: 0 })
    if (tcp > 0) this.#world.stats({ [TCP]: tcp })
  }

  quiet(seconds: number): void {
    for (let k = 0; k < seconds; k++) {
      this.tell()
      this.#world.pass(1)
    }
  }

  restart(): void {
    this.#startedMs = this.#world.clock.now()
    this.total = 0
    this.written = 0
    this.active = 0
  }
}

function started(): { world: ServedWorld; proxy: Served } {
  const world = new ServedWorld()
  const proxy = new Served(world)
  proxy.quiet(2)
  return { world, proxy }
}

test('without stats it cannot know', () => {
  const world = new ServedWorld()
  world.rows(10)
  world.pass(30)
  expect(world.edge).toBeNull()
  expect(world.ledger.coverage(0, Number.MAX_SAFE_INTEGER)).toBeNull()
  expect(world.ledger.totals()).toMatchObject({ nodes: 0, lost: 0 })
})

test('a proxy that logged before anything told of its stats, and began anew with them: only what follows is compared', () => {
  for (const process of ['the same', 'a later'] as const) {
    const world = new ServedWorld()
    world.rows(500)
    world.pass(60)
    if (process === 'a later') world.restart()
    const proxy = new Served(world)
    for (let k = 0; k < 20; k++) proxy.second(100)
    for (let k = 0; k < 3; k++) proxy.second(100, 40)
    proxy.quiet(30)
    expect(world.edge, process).toMatchObject({ lost: 180, unexplained: 0 })
  }
})

test('ten undisturbed minutes: nothing lost, nothing unexplained, at any moment', () => {
  const { world, proxy } = started()
  const random = seededRandom(3)
  for (let k = 0; k < 600; k++) {
    proxy.active = Math.floor(random() * 20)
    proxy.second(Math.floor(random() * 500))
    if (world.edge !== null) expect(world.edge).toMatchObject({ lost: 0, unexplained: 0, filtered: 0 })
  }
  proxy.active = 0
  proxy.quiet(20)
  expect(world.edge).toMatchObject({ served: proxy.total, lost: 0, unexplained: 0, source: 'als', restarts: 0 })
})

test('what never arrives is lost, to the request, within half a minute; requests under way are not', () => {
  const { world, proxy } = started()
  for (let k = 0; k < 20; k++) proxy.second(300)
  for (let k = 0; k < 3; k++) proxy.second(300, 0)
  proxy.second(300, 238)
  proxy.active = 7
  for (let k = 0; k < 20; k++) proxy.second(300)
  proxy.quiet(30)
  expect(world.edge).toMatchObject({ lost: 962, unexplained: 0, filtered: 0, served: proxy.total })
  const from = 1_700_000_000_000 - 60_000
  expect(world.ledger.coverage(from, from + 600_000)).toMatchObject({ served: proxy.total, lost: 962, filtered: 0 })
  expect(world.ledger.totals()).toMatchObject({ lost: 962, nodesWithLoss: 1 })
})

test('rows that come late were never lost', () => {
  const { world, proxy } = started()
  const late = world.clock.now()
  proxy.second(100, 0)
  proxy.quiet(30)
  expect(world.edge!.lost).toBe(100)
  world.rows(100, { endMs: late })
  proxy.quiet(30)
  expect(world.edge).toMatchObject({ lost: 0, unexplained: 0 })
})

test('rows that arrive after stats that count them, and before: neither is loss', () => {
  const { world, proxy } = started()
  for (let k = 0; k < 60; k++) {
    const endMs = world.clock.now() - 30
    proxy.total += 50
    proxy.written += 50
    proxy.tell()
    world.pass(1)
    // A second and more in Envoy's buffer.
    world.rows(50, { endMs })
    if (world.edge !== null) expect(world.edge.lost).toBe(0)
  }
})

test('an access log with a filter: never logged is not lost; with successes among the rows it is a sample', () => {
  const { world, proxy } = started()
  for (let k = 0; k < 20; k++) proxy.second(100, 10, 10)
  proxy.quiet(20)
  expect(world.edge).toMatchObject({ filtered: 1800, lost: 0, unexplained: 0, sampled: true })
  for (let k = 0; k < 5; k++) proxy.second(100, 0, 10)
  proxy.quiet(20)
  expect(world.edge).toMatchObject({ filtered: 2250, lost: 50, unexplained: 0 })
})

test('missing rows of a source whose logger says nothing are unexplained, not lost', () => {
  const world = new ServedWorld()
  world.stats({ [TOTAL]: 0, [UPTIME]: 0 })
  world.pass(2)
  world.rows(40, { source: 'json' })
  world.stats({ [TOTAL]: 100, [UPTIME]: 2 })
  for (let k = 0; k < 30; k++) {
    world.stats({ [TOTAL]: 100, [UPTIME]: k + 2 })
    world.pass(1)
  }
  expect(world.edge).toMatchObject({ lost: null, unexplained: 60, filtered: null, source: 'json' })
})

test('a node that logs twice counts once, by its first source', () => {
  const { world, proxy } = started()
  for (let k = 0; k < 10; k++) {
    proxy.second(100, 95)
    world.rows(100, { source: 'json' })
    world.rows(100, { source: 'otlp' })
  }
  proxy.quiet(20)
  expect(world.edge).toMatchObject({ source: 'als', lost: 50, unexplained: 0 })
})

test('a proxy that starts anew: what was lost stays, what its new life loses is added', () => {
  const { world, proxy } = started()
  for (let k = 0; k < 10; k++) proxy.second(100, 90)
  proxy.quiet(15)
  // Served after the last stats of the old life, and logged.
  world.rows(17)
  world.pass(5)
  proxy.restart()
  for (let k = 0; k < 10; k++) proxy.second(100, 99)
  proxy.quiet(30)
  expect(world.edge).toMatchObject({ lost: 110, unexplained: 0, restarts: 1, served: 1000 + 17 + 1000 })
})

test('a counter that fell without a word of when: no loss is made up', () => {
  const world = new ServedWorld()
  world.stats({ [TOTAL]: 1000 })
  world.pass(1)
  for (let k = 0; k < 20; k++) {
    world.stats({ [TOTAL]: 1000 })
    world.pass(1)
  }
  world.stats({ [TOTAL]: 40 })
  world.rows(60)
  for (let k = 0; k < 20; k++) {
    world.stats({ [TOTAL]: 40 })
    world.pass(1)
  }
  expect(world.edge).toMatchObject({ lost: 0, unexplained: 0, restarts: 1 })
})

test('a receiver that was away: what the proxy served meanwhile is lost, and survives the restart in what was saved', () => {
  const { world, proxy } = started()
  for (let k = 0; k < 10; k++) proxy.second(100)
  proxy.quiet(10)
  const saved: unknown = JSON.parse(JSON.stringify(world.ledger.save()))
  expect(Array.isArray(saved) && saved.every(isSavedServed)).toBe(true)
  // Rows after the save are in the journal, and in its counts.
  proxy.second(100)
  world.restart(saved as ReturnType<typeof world.ledger.save>)
  proxy.total += 962
  proxy.written += 962
  for (let k = 0; k < 10; k++) proxy.second(100)
  proxy.quiet(30)
  expect(world.edge).toMatchObject({ lost: 962, unexplained: 0, served: proxy.total, restarts: 0 })
})

test('what was served before anything listened is no loss of ours', () => {
  const world = new ServedWorld()
  for (let k = 0; k < 30; k++) {
    world.stats({ [TOTAL]: 50_000 + k * 10, [UPTIME]: 100_000 + k, [WRITTEN]: 50_000 + k * 10 })
    if (k > 0) world.rows(10, { endMs: world.clock.now() - 1 })
    world.pass(1)
  }
  expect(world.edge).toMatchObject({ lost: 0, unexplained: 0 })
})

test('the way of stats changes: nothing is counted twice', () => {
  const { world, proxy } = started()
  for (let k = 0; k < 10; k++) proxy.second(100, 95)
  proxy.quiet(15)
  for (let k = 0; k < 40; k++) {
    world.stats({ [TOTAL]: proxy.total, [UPTIME]: 27 + k, [WRITTEN]: proxy.written }, { job: 'envoy-scrape' })
    world.pass(1)
  }
  expect(world.edge).toMatchObject({ job: 'envoy-scrape', lost: 50, unexplained: 0, restarts: 0 })
})

test('connections count once rows of connections come; the admin page never does', () => {
  const { world, proxy } = started()
  for (let k = 0; k < 10; k++) {
    proxy.tcp += 5
    world.stats({ [ADMIN]: k * 7 })
    proxy.second(100)
  }
  proxy.quiet(15)
  expect(world.edge).toMatchObject({ served: 1000, lost: 0, unexplained: 0 })
  for (let k = 0; k < 10; k++) {
    proxy.tcp += 5
    world.rows(4, { tcp: true })
    proxy.second(100)
  }
  proxy.quiet(20)
  expect(world.edge).toMatchObject({ served: 2050, lost: 10 })
})

test('more rows than any counter counted are unexplained', () => {
  const { world, proxy } = started()
  proxy.second(10, 13)
  proxy.quiet(20)
  expect(world.edge).toMatchObject({ lost: 0, unexplained: 3 })
})

test('recorded figures of a real Envoy: what it says it finished is what it logged', () => {
  // Of Envoy's admin page: 82 requests by `main`, of which one entry each was logged; connections of four TCP listeners.
  const text = readFileSync(new URL('../fixtures/stats/stats.txt', import.meta.url), 'utf8')
  const value = (name: string) => Number(new RegExp(`^${name.replaceAll('.', '\\.')}: (\\d+)$`, 'm').exec(text)?.[1])
  const world = new ServedWorld()
  const prefixes = ['admin', 'cache', 'main', 'nfcf', 'periodic', 'second']
  let finished = 0
  for (const prefix of prefixes) {
    const label = `{envoy_http_conn_manager_prefix=${prefix}}`
    world.stats({ [`envoy_http_downstream_rq_total${label}`]: value(`http.${prefix}.downstream_rq_total`) })
    world.stats({ [`envoy_http_downstream_rq_active${label}`]: value(`http.${prefix}.downstream_rq_active`) || 0 })
    if (prefix !== 'admin') finished += value(`http.${prefix}.downstream_rq_total`)
  }
  expect(finished).toBe(91)
  const latest = ({ name }: { name: string }) =>
    [...world.series].flatMap(([key, one]) => (key.startsWith(`${name}{`) ? [one] : []))
  expect(readStats({ latest })).toMatchObject([{ node: 'edge-1', http: 91, tcp: 0, startedMs: null, als: null }])
})
