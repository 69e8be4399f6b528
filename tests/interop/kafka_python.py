"""What kafka-python does against the node, or nodes, at argv[1]: admin, five codecs, headers, null keys and values, records near
and over the limit and of 8 MB, a group that rebalances, seeks, offsets by time, transactions, fencing. Ends with 1 and a line at the first
surprise. With `member TOPIC GROUP` it is a member of a group that prints its assignments, until stdin ends."""
import faulthandler
import os
import sys
import threading
import time
import uuid

import kafka.errors as errors
from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic
from kafka.structs import OffsetAndMetadata

addr = sys.argv[1].split(",")
run = uuid.uuid4().hex[:8]
topic, txn, big = f"kp-{run}", f"kp-txn-{run}", f"kp-big-{run}"


def check(ok, what):
    if not ok:
        print("wrong:", what)
        sys.exit(1)


def raises(kind, f):
    try:
        f()
    except kind:
        return
    check(False, f"no {kind.__name__}")


def read(n, **more):
    c = KafkaConsumer(bootstrap_servers=addr, auto_offset_reset="earliest", consumer_timeout_ms=20000, **more)
    c.subscribe([topic])
    out = []
    for m in c:
        out.append(m)
        if len(out) == n:
            break
    check(len(out) == n, f"{len(out)} of {n} records")
    c.commit()
    c.close()
    return out


class Shown(ConsumerRebalanceListener):
    def on_partitions_revoked(self, revoked):
        print("assigned", flush=True)

    def on_partitions_assigned(self, assigned):
        print("assigned", *sorted(p.partition for p in assigned), flush=True)


def follow(topic, group):
    over = threading.Thread(target=sys.stdin.read, daemon=True)
    over.start()
    c = KafkaConsumer(bootstrap_servers=addr, group_id=group, session_timeout_ms=6000, heartbeat_interval_ms=500, auto_commit_interval_ms=200, auto_offset_reset="earliest")
    c.subscribe([topic], listener=Shown())
    while over.is_alive():
        c.poll(200)
    c.close()


if len(sys.argv) > 2:
    follow(*sys.argv[3:])
    sys.exit(0)


def eventually(what, ask):
    """Waits until a node that is asked knows what another one has done."""
    end = time.time() + 30
    while not ask():
        check(time.time() < end, f"not within 30 s: {what}")
        time.sleep(0.05)


def again(call, already=None):
    """Tries a call whose error says that it may be tried again, when nodes end and start meanwhile (RESTARTS in the environment): what kafka-python leaves
    to the application. already is the error that says that an earlier try has done it."""
    end, tries = time.time() + 30, 0
    while True:
        try:
            return call()
        except errors.KafkaError as e:
            if tries and already and isinstance(e, already):
                return None
            if not os.environ.get("RESTARTS") or not (e.retriable or isinstance(e, errors.UnknownBrokerIdError)) or time.time() > end:
                raise
        tries += 1
        time.sleep(0.1)


if os.environ.get("RESTARTS"):
    faulthandler.dump_traceback_later(200, exit=True)  # says what it waits for
admin = KafkaAdminClient(bootstrap_servers=addr)
again(lambda: admin.create_topics([NewTopic(topic, 3, -1), NewTopic(txn, 2, -1), NewTopic(big, 1, -1, topic_configs={"max.message.bytes": "9000000"})]), errors.TopicAlreadyExistsError)
raises(errors.TopicAlreadyExistsError, lambda: again(lambda: admin.create_topics([NewTopic(topic, 3, -1)])))

sent = 0
for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
    p = KafkaProducer(bootstrap_servers=addr, compression_type=codec, acks="all", max_request_size=10 << 20)
    futures = [
        p.send(topic, key=None if i % 3 == 0 else b"k%d" % i, value=None if i % 3 and i % 7 == 0 else b"v" * 100, headers=[("h", b"\x00\xff")], partition=i % 3)
        for i in range(100)
    ] + [p.send(topic, value=b"z" * 1000000, partition=0)]
    for f in futures:
        f.get(20)
    sent += len(futures)
    if codec is None:
        p.send(big, value=os.urandom(8 << 20), partition=0).get(120)  # kafka-python computes its CRC byte by byte, in Python
    raises(errors.MessageSizeTooLargeError, lambda: p.send(topic, value=os.urandom(1_100_000), partition=0).get(20))  # fails what this producer sends next, too
    p.close()

got = read(sent, group_id=f"g-{run}")
check(sum(m.key is None for m in got) == 5 * 35 and sum(m.value is None for m in got) == 5 * 10, "null keys or values")
check(all(m.headers == [("h", b"\x00\xff")] for m in got if m.value is None or len(m.value) < 1000), "headers")

# Three members come one by one, until each has a partition.
assigned, done = {}, threading.Event()


def member(i):
    c = KafkaConsumer(topic, bootstrap_servers=addr, group_id=f"r-{run}", heartbeat_interval_ms=300, session_timeout_ms=10000)
    while not done.is_set():
        c.poll(200)
        assigned[i] = {p.partition for p in c.assignment()}
    c.close()


members = [threading.Thread(target=member, args=(i,)) for i in range(3)]
for m in members:
    m.start()
end = time.time() + 30
while time.time() < end and sorted(len(a) for a in assigned.values()) != [1, 1, 1]:
    done.wait(0.1)
check(set().union(*assigned.values()) == {0, 1, 2} and len(assigned) == 3, f"assignment {assigned}")
done.set()
for m in members:
    m.join()

tp = TopicPartition(topic, 1)
c = KafkaConsumer(bootstrap_servers=addr, auto_offset_reset="none", enable_auto_commit=False)
c.assign([tp])
end = c.end_offsets([tp])[tp]
check(c.beginning_offsets([tp])[tp] == 0 and end > 0, "offsets")
c.seek(tp, end - 1)
last = c.poll(10000)[tp][0]
check(last.offset == end - 1 and c.offsets_for_times({tp: last.timestamp})[tp].offset < end, "seek")
check(c.offsets_for_times({tp: last.timestamp + 3_600_000})[tp] is None, "offset of the future")
c.seek(tp, end + 100)
raises(errors.OffsetOutOfRangeError, lambda: c.poll(10000))
c.close()
c = KafkaConsumer(bootstrap_servers=addr, auto_offset_reset="earliest", enable_auto_commit=False, consumer_timeout_ms=120000, max_partition_fetch_bytes=10 << 20)
c.assign([TopicPartition(big, 0)])
check(len(next(c).value) == 8 << 20, "8 MB came back different")
c.close()

p = KafkaProducer(bootstrap_servers=addr, transactional_id=f"t-{run}")
p.init_transactions()
for r in range(4):
    p.begin_transaction()
    for i in range(20):
        p.send(txn, value=b"%d" % r, partition=i % 2)
    p.flush()  # else an abort drops what was not sent yet
    if r % 2:
        p.abort_transaction()
    else:
        p.send_offsets_to_transaction({TopicPartition(topic, 0): OffsetAndMetadata(r, "", -1)}, f"tg-{run}")
        p.commit_transaction()
p.begin_transaction()
p.send(txn, b"lost").get(20)
p2 = KafkaProducer(bootstrap_servers=addr, transactional_id=f"t-{run}")
p2.init_transactions()
raises(errors.KafkaError, lambda: (p.send(txn, b"lost").get(20), p.commit_transaction()))
p2.begin_transaction()
p2.send(txn, b"end", partition=0).get(20)
p2.send(txn, b"end", partition=1).get(20)
p2.commit_transaction()
p2.close()
p.close(timeout=1)
c = KafkaConsumer(txn, bootstrap_servers=addr, isolation_level="read_committed", auto_offset_reset="earliest", consumer_timeout_ms=20000)
values = []
for m in c:
    values.append(m.value)
    if values.count(b"end") == 2:
        break
c.close()
check(sorted(values) == sorted([b"0", b"2"] * 20 + [b"end"] * 2), f"{len(values)} committed records")
c = KafkaConsumer(txn, bootstrap_servers=addr, auto_offset_reset="earliest", consumer_timeout_ms=20000)
check(len([next(c) for _ in range(83)]) == 83, "read_uncommitted sees all")
c.close()

resource = [ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "77777"})]
again(lambda: admin.alter_configs(resource))
eventually("the config that was set", lambda: "77777" in str(again(lambda: admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))))
again(lambda: admin.create_partitions({topic: NewPartitions(5)}), errors.InvalidPartitionsError)
eventually("five partitions", lambda: len(again(lambda: admin.describe_topics([topic]))[0]["partitions"]) == 5)
check(again(lambda: admin.delete_records({TopicPartition(topic, 0): 5}))[TopicPartition(topic, 0)]["low_watermark"] == 5, "delete records")
listed = lambda: any(g["group_id"] == f"g-{run}" for g in again(admin.list_groups))
eventually("groups", listed) if os.environ.get("RESTARTS") else check(listed(), "groups")
offsets = again(lambda: admin.list_group_offsets(f"tg-{run}"))
check(offsets[f"tg-{run}"][TopicPartition(topic, 0)].offset == 2, f"offsets of a transaction: {offsets}")
described = again(lambda: admin.describe_groups([f"g-{run}"]))
check("Empty" in str(described), f"describe groups: {described}")
again(lambda: admin.delete_groups([f"g-{run}"]), errors.GroupIdNotFoundError)
again(lambda: admin.delete_topics([topic, txn, big]), errors.UnknownTopicOrPartitionError)
admin.close()
print("ok")
