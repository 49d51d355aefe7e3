#!/usr/bin/env node
import { text } from 'node:stream/consumers'
import { setFlagsFromString } from 'node:v8'
import { REPLACED, replacement } from './lib/allocator.ts'

// The allocator first: what it heeds has to be there before a process runs.
const { platform, versions, execPath, execArgv, argv0, argv, env } = process
const replaced = replacement({
  platform,
  version: versions.node,
  execPath,
  execArgv,
  argv0,
  argv,
  env,
  canExec: process.execve !== undefined && process.permission?.has('child') !== false,
  hasChannel: process.send !== undefined,
})
try {
  if (replaced !== null) process.execve?.(replaced.file, replaced.args, replaced.env)
} catch {
  // Node has gone from where it was, or a filter of system calls is in the way: it is a matter of memory alone.
}
delete env[REPLACED]

// The hot path makes next to no garbage: a young generation that stays small costs nothing and saves 15 MB. It has to be
// said before anything else runs.
setFlagsFromString('--semi-space-growth-factor=1')
const { runCli } = await import('./cli.ts')

// The process: hands the world to the command line and takes its exit code. Nothing else exits or reads the environment.
const code = await runCli({
  args: argv.slice(2),
  env,
  stdout: (text) => process.stdout.write(text),
  stderr: (text) => process.stderr.write(text),
  onSignal: (signal, handler) => process.on(signal, handler),
  readStdin: () => text(process.stdin),
  exitNow: (code) => process.exit(code),
})
process.exit(code)
