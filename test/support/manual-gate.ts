import type { LaneGate } from '../../src/pipeline/lane.ts'

/** A gate that a test closes and opens. */
export interface ManualGate extends LaneGate {
  close(): void
  open(): void
}

export function createManualGate(): ManualGate {
  const onOpen: (() => void)[] = []
  const onClose: (() => void)[] = []
  let closed = false
  return {
    get closed() {
      return closed
    },
    onOpen: (listener) => void onOpen.push(listener),
    onClose: (listener) => void onClose.push(listener),
    close() {
      closed = true
      for (const listener of onClose) listener()
    },
    open() {
      closed = false
      for (const listener of onOpen) listener()
    },
  }
}
