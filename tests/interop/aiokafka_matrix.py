"""What aiokafka does against the node, or nodes, at argv[1]: admin, five codecs, headers, null keys and values, records near and
over the limit and of 8 MB, groups, seeks, offsets by time, transactions, fencing. Ends with 1 and a line at the first surprise.
With `member TOPIC GROUP` it is a member of a group that prints its assignments, until stdin ends."""
import asyncio
import os
import sys
import uuid

import aiokafka.errors as errors
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

addr = sys.argv[1].split(",")
run = uuid.uuid4().hex[:8]


def check(ok, what):
    if not ok:
        print("wrong:", what, flush=True)
        os._exit(1)


async def raises(kind, awaitable):
    try:
        await awaitable
    except kind:
        return
    check(False, f"no {kind.__name__}")


async def eventually(what, ask):
    """Waits until a node that is asked knows what another one has done."""
    for _ in range(300):
        if await ask():
            return
        await asyncio.sleep(0.1)
    check(False, f"not within 30 s: {what}")


async def read(n, *topics, commit=False, **more):
    c = AIOKafkaConsumer(*topics, bootstrap_servers=addr, auto_offset_reset="earliest", enable_auto_commit=False, max_partition_fetch_bytes=1 << 20, **more)
    await c.start()
    out = []
    while len(out) < n:
        out.append(await asyncio.wait_for(c.getone(), 30))
    if commit:
        await c.commit()
    await c.stop()
    return out


async def codecs(topic, big):
    sent = {}
    for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
        p = AIOKafkaProducer(bootstrap_servers=addr, compression_type=codec, acks="all", enable_idempotence=True, linger_ms=5, max_request_size=10 << 20)
        await p.start()
        futures = []
        for i in range(200):
            key = None if i % 3 == 0 else b"k%d" % i
            value = None if key and i % 7 == 1 else b"%s %d " % (str(codec).encode(), i) * (i + 1)
            sent[(str(codec), str(i))] = (key, value)
            futures.append(await p.send(topic, value, key=key, headers=[("codec", str(codec).encode()), ("i", str(i).encode()), ("bytes", b"\x00\xff")]))
        for f in futures:
            await f
        await p.send_and_wait(topic, os.urandom(1_000_000), partition=0, headers=[("near", b"")])
        await raises(errors.MessageSizeTooLargeError, p.send_and_wait(topic, os.urandom(1_100_000), partition=0))
        await p.send_and_wait(big, os.urandom(8 << 20), partition=0)
        await p.stop()
    got = await read(len(sent) + 5, topic, commit=True, group_id=f"g-{run}")
    for m in got:
        h = dict(m.headers)
        if "near" in h:
            check(len(m.value) == 1_000_000, "a record near the limit came back different")
            continue
        check(h["bytes"] == b"\x00\xff", f"headers {h}")
        check(sent.pop((h["codec"].decode(), h["i"].decode())) == (m.key, m.value), f"{h} came back different")
    check(not sent, f"{len(sent)} records are missing")
    check([len(m.value) for m in await read(5, big)] == [8 << 20] * 5, "8 MB records")


async def seeks(topic):
    tp = TopicPartition(topic, 1)
    c = AIOKafkaConsumer(bootstrap_servers=addr, auto_offset_reset="none", enable_auto_commit=False)
    await c.start()
    c.assign([tp])
    first, end = (await c.beginning_offsets([tp]))[tp], (await c.end_offsets([tp]))[tp]
    check(first == 0 and end > 0, "offsets")
    c.seek(tp, end - 1)
    last = await asyncio.wait_for(c.getone(), 20)
    check(last.offset == end - 1, "seek")
    at = (await c.offsets_for_times({tp: last.timestamp}))[tp]
    check(at.offset < end and at.timestamp >= last.timestamp, "offset by time")
    check((await c.offsets_for_times({tp: last.timestamp + 3_600_000}))[tp] is None, "offset of the future")
    await c.seek_to_beginning(tp)
    check((await asyncio.wait_for(c.getone(), 20)).offset == 0, "seek to the beginning")
    c.seek(tp, end + 100)
    await raises(errors.OffsetOutOfRangeError, asyncio.wait_for(c.getone(), 20))
    await c.stop()


async def transactions(topic, out):
    p = AIOKafkaProducer(bootstrap_servers=addr, transactional_id=f"t-{run}")
    await p.start()
    c = AIOKafkaConsumer(topic, bootstrap_servers=addr, group_id=f"tg-{run}", auto_offset_reset="earliest", enable_auto_commit=False, isolation_level="read_committed")
    await c.start()
    tp = (await asyncio.wait_for(c.getone(), 20))
    tp = TopicPartition(tp.topic, tp.partition)
    for r in range(6):
        await p.begin_transaction()
        for i in range(10):
            await p.send(out, b"%d" % r, partition=i % 2)
        await p.send_offsets_to_transaction({tp: r + 1}, f"tg-{run}")
        if r % 2:
            await p.abort_transaction()
        else:
            await p.commit_transaction()
    check(await c.committed(tp) == 5, f"the transaction's offset is {await c.committed(tp)}")
    await c.stop()
    await p.begin_transaction()
    await p.send_and_wait(out, b"lost", partition=0)
    p2 = AIOKafkaProducer(bootstrap_servers=addr, transactional_id=f"t-{run}")
    await p2.start()
    await raises(errors.KafkaError, p.commit_transaction())
    async with p2.transaction():
        for i in range(2):
            await p2.send_and_wait(out, b"end", partition=i)
    await p2.stop()
    got = [m.value for m in await read(32, out, isolation_level="read_committed")]
    check(sorted(got) == sorted([b"0", b"2", b"4"] * 10 + [b"end"] * 2), f"read_committed saw {got}")
    check(len(await read(63, out)) == 63, "read_uncommitted sees all")
    await p.stop()


async def everything():
    admin = AIOKafkaAdminClient(bootstrap_servers=addr)
    await admin.start()
    topic, big, out = f"aio-{run}", f"aio-big-{run}", f"aio-out-{run}"
    reply = await admin.create_topics(
        [NewTopic(topic, 3, len(addr), topic_configs={"retention.ms": "3600000"}), NewTopic(big, 1, len(addr), topic_configs={"max.message.bytes": "9000000"}), NewTopic(out, 2, len(addr))])
    check(all(e[1] == 0 for e in reply.topic_errors), f"create: {reply}")
    check((await admin.create_topics([NewTopic(topic, 3, len(addr))])).topic_errors[0][1] == 36, "no TOPIC_ALREADY_EXISTS")
    await admin.create_partitions({topic: NewPartitions(4)})

    async def partitions():
        return len((await admin.describe_topics([topic]))[0]["partitions"]) == 4

    await eventually("four partitions", partitions)
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "7200000"})])

    async def configured():
        configs = (await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))[0].to_object()["resources"][0]["config_entries"]
        return {e["config_names"]: e["config_value"] for e in configs}.get("retention.ms") == "7200000"

    await eventually("the config that was set", configured)

    await codecs(topic, big)
    await seeks(topic)
    await transactions(topic, out)

    tp = TopicPartition(topic, 0)
    check((await admin.delete_records({tp: RecordsToDelete(5)}))[tp] == 5, "delete records")
    check(any(g[0] == f"g-{run}" for g in await admin.list_consumer_groups()), "groups")
    check(sum(o.offset for o in (await admin.list_consumer_group_offsets(f"g-{run}")).values()) == 1005, "group offsets")
    described = (await admin.describe_consumer_groups([f"g-{run}"]))[0].to_object()["groups"][0]
    check(described["state"] == "Empty", f"describe group: {described}")
    reply = await admin.delete_topics([topic, big, out])
    check(all(e[1] == 0 for e in reply.topic_error_codes), f"delete: {reply}")
    await admin.close()
    print("ok")


class Shown(ConsumerRebalanceListener):
    async def on_partitions_revoked(self, revoked):
        print("assigned", flush=True)

    async def on_partitions_assigned(self, assigned):
        print("assigned", *sorted(p.partition for p in assigned), flush=True)


async def member(topic, group):
    c = AIOKafkaConsumer(bootstrap_servers=addr, group_id=group, session_timeout_ms=6000, heartbeat_interval_ms=500, auto_commit_interval_ms=200, auto_offset_reset="earliest")
    c.subscribe([topic], listener=Shown())
    await c.start()
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not over.done():
        await c.getmany(timeout_ms=200)
    await c.stop()


asyncio.run(member(*sys.argv[3:]) if len(sys.argv) > 2 else everything())
