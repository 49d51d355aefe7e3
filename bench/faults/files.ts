import { type JournalFiles, realFiles } from '../../src/pipeline/journal-files.ts'

/**
 * The journal's system calls, of a process that can be killed and on a disk that can be full. A killed process changes
 * nothing any more, wherever it is; what it wrote before stays, as it does in the page cache.
 */
export class MortalFiles implements JournalFiles {
  /** Bytes that the disk has left. */
  room = Number.POSITIVE_INFINITY
  dead = false

  open(path: string, mode: 'create' | 'reuse'): number {
    this.#live()
    return realFiles.open(path, mode)
  }

  writev(fd: number, buffers: readonly Uint8Array[], position: number): number {
    this.#live()
    const all = Buffer.concat(buffers)
    const fits = Math.min(all.length, this.room)
    if (fits <= 0 && all.length > 0) throw failure('ENOSPC')
    const written = realFiles.writev(fd, [all.subarray(0, fits)], position)
    this.room -= written
    return written
  }

  truncate(fd: number, bytes: number): void {
    this.#live()
    realFiles.truncate(fd, bytes)
  }

  close(fd: number): void {
    realFiles.close(fd)
  }

  async sync(_fd: number): Promise<void> {
    // The machine stays up: what a disk would do is `damage`.
    this.#live()
  }

  async syncDirectory(_path: string): Promise<void> {
    this.#live()
  }

  mkdir(path: string): void {
    this.#live()
    realFiles.mkdir(path)
  }

  rename(from: string, to: string): void {
    this.#live()
    realFiles.rename(from, to)
  }

  remove(path: string): void {
    this.#live()
    realFiles.remove(path)
  }

  async discard(path: string): Promise<void> {
    this.#live()
    await realFiles.discard(path)
  }

  #live(): void {
    if (this.dead) throw failure('EIO')
  }
}

const failure = (code: string): Error => Object.assign(new Error(code), { code })
