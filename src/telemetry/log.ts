/** Log lines go to standard error, one JSON object each. Nothing logs per row; repeated trouble is logged once with a count. */
export interface Log {
  info(fields: Fields, message: string): void
  warn(fields: Fields, message: string): void
  error(fields: Fields, message: string): void
}
export type Fields = Readonly<Record<string, unknown>>

/** A log that writes to `write`, by default standard error. */
export function createLog(write: (line: string) => void = (line) => process.stderr.write(line)): Log {
  const at = (level: string) => (fields: Fields, message: string) => {
    write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...printable(fields) })}\n`)
  }
  return { info: at('info'), warn: at('warn'), error: at('error') }
}

/** A log that goes nowhere. */
export const silentLog: Log = { info() {}, warn() {}, error() {} }

function printable(fields: Fields): Fields {
  const error = fields.error
  if (!(error instanceof Error)) return fields
  const cause = error.cause instanceof Error ? error.cause.message : undefined
  return { ...fields, error: error.message, ...(cause === undefined ? {} : { cause }) }
}
