/**
 * Lines that proxies and their companions write beside the access log, to the same stream: their own logs and banners.
 * They are counted as what they are, not as lines that could not be read.
 */
export function isOwnLog(line: string): boolean {
  return OWN_LOGS.some((form) => form.test(line))
}

const LEVEL = 'trace|debug|info|warn|warning|error|err|critical|crit|fatal|off|dpanic|panic'
const OWN_LOGS: readonly RegExp[] = [
  // Envoy: `[2026-01-01 00:00:00.000][1][info][main] [source/server/server.cc:1] …`.
  new RegExp(String.raw`^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d+\]\[\d+\]\[(?:${LEVEL})\]`, 'i'),
  // Istio's agent, Envoy under Istio, ztunnel, zap: `2026-01-01T00:00:00.000Z<tab>info<tab>…`; Consul: `… [INFO]  agent: …`.
  new RegExp(String.raw`^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.,]*(?:Z|[+-]\d\d:?\d\d)?\s+\[?(?:${LEVEL})\]?[\s:]`, 'i'),
  // logrus: `time="2026-01-01T00:00:00Z" level=info msg="…"`; other `key=value` logs.
  /^(?:time|ts|level|t)=\S/,
  // klog: `I0101 00:00:00.000000       1 main.go:1] …`.
  /^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ \S+:\d+\] /,
  // Python programs such as Ambassador's diagd: `2026-01-01 00:00:00 diagd 3.9 [P1TMain] INFO: …`; MOSN: `…,250 [INFO] …`.
  new RegExp(String.raw`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:,\d+)? (?:\S{1,64} ){0,6}?\[?(?:${LEVEL})\]?[: ]`, 'i'),
  // NGINX: `2026/01/01 00:00:00 [error] 1#1: …`; Go's `log`: `2026/01/01 00:00:00 …`.
  /^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d (?:\[[a-z]+\] \d+#\d+:|(?!\S*\[).*)/,
]
