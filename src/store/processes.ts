import { readdir, readFile } from 'node:fs/promises'
import { SidecastError } from '../errors.ts'
import { systemClock } from '../lib/clock.ts'

/**
 * Which process is which, from /proc (proc_pid_stat(5)). A pid alone proves nothing, since pids are used again; with
 * the start time (field 22, clock ticks since boot) it names one process for ever. Where there is no /proc nothing is
 * found, and a child ends by its closed channel alone.
 */
export interface ProcessName {
  readonly pid: number
  readonly startTicks: string
}

/** The arguments by which a store's process tells whose it is; the directory is a real path. */
export function childArguments(directory: string, owner: ProcessName): readonly string[] {
  return [`${DIRECTORY_ARGUMENT}${directory}`, `${OWNER_ARGUMENT}${owner.pid}.${owner.startTicks}`]
}

const DIRECTORY_ARGUMENT = '--sidecast-store='
const OWNER_ARGUMENT = '--owner='
const LEFT_OVER_END_MS = 10_000

/** Undefined when there is no such process, or only what is left of one until its parent asks. */
export async function processName(pid: number): Promise<ProcessName | undefined> {
  const fields = await statOf(pid)
  if (fields === undefined || fields[0] === 'Z' || fields[0] === 'X') return undefined
  // Fields are counted from 3 here: what stands before is the pid and a name that may hold anything.
  return { pid, startTicks: fields[19]! }
}

/** Stopped by a signal or a debugger: not hung, somebody means it. */
export async function isStopped(pid: number): Promise<boolean> {
  const state = (await statOf(pid))?.[0]
  return state === 'T' || state === 't'
}

/**
 * Ends every store process of this directory whose owner is gone. Throws SC4105 when an owner is alive, which may be
 * ourselves. Nothing else is touched: a process is ours only by its own command line.
 */
export async function endLeftOvers(directory: string): Promise<readonly number[]> {
  const found = await storesOf(directory)
  for (const { pid, owner } of found) {
    if (await isAlive(owner)) {
      throw new SidecastError('SC4105', `${directory} is in use by process ${owner.pid} (its store is ${pid})`, {
        help: 'stop that process, or give this one another directory with --data',
      })
    }
  }
  for (const { name } of found) await end(name)
  return found.map(({ pid }) => pid)
}

interface FoundStore {
  readonly pid: number
  readonly name: ProcessName
  readonly owner: ProcessName
}

async function storesOf(directory: string): Promise<readonly FoundStore[]> {
  const pids = (await readdir('/proc').catch(() => [])).filter((entry) => /^\d+$/.test(entry)).map(Number)
  const found = await Promise.all(pids.map((pid) => storeAt(pid, directory)))
  return found.filter((store) => store !== undefined)
}

async function storeAt(pid: number, directory: string): Promise<FoundStore | undefined> {
  const name = await processName(pid)
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  const parts = commandLine.split('\0')
  if (name === undefined || !parts.includes(`${DIRECTORY_ARGUMENT}${directory}`)) return undefined
  const owner = parts.find((part) => part.startsWith(OWNER_ARGUMENT))?.slice(OWNER_ARGUMENT.length)
  const match = /^(\d+)\.(\d+)$/.exec(owner ?? '')
  return match === null ? undefined : { pid, name, owner: { pid: Number(match[1]), startTicks: match[2]! } }
}

async function end(name: ProcessName): Promise<void> {
  const until = performance.now() + LEFT_OVER_END_MS
  while (performance.now() < until && (await isAlive(name))) {
    try {
      process.kill(name.pid, 'SIGKILL')
    } catch {
      return
    }
    await systemClock.sleep(20)
  }
}

async function isAlive(name: ProcessName): Promise<boolean> {
  return (await processName(name.pid))?.startTicks === name.startTicks
}

/** The fields of /proc/PID/stat from the third, which is the state, on. */
async function statOf(pid: number): Promise<readonly string[] | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')
}
