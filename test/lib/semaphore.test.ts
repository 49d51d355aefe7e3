import { expect, it } from 'vitest'
import { createSemaphore } from '../../src/lib/semaphore.ts'

const never = new AbortController().signal

it('lets in as many as there are places, and the rest in order', async () => {
  const semaphore = createSemaphore(2)
  const [a, b] = [await semaphore.enter(never), await semaphore.enter(never)]
  const order: string[] = []
  const enterAs = async (name: string) => {
    const leave = await semaphore.enter(never)
    order.push(name)
    return leave
  }
  const c = enterAs('c')
  const d = enterAs('d')
  expect([semaphore.inside, semaphore.waiting]).toEqual([2, 2])
  a()
  a()
  const leaveC = await c
  expect([semaphore.inside, semaphore.waiting, order]).toEqual([2, 1, ['c']])
  leaveC()
  ;(await d)()
  b()
  expect([semaphore.inside, semaphore.waiting, order]).toEqual([0, 0, ['c', 'd']])
})

it('forgets who gives up waiting', async () => {
  const semaphore = createSemaphore(1)
  const leave = await semaphore.enter(never)
  const leaving = new AbortController()
  const waiting = semaphore.enter(leaving.signal)
  leaving.abort(new Error('gone'))
  await expect(waiting).rejects.toThrow('gone')
  await expect(semaphore.enter(leaving.signal)).rejects.toThrow('gone')
  leave()
  expect([semaphore.inside, semaphore.waiting]).toEqual([0, 0])
  ;(await semaphore.enter(never))()
})
