import type { User } from './settings.ts'
import { type Token, tokensOf } from './statement.ts'

/**
 * The embedded engine gives every statement an id of its own and takes none. Ours, which callers know, travels in
 * `log_comment`; so that a caller finds and ends its statements as on a server, what asks for `query_id` is put in
 * terms of that. Words in quotes and comments stay as they are.
 */
const OUR_ID = "Settings['log_comment']"
/** Background work of the engine has no id of ours and keeps its own. */
const PROCESSES = `(SELECT * REPLACE(if(${OUR_ID} = '', query_id, ${OUR_ID}) AS query_id) FROM system.processes)`

/**
 * For `KILL QUERY`. A reader may end what a reader runs, and only by id: in any other words the statement is refused,
 * as undefined.
 */
export function killByOurIds(sql: string, user: User): string | undefined {
  const tokens = [...tokensOf(sql)]
  const known = replaced(
    sql,
    tokens.filter(({ text }) => text === 'QUERY_ID').map((token) => ({ from: token, to: token, text: OUR_ID })),
  )
  if (user === 'writer') return known
  const words = tokens.map(({ text }) => text).join(' ')
  if (!/^KILL QUERY WHERE QUERY_ID = (?:'|\{ \w+ : STRING \})(?: (?:A?SYNC|TEST))?$/.test(words)) return undefined
  return known.replace(/\bWHERE\b/i, "WHERE Settings['readonly'] = '1' AND")
}

/** For a SELECT `FROM system.processes`. */
export function processesByOurIds(sql: string): string {
  if (!/processes/i.test(sql)) return sql
  const tokens = [...tokensOf(sql)]
  const found = tokens.flatMap((token, index) => {
    const [source, dot, table] = [tokens[index - 1], tokens[index + 1], tokens[index + 2]]
    const isTable = token.text === 'SYSTEM' && dot?.text === '.' && table?.text === 'PROCESSES'
    return isTable && (source?.text === 'FROM' || source?.text === 'JOIN')
      ? [{ from: token, to: table, text: PROCESSES }]
      : []
  })
  return replaced(sql, found)
}

interface Replacement {
  readonly from: Token
  readonly to: Token
  readonly text: string
}

function replaced(sql: string, replacements: readonly Replacement[]): string {
  let [result, at] = ['', 0]
  for (const { from, to, text } of replacements) {
    result += sql.slice(at, from.at) + text
    at = to.end
  }
  return result + sql.slice(at)
}
