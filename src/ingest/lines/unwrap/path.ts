import type { Hints } from './envelope.ts'

/**
 * What the path of a container's log file tells (kubelet's layouts):
 * `/var/log/pods/<namespace>_<pod>_<uid>/<container>/<n>.log` and
 * `/var/log/containers/<pod>_<namespace>_<container>-<64 hex>.log`. Null: some other file.
 */
export function hintsOfPath(path: string): Partial<Hints> | null {
  const pods = /\/pods\/([^/_]+)_([^/_]+)_[0-9a-f-]{32,36}\/([^/]+)\/\d+\.log[^/]*$/.exec(path)
  if (pods !== null) return { namespace: pods[1]!, pod: pods[2]!, container: pods[3]! }
  const containers = /\/containers\/([^/_]+)_([^/_]+)_([^/]+)-[0-9a-f]{64}\.log[^/]*$/.exec(path)
  if (containers !== null) return { pod: containers[1]!, namespace: containers[2]!, container: containers[3]! }
  return null
}
