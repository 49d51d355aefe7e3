/** Expositions of `/metrics/mesh`; prometheus.io/docs/instrumenting/content_negotiation. */
export type Exposition = 'text' | 'openmetrics' | 'protobuf'

export interface Negotiated {
  readonly exposition: Exposition
  readonly contentType: string
}

const TEXT: Negotiated = { exposition: 'text', contentType: 'text/plain; version=0.0.4; charset=utf-8' }
const PROTOBUF: Negotiated = {
  exposition: 'protobuf',
  contentType: 'application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited',
}

/**
 * The exposition that the `Accept` header prefers; text 0.0.4 when it asks for nothing that we have. Names are plain, so
 * every escaping scheme gives the same bytes: the answer names the one asked for.
 */
export function negotiate(accept: string | undefined): Negotiated {
  let best = TEXT
  let bestQuality = 0
  for (const range of (accept ?? '').slice(0, 4096).split(',')) {
    const [type = '', ...rest] = range.split(';').map((part) => part.trim().toLowerCase())
    const parameters = new Map(rest.map((part) => part.split('=', 2) as [string, string]))
    const quality = Number(parameters.get('q') ?? '1')
    if (!(quality > bestQuality)) continue
    const match = matchOf(type, parameters)
    if (match === null) continue
    best = match
    bestQuality = quality
  }
  return best
}

function matchOf(type: string, parameters: ReadonlyMap<string, string>): Negotiated | null {
  const version = parameters.get('version')
  switch (type) {
    case 'application/vnd.google.protobuf':
      if (parameters.get('proto') !== 'io.prometheus.client.metricfamily') return null
      if ((parameters.get('encoding') ?? 'delimited') !== 'delimited') return null
      return withEscaping(PROTOBUF, parameters)
    case 'application/openmetrics-text': {
      if (version !== undefined && version !== '1.0.0' && version !== '0.0.1') return null
      const contentType = `application/openmetrics-text; version=${version ?? '1.0.0'}; charset=utf-8`
      return withEscaping({ exposition: 'openmetrics', contentType }, parameters)
    }
    case 'text/plain':
      return version === undefined || version === '0.0.4' ? TEXT : null
    case 'text/*':
    case '*/*':
      return TEXT
    default:
      return null
  }
}

const ESCAPINGS: ReadonlySet<string> = new Set(['allow-utf-8', 'underscores', 'dots', 'values'])

function withEscaping(match: Negotiated, parameters: ReadonlyMap<string, string>): Negotiated {
  const escaping = parameters.get('escaping')
  if (escaping === undefined || !ESCAPINGS.has(escaping)) return match
  return { ...match, contentType: `${match.contentType}; escaping=${escaping}` }
}
