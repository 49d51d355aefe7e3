import type { KafkaDriver, KafkaDriverName, KafkaDriverOptions } from './driver.ts'
import { createKafkajsDriver } from './kafkajs-driver.ts'
import { createPlatformaticDriver } from './platformatic-driver.ts'

/** The driver of this name. */
export function createKafkaDriver(name: KafkaDriverName, options: KafkaDriverOptions): KafkaDriver {
  return name === 'kafkajs' ? createKafkajsDriver(options) : createPlatformaticDriver(options)
}
