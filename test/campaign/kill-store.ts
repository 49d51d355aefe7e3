import { killStore } from '../support/kill-store.ts'
import { startTestStore } from '../support/store.ts'

/**
 * Kills the store's process under load, hundreds of times, and checks every row and every rollup afterwards.
 *
 *     node test/campaign/kill-store.ts [--kills 500] [--seed N] [--rows 6000] [--days 5]
 *
 * Prints one JSON object, with the seed that repeats the moments; the exit code is 1 when anything is wrong.
 */
const argument = (name: string, fallback: number): number => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : Number(process.argv[at + 1])
}
const seed = argument('seed', Date.now() % 2 ** 31)
const kills = argument('kills', 500)
const test = await startTestStore({ keep: true })
const ends: (() => Promise<void>)[] = []
try {
  const report = await killStore(test, {
    seed,
    kills,
    rows: argument('rows', 6000),
    days: argument('days', 5),
    keep: 50,
    onEnd: (work) => ends.unshift(work),
    onRound: (round, note) => {
      if (round % 25 === 24) console.error(`${round + 1} kills, ${note}`)
    },
  })
  console.log(JSON.stringify({ campaign: 'kill-store', seed, kills, ...report }))
  if (report.wrong.length > 0) process.exitCode = 1
} finally {
  for (const end of ends) await end()
  await test.stop()
}
