import { openKafkaOut } from '../../../src/adapters/kafka/open.ts'
import { requireConfig } from '../../../src/config.ts'
import { KAFKA_DRIVERS } from '../../../src/kafka/driver.ts'
import { startFakeKafka } from '../../support/fake-kafka.ts'
import { sinkContract } from '../../support/sink-contract.ts'

for (const driver of KAFKA_DRIVERS) {
  sinkContract(`Kafka by ${driver}`, {
    start: startFakeKafka,
    open: (shared, { address }) => {
      const { config } = requireConfig({
        set: [
          `adapters.kafka.brokers=["${address}"]`,
          `adapters.kafka.driver=${driver}`,
          'adapters.kafka.compression=none',
          'adapters.kafka.create.enabled=false',
        ],
        env: {},
      })
      return openKafkaOut(config.adapters.kafka, shared)
    },
  })
}
