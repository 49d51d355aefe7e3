/**
 * Places in the text of a JSON object. Values are not made: what a parser wants of them it reads from the line itself.
 * Every function returns −1 for what is no JSON.
 */

/** Nesting of values that are stepped over. */
export const DEPTH_MAX = 64

export function skipBlanks(line: string, at: number): number {
  for (;;) {
    const unit = line.charCodeAt(at)
    if (unit !== 32 && unit !== 9 && unit !== 10 && unit !== 13) return at
    at++
  }
}

/** Whether `text` stands at `at`. By hand: `startsWith` is a call into the runtime. */
export function isAt(line: string, at: number, text: string): boolean {
  for (let k = 0; k < text.length; k++) if (line.charCodeAt(at + k) !== text.charCodeAt(k)) return false
  return true
}

/** The place of the quote that ends the text whose opening quote is at `at`. */
export function endOfText(line: string, at: number): number {
  let end = line.indexOf('"', at + 1)
  while (end > 0) {
    let backslashes = 0
    while (line.charCodeAt(end - 1 - backslashes) === 92) backslashes++
    if ((backslashes & 1) === 0) return end
    end = line.indexOf('"', end + 1)
  }
  return -1
}

/** The text between two quotes, with escapes resolved; null when they are none of JSON. */
export function unescaped(line: string, start: number, end: number): string | null {
  const text = line.slice(start, end)
  if (!text.includes('\\')) return text
  try {
    return JSON.parse(`"${text}"`) as string
  } catch {
    return null
  }
}

/** Behind the number, `true`, `false` or `null` that begins at `at`. */
export function endOfScalar(line: string, at: number): number {
  let end = at
  for (;;) {
    const unit = line.charCodeAt(end)
    // Letters, digits, point, plus and minus.
    const part = (unit >= 48 && unit <= 57) || ((unit | 32) >= 97 && (unit | 32) <= 122) || unit === 46
    if (!part && unit !== 43 && unit !== 45) break
    end++
  }
  return end === at ? -1 : end
}

/** Behind the object or array that begins at `at`; −2 when it is nested too deep. */
export function endOfNested(line: string, at: number): number {
  let depth = 0
  for (let p = at; p < line.length; p++) {
    const unit = line.charCodeAt(p)
    if (unit === 34) {
      p = endOfText(line, p)
      if (p < 0) return -1
    } else if (unit === 123 || unit === 91) {
      if (++depth > DEPTH_MAX) return -2
    } else if ((unit === 125 || unit === 93) && --depth === 0) return p + 1
  }
  return -1
}
