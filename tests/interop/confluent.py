"""What confluent-kafka (librdkafka) does against the node, or nodes, at argv[1]: admin, five codecs, headers, null keys and
values, big messages, groups that rejoin, seeks, transactions. Ends with 1 and a line at the first surprise."""
import sys
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

addr = sys.argv[1]
run = uuid.uuid4().hex[:8]


def check(ok, what):
    if not ok:
        print("wrong:", what)
        sys.exit(1)


def consumer(group, **more):
    return Consumer({"bootstrap.servers": addr, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, "session.timeout.ms": 6000, **more})


def read(c, n, seconds=30):
    out = []
    while len(out) < n:
        m = c.poll(seconds)
        check(m is not None, f"only {len(out)} of {n} records within {seconds} s")
        if m.error():
            raise KafkaException(m.error())
        out.append(m)
    return out


admin = AdminClient({"bootstrap.servers": addr})
topic = f"confluent-{run}"
for f in admin.create_topics([NewTopic(topic, 3, -1, config={"retention.ms": "3600000"})]).values():
    f.result(10)
for f in admin.create_partitions([NewPartitions(topic, 4)]).values():
    f.result(10)
meta = admin.list_topics(topic, timeout=10).topics[topic]
check(len(meta.partitions) == 4, f"{len(meta.partitions)} partitions")
config = list(admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values())[0].result(10)
check(config["retention.ms"].value == "3600000", "retention.ms is " + config["retention.ms"].value)

sent = {}
for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
    p = Producer({"bootstrap.servers": addr, "compression.type": codec, "enable.idempotence": True, "linger.ms": 5, "message.max.bytes": 2_000_000})
    for i in range(300):
        key = None if i % 10 == 0 else f"{codec}-{i}".encode()
        value = None if i % 25 == 3 else (b"%s %d " % (codec.encode(), i)) * (i + 1)
        if i == 7:
            value = b"big" * 250_000
        sent[(codec, i)] = (key, value)
        p.produce(topic, key=key, value=value, headers=[("codec", codec.encode()), ("i", str(i).encode()), ("null", None)])
    check(p.flush(30) == 0, f"{codec}: not everything was sent")

c = consumer(f"g-{run}")
c.subscribe([topic])
got = read(c, len(sent))
for m in got:
    h = dict(m.headers())
    want = sent.pop((h["codec"].decode(), int(h["i"])))
    check((m.key(), m.value()) == want, f"{h} came back different")
    check(h["null"] is None, "a null header came back as something")
check(not sent, f"{len(sent)} records are missing")
c.commit(asynchronous=False)
committed = c.committed([TopicPartition(topic, p) for p in range(4)], 10)
check(sum(max(t.offset, 0) for t in committed) == 1500, f"committed {committed}")

second = consumer(f"g-{run}")  # a rebalance: both must go on, and nothing committed is read again
second.subscribe([topic])
for _ in range(100):
    c.poll(0.1)
    second.poll(0.1)
    if c.assignment() and second.assignment():
        break
check(len(c.assignment()) + len(second.assignment()) == 4, f"assigned {c.assignment()} and {second.assignment()}")
second.close()
c.close()

c = consumer(f"seek-{run}")
c.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(4)])
read(c, 10)
c.seek(TopicPartition(topic, 0, 0))
while True:
    m = read(c, 1)[0]
    if m.partition() == 0:
        check(m.offset() == 0, f"after a seek to 0 came offset {m.offset()}")
        break
low, high = c.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
check(low == 0 and high > 0, f"watermarks {low}, {high}")
c.close()

# Transactions: consume, transform, produce; every second one is aborted.
out = f"out-{run}"
for f in admin.create_topics([NewTopic(out, 2, -1)]).values():
    f.result(10)
p = Producer({"bootstrap.servers": addr, "transactional.id": f"tx-{run}", "transaction.timeout.ms": 10000})
p.init_transactions(30)
c = consumer(f"tx-{run}", **{"isolation.level": "read_committed"})
c.subscribe([topic])
first = read(c, 50)
for n in range(20):
    p.begin_transaction()
    for i in range(5):
        p.produce(out, key=str(n).encode(), value=f"{'aborted' if n % 2 else 'committed'} {n} {i}".encode())
    p.send_offsets_to_transaction([TopicPartition(topic, 0, n + 1)], c.consumer_group_metadata(), 30)
    p.flush(30)
    if n % 2:
        p.abort_transaction(30)
    else:
        p.commit_transaction(30)
at = c.committed([TopicPartition(topic, 0)], 10)[0].offset
check(at == 19, f"the transaction's offset is {at}, not that of the last committed one")
c.close()
c = consumer(f"rc-{run}", **{"isolation.level": "read_committed"})
c.subscribe([out])
values = [m.value() for m in read(c, 50)]
check(all(v.startswith(b"committed") for v in values), "read_committed saw an aborted record")
check(c.poll(1) is None, "read_committed saw more than was committed")
c.close()
c = consumer(f"ru-{run}", **{"isolation.level": "read_uncommitted"})
c.subscribe([out])
check(len(read(c, 100)) == 100, "read_uncommitted sees all")
c.close()

# A second producer of the same id fences the first.
fencer = Producer({"bootstrap.servers": addr, "transactional.id": f"tx-{run}"})
fencer.init_transactions(30)
try:
    p.begin_transaction()
    p.produce(out, value=b"zombie")
    p.commit_transaction(30)
    check(False, "a fenced producer could commit")
except KafkaException as e:
    check(e.args[0].fatal() or e.args[0].txn_requires_abort(), f"a fenced producer got {e}")

groups = admin.list_consumer_groups(request_timeout=10).result()
check(any(g.group_id == f"g-{run}" for g in groups.valid), "list_consumer_groups lacks the group")
for f in admin.delete_consumer_groups([f"g-{run}"]).values():
    f.result(10)
for f in admin.delete_topics([topic, out]).values():
    f.result(10)
print("ok")
