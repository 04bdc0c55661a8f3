// Judges answers by the API's description: one a line of standard input, {"path", "method",
// "status", "type", "body"}. Prints how many there were, or the first ones that do not fit.
import Ajv2020 from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { readFileSync } from 'node:fs'

const document = JSON.parse(readFileSync('openapi.json', 'utf8'))
const ajv = new Ajv2020({ strict: false, allErrors: true })
addFormats(ajv)
ajv.addFormat('int32', { type: 'number', validate: (n) => Math.abs(n) <= 2 ** 31 })
ajv.addFormat('int64', { type: 'number', validate: (n) => Math.abs(n) <= 2 ** 63 })
ajv.addFormat('binary', true)
ajv.addSchema({ $id: 'api', components: document.components })
const validators = new Map()

function resolve(value) {
  return value?.$ref === undefined ? value
    : value.$ref.slice(2).split('/').reduce((at, name) => at[name], document)
}

function validator(schema) {
  const text = JSON.stringify(schema).replaceAll('"#/components', '"api#/components')
  if (!validators.has(text)) validators.set(text, ajv.compile(JSON.parse(text)))
  return validators.get(text)
}

const wrong = []
let count = 0
for (const line of readFileSync(0, 'utf8').split('\n')) {
  if (line === '') continue
  const { path, method, status, type, body } = JSON.parse(line)
  const { responses } = document.paths[path][method.toLowerCase()]
  const schema = resolve(responses[status] ?? responses.default).content?.[type]?.schema
  count++
  if (schema === undefined) continue // bytes of any type: the other validator knows where they may be
  const validate = validator(schema)
  if (!validate(JSON.parse(body)))
    wrong.push(`${method} ${path} ${status}: ${ajv.errorsText(validate.errors)}\n${body}`)
}
console.log(wrong.length === 0 ? `${count} answers judged by a validator of npm` : wrong.slice(0, 10).join('\n'))
process.exit(wrong.length === 0 ? 0 : 1)
