/** Where OTLP over gRPC goes. */
export interface Endpoint {
  readonly secure: boolean
  /** `host:port`, as a target of gRPC. */
  readonly target: string
}

/** OTLP's port over gRPC. */
const PORT = 4317

/** `host:port`, `http://…` or `https://…`; null when it is none of them. A bare `host:port` has no TLS. */
export function parseEndpoint(text: string): Endpoint | null {
  const match = /^(?:(https?):\/\/)?(\[[0-9a-fA-F:.]+\]|[^[\]:/\s@?#]+)(?::(\d{1,5}))?\/?$/.exec(text)
  if (match === null) return null
  const port = match[3] === undefined ? PORT : Number(match[3])
  if (port < 1 || port > 65_535) return null
  return { secure: match[1] === 'https', target: `${match[2]}:${port}` }
}
