#!/usr/bin/env node
import { runCli } from './cli.ts'

// The process: hands the world to the command line and takes its exit code. Nothing else exits or reads the environment.
const code = await runCli({
  args: process.argv.slice(2),
  env: process.env,
  stdout: (text) => process.stdout.write(text),
  stderr: (text) => process.stderr.write(text),
  onSignal: (signal, handler) => process.on(signal, handler),
  exitNow: (code) => process.exit(code),
})
process.exit(code)
