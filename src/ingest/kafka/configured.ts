import { SidecastError } from '../../errors.ts'
import { type KafkaConnectionConfig, kafkaConnection } from '../../kafka/connection.ts'
import type { KafkaDriverName } from '../../kafka/driver.ts'
import { parseBytes, parseDuration } from '../../lib/units.ts'
import { createForm, isFormProblem } from '../lines/forms.ts'
import { createPreset } from '../lines/presets/index.ts'
import { jsonToProtobuf } from '../otlp/json.ts'
import { createLogsDecoder } from '../otlp/logs.ts'
import { createResourceReader } from '../otlp/resource.ts'
import { type KafkaEncoding, type KafkaParts, type KafkaSource, openKafka } from './open.ts'
import type { KafkaReceiver } from './receiver.ts'

/** One entry of `ingest.kafka`, as the schema gives it. */
export interface KafkaConfig extends KafkaConnectionConfig {
  readonly topics: readonly string[]
  readonly group: string
  readonly encoding: KafkaEncoding
  readonly driver: KafkaDriverName
  readonly preset: string
  readonly format: string
  readonly node: string
  readonly from: 'earliest' | 'latest'
  readonly session: string
  readonly takeover: string
  readonly fetchMax: string
}

/** Receivers for what the configuration asks for. Throws SC1205 for a form or a file that cannot be used. */
export function openConfiguredKafka(
  config: readonly KafkaConfig[],
  parts: Omit<KafkaParts, 'otlpLogs' | 'otlpFromJson'>,
): KafkaReceiver[] {
  const sources = config.map((one, k) => sourceOf(one, `ingest.kafka[${k}]`))
  return openKafka(sources, {
    ...parts,
    // Rows say that they came by Kafka, whatever the records say of themselves.
    otlpLogs: (writer) => {
      const origins = {
        of: (sender: Parameters<KafkaParts['origins']['of']>[0]) =>
          parts.origins.of({ ...sender, source: 'kafka' as const }),
      }
      const resources = createResourceReader({ origins })
      return createLogsDecoder({ writer, resources, createParser: () => createPreset('auto')! })
    },
    otlpFromJson: (text) => {
      const result = jsonToProtobuf('logs', text)
      return result.ok ? result.bytes : null
    },
  })
}

function sourceOf(config: KafkaConfig, path: string): KafkaSource {
  const { preset, format, tls, sasl, session, takeover, fetchMax, ...rest } = config
  const parser = createForm({ ...(preset === '' ? {} : { preset }), ...(format === '' ? {} : { format }) })
  if (isFormProblem(parser)) {
    const { option, problem, help } = parser
    throw new SidecastError('SC1205', `${path}.${option}: ${problem}`, help === undefined ? {} : { help })
  }
  return {
    ...rest,
    parser,
    sessionMs: parseDuration(session)!,
    takeoverMs: parseDuration(takeover)!,
    fetchBytesMax: parseBytes(fetchMax)!,
    ...kafkaConnection({ brokers: rest.brokers, tls, sasl }, path),
  }
}
