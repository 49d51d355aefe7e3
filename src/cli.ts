import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { startApp } from './app.ts'
import { type ConfigInput, formatFindings, loadConfig, requireConfig, withoutSecrets } from './config.ts'
import { SidecastError } from './errors.ts'
import { createForm, isFormProblem } from './ingest/lines/forms.ts'
import { nearest } from './lib/nearest.ts'
import { hashToken, makeToken, SCOPES } from './lib/tokens.ts'
import { requestReplay } from './pipeline/journal-replay.ts'
import { formatJournalList, formatJournalVerify, formatReplay } from './pipeline/journal-report.ts'
import { isRole, ROLES, type Role, type Running, startRole } from './roles.ts'
import { createLog, type Log } from './telemetry/log.ts'
import { VERSION } from './version.ts'

/** What a command may touch of the process. */
export interface World {
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  stdout(text: string): unknown
  stderr(text: string): unknown
  onSignal(signal: 'SIGTERM' | 'SIGINT' | 'SIGHUP', handler: () => void): unknown
  exitNow(code: number): void
  /** All of standard input, as text. */
  readStdin(): Promise<string>
}

/** A given token cannot be guessed by trying if it is random; ours have 52 characters. */
const TOKEN_CHARS_MIN = 32

type Command = (args: readonly string[], world: World) => Promise<number>

const COMMANDS: Readonly<Record<string, { readonly run: Command; readonly usage: string }>> = {
  run: {
    run: runCommand,
    usage: 'run [--config FILE] [--data DIR] [--role all|edge|writer|query] [--set a.b.c=value]…',
  },
  'check-config': { run: checkConfigCommand, usage: 'check-config FILE [--effective]' },
  demo: { run: demoCommand, usage: 'demo [--data DIR] [--set a.b.c=value]… [--seconds N]' },
  backfill: {
    run: backfillCommand,
    usage:
      'backfill [--preset NAME|--format FORMAT] [--node ID] [--service NAME] [--url URL] [--config FILE] [--data DIR] [--json] FILE…',
  },
  journal: { run: journalCommand, usage: 'journal ls|verify|replay [--data DIR] [--sink NAME] [SEGMENT…]' },
  token: { run: tokenCommand, usage: 'token [NAME] [--scopes read,ingest,admin] [--stdin]' },
  slo: { run: sloCommand, usage: 'slo check|rules [--config FILE] [--data DIR] [FILE…]' },
  version: { run: versionCommand, usage: 'version' },
}

/** Runs one command and returns the exit code: 0 done, 1 failed, 2 asked wrongly. Never throws. */
export async function runCli(world: World): Promise<number> {
  const [name, ...rest] = world.args
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    world.stderr(usage())
    return name === undefined ? 2 : 0
  }
  if (name === '--version') return versionCommand(rest, world)
  const command = COMMANDS[name]
  if (command === undefined) {
    const guess = nearest(name, Object.keys(COMMANDS))
    world.stderr(
      `error SC1207  unknown command \`${name}\`\n  help: ${guess === undefined ? 'see sidecast --help' : `did you mean \`${guess}\`?`}\n`,
    )
    return 2
  }
  try {
    return await command.run(rest, world)
  } catch (error) {
    return report(error, command.usage, world)
  }
}

function report(error: unknown, usage: string, world: World): number {
  if (error instanceof SidecastError) {
    world.stderr(`error ${error.code}  ${error.message}\n${error.help === undefined ? '' : `  help: ${error.help}\n`}`)
    return error.code.startsWith('SC1') || error.code === 'SC2103' ? 2 : 1
  }
  if (error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS')) {
    world.stderr(`error SC1207  ${error.message.split('\n')[0]}\n  help: sidecast ${usage}\n`)
    return 2
  }
  world.stderr(`error  ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  return 1
}

const usage = (): string =>
  `Sidecast ${VERSION}: sees every request Envoy made, loses none, says where the time went, and how sure it is.\n\n` +
  `${Object.values(COMMANDS)
    .map((command) => `  sidecast ${command.usage}`)
    .join('\n')}\n`

const RUN_OPTIONS = {
  config: { type: 'string' },
  data: { type: 'string' },
  role: { type: 'string' },
  set: { type: 'string', multiple: true },
} as const

interface RunOptions {
  readonly config?: string | undefined
  readonly data?: string | undefined
  readonly role?: string | undefined
  readonly set?: string[] | undefined
}

function configInput(values: RunOptions, world: World): ConfigInput {
  const set = [...(values.set ?? [])]
  if (values.data !== undefined) set.push(`data=${JSON.stringify(values.data)}`)
  return { ...(values.config === undefined ? {} : { file: values.config }), set, env: world.env }
}

function roleOf({ role = 'all' }: RunOptions): Role {
  if (isRole(role)) return role
  throw new SidecastError('SC1207', `there is no role ${role}`, { help: `use one of ${ROLES.join(', ')}` })
}

async function runCommand(args: readonly string[], world: World): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: RUN_OPTIONS, strict: true })
  const role = roleOf(values)
  const { config, findings } = requireConfig(configInput(values, world))
  if (findings.length > 0) world.stderr(formatFindings(findings))
  const log = createLog((line) => world.stderr(line))
  const app = await startRole({ role, config, log, load: () => loadConfig(configInput(values, world)) })
  world.onSignal('SIGHUP', () => void app.reload.run('signal'))
  // Before the ready line: who reads it may send a signal at once.
  const stopped = untilStopped(world, log, app)
  world.stdout(`${JSON.stringify({ ready: true, pid: process.pid, version: VERSION, ...app.addresses })}\n`)
  await stopped
  return 0
}

/** Waits for a signal or for the app to fail, drains, and returns. A second signal exits at once. */
async function untilStopped(world: World, log: Log, app: Running): Promise<void> {
  const signal = await new Promise<string>((done) => {
    let stopping = false
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      world.onSignal(name, () => {
        if (stopping) world.exitNow(1)
        stopping = true
        done(name)
      })
    }
  })
  log.info({ signal }, 'draining')
  await app.stop()
  log.info({}, 'stopped')
}

async function checkConfigCommand(args: readonly string[], world: World): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { ...RUN_OPTIONS, effective: { type: 'boolean' } },
    allowPositionals: true,
    strict: true,
  })
  const file = positionals[0] ?? values.config
  if (file === undefined || positionals.length > 1) {
    throw new SidecastError('SC1207', 'check-config takes one file', { help: 'sidecast check-config FILE' })
  }
  const { config, findings } = loadConfig(configInput({ ...values, config: file }, world))
  const failed = findings.some((finding) => finding.severity === 'error')
  if (findings.length > 0) world.stderr(formatFindings(findings))
  if (!failed) {
    const { loadSlos } = await import('./query/slo/load.ts')
    await loadSlos({ files: config.slo.files, dir: resolve(config.data, 'slos') })
    if (values.effective === true) {
      world.stdout(`${JSON.stringify(withoutSecrets(config), null, 2)}\n`)
    }
    world.stderr(`${file}: ok\n`)
  }
  return failed ? 2 : 0
}

async function demoCommand(args: readonly string[], world: World): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: { ...RUN_OPTIONS, seconds: { type: 'string' } },
    strict: true,
  })
  const seconds = values.seconds === undefined ? Number.POSITIVE_INFINITY : Number(values.seconds)
  if (!(seconds > 0)) {
    throw new SidecastError('SC1207', `--seconds ${values.seconds} is not a positive number`, {
      help: 'for example 60',
    })
  }
  const log = createLog((line) => world.stderr(line))
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    world.onSignal(name, () => (stop.signal.aborted ? world.exitNow(1) : stop.abort()))
  }
  const { runDemo } = await import('./demo/demo.ts')
  return runDemo({
    start: (overrides) => {
      const input = configInput(values, world)
      const { config } = requireConfig({ ...input, set: [...overrides, ...(input.set ?? [])] })
      return startApp({ config, log })
    },
    dataGiven: values.data,
    seconds,
    signal: stop.signal,
    print: (line) => world.stderr(`${line}\n`),
    env: world.env,
    log,
  })
}

async function backfillCommand(args: readonly string[], world: World): Promise<number> {
  const text = { type: 'string' } as const
  const { values, positionals } = parseArgs({
    args: [...args],
    options: {
      ...RUN_OPTIONS,
      url: text,
      preset: text,
      format: text,
      node: text,
      service: text,
      json: { type: 'boolean' },
    },
    allowPositionals: true,
    strict: true,
  })
  const { url, preset, format, node, service } = values
  const { requireFiles, runBackfill } = await import('./backfill/command.ts')
  requireFiles(positionals)
  const form = createForm({ preset, format })
  if (isFormProblem(form)) {
    throw new SidecastError(
      'SC1207',
      `--${form.option}: ${form.problem}`,
      form.help === undefined ? {} : { help: form.help },
    )
  }
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    world.onSignal(name, () => (stop.signal.aborted ? world.exitNow(1) : stop.abort()))
  }
  return runBackfill({
    files: positionals,
    url,
    preset,
    format,
    node,
    service,
    configure: (overrides) => {
      const input = configInput(values, world)
      return requireConfig({ ...input, set: [...(input.set ?? []), ...overrides] }).config
    },
    columns: values.json === true || !process.stderr.isTTY ? null : () => process.stderr.columns,
    signal: stop.signal,
    stdout: (line) => world.stdout(line),
    stderr: (line) => world.stderr(line),
  })
}

async function journalCommand(args: readonly string[], world: World): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { data: { type: 'string' }, json: { type: 'boolean' }, sink: { type: 'string' } },
    allowPositionals: true,
    strict: true,
  })
  const dir = resolve(values.data ?? './sidecast-data', 'journal')
  if (positionals[0] === 'ls') {
    world.stdout(await formatJournalList(dir, { json: values.json === true }))
    return 0
  }
  if (positionals[0] === 'verify') {
    const { text, sound } = await formatJournalVerify(dir, { json: values.json === true })
    world.stdout(text)
    return sound ? 0 : 1
  }
  if (positionals[0] === 'replay') {
    const sink = values.sink === undefined ? {} : { sink: values.sink }
    const { text, done } = formatReplay(requestReplay(dir, { ...sink, ids: positionals.slice(1) }))
    world.stdout(text)
    return done ? 0 : 1
  }
  throw new SidecastError('SC1207', 'journal takes ls, verify or replay', {
    help: 'sidecast journal ls|verify|replay [--data DIR]',
  })
}

/** Makes a token, or takes the one that comes on standard input, and prints what the configuration needs of it. */
async function tokenCommand(args: readonly string[], world: World): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { scopes: { type: 'string', default: 'read' }, stdin: { type: 'boolean', default: false } },
    allowPositionals: true,
    strict: true,
  })
  const scopes = values.scopes.split(',')
  const wrong = scopes.find((scope) => !(SCOPES as readonly string[]).includes(scope))
  if (wrong !== undefined) {
    throw new SidecastError('SC1207', `--scopes: \`${wrong}\` is not a scope`, { help: `use ${SCOPES.join(', ')}` })
  }
  const given = values.stdin ? (await world.readStdin()).trim() : null
  if (given !== null && (given.length < TOKEN_CHARS_MIN || /\s/.test(given))) {
    throw new SidecastError('SC1207', `a token has at least ${TOKEN_CHARS_MIN} characters and no white space`, {
      help: 'leave out --stdin: one is made of 256 random bits',
    })
  }
  const token = given ?? makeToken()
  const name = JSON.stringify(positionals[0] ?? 'unnamed')
  // The token alone goes to standard output, so that `sidecast token > file` is a file to send with.
  if (given === null) world.stdout(`${token}\n`)
  world.stderr(
    `auth:\n  tokens:\n    - { name: ${name}, hash: "${hashToken(token)}", scopes: [${scopes.join(', ')}] }\n`,
  )
  return 0
}

async function sloCommand(args: readonly string[], world: World): Promise<number> {
  const { config: file, data, set } = RUN_OPTIONS
  const { values, positionals } = parseArgs({
    args: [...args],
    options: { config: file, data, set },
    allowPositionals: true,
    strict: true,
  })
  const { runSlo } = await import('./query/slo/command.ts')
  const configured = () => {
    const { config } = requireConfig(configInput(values, world))
    return { files: config.slo.files, dir: resolve(config.data, 'slos') }
  }
  return runSlo(positionals, {
    stdout: (text) => world.stdout(text),
    stderr: (text) => world.stderr(text),
    configured,
  })
}

async function versionCommand(_args: readonly string[], world: World): Promise<number> {
  world.stdout(`sidecast ${VERSION} (node ${process.versions.node})\n`)
  return 0
}
