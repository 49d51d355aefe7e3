import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { loadChdb } from '../../src/store/chdb.ts'

/**
 * The engine with a Keeper of its own inside the process (`testkeeper`), macros and a cluster of two shards: it makes
 * Replicated and Distributed tables as a server does. It cannot write to them: replicas need the port between servers, and
 * ON CLUSTER the server's queue, which the library does not have.
 *
 * `node replicated-engine.ts`: `{ "statements": […], "grants": […] }` comes on standard input, answers go to standard
 * output, one `{ "rows": … }` or `{ "error": … }` for each statement. With grants its user may do that and nothing else.
 */
interface Input {
  readonly statements: readonly string[]
  readonly grants?: readonly string[]
}

const CONFIG = `<clickhouse>
  <zookeeper><implementation>testkeeper</implementation></zookeeper>
  <macros><shard>1</shard><replica>a</replica></macros>
  <remote_servers><mesh>
    <shard><internal_replication>true</internal_replication>
      <replica><host>127.0.0.1</host><port>9000</port></replica><replica><host>127.0.0.2</host><port>9000</port></replica></shard>
    <shard><internal_replication>true</internal_replication>
      <replica><host>127.0.0.3</host><port>9000</port></replica></shard>
  </mesh></remote_servers>
  <users><default><password></password><profile>default</profile><quota>default</quota>
    <networks><ip>::/0</ip></networks><grants/></default></users>
  <profiles><default></default></profiles><quotas><default></default></quotas>
</clickhouse>`

const { statements, grants = [] } = JSON.parse(await text(process.stdin)) as Input
const dir = await mkdtemp(join(tmpdir(), 'sidecast-replicated-'))
const config = join(dir, 'engine.xml')
const granted = grants.map((grant) => `<query>${grant}</query>`).join('')
const users = `<users_config>${config}</users_config><users>`
await writeFile(
  config,
  CONFIG.replace('<users>', users).replace('<grants/>', granted === '' ? '' : `<grants>${granted}</grants>`),
)
const connection = loadChdb().open(join(dir, 'data'), [`--config-file=${config}`])
for (const sql of statements) {
  try {
    const { bytes } = await connection.query(sql, 'JSON')
    const text = Buffer.from(bytes).toString()
    console.log(JSON.stringify({ rows: text === '' ? [] : (JSON.parse(text) as { data: unknown }).data }))
  } catch (error) {
    console.log(JSON.stringify({ error: (error as Error).message.slice(0, 500) }))
  }
}
await rm(dir, { recursive: true, force: true })
// Its threads would keep the process.
process.kill(process.pid, 'SIGKILL')
