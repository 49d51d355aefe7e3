/**
 * The page of a recorded scrape as it would be `round` scrapes later: every third number has grown, as on an Envoy with traffic.
 * Counters and cumulative buckets grow, so nothing looks like a restart.
 */
export function createChangingPage(recorded: Buffer, round: number): Buffer {
  let line = 0
  const grown = recorded.toString('latin1').replace(/ (\d+)\n/g, (whole, number: string) => {
    line++
    return line % 3 === 0 ? ` ${Number(number) + round * 7}\n` : whole
  })
  return Buffer.from(grown, 'latin1')
}
