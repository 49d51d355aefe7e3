import type { NativeBlock } from '../../src/model/batch.ts'

/** A block that says its number and length at its begin, and is full of one letter. */
export function numberedBlock(number: number, bytes: number, rows: number, cut: number): NativeBlock {
  const content = Buffer.alloc(bytes, letterOf(number))
  content.write(headOf(number, bytes))
  return {
    buffers: [content.subarray(0, cut), content.subarray(cut)],
    rows,
    days: new Map([[20_000, rows]]),
    nodes: new Map([[`node-${number % 3}`, rows]]),
  }
}

/** Numbers of the blocks in a file's text, in order. Throws where it is not whole blocks and nothing else. */
export function numbersIn(text: string): number[] {
  const numbers: number[] = []
  for (let at = 0; at < text.length; ) {
    const head = /^<(\d+):(\d+)>/.exec(text.slice(at, at + 40))
    if (head === null) throw new Error(`rubbish at ${at}`)
    const number = Number(head[1])
    const end = at + Number(head[2])
    const rest = text.slice(at + head[0].length, end)
    if (end > text.length || rest.replaceAll(letterOf(number), '') !== '')
      throw new Error(`block ${number} is not whole`)
    numbers.push(number)
    at = end
  }
  return numbers
}

const headOf = (number: number, bytes: number): string => `<${number}:${bytes}>`
const letterOf = (number: number): string => String.fromCharCode(97 + (number % 26))
