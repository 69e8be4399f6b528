"""Three members of confluent-kafka with group.protocol=consumer. Each says what it is assigned, what is revoked and what it
reads; one is killed, partitions are added. Ends with 1 and a line at the first surprise."""
import json
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

addr = sys.argv[1]
topic, group = "shared", "three"


def member():
    def say(*what):
        print(json.dumps(what), flush=True)

    c = Consumer({"bootstrap.servers": addr, "group.id": group, "group.protocol": "consumer", "auto.offset.reset": "earliest",
                  "enable.auto.commit": False, "topic.metadata.refresh.interval.ms": 1000})
    c.subscribe(["^shar.*"],
                on_assign=lambda _, ps: say("assigned", [p.partition for p in ps]),
                on_revoke=lambda _, ps: say("revoked", [p.partition for p in ps]),
                on_lost=lambda _, ps: say("revoked", [p.partition for p in ps]))
    while True:
        m = c.poll(0.2)
        if m is None:
            continue
        if m.error():
            if m.error().code() not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._PARTITION_EOF):
                say("error", str(m.error()))
            continue
        say("read", m.partition(), m.value().decode())
        c.commit(m, asynchronous=False)


class Member:
    def __init__(self):
        self.owned, self.read, self.wrong = set(), [], []
        self.process = subprocess.Popen([sys.executable, sys.argv[0], addr, "member"], stdout=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self.follow)
        self.thread.start()

    def follow(self):
        for line in self.process.stdout:
            what, *rest = json.loads(line)
            if what == "assigned":
                self.owned = self.owned | set(rest[0])
            elif what == "revoked":
                self.owned = self.owned - set(rest[0])
            elif what == "read":
                self.read.append(rest[1])
                if rest[0] not in self.owned:
                    self.wrong.append(f"read of partition {rest[0]}, owned are {self.owned}")
            else:
                self.wrong.append(rest[0])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.thread.join()


def check(ok, what):
    if not ok:
        raise SystemExit(what)


def until(what, ok, seconds=40):
    end = time.time() + seconds
    while not ok():
        check(time.time() < end, f"not within {seconds} s: {what()}")
        time.sleep(0.1)


def shared(members, partitions):
    """Every partition has one owner, and the members have as many as one another, give or take one."""
    counts = [len(m.owned) for m in members]
    return sum(counts) == partitions and set().union(*(m.owned for m in members)) == set(range(partitions)) and max(counts) - min(counts) <= 1


def produce(first, count, partitions):
    p = Producer({"bootstrap.servers": addr})
    for i in range(first, first + count):
        p.produce(topic, str(i), partition=i % partitions)
    check(p.flush(30) == 0, "records were not acknowledged")


def main():
    admin = AdminClient({"bootstrap.servers": addr})
    admin.create_topics([NewTopic(topic, 6, 1)])[topic].result(30)
    members = []
    try:
        for _ in range(3):
            members.append(Member())
        until(lambda: [m.owned for m in members], lambda: shared(members, 6))
        produce(0, 300, 6)
        until(lambda: [len(m.read) for m in members], lambda: sum(len(m.read) for m in members) == 300)
        check(len(set(sum((m.read for m in members), []))) == 300, "a record was read twice though nobody had died")

        members[0].kill()
        left = members[1:]
        produce(300, 300, 6)
        until(lambda: [m.owned for m in left], lambda: shared(left, 6))
        everything = lambda: set(sum((m.read for m in members), []))
        until(lambda: len(everything()), lambda: len(everything()) == 600)

        admin.create_partitions([NewPartitions(topic, 9)])[topic].result(30)
        until(lambda: [m.owned for m in left], lambda: shared(left, 9))
        produce(600, 90, 9)
        until(lambda: len(everything()), lambda: len(everything()) == 690)
        for m in members:
            check(not m.wrong, f"a member was surprised: {m.wrong}")
        g = admin.describe_consumer_groups([group])[group].result(10)
        check(g.type.name == "CONSUMER" and g.state.name == "STABLE" and len(g.members) == 2, f"describe: {g.type} {g.state} {len(g.members)}")
    finally:
        for m in members:
            m.kill()
    print("ok")


if len(sys.argv) > 2:
    member()
else:
    main()
