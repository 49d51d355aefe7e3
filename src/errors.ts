/**
 * Every error code of the product, with what it means. `docs/errors.md` lists the same codes; a test compares the two.
 * SC1xxx: what was asked is wrong. SC2xxx: allowed, but look at it. SC3xxx: data. SC4xxx: the machine or another program.
 */
export const ERRORS = {
  SC1201: 'The configuration file cannot be read',
  SC1202: 'The configuration file is not valid YAML',
  SC1204: 'Unknown key in the configuration',
  SC1205: 'A configuration value is of the wrong type or out of range',
  SC1206: 'A --set option is malformed',
  SC1207: 'A command line option is unknown or lacks its value',
  SC1208: 'A file of objectives cannot be used',
  SC1209: 'A certificate, key or authority cannot be used',
  SC1210: 'The configuration changes what a running process cannot change',
  SC2101: 'The option belongs to a part that is not built yet and is ignored',
  SC2103: 'A listener is reachable from other machines without TLS or token',
  SC3101: 'A journal file is damaged',
  SC3102: 'The data directory was written by a newer version',
  SC4101: 'The address is in use or cannot be bound',
  SC4102: 'The store does not start',
  SC4103: 'The store refused a statement',
  SC4104: 'The disk is full',
  SC4105: 'The data directory is in use by another process',
  SC4106: 'The embedded store is not installed',
} as const
export type ErrorCode = keyof typeof ERRORS

/** The one error class. `help` says how to fix it; `cause` is always the error underneath, if there is one. */
export class SidecastError extends Error {
  readonly code: ErrorCode
  readonly help: string | undefined

  constructor(code: ErrorCode, message: string, options: { help?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'SidecastError'
    this.code = code
    this.help = options.help
  }
}

const LISTEN_PROBLEMS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the address is in use',
  EACCES: 'permission denied',
  EADDRNOTAVAIL: 'this machine has no such address',
}

/** A listener that cannot start. `option` is its place in the configuration, `listen` an address or the path of a socket. */
export function cannotListen(option: string, listen: string, cause: NodeJS.ErrnoException): SidecastError {
  const reason = LISTEN_PROBLEMS[cause.code ?? ''] ?? cause.message
  return new SidecastError('SC4101', `${option}: cannot listen on ${listen}: ${reason}`, {
    help: `stop the other program, or choose another address with --set ${option}=…`,
    cause,
  })
}
