import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { createEndpoints } from '../../../src/adapters/clickhouse/endpoints.ts'
import { grantStatements } from '../../../src/adapters/clickhouse/grants.ts'
import { urlsOf } from '../../../src/adapters/clickhouse/open.ts'
import { shardOf } from '../../../src/adapters/clickhouse/topology.ts'

describe('several servers with the same data', () => {
  function three(first = 0) {
    let ms = 0
    const endpoints = createEndpoints({ urls: ['a', 'b', 'c'], now: () => ms, first })
    return { endpoints, wait: (more: number) => (ms += more) }
  }

  it('stay with the one that answers', () => {
    const { endpoints, wait } = three(1)
    expect(endpoints.current()).toBe('b')
    wait(1_000_000)
    expect(endpoints.current()).toBe('b')
    expect(endpoints.switches).toBe(0)
  })

  it('go on with the next one when one fails, and do not come back by themselves', () => {
    const { endpoints, wait } = three()
    endpoints.failed('a')
    expect(endpoints.current()).toBe('b')
    wait(60_000)
    expect(endpoints.current()).toBe('b')
    endpoints.failed('b')
    expect(endpoints.current()).toBe('c')
    expect(endpoints.switches).toBe(2)
  })

  it('ask the one that has rested most when all fail, with pauses that grow to half a minute', () => {
    const { endpoints, wait } = three()
    for (const url of ['b', 'a', 'c']) {
      endpoints.failed(url)
      wait(1)
    }
    expect(endpoints.current()).toBe('b')
    for (let k = 0; k < 10; k++) endpoints.failed('b')
    expect(endpoints.current()).toBe('a')
    wait(30_000)
    endpoints.failed('a')
    endpoints.failed('c')
    expect(endpoints.current()).toBe('b')
  })

  it('forget failures of one that answers again', () => {
    const { endpoints } = three()
    endpoints.failed('a')
    endpoints.answered('a')
    expect(endpoints.current()).toBe('a')
  })
})

describe('the shard of a segment', () => {
  it('is CRC32 of its id, as ClickHouse computes it, modulo the shards', () => {
    // SELECT CRC32('abc') = 891568578
    expect(shardOf('abc', 1 << 30)).toBe(891_568_578 % (1 << 30))
    expect([1, 2, 3, 7].map((shards) => shardOf('abc', shards))).toEqual([0, 0, 0, 891_568_578 % 7])
  })

  it('is spread evenly', () => {
    const counts = [0, 0, 0, 0]
    for (let seq = 0; seq < 4000; seq++) counts[shardOf(`0-mh0kq5zzz1a2b-${seq}`, 4)]!++
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(120)
  })
})

describe('URLs of the configuration', () => {
  it('may be several, with commas', () => {
    expect(urlsOf('http://a:8123')).toEqual(['http://a:8123'])
    expect(urlsOf('https://a:8443, https://b:8443,')).toEqual(['https://a:8443', 'https://b:8443'])
  })
})

describe('the users of a server', () => {
  it('have the grants that the documentation shows', () => {
    const page = readFileSync(new URL('../../../docs/adapters/clickhouse.md', import.meta.url), 'utf8')
    for (const sql of grantStatements({ database: 'sidecast', localDatabase: 'sidecast_local', cluster: 'mesh' })) {
      expect(page).toContain(`${sql};`)
    }
  })
})
