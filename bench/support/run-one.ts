import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

/** Runs `<dir>/<name>.ts` with the rest of the arguments; without a name, says which there are. */
export async function runOne(
  dir: string,
  kind: string,
  [name, ...rest]: readonly string[],
  known: Readonly<Record<string, string>>,
): Promise<never> {
  if (name === undefined || known[name] === undefined) {
    console.error(`npm run ${kind} -- NAME [options]\n`)
    for (const [one, what] of Object.entries(known)) console.error(`  ${one.padEnd(14)}${what}`)
    process.exit(name === undefined ? 0 : 2)
  }
  const child = spawn(process.execPath, [join(dir, `${name}.ts`), ...rest], { stdio: 'inherit' })
  const [code] = (await once(child, 'exit')) as [number | null]
  process.exit(code ?? 1)
}
