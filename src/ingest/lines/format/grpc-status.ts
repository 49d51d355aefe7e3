/** Names of gRPC status codes by number, as Envoy prints them; the second spelling is Abseil's. */
const NAMES: readonly (readonly string[])[] = [
  ['OK'],
  ['Canceled', 'Cancelled', 'CANCELLED'],
  ['Unknown', 'UNKNOWN'],
  ['InvalidArgument', 'INVALID_ARGUMENT'],
  ['DeadlineExceeded', 'DEADLINE_EXCEEDED'],
  ['NotFound', 'NOT_FOUND'],
  ['AlreadyExists', 'ALREADY_EXISTS'],
  ['PermissionDenied', 'PERMISSION_DENIED'],
  ['ResourceExhausted', 'RESOURCE_EXHAUSTED'],
  ['FailedPrecondition', 'FAILED_PRECONDITION'],
  ['Aborted', 'ABORTED'],
  ['OutOfRange', 'OUT_OF_RANGE'],
  ['Unimplemented', 'UNIMPLEMENTED'],
  ['Internal', 'INTERNAL'],
  ['Unavailable', 'UNAVAILABLE'],
  ['DataLoss', 'DATA_LOSS'],
  ['Unauthenticated', 'UNAUTHENTICATED'],
]

const NUMBERS = new Map(NAMES.flatMap((names, number) => names.map((name) => [name, number] as const)))

/** A name or a number from 0 to 255; −1 for anything else. */
export function grpcStatusNumber(text: string): number {
  const named = NUMBERS.get(text)
  if (named !== undefined) return named
  return /^\d{1,3}$/.test(text) && Number(text) < 256 ? Number(text) : -1
}
