/** Content negotiation of a scrape: what is asked for, and what came. prometheus.io/docs/instrumenting/content_negotiation */
export type PageFormat = 'text' | 'openmetrics' | 'protobuf'

const PROTOBUF = 'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited'
const TEXT = 'application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1'

/** `Accept`. Native histograms come in protobuf alone; Envoy answers it from 1.38 on. */
export function acceptHeader(protobuf: boolean): string {
  return protobuf ? `${PROTOBUF};q=0.8,${TEXT}` : TEXT
}

/** Null: not an exposition, an error page for example. A page without a type is text, as it always was. */
export function formatOf(contentType: string): PageFormat | null {
  const [type = '', ...rest] = contentType
    .slice(0, 1024)
    .split(';')
    .map((part) => part.trim().toLowerCase())
  switch (type) {
    case 'application/openmetrics-text':
      return 'openmetrics'
    case 'application/vnd.google.protobuf': {
      const parameters = new Map(rest.map((part) => part.split('=', 2) as [string, string]))
      const proto = parameters.get('proto') ?? 'io.prometheus.client.metricfamily'
      const isDelimited = (parameters.get('encoding') ?? 'delimited') === 'delimited'
      return proto === 'io.prometheus.client.metricfamily' && isDelimited ? 'protobuf' : null
    }
    case '':
    case 'text/plain':
      return 'text'
    default:
      return null
  }
}
