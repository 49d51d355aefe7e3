import type { Slo } from './slo.ts'

/**
 * What an alert of an objective is called. Rules for Prometheus and alerts of our own have the same labels, so that an
 * Alertmanager that gets both takes them for one.
 */
export const BURN_ALERT = 'ErrorBudgetBurn'

/** Labels of everything that is said of an objective, with the names of Sloth. */
export function slothLabels(slo: Slo): { sloth_id: string; sloth_service: string; sloth_slo: string } {
  return { sloth_id: slothId(slo), sloth_service: slo.service || slo.name, sloth_slo: slo.name }
}

export function slothId(slo: Slo): string {
  return slo.service === '' ? slo.name : `${slo.service}-${slo.name}`
}

export function alertLabels(slo: Slo, severity: 'page' | 'ticket'): Record<string, string> {
  return { ...labelNames(slo.labels), ...slothLabels(slo), severity, sloth_severity: severity }
}

export function alertSummary(slo: Slo): string {
  return `${slo.displayName || slo.name} burns its error budget too fast`
}

/** Label names of Prometheus have letters, digits and underscores alone. */
function labelNames(labels: Slo['labels']): Record<string, string> {
  return Object.fromEntries(
    Object.entries(labels).map(([name, value]) => [
      name.replaceAll(/[^a-zA-Z0-9_]/g, '_').replace(/^(?=\d)/, '_'),
      value,
    ]),
  )
}
