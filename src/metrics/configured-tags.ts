import { SidecastError } from '../errors.ts'
import { ENVOY_TAGS, type TagRule, tagRules } from './envoy-tags.ts'
import { ISTIO_TAGS } from './istio-tags.ts'

/** `ingest.statsTags` of the configuration. */
export interface StatsTagsConfig {
  readonly rules: 'envoy' | 'istio' | 'none'
  readonly custom: readonly { readonly tag: string; readonly regex: string; readonly value: string }[]
}

/** The rules that the configuration asks for. Throws SC1205 when one of them is none. */
export function configuredTags({ rules, custom }: StatsTagsConfig): readonly TagRule[] {
  const specifiers = custom.map(({ tag, regex, value }) => ({
    tag_name: tag,
    regex,
    ...(value !== '' && { fixed_value: value }),
  }))
  const own = tagRules(specifiers, false)
  if (own.errors.length > 0) throw new SidecastError('SC1205', `ingest.statsTags.custom: ${own.errors.join('; ')}`)
  const base = { envoy: ENVOY_TAGS, istio: ISTIO_TAGS, none: [] }[rules]
  return [...base, ...own.rules]
}
