import { createGenerations } from '../../lib/generations.ts'
import { nearest } from '../../lib/nearest.ts'
import { compileFormat, isFormatError } from './format/compile.ts'
import type { LineParser } from './parser.ts'
import { createPreset, PRESET_NAMES } from './presets/index.ts'

/** What somebody says of the form of lines. Nothing: it is found out line by line. */
export interface FormChoice {
  readonly preset?: string | undefined
  /** An Envoy format string, or a JSON format as text. */
  readonly format?: string | undefined
}

/** Why a form cannot be used: the option at fault, what is wrong, and what to do. */
export interface FormProblem {
  readonly option: 'preset' | 'format'
  readonly problem: string
  readonly help?: string
}

export function createForm({ preset, format }: FormChoice): LineParser | FormProblem {
  if (preset !== undefined && format !== undefined) {
    return { option: 'format', problem: 'preset and format cannot both be given', help: 'leave one of them out' }
  }
  if (format !== undefined) {
    const compiled = compileFormat(format)
    return isFormatError(compiled) ? { option: 'format', problem: compiled.error } : compiled
  }
  const name = preset ?? 'auto'
  const parser = createPreset(name)
  if (parser !== null) return parser
  const guess = nearest(name.slice(0, 64), PRESET_NAMES)
  const help = guess === undefined ? `presets are ${PRESET_NAMES.join(', ')}` : `did you mean ${guess}?`
  return { option: 'preset', problem: `there is no preset ${JSON.stringify(name.slice(0, 100))}`, help }
}

export const isFormProblem = (form: LineParser | FormProblem): form is FormProblem => 'problem' in form

/** Forms by what was asked for, the last few hundred of them. What a parser remembers of the last line does no harm here. */
export function createForms(): (choice: FormChoice) => LineParser | FormProblem {
  const known = createGenerations<string, LineParser>(FORMS_MAX)
  return (choice) => {
    const key = JSON.stringify([choice.preset ?? null, choice.format ?? null])
    const found = known.get(key)
    if (found !== undefined) return found
    const form = createForm(choice)
    if (!isFormProblem(form)) known.set(key, form)
    return form
  }
}

const FORMS_MAX = 256
