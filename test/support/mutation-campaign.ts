import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

/**
 * Runs a decoder over damaged messages, a million by default, in a worker: no crash, no hang, nothing wrong, memory flat.
 * Prints one JSON line; exits 1 and names the seed and the message when something is wrong. A message that takes more than
 * ten seconds is a hang.
 */
export interface MutationCampaign {
  readonly name: string
  /** The file of the campaign (`import.meta.url`): it is run once more, in the worker. */
  readonly url: string
  /** Makes what runs `count` messages of a seed. Called once, in the worker. */
  readonly createRun: () => (options: MutationRound) => MutationRoundReport
}

export interface MutationRound {
  readonly seed: number
  readonly count: number
  readonly onMessage: (k: number) => void
}

export interface MutationRoundReport {
  readonly rejected: number
  readonly compared: number
  readonly failure: string | null
}

export async function runMutationCampaign(campaign: MutationCampaign): Promise<void> {
  if (isMainThread) await main(campaign)
  else work(campaign.createRun(), workerData as WorkerInput)
}

interface WorkerInput {
  readonly seed: number
  readonly count: number
  readonly shared: SharedArrayBuffer
}

const HANG_MS = 10_000
/** Messages of one round; each round has a seed of its own, and memory is looked at between rounds. */
const ROUND = 20_000
/**
 * What is alive after a full collection differs with the samples of a round. Its peak in the last third of the rounds
 * may be higher than in the middle third by this much.
 */
const GROWTH_BYTES_MAX = 8 << 20
/** With fewer rounds than this memory says nothing. */
const ROUNDS_LEAST = 10

interface Progress {
  readonly message: number
  readonly aliveBytes?: number
  readonly rssBytes?: number
  readonly rejected?: number
  readonly compared?: number
  readonly failure?: string | null
}

function argument(name: string, fallback: number): number {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? fallback : Number(process.argv[at + 1])
}

function work(runMutations: ReturnType<MutationCampaign['createRun']>, { seed, count, shared }: WorkerInput): void {
  const current = new Int32Array(shared)
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  for (let done = 0; done < count; done += ROUND) {
    const report = runMutations({
      seed: seed + done / ROUND,
      count: Math.min(ROUND, count - done),
      onMessage: (k) => Atomics.store(current, 0, done + k),
    })
    collect()
    const { heapUsed, arrayBuffers, rss } = process.memoryUsage()
    const progress: Progress = { message: done, aliveBytes: heapUsed + arrayBuffers, rssBytes: rss, ...report }
    parentPort!.postMessage(progress)
    if (report.failure !== null) return
  }
}

async function main({ name, url }: MutationCampaign): Promise<void> {
  const seed = argument('seed', 1)
  const count = argument('count', 1_000_000)
  const shared = new SharedArrayBuffer(4)
  const current = new Int32Array(shared)
  const worker = new Worker(new URL(url), { workerData: { seed, count, shared } })
  const memory: number[] = []
  let rssBytes = 0
  let rejected = 0
  let compared = 0
  let failure: string | null = null
  let last = -1
  let lastAt = performance.now()
  const watchdog = setInterval(() => {
    const now = Atomics.load(current, 0)
    if (now !== last) {
      last = now
      lastAt = performance.now()
    } else if (performance.now() - lastAt > HANG_MS) {
      failure = `hang at message ${now} (seed ${seed + Math.floor(now / ROUND)}, message ${now % ROUND})`
      void worker.terminate()
    }
  }, 500)
  worker.on('message', (progress: Progress) => {
    memory.push(progress.aliveBytes!)
    rssBytes = progress.rssBytes!
    rejected += progress.rejected!
    compared += progress.compared!
    failure ??= progress.failure!
  })
  const began = performance.now()
  await new Promise<void>((resolve) => {
    worker.on('error', (error) => {
      failure ??= error instanceof Error ? String(error.stack) : String(error)
    })
    worker.on('exit', () => resolve())
  })
  clearInterval(watchdog)
  const third = Math.floor(memory.length / 3)
  const peak = (from: number, to: number): number => Math.max(0, ...memory.slice(from, to))
  const growthBytes = Math.max(0, peak(2 * third, memory.length) - peak(third, 2 * third))
  if (failure === null && memory.length >= ROUNDS_LEAST && growthBytes > GROWTH_BYTES_MAX)
    failure = `memory grew by ${growthBytes} bytes`
  console.log(
    JSON.stringify({
      campaign: name,
      seed,
      count,
      rejected,
      compared,
      seconds: Math.round((performance.now() - began) / 1000),
      aliveMb: memory.filter((_, k) => k % Math.ceil(memory.length / 10) === 0).map(megabytes),
      growthMb: megabytes(growthBytes),
      rssMb: megabytes(rssBytes),
      failure,
    }),
  )
  process.exitCode = failure === null ? 0 : 1
}

const megabytes = (bytes: number): number => Math.round(bytes / 1e5) / 10
