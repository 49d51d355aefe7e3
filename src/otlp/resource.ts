import type { Dictionary, NativeBlockColumns } from '../pipeline/segment-reader.ts'
import { attributes, RESOURCE_ATTRIBUTE } from './attributes.ts'

/**
 * The resource of a row is the workload whose proxy wrote it: a sidecar of the client is the client's, any other that of
 * the service, and a gateway or plain proxy is a service of its own.
 */
export interface ResourceTexts {
  readonly reporter: string
  readonly nodeId: string
  readonly nodeCluster: string
  readonly mesh: string
  readonly region: string
  readonly zone: string
  readonly sourceWorkload: string
  readonly sourceNamespace: string
  readonly sourceService: string
  readonly sourceVersion: string
  readonly destinationWorkload: string
  readonly destinationNamespace: string
  readonly destinationService: string
  readonly destinationVersion: string
}

const COLUMNS: Readonly<Record<keyof ResourceTexts, string>> = {
  reporter: 'reporter',
  nodeId: 'node_id',
  nodeCluster: 'node_cluster',
  mesh: 'mesh',
  region: 'region',
  zone: 'zone',
  sourceWorkload: 'source_workload',
  sourceNamespace: 'source_namespace',
  sourceService: 'source_service',
  sourceVersion: 'source_version',
  destinationWorkload: 'destination_workload',
  destinationNamespace: 'destination_namespace',
  destinationService: 'destination_service',
  destinationVersion: 'destination_version',
}
const FIELDS = Object.keys(COLUMNS) as (keyof ResourceTexts)[]

/** What OTLP demands where no name is known. */
const UNKNOWN_SERVICE = 'unknown_service:envoy'

/** A `Resource` message. */
export function resourceOf(texts: ResourceTexts): Uint8Array {
  const side = sideOf(texts)
  return attributes(RESOURCE_ATTRIBUTE, {
    'service.name': side.name || UNKNOWN_SERVICE,
    'service.namespace': side.namespace,
    'service.version': side.version,
    'service.instance.id': texts.nodeId,
    'cloud.region': texts.region,
    'cloud.availability_zone': texts.zone,
    'sidecast.mesh': texts.mesh,
    'sidecast.workload': side.workload,
    'sidecast.node.cluster': texts.nodeCluster,
  })
}

interface Side {
  readonly name: string
  readonly namespace: string
  readonly version: string
  readonly workload: string
}

export function sideOf(texts: Omit<ResourceTexts, 'nodeId' | 'region' | 'zone' | 'mesh'>): Side {
  const source = {
    name: texts.sourceService || texts.sourceWorkload,
    namespace: texts.sourceNamespace,
    version: texts.sourceVersion,
    workload: texts.sourceWorkload,
  }
  const destination = {
    name: texts.destinationService,
    namespace: texts.destinationNamespace,
    version: texts.destinationVersion,
    workload: texts.destinationWorkload,
  }
  switch (texts.reporter) {
    case 'source':
      return source.name === '' ? { ...source, name: texts.nodeCluster } : source
    case 'destination':
      return destination.name === '' ? { ...destination, name: texts.nodeCluster } : destination
    default:
      // A hop between the two: a service of its own, named as its operator named it.
      return texts.nodeCluster === '' ? destination : { ...NOBODY, name: texts.nodeCluster }
  }
}

const NOBODY: Side = { name: '', namespace: '', version: '', workload: '' }

/** Resources of a block by row; rows with the same one have the same number. */
export class BlockResources {
  readonly #dictionaries: readonly Dictionary[]
  /** Numbers of prefixes of the columns: `previous number × 65 536 + code` → number. One map for each column. */
  readonly #steps: readonly Map<number, number>[]
  readonly #resources: Uint8Array[] = []
  readonly #lastCodes: Int32Array
  #last = -1

  constructor(block: NativeBlockColumns) {
    // A column that the block lacks, or with one text, tells nothing apart.
    this.#dictionaries = FIELDS.map((field) => block.dictionary(COLUMNS[field]))
    this.#steps = FIELDS.map(() => new Map())
    this.#lastCodes = new Int32Array(FIELDS.length).fill(-1)
  }

  /** Number of the row's resource. */
  of(row: number): number {
    if (this.#sameAsLast(row)) return this.#last
    let number = 0
    for (let k = 0; k < this.#dictionaries.length; k++) {
      const { codes, texts } = this.#dictionaries[k]!
      if (texts.length === 1) continue
      const step = this.#steps[k]!
      const key = number * 65_536 + codes[row]!
      let next = step.get(key)
      if (next === undefined) {
        next = step.size
        step.set(key, next)
      }
      number = next
    }
    this.#resources[number] ??= resourceOf(this.#textsOf(row))
    this.#last = number
    return number
  }

  bytes(number: number): Uint8Array {
    return this.#resources[number]!
  }

  #sameAsLast(row: number): boolean {
    const last = this.#lastCodes
    let same = true
    for (let k = 0; k < last.length; k++) {
      const code = this.#dictionaries[k]!.codes[row]!
      if (last[k] !== code) {
        last[k] = code
        same = false
      }
    }
    return same
  }

  #textsOf(row: number): ResourceTexts {
    return Object.fromEntries(
      FIELDS.map((field, k) => {
        const { codes, texts } = this.#dictionaries[k]!
        return [field, texts[codes[row]!]!]
      }),
    ) as unknown as ResourceTexts
  }
}
