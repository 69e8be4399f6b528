"""What confluent-kafka (librdkafka) does against the node, or nodes, at argv[1]: admin, five codecs, headers, null keys and
values, records near and over the limit and of 8 MB, groups that rejoin, seeks, offsets by time, transactions, fencing. Ends with 1 and a
line at the first surprise. With `member TOPIC GROUP` it is a member of a group that prints its assignments, until stdin ends."""
import os
import sys
import threading
import time
import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, OffsetSpec

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


def member(topic, group):
    over = threading.Thread(target=sys.stdin.read, daemon=True)
    over.start()
    own = set()

    def changed(change, partitions):
        change({p.partition for p in partitions})
        print("assigned", *sorted(own), flush=True)

    c = Consumer({"bootstrap.servers": addr, "group.id": group, "auto.offset.reset": "earliest", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500,
                  "auto.commit.interval.ms": 200})
    c.subscribe([topic], on_assign=lambda _, ps: changed(own.update, ps), on_revoke=lambda _, ps: changed(own.difference_update, ps),
                on_lost=lambda _, ps: changed(own.difference_update, ps))
    while over.is_alive():
        c.poll(0.2)
    c.close()


if len(sys.argv) > 2:
    member(*sys.argv[3:])
    sys.exit(0)


def eventually(what, ask):
    """Waits until a node that is asked knows what another one has done."""
    end = time.time() + 30
    while not ask():
        check(time.time() < end, f"not within 30 s: {what}")
        time.sleep(0.05)


def whole(what, ask):
    """Waits for what holds while all nodes are there; when none ends it holds at once."""
    if os.environ.get("RESTARTS"):
        eventually(what, ask)
    else:
        check(ask(), what)


def again(call, already=None):
    """Tries a call whose error says that it may be tried again, when nodes end and start meanwhile (RESTARTS in the environment): what librdkafka leaves to
    the application. already is the code that says that an earlier try has done it."""
    end, tries = time.time() + 30, 0
    while True:
        try:
            return call()
        except KafkaException as e:
            code = e.args[0].code()
            if tries and code == already:
                return None
            if not os.environ.get("RESTARTS") or not (e.args[0].retriable() or code in PASSING) or time.time() > end:
                raise
        tries += 1
        time.sleep(0.1)


PASSING = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._WAIT_COORD, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.FENCED_LEADER_EPOCH,
           KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.REQUEST_TIMED_OUT}


def raises(code, f):
    try:
        f()
    except KafkaException as e:
        check(e.args[0].code() == code, f"no {code} but {e}")
        return
    check(False, f"no error {code}")


admin = AdminClient({"bootstrap.servers": addr})
topic, big = f"confluent-{run}", f"confluent-big-{run}"
def create(name, partitions, config):
    again(lambda: admin.create_topics([NewTopic(name, partitions, -1, config=config)])[name].result(10), KafkaError.TOPIC_ALREADY_EXISTS)


create(topic, 3, {"retention.ms": "3600000"})
create(big, 1, {"max.message.bytes": "9000000"})
raises(KafkaError.TOPIC_ALREADY_EXISTS, lambda: again(lambda: admin.create_topics([NewTopic(topic, 3, -1)])[topic].result(10)))
again(lambda: admin.create_partitions([NewPartitions(topic, 4)])[topic].result(10), KafkaError.INVALID_PARTITIONS)
eventually("four partitions", lambda: len(again(lambda: admin.list_topics(topic, timeout=10)).topics[topic].partitions) == 4)
retention = ConfigEntry("retention.ms", "7200000", incremental_operation=AlterConfigOpType.SET)
again(lambda: list(admin.incremental_alter_configs([ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[retention])]).values())[0].result(10))
eventually("the config that was set", lambda: again(lambda: list(admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values())[0].result(10))["retention.ms"].value == "7200000")
whole("describe cluster", lambda: len(again(lambda: admin.describe_cluster().result(10)).nodes) == len(addr.split(",")))

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
    errors = []
    once = bool(os.environ.get("RESTARTS"))  # else what is sent again, since its answer was lost, is there twice
    p = Producer({"bootstrap.servers": addr, "compression.type": codec, "enable.idempotence": once, "message.max.bytes": 10 << 20})
    for t, size in [(big, 1_000_000), (big, 8 << 20), (topic, 1_100_000)]:
        p.produce(t, os.urandom(size), partition=0, on_delivery=lambda e, _: errors.append(e and e.code()))
        p.flush(30)
    check(errors == [None, None, KafkaError.MSG_SIZE_TOO_LARGE], f"{codec}: big records gave {errors}")

c = consumer(f"g-{run}")
c.subscribe([topic])
got = read(c, len(sent))
for m in got:
    h = dict(m.headers())
    want = sent.pop((h["codec"].decode(), int(h["i"])))
    check((m.key(), m.value()) == want, f"{h} came back different")
    check(h["null"] is None, "a null header came back as something")
check(not sent, f"{len(sent)} records are missing")
offset_of = {(m.partition(), m.offset()): m.timestamp()[1] for m in got}
again(lambda: c.commit(asynchronous=False))
committed = again(lambda: c.committed([TopicPartition(topic, p) for p in range(4)], 10))
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
low, high = again(lambda: c.get_watermark_offsets(TopicPartition(topic, 0), timeout=10))
check(low == 0 and high > 0, f"watermarks {low}, {high}")
last = offset_of[0, high - 1]
check(0 <= again(lambda: c.offsets_for_times([TopicPartition(topic, 0, last)], 10))[0].offset < high, "offset by time")
check(again(lambda: c.offsets_for_times([TopicPartition(topic, 0, last + 3_600_000)], 10))[0].offset == -1, "offset of the future")
c.close()
c = consumer(f"out-{run}", **{"auto.offset.reset": "error"})
c.assign([TopicPartition(topic, 0, high + 100)])
m = c.poll(30)
check(m is not None and m.error() and m.error().code() == KafkaError._AUTO_OFFSET_RESET, f"beyond the end: {m and m.error()}")
c.close()
c = consumer(f"big-{run}")
c.assign([TopicPartition(big, 0, OFFSET_BEGINNING)])
check([len(m.value()) for m in read(c, 10)] == [1_000_000, 8 << 20] * 5, "big records came back different")
c.close()

# Transactions: consume, transform, produce; every second one is aborted.
out = f"out-{run}"
create(out, 2, {})
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
at = again(lambda: c.committed([TopicPartition(topic, 0)], 10))[0].offset
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

part = TopicPartition(topic, 0)
check(again(lambda: admin.delete_records([TopicPartition(topic, 0, 5)])[part].result(10)).low_watermark == 5, "delete records")
earliest = again(lambda: admin.list_offsets({part: OffsetSpec.earliest()}, isolation_level=IsolationLevel.READ_COMMITTED)[part].result(10))
check(earliest.offset == 5, "list offsets")
check(again(lambda: admin.describe_consumer_groups([f"g-{run}"])[f"g-{run}"].result(10)).state.name == "EMPTY", "describe groups")
listed = again(lambda: admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(f"g-{run}")])[f"g-{run}"].result(10))
check(sum(max(t.offset, 0) for t in listed.topic_partitions) == 1500, f"offsets {listed.topic_partitions}")
whole("list_consumer_groups lacks the group", lambda: any(g.group_id == f"g-{run}" for g in again(lambda: admin.list_consumer_groups(request_timeout=10).result()).valid))
again(lambda: admin.delete_consumer_groups([f"g-{run}"])[f"g-{run}"].result(10), KafkaError.GROUP_ID_NOT_FOUND)
for name in [topic, big, out]:
    again(lambda: admin.delete_topics([name])[name].result(10), KafkaError.UNKNOWN_TOPIC_OR_PART)
print("ok")
