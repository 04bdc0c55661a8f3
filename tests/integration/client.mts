// The ten usual calls by a client whose types were generated from the API's description: they
// compile, and the service answers what the types say. Arguments: where the API is, and a token.
import createClient from 'openapi-fetch'
import type { components, paths } from './api.js'

declare const process: { argv: string[] }

const [, , baseUrl, token] = process.argv
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } })

type Config = components['schemas']['Config']
type DryRun = components['schemas']['DryRun']

function isDryRun(answer: object): answer is DryRun {
  return 'dry_run' in answer
}

function must<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.error !== undefined) throw new Error(`${answer.response.url}: ${JSON.stringify(answer.error)}`)
  return answer.data as T
}

function equal<T>(found: T, expected: T): void {
  if (JSON.stringify(found) !== JSON.stringify(expected))
    throw new Error(`${JSON.stringify(found)} is not ${JSON.stringify(expected)}`)
}

// 1 and 2: a node is made, and changed.
const node = { path: { name: 'ts1' } }
const made = await client.PUT('/v1/nodes/{name}', { params: node, body: { labels: { site: 'north', slot: 3 } } })
must(made)
equal(made.response.status, 201)
const tag = made.response.headers.get('ETag') ?? ''
must(await client.PUT('/v1/nodes/{name}', { params: { ...node, header: { 'If-Match': tag } },
  body: { labels: { site: 'north', slot: 3 }, description: 'by a client' } }))

// 3: it is read.
equal(must(await client.GET('/v1/nodes/{name}', { params: node })).labels, { site: 'north', slot: 3 })

// 4: a config, twice; a write's answer is the resource.
const config = { path: { name: 'ts' }, query: { message: 'first' } }
must(await client.PUT('/v1/configs/{name}', { params: config, body: { rate_hz: 1 } }))
const written = must(await client.PUT('/v1/configs/{name}', { params: config, body: { rate_hz: 2 } }))
if (isDryRun(written)) throw new Error('it was no dry run')
const typed: Config = written
equal(typed.revision, 2)

// 5: an assignment.
must(await client.PUT('/v1/assignments/{name}', { params: { path: { name: 'ts' } },
  body: { config: 'ts', selector: { site: 'north' }, priority: 5 } }))

// 6: a dry run says what would change.
const tried = must(await client.PUT('/v1/configs/{name}', {
  params: { path: { name: 'ts' }, query: { dry_run: 'true' } }, body: { rate_hz: 3 } }))
if (!isDryRun(tried)) throw new Error('it was a dry run')
equal(tried.changes[0].diff?.[0].path, '/rate_hz')

// 7: the pages of a list, with some members alone.
let after: string | undefined
const seen: (string | undefined)[] = []
must(await client.PUT('/v1/nodes/{name}', { params: { path: { name: 'ts0' } }, body: {} }))
do {
  const page = must(await client.GET('/v1/nodes', { params: { query: { limit: 1, after, fields: 'name' } } }))
  seen.push(...page.items.map((item) => item.name))
  after = page.next ?? undefined
} while (after !== undefined)
equal(seen, ['ts0', 'ts1'])

// 8: what the node should run, and how the fleet does.
equal(must(await client.GET('/v1/nodes/{name}/desired', { params: node })).sources.length, 1)
const fleet = must(await client.GET('/v1/fleet', { params: { query: { node: 'ts1' } } }))
equal(fleet.items[0].desired_revision, 1)
equal(fleet.items[0].held ?? null, null)

// 9: several resources at once.
const applied = must(await client.POST('/v1/apply', { params: { header: { 'Idempotency-Key': 'ts-9' } },
  body: { resources: [{ kind: 'node', name: 'ts2' }, { kind: 'config', name: 'ts', text: '{}' }] } }))
if (isDryRun(applied)) throw new Error('it was no dry run')
equal(applied.results.map((one) => one.result), ['created', 'changed'])

// 10: back to an older revision; then all of it goes.
must(await client.POST('/v1/configs/{name}/rollback', { params: { path: { name: 'ts' } }, body: { revision: 1 } }))
must(await client.DELETE('/v1/assignments/{name}', { params: { path: { name: 'ts' } } }))
must(await client.DELETE('/v1/configs/{name}', { params: { path: { name: 'ts' } } }))
const gone = await client.GET('/v1/configs/{name}', { params: { path: { name: 'ts' } } })
equal(gone.error?.type, 'urn:headwater:problem:no-such-resource')

console.log('all calls were answered')
