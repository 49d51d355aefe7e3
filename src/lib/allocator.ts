/**
 * How glibc's malloc should hold memory, which it only reads before a process runs: the process replaces itself by the
 * same program with these in its environment, once, under its own pid.
 *
 * Buffers of columns and of sockets are outside V8's heap. By default malloc keeps what is freed of them, in up to eight
 * arenas for each core, and raises by itself the size from which a buffer is a mapping that goes back to the system.
 * With a fixed size and one arena the process is as large as what it holds.
 * https://man7.org/linux/man-pages/man3/mallopt.3.html
 */
export const ALLOCATOR_ENV = {
  MALLOC_ARENA_MAX: '1',
  /** Bytes from which a buffer is a mapping of its own. */
  MALLOC_MMAP_THRESHOLD_: '131072',
  /** Free bytes at the end of the heap that are kept. */
  MALLOC_TRIM_THRESHOLD_: '131072',
} as const

/** Says that the process has been replaced, whatever became of the other variables on the way. */
export const REPLACED = 'SIDECAST_REPLACED'

/** The first Node whose `execve` throws when it fails; before, that ended the process. */
const EXECVE_THROWS = [26, 3] as const

/** What `replacement` looks at: `process`, as it is. */
export interface ProcessFacts {
  readonly platform: string
  /** `major.minor.patch` of Node. */
  readonly version: string
  readonly execPath: string
  readonly execArgv: readonly string[]
  readonly argv0: string
  /** Node's path, our script, our arguments. */
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  /** Whether `process.execve` is there and allowed. */
  readonly canExec: boolean
  /** Whether a parent talks to this process by IPC: the next one would not have the channel. */
  readonly hasChannel: boolean
}

export interface Replacement {
  readonly file: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** Commands that run for long. */
const COMMANDS: readonly (string | undefined)[] = ['run', 'demo']

/** What to replace the process with; null: it is to go on as it is. */
export function replacement(facts: ProcessFacts): Replacement | null {
  const { platform, version, execPath, execArgv, argv0, argv, env, canExec, hasChannel } = facts
  if (platform !== 'linux' || !canExec || hasChannel || !isAtLeast(version, EXECVE_THROWS)) return null
  if (!COMMANDS.includes(argv[2]) || env[REPLACED] !== undefined || hasChosen(env)) return null
  // A debugger that is attached by now would be left behind.
  if (/--inspect/.test([...execArgv, env.NODE_OPTIONS].join(' '))) return null
  return {
    file: execPath,
    args: [argv0, ...execArgv, ...argv.slice(1)],
    env: { ...given(env), ...ALLOCATOR_ENV, [REPLACED]: '1' },
  }
}

/** Who set anything about the allocator, or brought another one, has chosen. */
function hasChosen(env: ProcessFacts['env']): boolean {
  return (
    Object.keys(env).some((name) => name.startsWith('MALLOC_')) ||
    env.GLIBC_TUNABLES?.includes('glibc.malloc.') === true ||
    /malloc/i.test(env.LD_PRELOAD ?? '')
  )
}

function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split('.').map(Number)
  return ownMajor > major || (ownMajor === major && ownMinor >= minor)
}

function given(env: ProcessFacts['env']): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined))
}
