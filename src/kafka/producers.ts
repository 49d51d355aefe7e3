import type { KafkaDriverName } from './driver.ts'
import type { KafkaProducer, KafkaProducerOptions } from './producer.ts'

/** The producer of this name. Its client library is loaded here, when one is wanted. */
export async function createKafkaProducer(
  name: KafkaDriverName,
  options: KafkaProducerOptions,
): Promise<KafkaProducer> {
  if (name === 'kafkajs') return (await import('./kafkajs-producer.ts')).createKafkajsProducer(options)
  return (await import('./platformatic-producer.ts')).createPlatformaticProducer(options)
}
