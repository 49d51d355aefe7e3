import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

// `npm run build`: dist/, which is what the published package runs. Node refuses to strip types inside node_modules,
// so the package has JavaScript; nothing is bundled, one file stays one file.
const root = import.meta.dirname
const tsc = (...args: string[]) => execFileSync('tsc', args, { cwd: root, stdio: 'inherit' })

rmSync(join(root, 'dist'), { recursive: true, force: true })
tsc('-p', 'tsconfig.build.json')
tsc('-p', 'src/web/page', '--noEmit', 'false', '--rootDir', 'src/web/page', '--outDir', 'dist/web/page')
for (const name of readdirSync(join(root, 'src/web/page'))) {
  if (/\.(html|css|svg)$/.test(name)) copyFileSync(join(root, 'src/web/page', name), join(root, 'dist/web/page', name))
}
chmodSync(join(root, 'dist/main.js'), 0o755)
