import { configSchema } from '../src/config-schema.ts'
import { ERRORS } from '../src/errors.ts'

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
  readonly anyOf?: readonly { readonly const: unknown }[]
  readonly type?: string
  readonly format?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly default?: unknown
  readonly description?: string
  readonly notBuilt?: boolean
}

/** `docs/config.md`, from the schema of the configuration. */
export function configDocs(): string {
  const rows: string[] = []
  const later: string[] = []
  const walk = (schema: Schema, path: string) => {
    if (schema.notBuilt === true) later.push(`\`${path}\``)
    else if (schema.properties === undefined) {
      rows.push(`| \`${path}\` | ${shown(schema.default)} | ${kindOf(schema)} | ${schema.description ?? ''} |`)
    } else {
      for (const [key, child] of Object.entries(schema.properties)) walk(child, path === '' ? key : `${path}.${key}`)
    }
  }
  walk(configSchema as unknown as Schema, '')
  return `<!-- Made by \`node docs/generate.ts\` from src/config-schema.ts. -->

# Configure Sidecast

Without any file the defaults are a working set-up on loopback. One YAML file, or single values on the command line:

\`\`\`
sidecast run --config sidecast.yaml --set http.listen=127.0.0.1:8081
sidecast check-config sidecast.yaml --effective
\`\`\`

Text may hold \`\${NAME}\`, \`\${NAME:-default}\` and \`\${file:PATH}\` (relative to the file it stands in). \`--set\` wins over the file.
A listener that other machines can reach needs \`allowInsecure: true\` in this version, which has neither TLS nor tokens.

| key | default | value | |
|---|---|---|---|
${rows.join('\n')}

Known, not built yet, and ignored with a warning: ${later.join(', ')}.
`
}

function shown(value: unknown): string {
  if (value === '') return 'empty'
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.map((item) => `\`${item}\``).join(', ')
  return `\`${String(value)}\``
}

function kindOf(schema: Schema): string {
  if (schema.anyOf !== undefined) return schema.anyOf.map((option) => `\`${option.const}\``).join(', ')
  if (schema.format === 'address') return 'host:port'
  if (schema.format !== undefined) return schema.format
  if (schema.type === 'integer') return `${schema.minimum} to ${schema.maximum}`
  if (schema.type === 'array') return schema.items?.properties === undefined ? 'list' : 'list of `pattern`, `replace`'
  return schema.type === 'boolean' ? 'true, false' : 'text'
}

/** `docs/errors.md`, from the table of error codes. */
export function errorDocs(): string {
  return `<!-- Made by \`node docs/generate.ts\` from src/errors.ts. -->

# Error codes

SC1xxx: what was asked is wrong. SC2xxx: allowed, but look at it. SC3xxx: data. SC4xxx: the machine or another program.

| code | meaning |
|---|---|
${Object.entries(ERRORS)
  .map(([code, meaning]) => `| ${code} | ${meaning} |`)
  .join('\n')}
`
}
