import { Ajv } from 'ajv'
import { fullFormats } from 'ajv-formats/dist/formats.js'
import { expect, test } from 'vitest'
import { PHASES as MODEL_PHASES } from '../../src/model/phases.ts'
import * as schemas from '../../src/query/schemas.ts'
import type * as page from '../../src/web/page/api.ts'
import { PHASES, REQUEST_COLUMNS } from '../../src/web/page/api.ts'
import { createFixtureApi } from '../support/page/api.ts'

/** The page's types and the fixture it is tested with are held against the API's own schemas. */
const ajv = new Ajv({ strict: false, formats: fullFormats })

const { answer } = createFixtureApi({ nowMs: Date.parse('2026-03-04T14:00:00Z'), visits: 300 })
const empty = createFixtureApi({ nowMs: Date.parse('2026-03-04T14:00:00Z'), visits: 0 }).answer

test.each([
  ['services', '', schemas.servicesAnswer],
  ['latency', 'step=10s', schemas.latencyAnswer],
  ['latency', 'q=0.5,0.99', schemas.latencyAnswer],
  ['phases', 'slowest=0.01', schemas.phasesAnswer],
  ['phases', 'by=destination_service', schemas.phasesAnswer],
  ['requests', 'order=duration&limit=7', schemas.requestsAnswer],
  ['status', '', schemas.statusAnswer],
] as const)('the fixture of %s?%s answers as the API does', (resource, query, schema) => {
  const validate = ajv.compile(schema)
  for (const each of [answer, empty]) {
    validate(each(resource, new URLSearchParams(query)))
    expect(validate.errors).toBeNull()
  }
})

test('the page asks for columns and phases that there are', () => {
  expect(PHASES).toEqual(MODEL_PHASES)
  expect(Object.keys(schemas.requestRow.properties)).toEqual(expect.arrayContaining([...REQUEST_COLUMNS]))
})

test('what the API promises is what the page reads', () => {
  // Checked by the compiler: each answer of the API can be taken for the page's type of it.
  const accept = {
    services: (value: schemas.ServicesAnswer): page.ServicesAnswer => value,
    latency: (value: schemas.LatencyAnswer): page.LatencyAnswer => value,
    phases: (value: schemas.PhasesAnswer): page.PhasesAnswer => value,
    status: (value: schemas.StatusReport & schemas.Envelope): page.StatusAnswer => value,
  }
  expect(Object.keys(accept)).toHaveLength(4)
})
