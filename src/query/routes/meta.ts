import type { FastifyInstance } from 'fastify'
import type { Static } from 'typebox'
import { PHASES } from '../../model/phases.ts'
import { ROLLUP_COLUMNS, ROLLUP_TIME, ROLLUP_TIMES } from '../../model/rollup-columns.ts'
import {
  CLASSES,
  FLAGS,
  OUTCOMES,
  PUBLIC_ROW_COLUMNS,
  ROLLUP_TABLES,
  ROW_TABLES,
  type RollupTable,
  type RowTable,
  SIDE_TABLES,
  type SideTable,
} from '../../model/schema.ts'
import { SIDE_COLUMNS, SIDE_MEANING } from '../../model/side-columns.ts'
import { requireColumn } from '../columns.ts'
import { answerWith, envelopeOf, nowNanos, type QueryContext } from '../context.ts'
import { ledgerAnswer, ledgerQuery, noQuery, type SchemaAnswer, schemaAnswer, statusAnswer } from '../schemas.ts'
import { formatMs, parseInterval } from '../time.ts'
import { documented } from './documented.ts'

type Table = SchemaAnswer['tables'][number]

const ROW_MEANING: Readonly<Record<RowTable, string>> = {
  requests: 'One finished request or connection; what the API answers from',
  attempts: 'One finished attempt at an upstream',
  progress: 'A start or periodic entry of something not finished',
  connections: 'One downstream connection, as the log of a listener has it',
}

/** What the API knows about itself and the process: schema, ledger, status. */
export function metaRoutes(app: FastifyInstance, context: QueryContext): void {
  const tables = [...ROW_TABLES.map(rowTable), ...ROLLUP_TABLES.map(rollupTable), ...SIDE_TABLES.map(sideTable)]
  app.get(
    '/api/v1/schema',
    documented('schema', 'Tables, columns, types, units, meaning', noQuery, schemaAnswer),
    (request, reply) =>
      answerWith(
        context,
        request,
        reply,
        async (): Promise<SchemaAnswer> => ({
          ...envelopeOf(context, null),
          tables,
          flags: [...FLAGS],
          classes: [...CLASSES],
          outcomes: [...OUTCOMES],
          phases: [...PHASES],
        }),
      ),
  )
  app.get<{ Querystring: Static<typeof ledgerQuery> }>(
    '/api/v1/ledger',
    documented('ledger', 'What was served, received, stored and lost, by node or adapter', ledgerQuery, ledgerAnswer),
    (request, reply) =>
      answerWith(context, request, reply, async (): Promise<Static<typeof ledgerAnswer>> => {
        const interval = parseInterval(request.query, nowNanos(context))
        const by = request.query.by ?? 'node'
        const nodes = context.ledger.nodes()
        const since = context.ledger.since()
        return {
          ...envelopeOf(context, {
            interval,
            stored: nodes.reduce((sum, node) => sum + node.stored, 0),
            precisionNs: context.ledger.precisionNs(),
          }),
          since: since === null ? null : formatMs(since),
          by,
          rows: by === 'node' ? [...nodes] : [...context.ledger.adapters()],
        }
      }),
  )
  app.get(
    '/api/v1/status',
    documented(
      'status',
      'Listeners, nodes, receivers, store, disk, and the steps of the first run',
      noQuery,
      statusAnswer,
    ),
    (request, reply) =>
      answerWith(
        context,
        request,
        reply,
        async (question): Promise<Static<typeof statusAnswer>> => ({
          ...envelopeOf(context, null),
          ...(await context.status.report(question.signal)),
        }),
      ),
  )
}

function rowTable(name: RowTable): Table {
  const asked = name === 'requests'
  return {
    name,
    meaning: ROW_MEANING[name],
    columns: PUBLIC_ROW_COLUMNS.map((column) => {
      const { kind, inRollups } = requireColumn(column.name, '')
      return {
        name: column.name,
        type: column.type,
        unit: column.unit ?? null,
        group: column.group,
        meaning: column.meaning,
        als: column.als ?? null,
        stored: column.expr === undefined,
        filter: asked,
        by: asked && kind !== 'map' && kind !== 'time' && kind !== 'duration',
        rollups: asked && inRollups,
      }
    }),
  }
}

function rollupTable(name: RollupTable): Table {
  const time = ROLLUP_TIMES[name]
  return {
    name,
    meaning: `Counts and histograms of the requests of one ${time === 'day' ? 'UTC day that is over' : time} and key`,
    columns: ROLLUP_COLUMNS.map((column) => ({
      name: column.name === ROLLUP_TIME ? time : column.name,
      type: column.type,
      unit: column.name === ROLLUP_TIME ? 'time' : /_(?:sum|min|max)$/.test(column.name) ? 'ns' : null,
      group: column.merge === 'key' ? 'key' : 'value',
      meaning: column.name === ROLLUP_TIME ? `Start of the ${time} that end_time is in` : column.meaning,
      als: null,
      stored: true,
      filter: false,
      by: false,
      rollups: false,
    })),
  }
}

function sideTable(name: SideTable): Table {
  return {
    name,
    meaning: SIDE_MEANING[name],
    columns: SIDE_COLUMNS[name]
      .filter((column) => column.internal !== true)
      .map((column) => ({
        name: column.name,
        type: column.type,
        unit: column.unit ?? null,
        group: column.group,
        meaning: column.meaning,
        als: null,
        stored: column.expr === undefined,
        filter: false,
        by: false,
        rollups: false,
      })),
  }
}
