import { expect, test } from 'vitest'
import { loadConfig } from '../../../src/config.ts'

const errorsOf = (...set: string[]) =>
  loadConfig({ set: set.map((option) => `adapters.otlp.${option}`), env: {} })
    .findings.filter(({ severity }) => severity === 'error')
    .map(({ path, message }) => `${path} ${message}`)

test.each([
  ['an endpoint that is none', ['endpoint=grpc://x:1'], /^adapters\.otlp\.endpoint .*grpc:/],
  ['itself', ['endpoint=localhost:9001'], /^adapters\.otlp\.endpoint .*itself/],
  ['itself by address', ['endpoint=http://127.0.0.1:9001'], /^adapters\.otlp\.endpoint .*itself/],
  ['headers that gRPC does not take', ['endpoint=c:4317', 'headers={"a b": "x"}'], /^adapters\.otlp\.headers .*"a b"/],
  ['headers of gRPC itself', ['endpoint=c:4317', 'headers={"grpc-timeout": "x"}'], /^adapters\.otlp\.headers/],
  ['values that are no ASCII', ['endpoint=c:4317', 'headers={"a": "ü"}'], /^adapters\.otlp\.headers(?!.*ü)/],
  ['an interval of nothing', ['endpoint=c:4317', 'metrics.interval=0s'], /^adapters\.otlp\.metrics\.interval/],
  ['a share above all', ['endpoint=c:4317', 'traces.sample=1.5'], /^adapters\.otlp\.traces\.sample/],
  ['a class that there is not', ['endpoint=c:4317', 'logs.classes=[failed]'], /^adapters\.otlp\.logs\.classes/],
])('%s is told by check-config', (_, set, told) => {
  const errors = errorsOf(...set)
  expect(errors.length).toBe(1)
  expect(errors[0]).toMatch(told)
})

test('nothing is wrong with a usual configuration, or with none', () => {
  expect(errorsOf('endpoint=https://api.example:443', 'headers={"X-Api-Key": "secret"}', 'traces.sample=1')).toEqual([])
  expect(errorsOf('traces.sample=1')).toEqual([])
})
