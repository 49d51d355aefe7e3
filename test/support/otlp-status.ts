import protobuf from 'protobufjs'

const { root } = protobuf.parse(`
  syntax = "proto3";
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
`)

/** `google.rpc.Status` as `grpc-status-details-bin` has it, with a `RetryInfo` beside a detail that means nothing here. */
export function statusDetails(code: number, { retryDelayMs }: { readonly retryDelayMs?: number }): Buffer {
  const encode = (type: string, value: object): Buffer => {
    const message = root.lookupType(type)
    return Buffer.from(message.encode(message.fromObject(value)).finish())
  }
  const details: { readonly typeUrl: string; readonly value: Buffer }[] = [
    { typeUrl: 'type.googleapis.com/google.rpc.Help', value: Buffer.from('0a00', 'hex') },
  ]
  if (retryDelayMs !== undefined) {
    const seconds = Math.floor(retryDelayMs / 1000)
    details.push({
      typeUrl: 'type.googleapis.com/google.rpc.RetryInfo',
      value: encode('RetryInfo', { retryDelay: { seconds, nanos: (retryDelayMs - 1000 * seconds) * 1e6 } }),
    })
  }
  return encode('Status', { code, message: 'x', details })
}
