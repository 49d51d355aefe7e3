export { type Hints, NO_HINTS, type Unwrapped } from './envelope.ts'
export { hintsOfPath } from './path.ts'
export { parseSyslog, type SyslogClock, type SyslogHead } from './syslog.ts'
export { createUnwrapper, type UnwrapCounters, type Unwrapper, type UnwrapperOptions } from './unwrap.ts'
