import { readFileSync } from 'node:fs'

/** CPU and memory of a process from the operating system; zeros when it is gone. Linux. */
export interface ProcessFigures {
  readonly cpuSeconds: number
  readonly rssMb: number
  readonly rssMostMb: number
}

/** `sysconf(_SC_CLK_TCK)` on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100

export function processFigures(pid: number): ProcessFigures {
  try {
    // The name in brackets may hold anything: fields are counted from the last bracket. utime and stime are 14 and 15.
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const status = readFileSync(`/proc/${pid}/status`, 'latin1')
    const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0)
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
      rssMb: kilobytes('VmRSS') / 1000,
      rssMostMb: kilobytes('VmHWM') / 1000,
    }
  } catch {
    return { cpuSeconds: 0, rssMb: 0, rssMostMb: 0 }
  }
}

/** Processes that this one started. */
export function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(/\s+/).filter(Boolean).map(Number)
}
