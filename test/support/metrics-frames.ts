/** Messages of a recorded file: for each a little-endian length of four bytes, then the bytes. */
export function framed(file: Buffer): Buffer[] {
  const messages: Buffer[] = []
  for (let at = 0; at < file.length; ) {
    const length = file.readUInt32LE(at)
    messages.push(file.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  return messages
}
