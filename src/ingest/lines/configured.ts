import { SidecastError } from '../../errors.ts'
import { compileFormat, isFormatError } from './format/compile.ts'
import type { LineParser } from './parser.ts'
import { createPreset, PRESET_NAMES } from './presets/index.ts'

/** What a receiver of lines is configured with. */
export interface ConfiguredLines {
  /** Form by name. '': found out by the lines. */
  readonly preset: string
  /** Format string as in Envoy's own configuration; it goes before `preset`. */
  readonly format: string
}

/**
 * Makes a parser for each sender, since a preset remembers which of its forms came last. `option` is the part of the
 * configuration, for the message when it is wrong, which is told at once.
 */
export function configuredParser({ preset, format }: ConfiguredLines, option: string): () => LineParser {
  if (format !== '') {
    const parser = compileFormat(format)
    if (isFormatError(parser)) throw new SidecastError('SC1205', `${option}.format: ${parser.error}`)
    return () => parser
  }
  const name = preset === '' ? 'auto' : preset
  if (createPreset(name) === null) {
    throw new SidecastError('SC1205', `${option}.preset: there is no ${preset}`, {
      help: `use one of ${PRESET_NAMES.join(', ')}`,
    })
  }
  return () => createPreset(name)!
}
