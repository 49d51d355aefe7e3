import { readFile } from 'node:fs/promises'
import { replaceFile } from '../lib/durable-file.ts'
import { ALERT_STATES, type Alert, alertId } from './alert.ts'

/**
 * Alerts are kept on disk, so that one which ends while the process is away is told as ended after its return, and one that
 * goes on is the same one.
 */
export async function saveAlerts(path: string, alerts: Iterable<Alert>): Promise<void> {
  await replaceFile(path, `${JSON.stringify({ version: 1, alerts: [...alerts] })}\n`)
}

/** None, where there is no file or it cannot be read: conditions are looked at anew anyway. */
export async function loadAlerts(path: string): Promise<Map<string, Alert>> {
  let saved: unknown
  try {
    saved = JSON.parse(await readFile(path, 'utf8'))
  } catch {
    return new Map()
  }
  if (!isObject(saved) || saved.version !== 1 || !Array.isArray(saved.alerts)) return new Map()
  return new Map(saved.alerts.filter(isAlert).map((alert) => [alert.id, alert]))
}

function isAlert(value: unknown): value is Alert {
  if (!isObject(value)) return false
  const { id, labels, annotations, state, activeMs, firedMs, resolvedMs, slo } = value
  return (
    isTexts(labels) &&
    isTexts(annotations) &&
    id === alertId(labels) &&
    ALERT_STATES.some((known) => known === state) &&
    isTime(activeMs) &&
    (state === 'pending' ? firedMs === null : isTime(firedMs)) &&
    (state === 'resolved' ? isTime(resolvedMs) : resolvedMs === null) &&
    typeof slo === 'string'
  )
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}

function isTexts(value: unknown): value is Readonly<Record<string, string>> {
  return isObject(value) && Object.values(value).every((text) => typeof text === 'string')
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Math.abs(value) <= 8.64e15
}
