// Random patterns, legal ones and others, and what this engine says of random strings: the program
// that runs this holds the database's translation of patterns against it. Prints a JSON array of
// {"pattern", "legal", "strings": [[string, verdict], …]}. Arguments: a seed, and how many.
let seed = Number(process.argv[2])

function random(n) {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
  return Math.floor(((seed >>> 8) / 16777216) * n)
}

const pick = (list) => list[random(list.length)]

const characters = [...'abZ09_- é٣ſKİ😀./^${}[]()|*+?\\ßΩ', '\n', '\r', '\t', '\v', '\f', '\b',
  '\u0001', '\u001f', '\u0085', '\u00a0', '\u1680', '\u180e', '\u2007', '\u200b', '\u2028', '\u2029',
  '\u3000', '\ufeff', '\ud7ff', '\ue000', '\u{10ffff}']
const plain = [...'abZ09_- é😀/,:<=!Kſ#"', '\n']
const escapes = ['d', 'D', 'w', 'W', 's', 'S', 'n', 't', 'r', 'f', 'v', '0', 'cA', 'cj', 'x41', 'xe9',
  'u0041', 'u00e9', 'ud83d\\ude00', 'u{1F600}', 'u{0000000061}', 'ud83d', ...'/.\\^$*+?()[]{}|']
  .map((e) => '\\' + e)
// What must be refused, or is nearly wrong.
const odd = ['\\a', '\\Z', '\\1', '\\k<a>', '\\p{L}', '\\P{Lu}', '\\-', '\\_', '\\x4', '\\u12', '\\8',
  '\\u{110000}', '\\c1', '\\01', ']', '{', '}', '{1', '(?i:a)', '(?<a', '(?>a)', '\\', '\\u{}', '\\y',
  '\\m', '***', '***:', '***=', '(?b)', '[[:alpha:]]', '[[.a.]]', '[a', 'a**', '(?', '(', ')', '\\"',
  '\\ ', '(?#x)', '[b-a]', '[\\d-z]', '[a-\\d]', '[\\1]', '[\\k]', '[\\B]', '[\\u{1]', '[\\c]', 'x{3,2}',
  'a{,3}', '^*', '$+', '(?=a)*', '\\b+', '|*', '(?<a>x)(?<a>y)']
const quantifiers = ['*', '+', '?', '{2}', '{0,2}', '{1,}', '{0}', '{01,3}']

function charClass() {
  let text = random(3) ? '[' : '[^'
  for (let i = random(4); i > 0; i--) {
    const kind = random(8)
    if (kind < 4) text += pick([...'abZ09_- é😀./^${}[(|*?', '\n', '\u2028'])
    else if (kind < 6) text += pick([...escapes, '\\b', '\\-'])
    else text += pick(['a', '0', 'A', '\\x00', ' ', 'é', '\\u{1F600}', '\\b', '-']) + '-' +
      pick(['z', '9', 'Z', '\\x7f', '\\uffff', '\\u{10ffff}', '~'])
  }
  return text + ']'
}

function atom(depth) {
  const kind = random(20)
  if (kind < 6) return pick(plain)
  if (kind < 8) return '.'
  if (kind < 12) return pick(escapes)
  if (kind < 15 || depth === 0) return charClass()
  return pick(['(', '(?:', `(?<n${random(1000000)}>`]) + alternatives(depth - 1) + ')'
}

function term(depth) {
  const kind = random(30)
  if (kind < 4) return ['^', '$', '\\b', '\\B'][kind]
  if (kind === 4 && depth > 0)
    return pick(['(?=', '(?!', '(?<=', '(?<!']) + alternatives(depth - 1) + ')'
  if (kind === 5 && random(6) === 0) return pick(odd)
  return atom(depth) + (random(3) ? '' : pick(quantifiers) + (random(4) ? '' : '?'))
}

function alternatives(depth) {
  const one = () => Array.from({ length: random(4) }, () => term(depth)).join('')
  return random(4) ? one() : one() + '|' + one()
}

function compile(pattern) {
  try {
    return new RegExp(pattern, 'uy')
  } catch {
    return null
  }
}

// A match that begins at a character: searching, this engine begins within surrogate pairs as well.
function matches(regex, string) {
  for (let at = 0; at <= string.length; at += string.codePointAt(at) > 0xffff ? 2 : 1) {
    regex.lastIndex = at
    if (regex.test(string)) return true
  }
  return false
}

const found = []
for (let i = Number(process.argv[3]); i > 0; i--) {
  const pattern = (random(2) ? '^' : '') + alternatives(3) + (random(2) ? '$' : '')
  const regex = compile(pattern)
  const strings = Array.from({ length: regex === null ? 0 : 12 }, () => {
    const string = Array.from({ length: random(5) }, () => pick(random(2) ? characters : [...'ab0_é']))
      .join('')
    return [string, matches(regex, string)]
  })
  found.push({ pattern, legal: regex !== null, strings })
}
process.stdout.write(JSON.stringify(found))
