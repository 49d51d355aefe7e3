import { readFileSync } from 'node:fs'

/**
 * Datagrams that the kernel dropped because the receive buffer of a UDP socket was full: the last column of `/proc/net/udp` (Linux).
 * Every datagram that arrived is either read or counted there.
 *
 *     sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 *   3149: 0100007F:1FBD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 81924 2 …        162334
 */
export interface KernelDrops {
  /** Since the socket was opened; null where this system does not say. */
  read(): number | null
  /** Bytes that wait in the receive buffer, with the kernel's own; null where this system does not say. */
  waiting(): number | null
}

export function createKernelDrops(address: string, port: number): KernelDrops {
  const ipv6 = address.includes(':')
  const file = ipv6 ? '/proc/net/udp6' : '/proc/net/udp'
  const local = `${ipv6 ? hexOfIpv6(address) : hexOfIpv4(address)}:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const table = (): string => {
    try {
      return readFileSync(file, 'latin1')
    } catch {
      return ''
    }
  }
  return {
    read: () => dropsIn(table(), local),
    waiting: () => waitingIn(table(), local),
  }
}

/** Of the sockets with this local address; null when there is none. */
export function dropsIn(table: string, local: string): number | null {
  return sumOf(table, local, (columns) => Number(columns[12]))
}

/** The same of their receive queues, bytes. */
export function waitingIn(table: string, local: string): number | null {
  return sumOf(table, local, (columns) => Number.parseInt(columns[4]!.split(':')[1] ?? '', 16))
}

function sumOf(table: string, local: string, figure: (columns: readonly string[]) => number): number | null {
  let sum: number | null = null
  for (const line of table.split('\n')) {
    const columns = line.trim().split(/\s+/)
    if (columns[1] !== local || columns.length < 13) continue
    sum = (sum ?? 0) + figure(columns)
  }
  return sum
}

/** Words are printed as the processor holds them: little-endian on all that Node runs on but s390x, where this finds nothing. */
function hexOfIpv4(address: string): string {
  return address
    .split('.')
    .map((part) => Number(part).toString(16).toUpperCase().padStart(2, '0'))
    .reverse()
    .join('')
}

function hexOfIpv6(address: string): string {
  const [head = '', tail] = address.split('%')[0]!.split('::')
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':').flatMap(groupsOf))
  const front = groups(head)
  const back = tail === undefined ? [] : groups(tail)
  const all =
    tail === undefined ? front : [...front, ...Array<string>(8 - front.length - back.length).fill('0000'), ...back]
  const hex = all.join('').toUpperCase()
  return (hex.match(/.{8}/g) ?? []).map((word) => (word.match(/../g) ?? []).reverse().join('')).join('')
}

/** A group of four digits, or the IPv4 address at the end as two groups. */
function groupsOf(text: string): string[] {
  if (!text.includes('.')) return [text.padStart(4, '0')]
  const [a = 0, b = 0, c = 0, d = 0] = text.split('.').map(Number)
  return [(a * 256 + b).toString(16).padStart(4, '0'), (c * 256 + d).toString(16).padStart(4, '0')]
}
