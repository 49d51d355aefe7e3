/**
 * Limits that a Wavefront proxy checks lines against. Lengths are UTF-16 units, as Java counts them.
 *
 * A proxy gets its limits from the service at check-in and has defaults of its own without one; we cannot know which it
 * has, so what we make keeps to the stricter of the two.
 */
export interface Limits {
  readonly metricName: number
  readonly histogramName: number
  readonly source: number
  readonly tags: number
  readonly tagKey: number
  readonly tagValue: number
  readonly spanName: number
  readonly spanTags: number
  readonly spanTagKey: number
  readonly spanTagValue: number
}

/** What the hosted service sent to its proxies. */
export const HOSTED_LIMITS: Limits = {
  metricName: 256,
  histogramName: 256,
  source: 128,
  tags: 20,
  tagKey: 64,
  tagValue: 255,
  spanName: 128,
  spanTags: 50,
  spanTagKey: 128,
  spanTagValue: 128,
}

/** `ValidationConfiguration` of a proxy that was told nothing. */
export const PROXY_LIMITS: Limits = {
  metricName: 1023,
  histogramName: 1023,
  source: 1023,
  tags: 100,
  tagKey: 253,
  tagValue: 255,
  spanName: 128,
  spanTags: 20,
  spanTagKey: 128,
  spanTagValue: 128,
}

export const STRICT_LIMITS: Limits = stricter(HOSTED_LIMITS, PROXY_LIMITS)

/** Key and value of a point tag together, without the `=`: `k=v` has at most 255. Never configurable. */
export const TAG_MAX = 254
/** Centroids of one distribution. */
export const CENTROIDS_MAX = 100
/** Weights of centroids are Java's int. */
export const WEIGHT_MAX = 2 ** 31 - 1
/** A distribution of more centroids is digested again on arrival: twice the accuracy of a proxy's digests, 32. */
export const CENTROIDS_KEPT = 64
/** Bytes of a line on a metrics port; histogram and trace ports take more. */
export const LINE_BYTES_MAX = 32_768
/** Bytes of one JSON line with the logs of a span, as the service took them. */
export const SPAN_LOGS_BYTES_MAX = 32_768
/** `dataBackfillCutoffHours` and `dataPrefillCutoffHours` of a proxy. */
export const PAST_MS_MAX = 8760 * 3_600_000
export const FUTURE_MS_MAX = 24 * 3_600_000

function stricter(a: Limits, b: Limits): Limits {
  const names = Object.keys(a) as (keyof Limits)[]
  return Object.fromEntries(names.map((name) => [name, Math.min(a[name], b[name])])) as unknown as Limits
}
