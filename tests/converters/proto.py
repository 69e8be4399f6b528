"""confluent-kafka's Protobuf serializers against topics that Forebay's sources write and its sinks read.

proto.py check KAFKA REGISTRY TOPIC COUNT: reads COUNT records of change events with the newest schema, and prints each row as JSON.
proto.py write KAFKA REGISTRY TOPIC:       writes messages of a file that imports another one.
"""

import base64
import json
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.confluent import meta_pb2
from confluent_kafka.schema_registry.confluent.type import decimal_pb2
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, timestamp_pb2, wrappers_pb2

what, kafka, registry, topic = sys.argv[1:5]
client = SchemaRegistryClient({"url": registry})
pool = descriptor_pool.DescriptorPool()
for known in (descriptor_pb2, meta_pb2, decimal_pb2, timestamp_pb2, wrappers_pb2):
    pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)


def newest(subject):
    """The class of the first message of a subject's newest schema."""
    kept = client.get_latest_version(subject)
    file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(client.get_schema(kept.schema_id, fmt="serialized").schema_str))
    file.name = subject
    return message_factory.GetMessageClass(pool.AddSerializedFile(file.SerializeToString()).message_types_by_name[file.message_type[0].name])


def check(count):
    read = {part: ProtobufDeserializer(newest(topic + "-" + part), {}, client) for part in ("key", "value")}
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic, "isolation.level": "read_committed", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    for _ in range(count):
        m = consumer.poll(30)
        assert m is not None and m.error() is None, m
        assert not [h for h in m.headers() or [] if h[0] == "forebay.schema"], m.headers()
        key = read["key"](m.key(), SerializationContext(topic, MessageField.KEY))
        value = read["value"](m.value(), SerializationContext(topic, MessageField.VALUE)) if m.value() is not None else None
        shown = None
        if value is not None:
            assert value.source.connector == "postgresql", value
            shown = {"op": value.op}
            for image in ("before", "after"):
                if value.HasField(image):
                    shown[image] = json_format.MessageToDict(getattr(value, image), preserving_proto_field_name=True)
        print(json.dumps({"key": json_format.MessageToDict(key), "value": shown}, sort_keys=True))
    consumer.close()


def compiled(text):
    """The class of the last message of a file, from its descriptor in JSON."""
    file = json_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    return message_factory.GetMessageClass(pool.AddSerializedFile(file.SerializeToString()).message_types_by_name[file.message_type[-1].name])


def write():
    compiled("""{"name": "place.proto", "package": "common", "syntax": "proto3", "messageType": [{"name": "Place", "field": [
        {"name": "x", "number": 1, "label": "LABEL_OPTIONAL", "type": "TYPE_DOUBLE"}]}]}""")
    reading = compiled("""{"name": "reading.proto", "package": "lab", "syntax": "proto3",
        "dependency": ["place.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto", "confluent/type/decimal.proto"],
        "enumType": [{"name": "State", "value": [{"name": "ON", "number": 0}, {"name": "OFF", "number": 1}]}],
        "messageType": [{"name": "Unused"}, {"name": "Reading", "oneofDecl": [{"name": "what"}],
          "nestedType": [{"name": "TagsEntry", "options": {"mapEntry": true}, "field": [
            {"name": "key", "number": 1, "label": "LABEL_OPTIONAL", "type": "TYPE_STRING"}, {"name": "value", "number": 2, "label": "LABEL_OPTIONAL", "type": "TYPE_INT32"}]}],
          "field": [
            {"name": "sensor", "number": 1, "label": "LABEL_OPTIONAL", "type": "TYPE_STRING"},
            {"name": "at", "number": 2, "label": "LABEL_OPTIONAL", "type": "TYPE_MESSAGE", "typeName": ".google.protobuf.Timestamp"},
            {"name": "price", "number": 3, "label": "LABEL_OPTIONAL", "type": "TYPE_MESSAGE", "typeName": ".confluent.type.Decimal"},
            {"name": "state", "number": 4, "label": "LABEL_OPTIONAL", "type": "TYPE_ENUM", "typeName": ".lab.State"},
            {"name": "tags", "number": 5, "label": "LABEL_REPEATED", "type": "TYPE_MESSAGE", "typeName": ".lab.Reading.TagsEntry"},
            {"name": "place", "number": 6, "label": "LABEL_OPTIONAL", "type": "TYPE_MESSAGE", "typeName": ".common.Place", "oneofIndex": 0},
            {"name": "word", "number": 7, "label": "LABEL_OPTIONAL", "type": "TYPE_STRING", "oneofIndex": 0},
            {"name": "note", "number": 8, "label": "LABEL_OPTIONAL", "type": "TYPE_MESSAGE", "typeName": ".google.protobuf.StringValue"},
            {"name": "counts", "number": 9, "label": "LABEL_REPEATED", "type": "TYPE_SINT64"}]}]}""")
    put = ProtobufSerializer(reading, client, {})
    producer = Producer({"bootstrap.servers": kafka})
    for value in (
            {"sensor": "s0", "at": "2026-11-30T01:02:03.456789Z", "price": {"value": "+y4=", "scale": 2}, "state": "OFF", "tags": {"a": 1}, "place": {"x": 1.5}, "note": "x", "counts": [-1, 300]},
            {"sensor": "s1", "word": ""}):
        producer.produce(topic, put(json_format.ParseDict(value, reading()), SerializationContext(topic, MessageField.VALUE)), key="k")
    assert producer.flush(30) == 0


if what == "check":
    check(int(sys.argv[5]))
else:
    write()
