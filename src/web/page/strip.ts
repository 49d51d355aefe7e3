import { PHASES } from './api.ts'
import { h } from './dom.ts'
import { duration, percent } from './format.ts'
import { type PhaseTimes, phaseSentence, stripKey, totalOf } from './phases.ts'
import type { CellElement } from './table.ts'

/** One bar of seven parts in the order of flow: the same glyph in every table and picture. */
export function phaseStrip(times: PhaseTimes | null): HTMLElement {
  if (times === null) return h('span', { class: 'quiet' }, 'phases not known')
  const total = totalOf(times)
  const parts = PHASES.map((phase) => {
    const part = h('span', {
      class: `part ${phase}`,
      title: `${phase}: ${duration(times[phase])}, ${percent(total > 0 ? times[phase] / total : 0, 1_000)}`,
    })
    // Nothing that took time is invisible: the stylesheet gives a part at least 2 px.
    part.style.flexGrow = String(total > 0 ? times[phase] / total : 0)
    part.hidden = times[phase] <= 0
    return part
  })
  return h('span', { class: 'strip', role: 'img', 'aria-label': phaseSentence(times) }, ...parts)
}

/** The strip as the cell of a table. */
export function stripCell(times: PhaseTimes | null): CellElement {
  return { key: stripKey(times), make: () => phaseStrip(times) }
}
