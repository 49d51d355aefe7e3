import { partitionOf } from '../../kafka/partition.ts'
import type { NativeBlockColumns } from '../../model/native-read.ts'
import { rowColumn } from '../../pipeline/row-values.ts'

/** What keeps rows together on a partition: the proxy that wrote them, or the service that they went to. */
export const KEYS = { node: 'node_id', service: 'destination_service' } as const
export type KeyName = keyof typeof KEYS

export interface RowKey {
  readonly key: Buffer
  readonly partition: number
}

/** The key of each row of a block. There are few different ones, so each is made once. */
export function rowKeys(block: NativeBlockColumns, name: KeyName, partitions: number): (row: number) => RowKey {
  const { dictionary, text } = rowColumn(block, KEYS[name])
  const make = (value: string): RowKey => {
    const key = Buffer.from(value)
    return { key, partition: partitionOf(key, partitions) }
  }
  if (dictionary !== null) {
    const made = dictionary.texts.map(make)
    const { codes } = dictionary
    return (row) => made[codes[row]!]!
  }
  const made = new Map<string, RowKey>()
  return (row) => {
    const value = text(row)
    let found = made.get(value)
    if (found === undefined) {
      found = make(value)
      made.set(value, found)
    }
    return found
  }
}
