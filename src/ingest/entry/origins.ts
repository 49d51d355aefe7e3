import { createGenerations } from '../../lib/generations.ts'
import type { Origin, Party } from '../../model/batch.ts'
import { describeNode } from '../als/node.ts'

/**
 * Origins of senders that are not ALS streams, as one object for equal content: rows, builders and the identity resolver
 * tell origins apart by reference, so a receiver must not make a new one for each request it gets.
 */
export interface Origins {
  of(sender: Sender): Origin
}

/** What is known of who sends. All but the source and its precision may be missing. */
export interface Sender {
  readonly source: Origin['source']
  /** Resolution of its durations, ns. */
  readonly precisionNs: number
  /** Envoy's node id, or whatever names the sender. Of an Istio proxy's id everything else is read. */
  readonly nodeId?: string
  readonly nodeCluster?: string
  readonly region?: string
  readonly zone?: string
  readonly subZone?: string
  readonly envoyVersion?: string
  readonly logName?: string
  /** Texts of the node's metadata and its labels, where the sender has them. */
  readonly metadata?: ReadonlyMap<string, string>
  readonly labels?: ReadonlyMap<string, string>
  /** Goes before what id and metadata say. */
  readonly mesh?: string
  readonly self?: Partial<Party>
  readonly nodeType?: Origin['nodeType']
}

export interface OriginsOptions {
  /** Remembered; past it the older half is forgotten, and senders that come again get new objects. */
  readonly originsMax?: number
}

const NONE: ReadonlyMap<string, string> = new Map()

export function createOrigins(options: OriginsOptions = {}): Origins {
  const known = createGenerations<string, Origin>(options.originsMax ?? 20_000)
  return {
    of(sender) {
      const origin = originOf(sender)
      const key = JSON.stringify(origin)
      const found = known.get(key)
      if (found !== undefined) return found
      known.set(key, origin)
      return origin
    },
  }
}

function originOf(sender: Sender): Origin {
  const { nodeId = '', nodeCluster = '', metadata = NONE, labels = NONE } = sender
  const described = describeNode({ id: nodeId, cluster: nodeCluster, metadata, labels })
  return {
    source: sender.source,
    nodeId,
    nodeCluster,
    region: sender.region ?? '',
    zone: sender.zone ?? '',
    subZone: sender.subZone ?? '',
    envoyVersion: sender.envoyVersion ?? '',
    logName: sender.logName ?? '',
    precisionNs: sender.precisionNs,
    mesh: sender.mesh || described.mesh,
    self: { ...described.self, ...given(sender.self) },
    nodeType: sender.nodeType ?? described.nodeType,
  }
}

function given(party: Partial<Party> = {}): Partial<Party> {
  return Object.fromEntries(Object.entries(party).filter(([, text]) => text !== ''))
}
