"""confluent-kafka's JSON Schema serializers against topics that Forebay's sources write and its sinks read.

json_schema.py check KAFKA REGISTRY TOPIC COUNT: reads COUNT records of change events, which are held against their schemas, and prints each row.
json_schema.py write KAFKA REGISTRY TOPIC:       writes values of a schema that references another one.
json_schema.py parquet KAFKA REGISTRY FOLDER:    prints the rows of Parquet files.
"""

import json
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

what, kafka, registry, topic = sys.argv[1:5]
client = SchemaRegistryClient({"url": registry})


def check(count):
    read = JSONDeserializer(None, schema_registry_client=client)
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
        print(json.dumps({"key": key, "value": value}, sort_keys=True))
    consumer.close()


def write():
    place = '{"$id": "place.json", "type": "object", "title": "Place", "properties": {"x": {"type": "number"}}, "required": ["x"]}'
    client.register_schema("place", Schema(place, "JSON"))
    schema = Schema(json.dumps({
        "$schema": "http://json-schema.org/draft-07/schema#", "title": "Visit", "type": "object", "required": ["user"], "properties": {
            "user": {"type": "string"}, "pages": {"type": "array", "items": {"type": "string"}}, "at": {"$ref": "place.json"},
            "load": {"type": ["number", "null"]}, "kind": {"enum": ["new", "known"]}, "more": {}}}), "JSON", [SchemaReference("place.json", "place", 1)])
    put = JSONSerializer(schema, client)
    producer = Producer({"bootstrap.servers": kafka})
    for value in ({"user": "Ada", "pages": ["/", "/é"], "at": {"x": 1.5}, "load": 0.25, "kind": "new", "more": {"a": [1]}}, {"user": "Bob"}):
        producer.produce(topic, put(value, SerializationContext(topic, MessageField.VALUE)), key="k")
    assert producer.flush(30) == 0


if what == "check":
    check(int(sys.argv[5]))
elif what == "write":
    write()
else:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(topic).to_pylist()
    print(json.dumps([{k: v for k, v in row.items() if k[0] != "_"} for row in rows], ensure_ascii=False))
