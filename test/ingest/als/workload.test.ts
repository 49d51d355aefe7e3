import { expect, test } from 'vitest'
import { workloadOfOwner, workloadOfPod } from '../../../src/ingest/als/workload.ts'

test.each([
  ['ledger-v1-6d5f7c9b8-x2k4j', 'ledger-v1'],
  ['ledger-78d4b9c5f-9zqwr', 'ledger'],
  ['ledger-1345314204-m7vzk', 'ledger'], // Hashes of Kubernetes before 1.9.
  ['mysql-0', 'mysql'],
  ['node-agent-x2k4j', 'node-agent'],
  ['web-frontend-proxy', 'web-frontend-proxy'],
  ['standalone', 'standalone'],
  ['', ''],
])('the pod %s belongs to the workload %s', (pod, workload) => {
  expect(workloadOfPod(pod)).toBe(workload)
})

test.each([
  ['kubernetes://apis/apps/v1/namespaces/bank/deployments/ledger', 'ledger'],
  ['kubernetes://apis/batch/v1/namespaces/bank/cronjobs/report', 'report'],
  ['kubernetes://apis/v1/namespaces/bank/pods/', ''],
  ['//something/else', ''],
  ['', ''],
])('the owner %s is the workload "%s"', (owner, workload) => {
  expect(workloadOfOwner(owner)).toBe(workload)
})
