"""What kafka-python does against the node, or nodes, at argv[1]: admin, five codecs, headers, null keys and values, a message
over the limit, a group that rebalances, seeks, transactions, fencing. Ends with 1 and a line at the first surprise."""
import sys
import threading
import time
import uuid

import kafka.errors as errors
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewPartitions, NewTopic
from kafka.structs import OffsetAndMetadata

addr = sys.argv[1].split(",")
run = uuid.uuid4().hex[:8]
topic, txn = f"kp-{run}", f"kp-txn-{run}"


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


admin = KafkaAdminClient(bootstrap_servers=addr)
admin.create_topics([NewTopic(topic, 3, -1), NewTopic(txn, 2, -1)])
raises(errors.TopicAlreadyExistsError, lambda: admin.create_topics([NewTopic(topic, 3, -1)]))

sent = 0
for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
    p = KafkaProducer(bootstrap_servers=addr, compression_type=codec, acks="all", max_request_size=4 << 20)
    futures = [
        p.send(topic, key=None if i % 3 == 0 else b"k%d" % i, value=None if i % 3 and i % 7 == 0 else b"v" * 100, headers=[("h", b"\x00\xff")], partition=i % 3)
        for i in range(100)
    ] + [p.send(topic, value=b"z" * 1000000, partition=0)]
    for f in futures:
        f.get(20)
    sent += len(futures)
    if codec is None:
        raises(errors.MessageSizeTooLargeError, lambda: p.send(topic, value=b"z" * 1048588, partition=0).get(20))
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
c.seek(tp, end + 100)
raises(errors.OffsetOutOfRangeError, lambda: c.poll(10000))
c.close()

p = KafkaProducer(bootstrap_servers=addr, transactional_id=f"t-{run}")
p.init_transactions()
for r in range(4):
    p.begin_transaction()
    for i in range(20):
        p.send(txn, value=b"%d" % r, partition=i % 2)
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

resource = [ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "77777"})]
admin.alter_configs(resource)
admin.create_partitions({topic: NewPartitions(5)})
check(len(admin.describe_topics([topic])[0]["partitions"]) == 5, "partitions")
check(admin.delete_records({TopicPartition(topic, 0): 5})[TopicPartition(topic, 0)]["low_watermark"] == 5, "delete records")
check(any(g["group_id"] == f"g-{run}" for g in admin.list_groups()), "groups")
offsets = admin.list_group_offsets(f"tg-{run}")
check(offsets[f"tg-{run}"][TopicPartition(topic, 0)].offset == 2, f"offsets of a transaction: {offsets}")
admin.delete_groups([f"g-{run}"])
admin.delete_topics([topic, txn])
admin.close()
print("ok")
