"""confluent-kafka's SchemaRegistryClient, and round trips of its serializers through the log."""

import sys

from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

kafka, registry = sys.argv[1:]
client = SchemaRegistryClient({"url": registry})


def refused(status, code, do):
    try:
        do()
    except SchemaRegistryError as e:
        assert (e.http_status_code, e.error_code) == (status, code), e
    else:
        raise AssertionError(f"not refused with {code}")


def round_trip(topic, serializer, deserializer, value):
    """Sends one value and reads it back."""
    producer = Producer({"bootstrap.servers": kafka})
    data = serializer(value, SerializationContext(topic, MessageField.VALUE))
    assert data[0] == 0, data
    producer.produce(topic, data)
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    message = consumer.poll(30)
    assert message is not None and message.error() is None, message
    got = deserializer(message.value(), SerializationContext(topic, MessageField.VALUE))
    consumer.close()
    return got


def record(*fields):
    text = ",".join('{"name":"%s","type":"int"%s}' % (f, ',"default":0' if f != "a" else "") for f in fields)
    return Schema('{"type":"record","name":"R","namespace":"n","fields":[%s]}' % text, "AVRO")


# The client.
assert client.get_subjects() == []
first = client.register_schema("s/with slash", record("a"))
assert client.register_schema("s/with slash", record("a")) == first
assert client.register_schema("other", record("a")) == first
second = client.register_schema("s/with slash", record("a", "b"))
assert second > first
assert sorted(client.get_subjects()) == ["other", "s/with slash"]
assert client.get_versions("s/with slash") == [1, 2]
assert client.get_version("s/with slash", 1).schema.schema_str == record("a").schema_str
assert client.get_latest_version("s/with slash").schema_id == second
assert client.get_schema(second).schema_str == record("a", "b").schema_str
assert client.lookup_schema("s/with slash", record("a", "b")).version == 2
assert client.test_compatibility("s/with slash", record("a"))
wrong = Schema('{"type":"record","name":"R","namespace":"n","fields":[{"name":"a","type":"string"}]}', "AVRO")
assert not client.test_compatibility("s/with slash", wrong)
refused(409, 40901, lambda: client.register_schema("s/with slash", wrong))
refused(422, 42201, lambda: client.register_schema("s/with slash", Schema("{", "AVRO")))
refused(404, 40401, lambda: client.get_versions("nix"))
refused(404, 40402, lambda: client.get_version("s/with slash", 9))
refused(404, 40403, lambda: SchemaRegistryClient({"url": registry}).get_schema(999))
client.set_compatibility(level="FULL_TRANSITIVE")
assert client.get_compatibility() == "FULL_TRANSITIVE"
client.set_compatibility(subject_name="other", level="NONE")
assert client.get_compatibility("other") == "NONE"
client.register_schema("other", wrong)
refused(422, 42203, lambda: client.set_compatibility(level="UP"))
client.set_compatibility(level="BACKWARD")
assert client.delete_version("s/with slash", 2) == 2
assert client.get_versions("s/with slash") == [1]
assert client.delete_subject("other") == [1, 2]
assert client.delete_subject("other", permanent=True) == [1, 2]
assert client.get_subjects() == ["s/with slash"]

# Avro.
schema = '{"type":"record","name":"User","fields":[{"name":"name","type":"string"},{"name":"n","type":["null","long"],"default":null}]}'
value = {"name": "Ada", "n": 1 << 40}
assert round_trip("avro", AvroSerializer(client, schema), AvroDeserializer(client), value) == value

# JSON Schema, the second one with a reference.
schema = """{"$schema":"http://json-schema.org/draft-07/schema#","title":"User","type":"object",
  "properties":{"name":{"type":"string"},"n":{"type":"integer"}},"required":["name"],"additionalProperties":false}"""
value = {"name": "Ada", "n": 7}
assert round_trip("json", JSONSerializer(schema, client), JSONDeserializer(schema), value) == value
more = Schema(schema.replace('"n":', '"m":{"type":"number"},"n":'), "JSON")
assert client.test_compatibility("json-value", more)
assert not client.test_compatibility("json-value", Schema(schema.replace('"required":["name"]', '"required":["name","n"]'), "JSON"))
assert client.get_latest_version("json-value").schema.schema_type == "JSON"
