/** The part of the API that the page reads, and the one function that calls it. Durations are in ms. */
export interface Envelope {
  readonly as_of: string
  /** Complete until here; null before the first row. */
  readonly through: string | null
  readonly precision_ns: number | null
  readonly coverage: Coverage
}

/** How much of the traffic an answer has seen; null where no stats arrive. */
export interface Coverage {
  readonly served: number | null
  readonly stored: number | null
  readonly lost: number | null
  readonly filtered: number | null
  readonly known: boolean
}

/** Figures made from rows or rollups: the window they are really of, whose reports counted, and how. */
export interface Measured extends Envelope {
  readonly from: string
  readonly to: string
  readonly view: string
  readonly source: string
  readonly method: string
}

export type Labels = Readonly<Record<string, string>>

/** A quantile in ms: the true one is within [low, high]. */
export interface Quantile {
  readonly value: number
  readonly low: number
  readonly high: number
}

export type Quantiles = Readonly<Record<string, Quantile>>

/** Points without requests are left out. */
export interface LatencyPoint {
  readonly time: string
  readonly n: number
  readonly min: number
  readonly max: number
  readonly mean: number
  readonly quantiles: Quantiles
}

export interface LatencyAnswer extends Measured {
  readonly series: readonly { readonly labels: Labels; readonly points: readonly LatencyPoint[] }[]
}

export const PHASES = [
  'client_send',
  'proxy_request',
  'upstream_send',
  'upstream_wait',
  'proxy_response',
  'upstream_receive',
  'client_receive',
] as const
export type Phase = (typeof PHASES)[number]

/** `mean` is null when n is 0, `share` when the whole is 0; the seven shares add up to 1. */
export interface PhaseFigures {
  readonly mean: number | null
  readonly share: number | null
  readonly quantiles: Quantiles
}

/** `n` requests whose phases are known; all figures are theirs. */
export type PhaseSeries = Readonly<Record<Phase | 'total', PhaseFigures>> & {
  readonly labels: Labels
  readonly n: number
  readonly without_phases: number
}

export interface PhasesAnswer extends Measured {
  readonly series: readonly PhaseSeries[]
}

export interface ServiceRow {
  readonly labels: Labels
  readonly n: number
  /** Per second, over the whole window. */
  readonly rate: number
  readonly error_ratio: number
  readonly aborted_ratio: number
  readonly p50: Quantile
  readonly p90: Quantile
  readonly p99: Quantile
}

export interface ServicesAnswer extends Measured {
  readonly rows_total: number
  readonly services: readonly ServiceRow[]
}

/** The columns of the schema that the page asks for. */
export const REQUEST_COLUMNS = [
  'end_time',
  'reporter',
  'source_workload',
  'destination_service',
  'kind',
  'method',
  'path',
  'response_code',
  'grpc_status',
  'response_flags',
  'response_code_details',
  'class',
  'outcome',
  'attempts',
  'duration_ns',
  'stream_id',
  ...PHASES.map((phase) => `phase_${phase}_ns` as const),
] as const

/** Columns that were asked for; the API may leave any out. */
export interface RequestRow extends Readonly<Partial<Record<`phase_${Phase}_ns`, number | null>>> {
  readonly end_time?: string
  readonly reporter?: string
  readonly source_workload?: string
  readonly destination_service?: string
  readonly kind?: string
  readonly method?: string
  readonly path?: string
  readonly response_code?: number | null
  readonly grpc_status?: number | null
  readonly response_flags?: string
  readonly response_code_details?: string
  readonly class?: string
  readonly outcome?: string
  readonly attempts?: number
  readonly duration_ns?: number
  readonly stream_id?: string
}

export interface RequestsAnswer extends Envelope {
  readonly rows: readonly RequestRow[]
  readonly next_cursor: string | null
}

export interface StatusAnswer extends Envelope {
  readonly version: string
  readonly config: {
    readonly last_reload: { readonly taken: boolean; readonly reasons: readonly string[] } | null
  }
  readonly listeners: readonly {
    readonly name: string
    readonly address: string
    readonly state: string
    readonly error: string | null
  }[]
  readonly receivers: readonly {
    readonly kind: 'requests' | 'stats'
    readonly name: string
    readonly last_row: string | null
    readonly rows: number
    readonly rejected: number
    readonly last_error: string | null
  }[]
  readonly nodes: { readonly connected: number; readonly seen: number }
  readonly store: {
    readonly ready: boolean
    readonly ping_ms: number | null
    readonly waiting_rows: number
    readonly error: string | null
  }
  readonly disk: {
    readonly store_bytes: number | null
    readonly free_bytes: number | null
    readonly full: boolean
    readonly days_left: number | null
  }
  readonly first_run: readonly FirstRunStep[]
}

export interface FirstRunStep {
  readonly step: string
  readonly title: string
  readonly done: boolean
  readonly at: string | null
  /** What was seen last and what to do, while it is not done. */
  readonly seen: string | null
  readonly help: string | null
}

/** A refusal, as RFC 9457 says it. */
export interface Problem {
  readonly title: string
  readonly detail?: string
  readonly code?: string
  readonly parameter?: string
  readonly status: number
  readonly help?: string
}

export class ApiError extends Error {
  readonly problem: Problem

  constructor(problem: Problem) {
    super(problem.title)
    this.name = 'ApiError'
    this.problem = problem
  }
}

export type Parameters = Readonly<Record<string, string | readonly string[] | undefined>>

/** Address of a call, as it can be pasted after `curl`. */
export function apiPath(resource: string, parameters: Parameters = {}): string {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of typeof value === 'string' ? [value] : (value ?? [])) query.append(name, each)
  }
  const text = query.toString()
  return `/api/v1/${resource}${text === '' ? '' : `?${text}`}`
}

/** Calls the API. Throws `ApiError` for a refusal, and for a server that cannot be reached. */
export async function call<Answer>(resource: string, parameters: Parameters, signal: AbortSignal): Promise<Answer> {
  let response: Response
  try {
    response = await fetch(apiPath(resource, parameters), { signal, headers: { accept: 'application/json' } })
  } catch (error) {
    if (signal.aborted) throw error
    throw new ApiError({ status: 0, title: 'Sidecast does not answer', detail: 'Is the process still running?' })
  }
  const body: unknown = await response.json().catch(() => null)
  if (response.ok && body !== null) return body as Answer
  throw new ApiError({
    title: `The server answered ${response.status}`,
    ...(body as Partial<Problem> | null),
    status: response.status,
  })
}
