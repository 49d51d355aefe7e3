import type { Log } from '../../telemetry/log.ts'
import { Problem } from '../problem.ts'
import { type SloFinding, shownValue } from './field.ts'
import { judgeSlos, type LoadedSlos, readFiles, type SloPlaces } from './load.ts'
import { readOpenSlo, type SloDocument, type SloFile } from './openslo.ts'
import type { Slo } from './slo.ts'
import { readStored, store, storedPath, tidyStored, unstore } from './stored.ts'

/**
 * The objectives that count now: those of `slo.files`, and those that were put here over HTTP. Both are read as one set, so
 * one may name an SLI of the other, and no two have one name.
 *
 *   slo.files ── start, reload ─┐
 *                               ├─► read together ─► slos()
 *   PUT ─► on disk ─────────────┘
 */
export interface SloBook {
  slos(): readonly Slo[]
  /** Reads files again. Throws SC1208 when something is wrong in them; else what it returns takes them over. */
  prepare(files: readonly string[]): Promise<() => void>
  /** Puts the document of this name in place, durably. Throws a `Problem`, and then nothing has changed. */
  put(name: string, text: string): Promise<SloPut>
  /** Takes the document of this name away, durably. Throws a `Problem`, and then nothing has changed. */
  remove(name: string): Promise<void>
}

export interface SloPut {
  /** false: there was one of that name. */
  readonly created: boolean
  /** What the document says now, in as many as it has targets. */
  readonly slos: readonly Slo[]
  readonly warnings: readonly SloFinding[]
}

/** Documents over HTTP; each has at most one body of a request. */
export const STORED_MAX = 500
/** Of one answer. */
const FINDINGS_MAX = 20

export interface SloBookOptions extends SloPlaces {
  readonly log: Log
  readonly storedMax?: number
}

export async function openSlos(options: SloBookOptions): Promise<SloBook> {
  const { dir, log, storedMax = STORED_MAX } = options
  if (dir !== undefined) await tidyStored(dir)
  let files = await readFiles(options.files)
  let stored: readonly SloFile[] = dir === undefined ? [] : await readStored(dir)
  let loaded = judgeSlos([...files, ...stored])
  tell(loaded, log)

  /** One change after the other, each on what the one before left. */
  let changing: Promise<unknown> = Promise.resolve()
  function change<Result>(work: (dir: string) => Promise<Result>): Promise<Result> {
    if (dir === undefined) return Promise.reject(new Problem('not_found', 'objectives are not kept here'))
    const done = changing.then(() => work(dir))
    changing = done.catch(() => {})
    return done
  }

  return {
    slos: () => loaded.slos,
    async prepare(paths) {
      const next = await readFiles(paths)
      judgeSlos([...next, ...stored])
      return () => {
        // What was put here since counts as well. It fits, unless that very name was taken by a file in this moment.
        const { slos, findings } = readOpenSlo([...next, ...stored])
        const wrong = findings.find(({ severity }) => severity === 'error')
        if (wrong !== undefined) {
          log.error({ place: wrong.place, help: wrong.help }, `Objectives are those of before: ${wrong.message}`)
          return
        }
        files = next
        loaded = { slos, warnings: findings }
        tell(loaded, log)
      }
    },
    put: (name, text) =>
      change(async (dir): Promise<SloPut> => {
        refuseOfFile(name, loaded.slos)
        const path = storedPath(dir, name)
        const known = stored.find((file) => file.name === path)
        if (known === undefined && stored.length >= storedMax) {
          throw new Problem('too_many_objectives', `${stored.length} objectives were put here, ${storedMax} are kept`, {
            help: 'delete one, or write them to a file of slo.files',
          })
        }
        const file: SloFile = { name: path, text, origin: 'api' }
        const others = stored.filter((other) => other !== known)
        const next = [...others, file].sort((a, b) => (a.name < b.name ? -1 : 1))
        const { slos, findings, documents } = readOpenSlo([...files, ...next])
        refuseWrong(findings, path)
        requireOne(
          name,
          documents.filter((document) => document.file === path),
        )
        if (known?.text !== text) await onDisk(() => store(dir, name, text))
        stored = next
        loaded = { slos, warnings: findings }
        return {
          created: known === undefined,
          slos: slos.filter((slo) => slo.document === name),
          warnings: findings.filter((finding) => finding.file === path),
        }
      }),
    remove: (name) =>
      change(async (dir) => {
        const path = storedPath(dir, name)
        const known = stored.find((file) => file.name === path)
        if (known === undefined) {
          refuseOfFile(name, loaded.slos)
          const one = loaded.slos.find((slo) => slo.name === name)
          throw new Problem('not_found', `there is no objective ${shownValue(name)}`, {
            help: one === undefined ? 'GET /api/v1/slos lists them' : `it is one of ${one.document}: delete that`,
          })
        }
        const next = stored.filter((file) => file !== known)
        await onDisk(() => unstore(dir, name))
        const { slos, findings } = readOpenSlo([...files, ...next])
        stored = next
        loaded = { slos, warnings: findings }
      }),
  }
}

function tell({ warnings }: LoadedSlos, log: Log): void {
  for (const { place, message, help } of warnings) log.warn({ place, help }, `An objective: ${message}`)
}

/** What a file says is changed in the file: who reads it there must be able to rely on it. */
function refuseOfFile(name: string, slos: readonly Slo[]): void {
  const owner = slos.find((slo) => slo.origin === 'file' && (slo.document === name || slo.name === name))
  if (owner === undefined) return
  throw new Problem('objective_of_file', `${shownValue(name)} is in ${owner.place}`, {
    help: 'change it there, and reload',
    figures: { file: owner.place },
  })
}

/** One document, of kind SLO, of the name that it is put under. */
function requireOne(name: string, documents: readonly SloDocument[]): void {
  const [document] = documents
  const [wrong, field] =
    documents.length !== 1
      ? [`the body has ${documents.length} documents`, '']
      : document!.kind !== 'SLO'
        ? [`the body is of kind ${document!.kind}`, 'kind']
        : document!.name !== name
          ? [`the body is of ${shownValue(document!.name)}, not ${shownValue(name)}`, 'metadata.name']
          : [null, '']
  if (wrong === null) return
  throw new Problem('bad_objective', wrong, {
    help: `write one document of kind SLO, with metadata.name ${name}`,
    figures: { line: document?.line ?? 1, field },
  })
}

/** Line, column and field of the first one in the body; all of them, as far as there is room, in `findings`. */
function refuseWrong(findings: readonly SloFinding[], path: string): void {
  const errors = findings.filter(({ severity }) => severity === 'error')
  const first = errors.find(({ file }) => file === path) ?? errors[0]
  if (first === undefined) return
  const ours = first.file === path
  throw new Problem('bad_objective', `${ours ? `line ${first.line}: ` : `${first.place}  `}${short(first.message)}`, {
    help: first.help,
    figures: {
      ...(ours ? { line: first.line, column: first.column, field: short(first.field) } : {}),
      findings: errors.slice(0, FINDINGS_MAX).map((one) => findingOf(one, path)),
    },
  })
}

/** A finding as answers have it: places in a body have no file. */
export function findingOf({ file, line, column, field, message, help }: SloFinding, path: string) {
  return {
    ...(file === path ? {} : { file }),
    line,
    column,
    field: short(field),
    message: short(message),
    help: short(help),
  }
}

function short(text: string): string {
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}

async function onDisk(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new Problem('not_written', `the data directory cannot be written: ${code ?? 'see the log'}`, {
      help: 'free some room, and send it again',
      retryAfter: 10,
      cause,
    })
  }
}
