import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import type { FastifyInstance } from 'fastify'
import { expect } from 'vitest'

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { responses: Record<string, Response> }>>>>
}
interface Response {
  readonly content?: Readonly<Record<string, { schema: object }>>
}
interface Answer {
  readonly statusCode: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

/** Holds answers against the server's own `/openapi.json`. */
export interface AnswerChecker {
  /** Asks, and returns the body when status, type and body are as documented. */
  get<Body = unknown>(url: string, status?: number, headers?: Readonly<Record<string, string>>): Promise<Body>
  /** How many answers were held against the document. */
  readonly checked: number
}

export async function createAnswerChecker(app: FastifyInstance): Promise<AnswerChecker> {
  await app.ready()
  const document = JSON.parse((await app.inject('/openapi.json')).body) as Document
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  ;(addFormats as unknown as (ajv: Ajv2020) => void)(ajv)
  const validators = new Map<string, ValidateFunction>()
  let checked = 0
  const check = (url: string, answer: Answer) => {
    const path = url.split('?')[0]!
    const type = String(answer.headers['content-type']).split(';')[0]!
    const id = `${path} ${answer.statusCode} ${type}`
    const responses = (document.paths[path] ?? document.paths[templateOf(path, document)])?.get?.responses
    const schema = responses?.[String(answer.statusCode)]?.content?.[type]?.schema
    if (schema === undefined) throw new Error(`${id} is not documented: ${answer.body.slice(0, 500)}`)
    let validate = validators.get(id)
    if (validate === undefined) {
      validate = ajv.compile(schema)
      validators.set(id, validate)
    }
    const body: unknown = JSON.parse(answer.body)
    expect(validate(body), `${url}: ${ajv.errorsText(validate.errors)}`).toBe(true)
    checked++
    return body
  }
  return {
    get checked() {
      return checked
    },
    async get<Body>(url: string, status = 200, headers: Readonly<Record<string, string>> = {}) {
      const answer = await app.inject({ url, headers })
      if (answer.statusCode !== status) throw new Error(`${url}: ${answer.statusCode} ${answer.body.slice(0, 1000)}`)
      return check(url, answer) as Body
    },
  }
}

/** `/api/v1/slos/{name}` for `/api/v1/slos/checkout`. */
function templateOf(path: string, document: Document): string {
  const pattern = (template: string) => new RegExp(`^${template.replaceAll(/\{[^}]*\}/g, '[^/]+')}$`)
  return Object.keys(document.paths).find((template) => template.includes('{') && pattern(template).test(path)) ?? ''
}
