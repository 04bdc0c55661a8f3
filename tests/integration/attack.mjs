// A node that turned bad: with the account that `permissions` prints for it, and what it can guess or
// was told, it tries one kind of harm. test_attack.c looks afterwards what became of the others.
//
//     node attack.mjs URL NODE PREFIX ATTACK [INBOX…]
//
// URL has user and password; PREFIX is that of a node behind a leaf node, or empty; INBOX is where
// the server delivers to the reconciler, which a node cannot know. Prints `heard …` for each message
// that is about somebody else, and `done` at the end.
import { createConnection } from 'node:net';
import { connect, Empty } from 'nats';

const [url, node, prefix, attack, ...inboxes] = process.argv.slice(2);
const { hostname, port, username, password } = new URL(url);
const reports = '$KV.headwater_reports.cfg';
const streams = ['KV_headwater', 'KV_headwater_reports', 'OBJ_headwater'];
const api = (call) => streams.map((stream) => `$JS.API.${call}.${stream}`);

// All that the account imports.
const keys = [`${reports}.reported.${node}`, `${reports}.proposed.${node}`];
const asks = [
  `$JS.API.DIRECT.GET.KV_headwater.$KV.headwater.cfg.desired.${node}`,
  `$JS.API.DIRECT.GET.KV_headwater.$KV.headwater.cfg.decided.${node}`,
  ...keys.map((key) => `$JS.API.DIRECT.GET.KV_headwater_reports.${key}`),
  '$JS.API.DIRECT.GET.OBJ_headwater.$O.headwater.M.x',
  '$JS.API.DIRECT.GET.OBJ_headwater',
];
const alive = `headwater.alive.${node}`;
const own = [...keys, ...asks, alive];

// What belongs to others.
const theirs = [
  ...['cfg.checkpoint', 'cfg.desired.n1', 'cfg.decided.n2', 'cfg.desired.*', 'cfg.>', '>', 'x'].map(
    (key) => `$KV.headwater.${key}`,
  ),
  ...['reported.n1', 'proposed.n2', 'reported.*', 'proposed.>', `reported.${node}.x`, '*.n1', 'x'].map(
    (key) => `${reports}.${key}`,
  ),
  ...['M.x', 'C.x', 'M.*', '>'].map((key) => `$O.headwater.${key}`),
  ...['desired.n1', 'decided.n2', 'alive.n1', 'alive.*', 'leader', `desired.${node}`, 'checkpoint'].map(
    (key) => `headwater.${key}`,
  ),
];
const calls = [
  ...['DELETE', 'PURGE', 'UPDATE', 'CREATE', 'MSG.DELETE', 'MSG.GET', 'SNAPSHOT', 'RESTORE', 'INFO'].flatMap(
    (call) => api(`STREAM.${call}`),
  ),
  ...['PEER.REMOVE', 'LEADER.STEPDOWN'].flatMap((call) => api(`STREAM.${call}`)),
  ...['CREATE', 'LIST', 'NAMES', 'DURABLE.CREATE'].flatMap((call) => api(`CONSUMER.${call}`)),
  ...inboxes.flatMap((inbox) => api('CONSUMER.DELETE').map((call) => `${call}.${inbox}`)),
  ...api('DIRECT.GET').slice(0, 2),
  ...theirs.map((subject) => `$JS.API.DIRECT.GET.KV_headwater.${subject}`),
  ...theirs.map((subject) => `$JS.API.DIRECT.GET.KV_headwater_reports.${subject}`),
  ...['STREAM.LIST', 'STREAM.NAMES', 'INFO', 'ACCOUNT.PURGE.headwater'].map((call) => `$JS.API.${call}`),
  ...['SERVER.PING', 'SERVER.PING.JSZ', 'ACCOUNT.headwater.INFO'].map((call) => `$SYS.REQ.${call}`),
];
const guessed = inboxes.flatMap((inbox) => [inbox, `${inbox}.x`]);
const words = streams.flatMap((stream) => [
  `$JS.FC.${stream}.x.y`,
  `$JS.ACK.${stream}.x.1.1.1.1700000000000000000.0`,
]);
const replies_to = [...theirs, ...calls, ...guessed, ...words, '_INBOX.>', '_INBOX.x', '_R_.x', '>'];

// As this node has to name it, and as JetStream does.
const mapped = (subject) =>
  subject.startsWith('$') ? `${prefix}.${subject.replace(/^\$JS\.API\./, '')}` : subject;
const ways = (subject) => (prefix === '' ? [subject] : [...new Set([mapped(subject), subject])]);

const block = (...lines) => ['NATS/1.0', ...lines, '', ''].join('\r\n');
const report = (members) =>
  JSON.stringify({ node, state: 'applied', agent: 'bad', boot_id: 'b', ...members });

// ---- the protocol itself, where a client would put right what we mean ----

const published = (subject, reply, header, body) => {
  const data = Buffer.from(body);
  const block_ = Buffer.from(header);
  const to = reply === '' ? subject : `${subject} ${reply}`;
  return block_.length === 0
    ? [`PUB ${to} ${data.length}\r\n`, data, '\r\n']
    : [`HPUB ${to} ${block_.length} ${block_.length + data.length}\r\n`, block_, data, '\r\n'];
};

// Sends what there is, one list of pieces a message, and waits until the server has read all of it,
// or wants no more. What it says meanwhile is for `judge`.
async function send(messages) {
  const socket = createConnection({ host: hostname, port });
  const chunks = [];
  const ended = new Promise((resolve) => {
    socket.on('close', resolve);
    socket.on('error', resolve);
    socket.on('data', (data) => {
      chunks.push(data);
      const tail = Buffer.concat(chunks.slice(-2)).toString('latin1');
      if (tail.endsWith('PING\r\n')) socket.write('PONG\r\n');
      if (tail.includes('PONG\r\n')) resolve();
    });
  });
  const options = { verbose: false, pedantic: false, headers: true, no_responders: true, user: username, pass: password };
  const pieces = [`CONNECT ${JSON.stringify(options)}\r\nSUB _INBOX.mine.> 1\r\n`];
  for (const message of messages) pieces.push(...message);
  pieces.push('PING\r\n');
  socket.write(Buffer.concat(pieces.map((piece) => Buffer.from(piece))));
  await ended;
  socket.destroy();
  judge(Buffer.concat(chunks).toString('latin1'));
}

// What only others write; forged messages come back as this node's own.
function judge(text) {
  const found = /"node":"n[12]","revision"|"(agent|ref)":"r\d|"system_id"/.exec(text);
  if (found !== null) console.log(`heard ${found[0]} in ${text.slice(found.index, found.index + 300)}`);
}

// Every combination, on every name that the subject has.
function* every(subjects, replies, blocks, bodies) {
  for (const subject of subjects)
    for (const name of ways(subject))
      for (const reply of replies)
        for (const header of blocks) for (const body of bodies) yield published(name, reply, header, body);
}

// ---- the attacks ----

const statuses = [
  '100 Idle Heartbeat',
  '100 FlowControl Request',
  '100',
  '404 No Messages',
  '408 Request Timeout',
  '409 Consumer Deleted',
  '409 Message Size Exceeds MaxBytes',
  '503',
  '503 No Responders',
  'abc',
  '',
].map((status) => `NATS/1.0${status === '' ? '' : ` ${status}`}`);
const control = [
  [],
  ['Nats-Consumer-Stalled: $JS.API.STREAM.DELETE.KV_headwater'],
  ['Nats-Consumer-Stalled: $KV.headwater.cfg.checkpoint'],
  ['Nats-Consumer-Stalled: $JS.FC.KV_headwater_reports.x.y'],
  ['Nats-Last-Consumer: 1', 'Nats-Last-Stream: 1'],
  ['Nats-Last-Consumer: 18446744073709551615'],
  [
    'Nats-Sequence: 1',
    'Nats-Subject: $KV.headwater.cfg.checkpoint',
    'Nats-Stream: KV_headwater',
    'Nats-Time-Stamp: 2026-01-01T00:00:00Z',
  ],
  ['Headwater-Epoch: 4294967295', 'Headwater-LSN: FFFFFFFF/FFFFFFFF', 'Headwater-Signature: x'],
  ['Status: 503', 'Description: x', 'Nats-Pending-Messages: 1', 'Nats-Pending-Bytes: 1'],
  ['no field at all'],
  [': no name'],
  ['a:\0b', 'c: \xff\xfe'],
  [`long: ${'x'.repeat(60000)}`],
];

async function control_headers() {
  for (const status of statuses) {
    const blocks = control.map((lines) => [status, ...lines, '', ''].join('\r\n'));
    await send([
      ...every(keys, ['', '_INBOX.mine.x'], blocks, ['', '{}']),
      ...every(keys, [`${reports}.reported.n1`], blocks, ['']),
      ...every([...asks, alive], ['_INBOX.mine.x'], blocks, ['']),
    ]);
  }
  // Not even a header block.
  await send(every(own, [''], ['NATS/1.0', 'NATS/1.0\r\n', '\r\n\r\n', 'x', '\0\0\0\0'], ['', '{}']));
}

// A reply subject with a wildcard ends nats-server before 2.9.15 (docs/operations.md).
async function replies() {
  const [, minor, patch] = (await version()).split('.').map(Number);
  const sound = minor > 9 || patch >= 15;
  const targets = replies_to.filter((subject) => sound || !/[*>]/.test(subject));
  await send(every(own, targets, ['', block('Nats-Msg-Id: 1')], ['']));
  await send(every(keys, targets, [''], [report()]));
  const nc = await dial();
  for (const subject of own)
    for (const name of ways(subject))
      for (const reply of targets)
        try {
          nc.publish(name, Empty, { reply });
        } catch {
          // The client knows better.
        }
  await nc.flush();
  for (const subject of own)
    await nc.request(ways(subject)[0], Empty, { timeout: 300 }).then((msg) => judge(msg.string()), () => {});
  await nc.close();
}

async function rollups() {
  const blocks = [];
  for (const rollup of ['sub', 'all', 'SUB', 'x', ''])
    for (const operation of [[], ['KV-Operation: PURGE'], ['KV-Operation: DEL'], ['KV-Operation: x']])
      blocks.push(block(...operation, `Nats-Rollup: ${rollup}`));
  for (const operation of ['PURGE', 'DEL', 'PUT', 'x', '']) blocks.push(block(`KV-Operation: ${operation}`));
  await send(every(own, ['', '_INBOX.mine.x'], blocks, ['', '{}']));
  const nc = await dial();
  const manager = await nc.jetstreamManager({ checkAPI: false, timeout: 300 });
  await refused(() => manager.streams.purge('KV_headwater_reports'));
  await refused(() => manager.streams.purge('KV_headwater_reports', { filter: keys[0] }));
  await refused(() => manager.streams.deleteMessage('KV_headwater_reports', 1));
  await nc.close();
}

async function expectations() {
  const blocks = [];
  const numbers = ['0', '1', '-1', '18446744073709551615', '99999999999999999999', 'x', ''];
  for (const number of numbers) {
    blocks.push(block(`Nats-Expected-Last-Sequence: ${number}`));
    blocks.push(block(`Nats-Expected-Last-Subject-Sequence: ${number}`));
    for (const subject of [keys[0], ...theirs])
      blocks.push(
        block(
          `Nats-Expected-Last-Subject-Sequence: ${number}`,
          `Nats-Expected-Last-Subject-Sequence-Subject: ${subject}`,
        ),
      );
  }
  for (const stream of [...streams, 'x', '']) blocks.push(block(`Nats-Expected-Stream: ${stream}`));
  for (const id of ['1', 'x', '']) blocks.push(block(`Nats-Expected-Last-Msg-Id: ${id}`));
  await send(every(keys, ['', '_INBOX.mine.x'], blocks, ['{}']));
}

// Words of servers from 2.10 to 2.15; older ones store them.
async function newer_headers() {
  const at = new Date(Date.now() + 1000).toISOString();
  const others = [`${reports}.reported.n1`, '$KV.headwater.cfg.checkpoint', '$JS.API.STREAM.DELETE.KV_headwater'];
  const blocks = [
    ...['1s', '1', 'never', '0', '-1', 'x'].map((ttl) => block(`Nats-TTL: ${ttl}`)),
    ...['', 'x', 'x'].map((id) => block(`Nats-Msg-Id: ${id}`)),
    ...['+1', '-9223372036854775808', 'x'].map((by) => block(`Nats-Incr: ${by}`)),
    ...others.flatMap((other) => [
      block(`Nats-Schedule: @at ${at}`, `Nats-Schedule-Target: ${other}`),
      block('Nats-Schedule: @every 1s', `Nats-Schedule-Target: ${other}`, 'Nats-Schedule-TTL: 1s'),
      block('Nats-Schedule: @every 1s', `Nats-Schedule-Target: ${keys[0]}`, `Nats-Schedule-Source: ${other}`),
      block(`Nats-Scheduler: ${other}`, 'Nats-Schedule-Next: purge'),
      block(`Nats-Trace-Dest: ${other}`),
      block(`Nats-Trace-Dest: ${other}`, 'Nats-Trace-Only: true'),
      block(`traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`, `Nats-Trace-Dest: ${other}`),
      block(`Nats-Stream-Source: KV_headwater 1 > > ${other}`),
    ]),
    block('Nats-Batch-Id: b', 'Nats-Batch-Sequence: 1'),
    block('Nats-Batch-Id: b', 'Nats-Batch-Sequence: 2', 'Nats-Batch-Commit: 1'),
    block('Nats-Batch-Id: c', 'Nats-Batch-Sequence: 1', 'Nats-Batch-Commit: eob'),
    block('Nats-Marker-Reason: Purge'),
    block('Nats-Marker-Reason: MaxAge', 'Nats-TTL: 1s'),
    block('Nats-Required-Api-Level: 99'),
    block('Nats-Request-Info: {"acc":"headwater"}'),
    block('Nats-Pin-Id: x'),
  ];
  await send(every(own, ['', '_INBOX.mine.x', ...others], blocks, ['', '{}']));
}

async function reads() {
  const bodies = [
    { seq: 1 },
    { seq: 1, next_by_subj: '>' },
    { last_by_subj: '$KV.headwater.cfg.desired.n1' },
    { last_by_subj: `${reports}.reported.n1` },
    { multi_last: ['>'], batch: 100 },
    { multi_last: ['$KV.headwater.cfg.desired.n1', `${reports}.reported.n1`], up_to_seq: 1000 },
    { batch: 1000, seq: 1 },
    { batch: 1000, start_time: '2020-01-01T00:00:00Z', max_bytes: 1 << 20 },
    { seq: 18446744073709551615n.toString() },
  ].map((body) => JSON.stringify(body));
  const nc = await dial();
  const inbox = nc.subscribe('_INBOX.mine.>', { callback: (_, msg) => judge(`${msg.subject} ${msg.string()}`) });
  await send(every([...asks, ...calls, ...theirs], ['_INBOX.mine.x'], [''], ['', ...bodies, 'junk']));
  await nc.flush();
  await new Promise((resolve) => setTimeout(resolve, 300));
  inbox.unsubscribe();
  const manager = await nc.jetstreamManager({ checkAPI: false, timeout: 300 });
  for (const stream of streams.slice(0, 2))
    await refused(() => manager.direct.getMessage(stream, { seq: 1 }));
  await nc.close();
}

async function stream_calls() {
  const bodies = [
    '',
    '{}',
    '{"seq":1}',
    '{"filter":">"}',
    ...streams.map((name) => JSON.stringify({ name, subjects: ['$KV.headwater.>'], max_msgs: 1, storage: 'file' })),
    JSON.stringify({ name: 'mine', subjects: ['>'], sources: streams.map((name) => ({ name })) }),
    JSON.stringify({ name: 'mine', mirror: { name: 'KV_headwater' } }),
    ...streams.map((stream_name) =>
      JSON.stringify({ stream_name, config: { deliver_subject: `${reports}.reported.n1`, ack_policy: 'none' } }),
    ),
  ];
  await send(every(calls, ['', '_INBOX.mine.x'], [''], bodies));
  const nc = await dial();
  const manager = await nc.jetstreamManager({ checkAPI: false, timeout: 200 });
  await refused(() => manager.streams.add({ name: 'mine', subjects: ['mine.>'] }));
  await refused(() => manager.streams.add({ name: 'mine', mirror: { name: 'KV_headwater' } }));
  await Promise.all(
    streams.flatMap((stream) => [
      refused(() => manager.streams.delete(stream)),
      refused(() => manager.streams.update(stream, { max_msgs: 1 })),
      refused(() => manager.streams.info(stream)),
      refused(() => manager.consumers.add(stream, { durable_name: 'mine', ack_policy: 'explicit' })),
      refused(() => manager.consumers.add(stream, { deliver_subject: '_INBOX.mine.x' })),
      refused(() => nc.jetstream().consumers.get(stream)),
    ]),
  );
  await nc.close();
}

async function others() {
  const blocks = ['', block('KV-Operation: PURGE', 'Nats-Rollup: sub'), block('Nats-Expected-Last-Subject-Sequence: 0')];
  const body = JSON.stringify({ node: 'n1', state: 'failed', agent: 'bad', boot_id: 'b' });
  await send(every([...theirs, ...guessed, ...words], ['', '_INBOX.mine.x', ...guessed], blocks, ['', body]));
  const heartbeat = ['NATS/1.0 100 Idle Heartbeat', 'Nats-Consumer-Stalled: $KV.headwater.cfg.checkpoint', '', ''];
  await send(every(guessed, ['', `$JS.ACK.KV_headwater_reports.x.1.9.9.1700000000000000000.0`], [heartbeat.join('\r\n')], ['', body]));
  // To the own keys, but in others' names.
  await send(every(keys, [''], [''], [body, body.replace('n1', '*'), body.replace('n1', `${node}.x`)]));
}

async function bodies() {
  const numbers = { revision: 2 ** 53, digest: 'x', epoch: 1, lsn: '0/0', applied_at: 'x' };
  const proposal = { node, ref: 'r', config: 'c', base_revision: 1, content: '{"a":-1}', message: 'm' };
  await send(
    every(keys, [''], [''], [
      '',
      '\0',
      'null',
      '[]',
      '\xff\xfe',
      '['.repeat(500000),
      `{"node":"${node}","state":"${'x'.repeat(900000)}"}`,
      Buffer.alloc(1048576, 0),
      report({ running: numbers }),
      report({ running: { ...numbers, revision: -1 } }).replace('-1', '99999999999999999999'),
      report({ agent: '\0', boot_id: '\ud800' }),
      report({ heartbeat: 1e-300, held: { since: 'x', reason: 1 }, drift: [] }),
      report({ failed: { revision: null, digest: null, epoch: null, lsn: null, stage: '\0', error: '', at: '' } }),
      ...["'; DROP TABLE headwater.node; --", '../n1', 'n1', '"'].flatMap((text) => [
        JSON.stringify({ ...proposal, ref: text, config: text, message: text }),
        report({ agent: text, boot_id: text }),
      ]),
      JSON.stringify({ ...proposal, base_revision: 2 ** 31 }),
      JSON.stringify({ ...proposal, content: '\0' }),
      JSON.stringify({ ...proposal, encoding: 'base64', content: '!' }),
      JSON.stringify({ ...proposal, content: 'x'.repeat(900000) }),
    ]),
  );
  // More than the server takes: it ends the connection.
  await send([published(ways(keys[0])[0], '', '', Buffer.alloc(1048577))]);
}

// Entries that the node never had, of epochs and positions to come.
async function fences() {
  for (const epoch of [1, 2, 3, 1000, 2 ** 32, 2 ** 53, -1])
    for (const lsn of ['FFFFFFFF/FFFFFFFF', '7FFFFFFF/0', '0/0', 'x']) {
      const named = { revision: 1, digest: 'x', epoch, lsn };
      await send(
        every(keys.slice(0, 1), [''], ['', block(`Headwater-Epoch: ${epoch}`, `Headwater-LSN: ${lsn}`)], [
          report({ running: { ...named, applied_at: '2026-01-01T00:00:00Z' } }),
          report({ state: 'failed', failed: { ...named, stage: 'apply', error: 'x', at: '2026-01-01T00:00:00Z' } }),
        ]),
      );
    }
}

async function flood() {
  const body = (size, i) => report({ detail: 'x'.repeat(size), i });
  const repeated = (times, subject, reply, make) =>
    Array.from({ length: times }, (_, i) => published(ways(subject)[0], reply, '', make(i)));
  await Promise.all([
    send(repeated(3000, keys[0], '', (i) => body(1000, i))),
    send(repeated(200, keys[0], '_INBOX.mine.x', (i) => body(60000, i))),
    send(repeated(2000, keys[1], '', (i) => `junk ${i}`)),
    send(repeated(5000, alive, '', () => '')),
    send(repeated(5000, alive, '_INBOX.mine.x', () => 'x')),
    send(repeated(2000, asks[0], '_INBOX.mine.x', () => '')),
    send(repeated(1000, asks[5], '_INBOX.mine.x', () => '{"seq":1,"next_by_subj":"$O.>"}')),
  ]);
}

// Until it is ended.
async function listen() {
  const nc = await dial();
  const mine = new Set([`headwater.desired.${node}`, `headwater.decided.${node}`]);
  const callback = (_, msg) => {
    if (!mine.has(msg.subject) || !msg.string().includes(`"node":"${node}"`))
      console.log(`heard ${msg.subject} ${msg.string().slice(0, 300)}`);
  };
  const wanted = ['>', '*.>', '$KV.>', '$O.>', '$JS.>', '$SYS.>', '_INBOX.>', '_R_.>', 'headwater.>', ...theirs, ...guessed];
  for (const subject of wanted)
    for (const name of ways(subject)) {
      nc.subscribe(name, { callback });
      nc.subscribe(name, { callback, queue: 'mine' });
    }
  await nc.flush();
  console.log('listening');
  await new Promise((resolve) => process.on('SIGTERM', resolve));
  await nc.close();
}

// ---- ----

async function refused(call) {
  await call().then(
    (answer) => console.log(`heard an answer: ${JSON.stringify(answer)}`),
    () => {},
  );
}

async function version() {
  const nc = await dial();
  const found = nc.info.version;
  await nc.close();
  return found;
}

const dial = () =>
  connect({ servers: `${hostname}:${port}`, user: username, pass: password, reconnect: false });

const attacks = {
  control_headers,
  replies,
  rollups,
  expectations,
  newer_headers,
  reads,
  stream_calls,
  others,
  bodies,
  fences,
  flood,
  listen,
};

await attacks[attack]();
console.log('done');
