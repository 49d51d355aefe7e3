import uPlot from '/vendor/uplot.js'
import type { LatencyPoint } from './api.ts'
import { axisValue, type ChartUpdate, gridOf, noteText, QUANTILES, readoutText } from './chart-grid.ts'
import { fill, h, setAttribute } from './dom.ts'
import { type DurationUnit, unitFor } from './format.ts'
import { chartSentence, enoughFor } from './sentences.ts'
import { clock } from './time.ts'

/**
 * Latency over time: a line per quantile, one hue by lightness, named at its end; a band from low to high; hollow points
 * where there are too few requests for that quantile; everything after `through` is veiled, because it is not complete.
 * A gap is a gap, never zero. Dragging, or Shift with the arrow keys and Enter, chooses a window.
 */
export interface LatencyChart {
  readonly element: HTMLElement
  update(update: ChartUpdate): void
}

const HEIGHT_PX = 300

export function createLatencyChart(options: {
  /** Called with the window that was dragged. */
  readonly onWindow: (fromMs: number, toMs: number) => void
}): LatencyChart {
  const plotHost = h('div', { class: 'plot' })
  const picture = h(
    'div',
    { class: 'picture', role: 'img', tabindex: 0, keydown: (event) => key(event as KeyboardEvent) },
    plotHost,
  )
  const readout = h('p', { class: 'readout', 'aria-live': 'polite' })
  const notes = h('p', { class: 'quiet' })
  const element = h('div', { class: 'chart' }, picture, readout, notes)

  let plot: uPlot | undefined
  let shape = ''
  let current: ChartUpdate | undefined
  let times: number[] = []
  let byTime = new Map<number, LatencyPoint>()

  const rebuild = (): void => {
    plot?.destroy()
    plot = undefined
    shape = ''
    if (current !== undefined) draw(current)
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', rebuild)
  new ResizeObserver(() => {
    const width = plotHost.clientWidth
    if (plot !== undefined && width > 0 && width !== plot.width) plot.setSize({ width, height: HEIGHT_PX })
  }).observe(plotHost)

  function draw(update: ChartUpdate): void {
    const grid = gridOf(update)
    times = grid.times
    byTime = grid.byTime
    const { log } = grid
    // uPlot keeps its axes for life: another kind of axis is another plot.
    const wanted = `${log} ${update.zone} ${unitFor(grid.values)}`
    if (plot === undefined || shape !== wanted) {
      plot?.destroy()
      shape = wanted
      plot = new uPlot(plotOptions(log, unitFor(grid.values)), grid.data, plotHost)
    } else plot.setData(grid.data)
    setAttribute(
      picture,
      'aria-label',
      `${chartSentence(update.points, '0.99', (iso) => clock(Date.parse(iso), update.zone))}. Arrow keys read the values.`,
    )
    fill(notes, noteText(update, log))
  }

  function plotOptions(log: boolean, unit: DurationUnit): uPlot.Options {
    const style = getComputedStyle(element)
    const color = (name: string) => style.getPropertyValue(name).trim()
    const text = color('--text-quiet')
    const lines = [color('--p50'), color('--p90'), color('--p99')]
    const grid = { stroke: color('--line'), width: 1 }
    const font = `12px ${style.fontFamily}`
    return {
      width: Math.max(200, plotHost.clientWidth),
      height: HEIGHT_PX,
      padding: [12, 44, 0, 0],
      legend: { show: false },
      cursor: {
        drag: { x: true, y: false, setScale: false },
        points: { size: 8 },
        focus: { prox: -1 },
      },
      scales: {
        x: { time: true, range: () => [(current?.fromMs ?? 0) / 1000, (current?.toMs ?? 1) / 1000] },
        y: log
          ? { distr: 3, log: 10 }
          : { range: (_plot, _low, high) => [0, Number.isFinite(high) && high > 0 ? high * 1.08 : 1] },
      },
      axes: [
        {
          stroke: text,
          grid,
          ticks: grid,
          font,
          values: (_plot, splits) =>
            splits.map((at) => clock(at * 1000, current?.zone ?? 'utc').slice(0, axisDigits())),
        },
        {
          stroke: text,
          grid,
          ticks: grid,
          font,
          size: 64,
          values: (_plot, splits) => splits.map((ms) => (ms === null ? '' : axisValue(ms, unit))),
        },
      ],
      series: [
        {},
        ...QUANTILES.flatMap((quantile, i): uPlot.Series[] => [
          {
            label: `p${Number(quantile) * 100}`,
            stroke: lines[i]!,
            width: 2,
            points: {
              show: true,
              size: 6,
              width: 1.5,
              stroke: lines[i]!,
              fill: color('--surface'),
              filter: (_plot, seriesIndex) => hollow(seriesIndex, quantile),
            },
          },
          { stroke: 'transparent', width: 0, points: { show: false } },
          { stroke: 'transparent', width: 0, points: { show: false } },
        ]),
      ],
      bands: QUANTILES.map((_quantile, i) => ({
        series: [3 * i + 3, 3 * i + 2] as [number, number],
        fill: `${lines[i]}40`,
      })),
      hooks: {
        setSelect: [
          (self) => {
            const { left, width } = self.select
            if (width < 4) return
            const [from, to] = [self.posToVal(left, 'x') * 1000, self.posToVal(left + width, 'x') * 1000]
            self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
            options.onWindow(from, to)
          },
        ],
        setCursor: [(self) => showReadout(self.cursor.idx ?? null)],
        draw: [(self) => veil(self, color('--surface'), text, font), (self) => nameLines(self, lines, font)],
      },
    }
  }

  /** Hollow points: too few requests for the quantile, or a point that no line reaches. */
  function hollow(seriesIndex: number, quantile: string): number[] {
    const values = plot?.data[seriesIndex] ?? []
    return times.flatMap((time, i) => {
      if (values[i] === null || values[i] === undefined) return []
      const few = !enoughFor(Number(quantile), byTime.get(time)?.n ?? 0)
      const alone = values[i - 1] == null && values[i + 1] == null
      return few || alone ? [i] : []
    })
  }

  /** Pales what is after the moment that is complete, and says so. */
  function veil(self: uPlot, surface: string, text: string, font: string): void {
    const through = current?.throughMs ?? null
    if (through === null || current === undefined || through >= current.toMs) return
    const { ctx, bbox } = self
    const x = Math.max(bbox.left, self.valToPos(through / 1000, 'x', true))
    if (x >= bbox.left + bbox.width) return
    ctx.save()
    ctx.globalAlpha = 0.6
    ctx.fillStyle = surface
    ctx.fillRect(x, bbox.top, bbox.left + bbox.width - x, bbox.height)
    ctx.globalAlpha = 1
    ctx.strokeStyle = text
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio])
    ctx.beginPath()
    ctx.moveTo(x, bbox.top)
    ctx.lineTo(x, bbox.top + bbox.height)
    ctx.stroke()
    if (bbox.left + bbox.width - x > 90 * devicePixelRatio) {
      ctx.fillStyle = text
      ctx.font = scaledFont(font)
      ctx.textAlign = 'left'
      ctx.fillText('not complete', x + 6 * devicePixelRatio, bbox.top + 14 * devicePixelRatio)
    }
    ctx.restore()
  }

  /** Names each line at its end; names that would touch are moved apart. */
  function nameLines(self: uPlot, colors: readonly string[], font: string): void {
    const { ctx, bbox } = self
    const names = QUANTILES.flatMap((quantile, i) => {
      const values = self.data[3 * i + 1]!
      const last = values.findLastIndex((value) => value !== null && value !== undefined)
      if (last < 0) return []
      return [{ text: `p${Number(quantile) * 100}`, color: colors[i]!, y: self.valToPos(values[last]!, 'y', true) }]
    }).sort((a, b) => a.y - b.y)
    ctx.save()
    ctx.font = scaledFont(font)
    ctx.textBaseline = 'middle'
    ctx.textAlign = 'left'
    let lowest = Number.NEGATIVE_INFINITY
    for (const name of names) {
      const y = Math.max(name.y, lowest + 14 * devicePixelRatio)
      lowest = y
      ctx.fillStyle = name.color
      ctx.fillText(name.text, bbox.left + bbox.width + 6 * devicePixelRatio, y)
    }
    ctx.restore()
  }

  function showReadout(index: number | null): void {
    const time = index === null ? undefined : times[index]
    fill(readout, time === undefined ? '' : readoutText(time, byTime.get(time), current))
  }

  function axisDigits(): number {
    return current !== undefined && current.toMs - current.fromMs <= 600_000 ? 8 : 5
  }

  let marked: number | null = null
  function key(event: KeyboardEvent): void {
    if (plot === undefined || times.length === 0) return
    const at = plot.cursor.idx ?? times.length - 1
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key]
    if (move !== undefined) {
      if (event.shiftKey) marked ??= at
      else marked = null
      const next = Math.max(0, Math.min(times.length - 1, at + move))
      plot.setCursor({ left: plot.valToPos(times[next]! / 1000, 'x'), top: 10 })
      if (marked !== null) {
        const [a, b] = [marked, next].map((i) => plot!.valToPos(times[i]! / 1000, 'x')).sort((x, y) => x - y)
        plot.setSelect({ left: a!, width: b! - a!, top: 0, height: plot.bbox.height }, false)
      }
    } else if (event.key === 'Enter' && marked !== null && marked !== at) {
      const [a, b] = [times[marked]!, times[at]!].sort((x, y) => x - y)
      marked = null
      plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
      options.onWindow(a!, b!)
    } else return
    event.preventDefault()
  }

  return {
    element,
    update(update) {
      current = update
      draw(update)
    },
  }
}

function scaledFont(font: string): string {
  return font.replace('12px', `${12 * devicePixelRatio}px`)
}
