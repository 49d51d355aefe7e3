import type { GetRequest, HttpGet } from './http-get.ts'

/** `/server_info` repeats the node with its metadata; Istio's is some 60 kB. */
const BODY_BYTES_MAX = 4 * 1024 * 1024
const NODE_ID_MAX = 512

/**
 * The node id of the Envoy whose admin interface serves the page: `/server_info` beside `/stats/prometheus`. Null where there is
 * none to learn: an agent's merged page, a listener with nothing but the page, an Envoy without an id.
 */
export async function learnNodeId(
  http: HttpGet,
  page: URL,
  request: Omit<GetRequest, 'url' | 'bodyBytesMax'>,
): Promise<string | null> {
  const answer = await http.get({ ...request, url: new URL('/server_info', page), bodyBytesMax: BODY_BYTES_MAX })
  if (!answer.ok) return null
  try {
    const info: unknown = JSON.parse(answer.body.toString())
    const node = (info as { node?: { id?: unknown } } | null)?.node
    return typeof node?.id === 'string' && node.id !== '' ? node.id.slice(0, NODE_ID_MAX) : null
  } catch {
    return null
  }
}

/** Whether a page is that of an Envoy, by its path. */
export function isEnvoyPage(url: URL): boolean {
  return (
    url.pathname === '/stats/prometheus' ||
    (url.pathname === '/stats' && url.searchParams.get('format') === 'prometheus')
  )
}
