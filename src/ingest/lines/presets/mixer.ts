import { parseInstant } from '../unwrap/time.ts'
import { type JsonForm, textOf } from './json.ts'
import { durationNs, integer } from './values.ts'

/** The log entry that Istio's own samples up to 1.4 had Mixer write (`newlog`): workloads by name, and little else. */
export const mixer: JsonForm = {
  name: 'istio-mixer',
  precisionNs: 1,
  detects: (record) => 'instance' in record && 'responseCode' in record && 'latency' in record,
  fill(record, entry) {
    const at = parseInstant(textOf(record, 'time'))
    const code = integer(textOf(record, 'responseCode'))
    const duration = durationNs(textOf(record, 'latency'))
    if (at === null || Number.isNaN(code) || Number.isNaN(duration)) return 'bad_value'
    entry.startSeconds = at.seconds
    entry.startNanos = at.nanos
    entry.code = code
    entry.untold = true
    entry.durationNs = duration
    entry.responseBodyBytes = integer(textOf(record, 'responseSize')) || 0
    entry.source.set('workload', known(textOf(record, 'source')))
    entry.destination.set('workload', known(textOf(record, 'destination')))
    return null
  },
}

/** Mixer's word for what it did not know. */
const known = (workload: string): string => (workload === 'unknown' ? '' : workload)
