"""confluent-kafka's Avro serializers against topics that Forebay's sources write and its sinks read.

avro.py check KAFKA REGISTRY TOPIC COUNT: reads COUNT records of change events, and prints each row as JSON.
avro.py write KAFKA REGISTRY TOPIC:       writes rows with a string as key.
avro.py spoil KAFKA REGISTRY TOPIC:       writes a record that is not Avro.
"""

import datetime
import decimal
import json
import sys
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

what, kafka, registry, topic = sys.argv[1:5]
client = SchemaRegistryClient({"url": registry})


def check(count):
    read = AvroDeserializer(client)
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic, "isolation.level": "read_committed", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    for _ in range(count):
        m = consumer.poll(30)
        assert m is not None and m.error() is None, m
        assert not [h for h in m.headers() or [] if h[0] == "forebay.schema"], m.headers()
        key = read(m.key(), SerializationContext(topic, MessageField.KEY))
        value = read(m.value(), SerializationContext(topic, MessageField.VALUE)) if m.value() is not None else None
        if value is not None:
            assert value["source"]["connector"] == "postgresql", value
            value = {"op": value["op"], "before": value["before"], "after": value["after"]}
        print(json.dumps({"key": key, "value": value}, default=str, sort_keys=True))
    consumer.close()


def write():
    row = {
        "type": "record", "name": "Reading", "namespace": "lab", "fields": [
            {"name": "sensor", "type": "string"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
            {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["ON", "OFF"]}},
            {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 2}},
            {"name": "tags", "type": {"type": "map", "values": ["null", "int"]}},
            {"name": "note", "type": ["string", "null"], "default": ""},
        ]}
    put = AvroSerializer(client, json.dumps(row))
    producer = Producer({"bootstrap.servers": kafka})
    for i, note in enumerate(["x", None]):
        value = {
            "sensor": "s%d" % i, "at": datetime.datetime(2026, 11, 30, 1, 2, 3, 456789, datetime.timezone.utc), "day": datetime.date(2026, 11, 30),
            "price": decimal.Decimal("-12.34"), "id": uuid.UUID(int=i), "state": "OFF", "hash": b"\x01\xff", "tags": {"a": 1, "b": None}, "note": note}
        producer.produce(topic, put(value, SerializationContext(topic, MessageField.VALUE)), key="k%d" % i)
    assert producer.flush(30) == 0


def spoil():
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic, b'{"not": "Avro"}')
    assert producer.flush(30) == 0


if what == "check":
    check(int(sys.argv[5]))
elif what == "write":
    write()
else:
    spoil()
