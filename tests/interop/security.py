"""confluent-kafka (librdkafka) against secured nodes at argv[1], with the authority at argv[2]: alice by SCRAM may use orders, carol by PLAIN
nothing. Ends with 1 and a line at the first surprise."""
import sys

from confluent_kafka import Consumer, KafkaError, Producer

addr, ca = sys.argv[1:3]


def check(ok, what):
    if not ok:
        print("wrong:", what)
        sys.exit(1)


def conf(user, mechanism, **more):
    return {"bootstrap.servers": addr, "security.protocol": "SASL_SSL", "ssl.ca.location": ca, "sasl.mechanism": mechanism,
            "sasl.username": user, "sasl.password": user + "-secret", **more}


def produce(user, mechanism, topic):
    errors = []
    p = Producer(conf(user, mechanism))
    p.produce(topic, b"line of confluent", callback=lambda err, _: errors.append(err))
    check(p.flush(30) == 0, f"{user} was told nothing")
    return errors[0]


for mechanism in "SCRAM-SHA-256", "SCRAM-SHA-512":
    check(produce("alice", mechanism, "orders") is None, f"alice by {mechanism}")
err = produce("carol", "PLAIN", "orders")
check(err is not None and err.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, f"carol: {err}")

c = Consumer(conf("alice", "SCRAM-SHA-256", **{"group.id": "shop-2", "auto.offset.reset": "earliest"}))
c.subscribe(["orders"])
seen = 0
while seen < 303:
    m = c.poll(30)
    check(m is not None and not m.error(), f"{seen} records, then {m and m.error()}")
    seen += 1
c.close()

c = Consumer(conf("alice", "SCRAM-SHA-256", **{"group.id": "others", "auto.offset.reset": "earliest"}))
c.subscribe(["orders"])
m = c.poll(30)
check(m is not None and m.error() and m.error().code() == KafkaError.GROUP_AUTHORIZATION_FAILED, f"another group: {m and m.error()}")
c.close()
print("ok")
