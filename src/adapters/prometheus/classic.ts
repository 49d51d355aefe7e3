/**
 * Upper bounds of the classic buckets of all of Istio's histograms, in ms and in bytes: Envoy's default ones
 * (`HistogramSettingsImpl::defaultBuckets`).
 */
export const ISTIO_BUCKETS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
]

/** Upper bounds of the classic buckets of phases, in seconds: phases are often shorter than a millisecond. */
export const PHASE_BUCKETS: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
]

/** Finds the classic bucket of a whole number: the first bound that is not below it, by its highest bit. */
export class ClassicBuckets {
  readonly bounds: readonly number[]
  /** Bounds in the unit of the values, then infinity. */
  readonly edges: Float64Array
  /** First bucket that a value of this bit length can be in. */
  readonly starts = new Uint8Array(34)

  /** `scale`: values per unit of the bounds. */
  constructor(bounds: readonly number[], scale: number) {
    if (bounds.length === 0 || bounds.length > 64)
      throw new RangeError(`${bounds.length} classic buckets: 1 … 64 are allowed`)
    bounds.forEach((bound, k) => {
      if (!(bound > (bounds[k - 1] ?? 0)) || !Number.isFinite(bound)) {
        throw new RangeError(`classic bucket bound ${bound} is not above the one before it`)
      }
    })
    this.bounds = bounds
    this.edges = Float64Array.from([...bounds.map((bound) => bound * scale), Number.POSITIVE_INFINITY])
    for (let bits = 0; bits < this.starts.length; bits++) {
      const lowest = bits === 0 ? 0 : 2 ** (bits - 1)
      this.starts[bits] = this.edges.findIndex((edge) => lowest <= edge)
    }
  }

  /** 0 … bounds.length; the last one is +Inf. */
  indexOf(value: number): number {
    const { edges } = this
    let k = this.starts[value < 4294967296 ? 32 - Math.clz32(value) : 33]!
    while (value > edges[k]!) k++
    return k
  }
}
