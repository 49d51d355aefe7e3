import { readFile } from 'node:fs/promises'

/** A configuration from one of the `.template` files here: comments go, `$NAME` becomes its value; one without is an error. */
export async function fromTemplate(name: string, values: Readonly<Record<string, string | number>>): Promise<string> {
  const template = await readFile(new URL(name, import.meta.url), 'utf8')
  return template.replace(/^#.*$/gm, '').replace(/\$([A-Z][A-Z0-9_]*)/g, (_match, key: string) => {
    const value = values[key]
    if (value === undefined) throw new Error(`${name}: no value for ${key}`)
    return String(value)
  })
}
