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

# Protobuf: messages of a class that is made here, as protoc makes them; the second file imports the first.
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

pool = descriptor_pool.DescriptorPool()
pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)


def compiled(path, imports, **fields):
    """A file of one message; a field is its type, or the name of a message."""
    file = descriptor_pb2.FileDescriptorProto(name=path, package="shop", syntax="proto3", dependency=imports)
    message = file.message_type.add(name=path.removesuffix(".proto").capitalize())
    for number, (field, kind) in enumerate(fields.items(), 1):
        f = message.field.add(name=field, number=number, label=1)
        if isinstance(kind, str):
            f.type, f.type_name = 11, kind
        else:
            f.type = kind
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop." + message.name))


Customer = compiled("customer.proto", [], name=9)
Order = compiled("order.proto", ["customer.proto", "google/protobuf/timestamp.proto"], id=3, customer=".shop.Customer", at=".google.protobuf.Timestamp")
conf = {"use.deprecated.format": False}
order = Order(id=7, customer=Customer(name="Ada"))
order.at.seconds = 5
got = round_trip("proto", ProtobufSerializer(Order, client, conf), ProtobufDeserializer(Order, {**conf}, client), order)
assert got == order, got
kept = client.get_latest_version("proto-value")
assert kept.schema.schema_type == "PROTOBUF" and "message Order" in kept.schema.schema_str, kept
assert [(r.name, r.subject, r.version) for r in kept.schema.references] == [("customer.proto", "customer.proto", 1)], kept.schema.references
assert client.get_schema(kept.schema_id, fmt="serialized").schema_str != kept.schema.schema_str
assert client.lookup_schema("proto-value", kept.schema).version == 1
text = 'syntax = "proto3"; message M { int32 a = 1; %s }'
client.register_schema("p", Schema(text % "", "PROTOBUF"))
assert client.test_compatibility("p", Schema(text % "string b = 2;", "PROTOBUF"))
wrong = Schema('syntax = "proto3"; message M { string a = 1; }', "PROTOBUF")
assert not client.test_compatibility("p", wrong)
refused(409, 40901, lambda: client.register_schema("p", wrong))
refused(422, 42201, lambda: client.register_schema("p", Schema("message {", "PROTOBUF")))
