// What kafkajs does against the node, or nodes, at argv[2]: admin, five codecs, headers, null keys and values, records near and
// over the limit and of 8 MB, groups, seeks, offsets by time, transactions, fencing. Ends with 1 and a line at the first surprise.
// With `member TOPIC GROUP` it is a member of a group that prints its assignments, until stdin ends.
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require("kafkajs");
const crypto = require("crypto");
const lz4 = require("lz4js");

const [, , addr, , memberTopic, memberGroup] = process.argv;
const run = crypto.randomBytes(4).toString("hex");
const kafka = new Kafka({ clientId: "matrix", brokers: addr.split(","), logLevel: logLevel.WARN, retry: { retries: 5, initialRetryTime: 100 } });

function check(ok, what) {
  if (ok) return;
  console.log("wrong:", what);
  process.exit(1);
}

async function raises(type, promise) {
  const e = await promise.then(() => null, (e) => e);
  for (const at of causes(e)) if (at.type === type) return;
  check(false, `no ${type} but ${e}`);
}

// again tries a call whose error says that it may be tried again, when nodes end and start meanwhile (RESTARTS in the environment): what kafkajs leaves to
// the application. already is the type of error that says that an earlier try has done it.
async function again(call, already) {
  for (let tries = 0, end = Date.now() + 30000; ; tries++) {
    const e = await call().then((value) => ({ value }), (error) => ({ error }));
    if (!e.error) return e.value;
    let passing = false;
    for (const at of causes(e.error)) {
      if (tries && already && at.type === already) return undefined;
      passing = passing || at.retriable || at.name === "KafkaJSConnectionClosedError";
    }
    if (!process.env.RESTARTS || !passing || Date.now() > end) throw e.error;
    await new Promise((done) => setTimeout(done, 100));
  }
}

// causes are an error and what has led to it.
function* causes(e) {
  for (let at = e; at; at = at.cause || at.originalError || (at.errors && at.errors[0])) yield at;
}

// eventually waits until a node that is asked knows what another one has done.
async function eventually(what, ask) {
  for (let i = 0; i < 300; i++) {
    if (await ask()) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  check(false, `not within 30 s: ${what}`);
}

// whole waits for what holds while all nodes are there; when none ends it holds at once.
const whole = async (what, ask) => (process.env.RESTARTS ? eventually(what, ask) : check(await ask(), what));

const within = (seconds, what, promise) =>
  Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error(`not within ${seconds} s: ${what}`)), seconds * 1000).unref())]);

CompressionCodecs[CompressionTypes.Snappy] = require("kafkajs-snappy");
CompressionCodecs[CompressionTypes.LZ4] = () => ({ compress: async (e) => Buffer.from(lz4.compress(e.buffer)), decompress: async (b) => Buffer.from(lz4.decompress(b)) });
const zstd = require("@bokuweb/zstd-wasm");
const ready = zstd.init();
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (e) => (await ready, Buffer.from(zstd.compress(e.buffer, 1))),
  decompress: async (b) => (await ready, Buffer.from(zstd.decompress(b))),
});

// read takes n records of topics, from the beginning of the group's way, and commits them. With a name of each record those of one name count once:
// kafkajs sends records again that have an answer, under new sequence numbers, when others of their call have none and their leader has changed meanwhile.
async function read(n, topic, group, more = {}, name = null) {
  const c = kafka.consumer({ groupId: group, maxWaitTimeInMs: 100, ...more });
  await c.connect();
  await c.subscribe({ topic, fromBeginning: true });
  const out = [], seen = new Set(), next = new Map(); // the next offset of each partition
  await within(process.env.RESTARTS ? 150 : 60, `${n} records of ${topic}`, new Promise((done, no) => {
    crashes(c, no);
    c.run({ autoCommitThreshold: n, eachMessage: async ({ partition, message }) => {
      const at = name && process.env.RESTARTS ? name(message) : `${partition} ${message.offset}`;
      next.set(partition, String(Number(message.offset) + 1));
      check(process.env.RESTARTS || !seen.has(at), `${at} came twice`);
      if (seen.has(at)) return; // a member that has lost its coordinator begins again at what was committed
      seen.add(at);
      out.push({ partition, ...message });
      if (out.length === n) done();
    } }).catch(no);
  }));
  await again(() => c.commitOffsets([...next].map(([partition, offset]) => ({ topic, partition, offset }))));
  await c.disconnect();
  return out;
}

// crashes tells of a consumer that has given up; one that begins again has not, when nodes end meanwhile.
function crashes(c, no) {
  c.on(c.events.CRASH, (e) => process.env.RESTARTS && e.payload.restart || no(e.payload.error));
}

const same = (a, b) => (a === null ? b === null : b !== null && Buffer.compare(a, b) === 0);

async function codecs(topic, big) {
  const sent = new Map();
  for (const [name, compression] of Object.entries(CompressionTypes)) {
    const p = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
    await p.connect();
    const messages = [];
    for (let i = 0; i < 200; i++) {
      const key = i % 3 === 0 ? null : Buffer.from(`k${i}`);
      const value = i % 7 === 1 ? null : Buffer.from(`${name} ${i} `.repeat(i + 1));
      sent.set(`${name} ${i}`, { key, value });
      messages.push({ key, value, partition: i % 4, headers: { id: `${name} ${i}`, bytes: Buffer.from([0, 255]) } });
    }
    await p.send({ topic, messages, compression, acks: -1 });
    await p.send({ topic, messages: [{ value: crypto.randomBytes(1000000), partition: 0 }], compression });
    await p.send({ topic: big, messages: [{ value: crypto.randomBytes(8 << 20) }], compression });
    await p.disconnect();
    const plain = kafka.producer({ retry: { retries: 0 } });
    await plain.connect();
    await raises("MESSAGE_TOO_LARGE", again(() => plain.send({ topic, messages: [{ value: crypto.randomBytes(1100000), partition: 0 }], compression })));
    await plain.disconnect();
  }
  for (const m of await read(1005, topic, `g-${run}`, {}, (m) => (m.headers.id ? m.headers.id.toString() : m.value.toString("hex", 0, 16)))) {
    if (!m.headers.id) {
      check(m.value.length === 1000000, "a record near the limit came back different");
      continue;
    }
    const want = sent.get(m.headers.id.toString());
    check(want && same(m.key, want.key) && same(m.value, want.value), `${m.headers.id} came back different`);
    check(m.headers.bytes.equals(Buffer.from([0, 255])), "headers");
    sent.delete(m.headers.id.toString());
  }
  check(sent.size === 0, `${sent.size} records are missing`);
  for (const m of await read(5, big, `big-${run}`, {}, (m) => m.value.toString("hex", 0, 16))) check(m.value.length === 8 << 20, "8 MB came back different");
}

async function seeks(admin, topic) {
  const ends = await again(() => admin.fetchTopicOffsets(topic));
  const end = Number(ends.find((o) => o.partition === 1).high);
  const c = kafka.consumer({ groupId: `seek-${run}` });
  await c.connect();
  await c.subscribe({ topic, fromBeginning: true });
  const last = await within(30, "the record sought", new Promise((done, no) => {
    crashes(c, no);
    c.run({ autoCommit: false, eachMessage: async ({ partition, message }) => {
      if (partition === 1 && Number(message.offset) === end - 1) done(message);
    } }).catch(no);
    c.seek({ topic, partition: 1, offset: String(end - 1) });
  }));
  await c.disconnect();
  const at = (await again(() => admin.fetchTopicOffsetsByTimestamp(topic, Number(last.timestamp)))).find((o) => o.partition === 1);
  check(Number(at.offset) <= end - 1, `offset by time ${at.offset}`);
  const future = (await again(() => admin.fetchTopicOffsetsByTimestamp(topic, Date.now() + 3600000))).find((o) => o.partition === 1);
  check(Number(future.offset) === end, `the offset of the future is ${future.offset}`); // kafkajs asks for the end itself
}

async function transactions(admin, topic, out) {
  const p = kafka.producer({ transactionalId: `t-${run}`, maxInFlightRequests: 1, idempotent: true });
  await p.connect();
  for (let r = 0; r < 6; r++) {
    const t = await p.transaction();
    for (let i = 0; i < 2; i++) await t.send({ topic: out, messages: Array(5).fill({ value: String(r), partition: i }) });
    await t.sendOffsets({ consumerGroupId: `tg-${run}`, topics: [{ topic, partitions: [{ partition: 0, offset: String(r + 1) }] }] });
    await (r % 2 ? t.abort() : t.commit());
  }
  const at = (await again(() => admin.fetchOffsets({ groupId: `tg-${run}`, topics: [topic] })))[0].partitions.find((o) => o.partition === 0).offset;
  check(at === "5", `the transaction's offset is ${at}`);
  const zombie = await p.transaction();
  await zombie.send({ topic: out, messages: [{ value: "lost", partition: 0 }] });
  const p2 = kafka.producer({ transactionalId: `t-${run}`, maxInFlightRequests: 1, idempotent: true });
  await p2.connect();
  const t = await p2.transaction();
  await t.send({ topic: out, messages: [0, 1].map((partition) => ({ value: "end", partition })) });
  check(await zombie.commit().then(() => false, () => true), "a fenced producer could commit");
  await t.commit();
  await p2.disconnect();
  await p.disconnect();
  const committed = (await read(32, out, `rc-${run}`)).map((m) => m.value.toString());
  check(committed.every((v) => ["0", "2", "4", "end"].includes(v)), `read_committed saw ${committed}`);
  await read(63, out, `ru-${run}`, { readUncommitted: true });
}

async function everything() {
  const admin = kafka.admin();
  await admin.connect();
  const topic = `js-${run}`, big = `js-big-${run}`, out = `js-out-${run}`;
  await again(() => admin.createTopics({ topics: [
    { topic, numPartitions: 3, replicationFactor: -1, configEntries: [{ name: "retention.ms", value: "3600000" }] },
    { topic: big, numPartitions: 1, replicationFactor: -1, configEntries: [{ name: "max.message.bytes", value: "9000000" }] },
    { topic: out, numPartitions: 2, replicationFactor: -1 }] }));
  check((await again(() => admin.createTopics({ topics: [{ topic, numPartitions: 3, replicationFactor: -1 }] }))) === false, "created twice");
  await again(() => admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] }), "INVALID_PARTITIONS");
  await eventually("four partitions", async () => (await again(() => admin.fetchTopicMetadata({ topics: [topic] }))).topics[0].partitions.length === 4);
  await again(() => admin.alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: "retention.ms", value: "7200000" }] }] }));
  await eventually("the config that was set", async () => {
    const described = await again(() => admin.describeConfigs({ includeSynonyms: true, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: ["retention.ms"] }] }));
    return described.resources[0].configEntries[0].configValue === "7200000";
  });
  await whole("describe cluster", async () => (await again(() => admin.describeCluster())).brokers.length === addr.split(",").length);
  await eventually("the topic is listed", async () => (await again(() => admin.listTopics())).includes(topic));

  await codecs(topic, big);
  await seeks(admin, topic);
  await transactions(admin, topic, out);

  const committed = (await again(() => admin.fetchOffsets({ groupId: `g-${run}`, topics: [topic] })))[0].partitions;
  const sum = committed.reduce((sum, o) => sum + Number(o.offset), 0);
  check(sum === 1005 || process.env.RESTARTS && sum > 1005, `offsets ${JSON.stringify(committed)}`);
  await again(() => admin.resetOffsets({ groupId: `g-${run}`, topic, earliest: true }));
  await again(() => admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: "5" }] }));
  check((await again(() => admin.fetchTopicOffsets(topic))).find((o) => o.partition === 0).low === "5", "delete records");
  await whole("groups", async () => (await again(() => admin.listGroups())).groups.some((g) => g.groupId === `g-${run}`));
  check((await again(() => admin.describeGroups([`g-${run}`]))).groups[0].state === "Empty", "describe groups");
  await again(() => admin.deleteGroups([`g-${run}`]), "GROUP_ID_NOT_FOUND");
  await again(() => admin.deleteTopics({ topics: [topic, big, out] }), "UNKNOWN_TOPIC_OR_PARTITION");
  await admin.disconnect();
  console.log("ok");
}

async function member(topic, groupId) {
  const c = kafka.consumer({ groupId, sessionTimeout: 6000, rebalanceTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 100 });
  await c.connect();
  await c.subscribe({ topic, fromBeginning: true });
  c.on(c.events.GROUP_JOIN, (e) => console.log(["assigned", ...(e.payload.memberAssignment[topic] || []).sort()].join(" ")));
  await c.run({ autoCommitThreshold: 1, eachMessage: async () => {} });
  process.stdin.resume();
  await new Promise((done) => process.stdin.on("end", done));
  await c.disconnect();
}

(memberTopic ? member(memberTopic, memberGroup) : everything()).then(
  () => process.exit(0),
  (e) => { console.log("wrong:", e); process.exit(1); },
);
