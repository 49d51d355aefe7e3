import type { Party } from '../../model/batch.ts'
import { SAID_TYPE } from './own-fields.ts'
import { eachField, eachStructField, eachValueString, LEN, readText, valueText } from './protobuf.ts'
import { canonicalRevision, canonicalService, NOBODY, workloadOfOwner, workloadOfPod } from './workload.ts'

/**
 * What the other end of a connection says of itself, from Istio's metadata exchange: `filter_state_objects` with the keys
 * `downstream_peer` and `upstream_peer` (a Struct, since 1.24), `wasm.*_peer` (a FlatBuffer in a BytesValue) or
 * `wasm.*_peer_id` (a node id in a BytesValue).
 *
 * `any` is a serialized `google.protobuf.Any`. Null: nothing that is understood, which costs the peer and nothing else.
 * Never throws.
 */
export function parsePeer(any: Uint8Array): Party | null {
  return parseAny(any, (type, from, to) => {
    if (type.endsWith('/google.protobuf.Struct')) return parseStruct(any, from, to)
    if (type.endsWith('/google.protobuf.BytesValue')) return parseBytes(any, from, to)
    return null
  })
}

/** What the sender of an entry itself says of one end; only what it says, empty for the rest. */
export interface Said {
  readonly party: Party
  /** Which side wrote the entry; '' where it does not say. */
  readonly reporter: string
}

/** Null: `any` is not of `SAID_TYPE`. Never throws. */
export function parseSaid(any: Uint8Array): Said | null {
  return parseAny(any, (type, from, to) => {
    if (type !== SAID_TYPE) return null
    const fields = new Map<string, string>()
    eachStructField(any, from, to, (key, valueFrom, valueTo) => {
      if (fields.size < KEYS_MAX) fields.set(key, valueText(any, valueFrom, valueTo))
    })
    const said = (name: string): string => fields.get(name) ?? ''
    return {
      party: {
        workload: said('workload'),
        namespace: said('namespace'),
        service: said('service'),
        version: said('version'),
        principal: said('identity'),
        app: said('app'),
        cluster: said('cluster'),
      },
      reporter: said('reporter'),
    }
  })
}

function parseAny<T>(any: Uint8Array, parse: (type: string, from: number, to: number) => T | null): T | null {
  let type = ''
  let from = -1
  let to = -1
  const whole = eachField(any, 0, any.length, (field, wireType, valueFrom, valueTo) => {
    if (wireType !== LEN) return
    if (field === 1) type = readText(any, valueFrom, valueTo)
    else if (field === 2) {
      from = valueFrom
      to = valueTo
    }
  })
  return whole && from >= 0 ? parse(type, from, to) : null
}

/** Keys and labels read of one peer; the rest of a hostile one is left unread. */
const KEYS_MAX = 256

/** Keys in any case: `workload`, `namespace` … as peers send them, or NAME, WORKLOAD_NAME … of node metadata. */
function parseStruct(bytes: Uint8Array, start: number, end: number): Party | null {
  const fields = new Map<string, string>()
  const labels = new Map<string, string>()
  const whole = eachStructField(bytes, start, end, (key, from, to) => {
    if (fields.size >= KEYS_MAX) return
    const name = key.toLowerCase()
    if (name === 'labels') {
      eachValueString(bytes, from, to, (label, text) => {
        if (labels.size < KEYS_MAX) labels.set(label, text)
      })
    } else fields.set(name, valueText(bytes, from, to))
  })
  if (!whole || (fields.size === 0 && labels.size === 0)) return null
  const said = (name: string): string => fields.get(name) ?? ''
  const label = (name: string): string | undefined => labels.get(name)
  const workload = said('workload') || said('workload_name') || workloadOfOwner(said('owner'))
  const revision = said('revision')
  return {
    workload,
    namespace: said('namespace'),
    service: said('service') || canonicalService(label) || said('app') || workload,
    version: (revision === 'latest' ? '' : revision) || said('version') || canonicalRevision(label),
    principal: said('identity'),
    app: said('app') || (label('app') ?? ''),
    cluster: said('cluster') || said('cluster_id'),
  }
}

function parseBytes(any: Uint8Array, start: number, end: number): Party | null {
  let peer: Party | null = null
  eachField(any, start, end, (field, wireType, from, to) => {
    if (field === 1 && wireType === LEN) peer = parseFlatNode(any, from, to) ?? parsePeerId(readText(any, from, to))
  })
  return peer
}

/** A node id: `sidecar~10.0.0.7~web-6d5f7c9b8-x2k4j.shop~shop.svc.cluster.local`. */
function parsePeerId(text: string): Party | null {
  const proxy = text.split('~', 5).length === 4 ? text.split('~')[2]! : ''
  const dot = proxy.lastIndexOf('.')
  if (dot < 1) return null
  return { ...NOBODY, workload: workloadOfPod(proxy.slice(0, dot)), namespace: proxy.slice(dot + 1) }
}

/** Slots of `FlatNode` (istio/proxy, extensions/common/node_info.fbs), in the order of its declaration. */
const SLOT = { name: 0, namespace: 1, labels: 2, owner: 3, workloadName: 4, clusterId: 9, identity: 11 } as const

/**
 * A FlatBuffer: a 32-bit offset to the root table; a table starts with the (signed) way back to its vtable, which has its
 * own size, the table's size, and for every slot the place of the value in the table, 0 when it is absent. Strings and
 * vectors are reached by an offset and begin with their length. https://flatbuffers.dev/internals/
 */
function parseFlatNode(bytes: Uint8Array, start: number, end: number): Party | null {
  const flat = new FlatBuffer(bytes, start, end)
  const root = flat.follow(0)
  if (root < 0 || flat.vtable(root) < 0) return null
  const text = (slot: number): string => flat.text(flat.field(root, slot))
  const labels = new Map<string, string>()
  const vector = flat.follow(flat.field(root, SLOT.labels))
  const count = vector < 0 ? 0 : Math.min(flat.u32(vector), KEYS_MAX)
  for (let k = 0; k < count; k++) {
    const entry = flat.follow(vector + 4 + 4 * k)
    if (entry < 0) break
    labels.set(flat.text(flat.field(entry, 0)), flat.text(flat.field(entry, 1)))
  }
  const label = (name: string): string | undefined => labels.get(name)
  const pod = text(SLOT.name)
  const namespace = text(SLOT.namespace)
  const workload = text(SLOT.workloadName) || workloadOfOwner(text(SLOT.owner))
  if (pod === '' && namespace === '' && workload === '' && labels.size === 0) return null
  return {
    workload,
    namespace,
    service: canonicalService(label) || workload,
    version: canonicalRevision(label),
    principal: text(SLOT.identity),
    app: label('app') ?? '',
    cluster: text(SLOT.clusterId),
  }
}

/** Reads with every place checked; −1 stands for "absent or outside". Places are relative to the buffer's start. */
class FlatBuffer {
  readonly #view: DataView
  readonly #bytes: Uint8Array
  readonly #start: number

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.#bytes = bytes
    this.#start = start
    this.#view = new DataView(bytes.buffer, bytes.byteOffset + start, end - start)
  }

  u32(at: number): number {
    return at >= 0 && at + 4 <= this.#view.byteLength ? this.#view.getUint32(at, true) : 0
  }

  /** The place that the offset at `at` leads to. */
  follow(at: number): number {
    if (at < 0 || at + 4 > this.#view.byteLength) return -1
    const offset = this.#view.getUint32(at, true)
    const to = at + offset
    return offset === 0 || to + 4 > this.#view.byteLength ? -1 : to
  }

  vtable(table: number): number {
    const at = table - this.#view.getInt32(table, true)
    if (at < 0 || at + 4 > this.#view.byteLength) return -1
    const size = this.#view.getUint16(at, true)
    return size < 4 || size % 2 !== 0 || at + size > this.#view.byteLength ? -1 : at
  }

  field(table: number, slot: number): number {
    const vtable = this.vtable(table)
    if (vtable < 0 || 6 + 2 * slot > this.#view.getUint16(vtable, true)) return -1
    const place = this.#view.getUint16(vtable + 4 + 2 * slot, true)
    return place === 0 || table + place + 4 > this.#view.byteLength ? -1 : table + place
  }

  text(at: number): string {
    const string = this.follow(at)
    if (string < 0) return ''
    const length = this.#view.getUint32(string, true)
    if (length > this.#view.byteLength - string - 4) return ''
    const from = this.#start + string + 4
    return readText(this.#bytes, from, from + length)
  }
}
