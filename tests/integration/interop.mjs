// The other vendor's half of test_interop.c: reads with the official JavaScript client what
// Headwater's C modules wrote, then writes for them to read. Prints what it found, one line each.
//
//     node interop.mjs nats://127.0.0.1:PORT
import { createHash } from 'node:crypto';
import { Kvm } from '@nats-io/kv';
import { Objm } from '@nats-io/obj';
import { connect } from '@nats-io/transport-node';

const sizes = [0, 1, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 1024 * 1024 + 1, 16 * 1024 * 1024];

// Bytes that differ from the C side's, so that nobody reads back his own.
function bytes(size) {
  const data = new Uint8Array(size);
  for (let i = 0; i < size; i++) data[i] = (i * 31 + (i >> 9)) & 255;
  return data;
}

const sha256 = (data) => createHash('sha256').update(data).digest('hex');

const nc = await connect({ servers: process.argv[2], reconnect: false });
const kvm = new Kvm(nc);
const objm = new Objm(nc);

// What C wrote.
const ours = await kvm.open('ours');
const keys = [];
for await (const key of await ours.keys()) keys.push(key);
for (const key of keys.sort()) {
  const entry = await ours.get(key);
  console.log(`key ${key} revision ${entry.revision} ${entry.operation} ${entry.string()}`);
}
const gone = await ours.get('cfg.gone');
console.log(`key cfg.gone ${gone.operation}`);
const history = [];
for await (const entry of await ours.history({ key: 'cfg.twice' })) history.push(entry.string());
console.log(`history of cfg.twice ${history.join(' ')}`);

const objects = await objm.open('ours');
for (const info of (await objects.list()).sort((a, b) => a.size - b.size)) {
  const data = await objects.getBlob(info.name);
  const same = sha256(data) === info.name;
  console.log(`object of ${info.size} bytes ${same ? 'arrived' : 'is DAMAGED'}`);
}

// What C is to read: into the buckets that C made, and into buckets made here.
const theirs = await kvm.create('theirs', { history: 5 });
const theirObjects = await objm.create('theirs');
for (const [kv, store] of [[ours, objects], [theirs, theirObjects]]) {
  await kv.put('js.plain', 'written by JavaScript');
  await kv.put('js.empty', '');
  await kv.put('js.gone', 'soon');
  await kv.delete('js.gone');
  await kv.put('js.purged', 'soon');
  await kv.purge('js.purged').then(
    () => console.log('purge is accepted'),
    () => console.log('purge is refused'), // ours: it would need rollup
  );
  const created = await kv.create('js.created', 'first');
  await kv.create('js.created', 'second').then(
    () => console.log('create over an entry was NOT refused'),
    () => console.log('create over an entry is refused'),
  );
  await kv.update('js.created', 'updated', created);
  for (const size of sizes) {
    const data = bytes(size);
    await store.putBlob({ name: `js-${size}` }, data);
  }
  await store.putBlob({ name: 'js-gone' }, bytes(10));
  await store.delete('js-gone');
}
await nc.drain();
console.log('done');
