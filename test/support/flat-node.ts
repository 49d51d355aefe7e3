/**
 * Writes the FlatBuffer that Istio's metadata exchange sent before 1.24 (`FlatNode` of istio/proxy,
 * extensions/common/node_info.fbs): root offset, tables with their vtables, strings with their lengths.
 */
export interface FlatNode {
  readonly name?: string
  readonly namespace?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly owner?: string
  readonly workload?: string
  readonly clusterId?: string
  readonly identity?: string
}

type Slot = string | readonly Table[] | undefined
type Table = readonly Slot[]

export function flatNode(node: FlatNode): Uint8Array {
  const labels = node.labels === undefined ? undefined : Object.entries(node.labels).map((pair): Table => pair)
  const slots: Table = [
    node.name,
    node.namespace,
    labels,
    node.owner,
    node.workload,
    undefined,
    undefined,
    undefined,
    undefined,
    node.clusterId,
    undefined,
    node.identity,
  ]
  const writer = new Writer()
  writer.reserve(4)
  writer.link(0, writer.table(slots))
  return writer.bytes()
}

class Writer {
  #buffer = Buffer.alloc(64 * 1024)
  #length = 0

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length)
  }

  reserve(bytes: number): number {
    this.#length = Math.ceil(this.#length / 4) * 4
    const at = this.#length
    this.#length += bytes
    return at
  }

  /** Writes at `from` the offset that leads to `to`. */
  link(from: number, to: number): void {
    this.#buffer.writeUInt32LE(to - from, from)
  }

  table(slots: Table): number {
    const vtable = this.reserve(4 + 2 * slots.length)
    const size = 4 + 4 * slots.length
    const table = this.reserve(size)
    this.#buffer.writeUInt16LE(4 + 2 * slots.length, vtable)
    this.#buffer.writeUInt16LE(size, vtable + 2)
    this.#buffer.writeInt32LE(table - vtable, table)
    for (const [k, slot] of slots.entries()) {
      if (slot === undefined) continue
      const place = 4 + 4 * k
      this.#buffer.writeUInt16LE(place, vtable + 4 + 2 * k)
      this.link(table + place, typeof slot === 'string' ? this.#text(slot) : this.#vector(slot))
    }
    return table
  }

  #text(text: string): number {
    const content = Buffer.from(text)
    const at = this.reserve(4 + content.length + 1)
    this.#buffer.writeUInt32LE(content.length, at)
    this.#buffer.set(content, at + 4)
    return at
  }

  #vector(tables: readonly Table[]): number {
    const at = this.reserve(4 + 4 * tables.length)
    this.#buffer.writeUInt32LE(tables.length, at)
    for (const [k, slots] of tables.entries()) this.link(at + 4 + 4 * k, this.table(slots))
    return at
  }
}
