"""What a plugin of Forebay needs in Python: the handshake, the frames, and the two services.

A source is a class with `fields`, and the methods of Source below; a sink one with those of Sink. `serve` makes a plugin of them.
The protocol is plugin.proto; plugins/process/frame/frame.go draws the frames.
"""

import os
import queue
import signal
import struct
import sys
import tempfile
import threading
import traceback
from concurrent import futures

import grpc

import plugin_pb2 as pb

VERSION = 1
MAX_FRAME = 24 << 20
MAX_MESSAGE = MAX_FRAME + (64 << 10)
EXACTLY_ONCE = pb.EXACTLY_ONCE
AT_LEAST_ONCE = pb.AT_LEAST_ONCE

_RECORD = struct.Struct("<cBBHqq")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_PLACE = struct.Struct("<ciq")


class Fatal(Exception):
    """An error that no retry can mend."""

    def __init__(self, message, hint=""):
        super().__init__(message)
        self.hint = hint


class Record:
    """A record as it lies in the log. key and value are bytes or None; timestamp is in milliseconds, 0 for none.

    place is the partition and the offset that a sink shows. They are others than partition and offset, by which it counts what it has, when a dead
    letter is played again.
    """

    __slots__ = ("topic", "partition", "offset", "timestamp", "headers", "key", "value", "place")

    def __init__(self, topic, partition=-1, offset=0, timestamp=0, headers=(), key=None, value=None, place=None):
        self.topic, self.partition, self.offset, self.timestamp = topic, partition, offset, timestamp
        self.headers, self.key, self.value, self.place = headers, key, value, place or (partition, offset)


class Frame:
    """Records and marks on their way to Forebay. It is full at the size that Forebay would have it."""

    def __init__(self, limit):
        self.parts, self.size, self._limit, self._topic = [], 0, limit, None

    @property
    def full(self):
        return self.size >= self._limit

    def _add(self, *parts):
        self.parts.extend(parts)
        for p in parts:
            self.size += len(p)

    def record(self, r):
        if (r.topic, r.partition) != self._topic:
            self._topic = (r.topic, r.partition)
            name = r.topic.encode()
            self._add(b"T", _U32.pack(len(name)), name, _I32.pack(r.partition))
        key, value = r.key, r.value
        self._add(_RECORD.pack(b"R", key is not None, value is not None, len(r.headers), r.timestamp, r.offset))
        for name, header in r.headers:
            name = name.encode()
            self._add(_U32.pack(len(name)), name, _U32.pack(0 if header is None else len(header) + 1), header or b"")
        if key is not None:
            self._add(_U32.pack(len(key)), key)
        if value is not None:
            self._add(_U32.pack(len(value)), value)

    def mark(self, key, position, boundary=True):
        """mark says where the source stands behind the records so far: bytes, or None to forget the key."""
        key = key.encode(errors="surrogateescape")
        self._add(b"M", bytes([boundary | (position is None) << 1]), _U32.pack(len(key)), key, _U32.pack(len(position or b"")), position or b"")


def records(frame):
    """records are those of a frame from Forebay; their keys and values are bytes."""
    at, topic, partition, place = 0, "", 0, None

    def text():
        nonlocal at
        (n,) = _U32.unpack_from(frame, at)
        at += 4 + n
        if at > len(frame):
            raise Fatal("a damaged frame")
        return frame[at - n : at]

    while at < len(frame):
        tag = frame[at : at + 1]
        if tag == b"T":
            at += 1
            topic = text().decode()
            (partition,) = _I32.unpack_from(frame, at)
            at += 4
            continue
        if tag == b"P":
            _, *place = _PLACE.unpack_from(frame, at)
            at += _PLACE.size
            continue
        if tag != b"R":
            raise Fatal(f"an entry {tag!r} of a frame")
        _, key, value, headers, timestamp, offset = _RECORD.unpack_from(frame, at)
        at += _RECORD.size
        pairs = []
        for _ in range(headers):
            name = text().decode()
            (n,) = _U32.unpack_from(frame, at)
            at += 4 + max(n - 1, 0)
            pairs.append((name, frame[at - n + 1 : at] if n else None))
        yield Record(topic, partition, offset, timestamp, pairs, text() if key else None, text() if value else None, place and tuple(place))
        place = None


class Source:
    """A source. One is made for each call and each task, of a dict with the values of `fields`.

    With host_bound each host has splits of its own (files), by the same names; `host` is the one of this process.
    """

    doc, fields, delivery, host_bound = "", [], AT_LEAST_ONCE, False
    host = ""

    def __init__(self, config, name):
        self.config, self.name = config, name

    def validate(self):
        """validate gives messages about what is wrong outside of the config."""
        return []

    def plan(self, most):
        """plan names the splits."""
        return ["all"]

    def topics(self):
        return [self.name]

    def compare(self, key, a, b):
        """compare orders two positions: negative when a is earlier."""
        raise NotImplementedError

    def open(self, split, positions):
        pass

    def read(self, frame, stopped):
        """read adds records and marks to frame until it is full, and returns soon; with nothing to add it waits a little (stopped.wait). True: there will be no more."""
        raise NotImplementedError

    def committed(self, positions):
        """committed is called beside read, with positions that are durable in the log: only now may the source forget what lies before them."""

    def close(self):
        pass


class Sink:
    """A sink. One is made for each call and each task. Partitions are tuples of topic and number."""

    doc, fields, delivery = "", [], AT_LEAST_ONCE

    def __init__(self, config, name):
        self.config, self.name = config, name

    def validate(self):
        return []

    def open(self, task_id, epoch):
        pass

    def recover(self, partition, topic_id, start, first):
        """recover gives the offset to read next: first, if the target knows nothing of the partition. What lies before start is gone."""
        raise NotImplementedError

    def write(self, records):
        """write takes records of one partition; it gives those that it cannot take, as (index, reason)."""
        raise NotImplementedError

    def due(self, now):
        """due gives the partitions whose commit is due; now is in seconds."""
        return []

    def prepare(self, partition):
        """prepare gives (next offset, token) of what was written, or None."""
        raise NotImplementedError

    def commit(self, partition, next, token):
        raise NotImplementedError

    def revoke(self, partition):
        pass

    def close(self):
        pass


def field(name, doc, type=pb.Field.STRING, default="", required=False, example="", enum=()):
    return pb.Field(name=name, doc=doc, type=type, default=default, required=required, example=example, enum=enum)


def serve(source=None, sink=None):
    """serve does not return before Forebay ends the plugin."""
    if "FOREBAY_PLUGIN" not in os.environ:
        sys.exit("this is a plugin of Forebay, which starts it: name it under `plugins` in a YAML file")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: Forebay closes the tasks
    server = grpc.server(
        futures.ThreadPoolExecutor(1000),  # each task has one as long as it runs
        options=[("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)],
    )
    server.add_generic_rpc_handlers((_handlers(_Service(source, sink)),))
    directory = tempfile.mkdtemp(dir=os.environ.get("PLUGIN_UNIX_SOCKET_DIR"))
    path = os.path.join(directory, "socket")
    server.add_insecure_port("unix:" + path)
    server.start()
    print(f"1|{VERSION}|unix|{path}|grpc", flush=True)
    while sys.stdin.buffer.read(4096):
        pass  # only its end says something
    server.stop(3).wait()


def _handlers(service):
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
    methods = {
        "Describe": (unary, pb.DescribeRequest),
        "Check": (unary, pb.Config),
        "Validate": (unary, pb.Config),
        "Plan": (unary, pb.PlanRequest),
        "Topics": (unary, pb.Config),
        "Compare": (unary, pb.CompareRequest),
        "Source": (stream, pb.ToSource),
        "Sink": (stream, pb.ToSink),
    }
    return grpc.method_handlers_generic_handler(
        "forebay.plugin.v1.Plugin",
        {
            name: make(getattr(service, name), request_deserializer=message.FromString, response_serializer=lambda m: m.SerializeToString())
            for name, (make, message) in methods.items()
        },
    )


def _failure(e):
    if not isinstance(e, Fatal):
        traceback.print_exception(e)
    return pb.Failure(message=str(e) or type(e).__name__, fatal=isinstance(e, Fatal), hint=getattr(e, "hint", ""))


def _value(kind, v):
    """_value is a field's value in Python's types."""
    if kind == pb.Field.STRINGS:
        return list(v.list)
    if kind in (pb.Field.INT, pb.Field.SIZE):
        return int(v.text)
    if kind == pb.Field.BOOL:
        return v.text == "true"
    if kind == pb.Field.DURATION:
        return int(v.text.removesuffix("ns")) / 1e9  # seconds
    return v.text


def _key(key):
    """_key is a position's key, which may be any bytes: as os.fsdecode has them."""
    return key.decode(errors="surrogateescape")


def _positions(positions):
    return {_key(p.key): p.position for p in positions.positions if p.HasField("position")}


class _Service:
    def __init__(self, source, sink):
        self.source, self.sink = source, sink

    def Describe(self, request, context):
        d = pb.Description()
        if self.source:
            s = self.source
            d.source.CopyFrom(pb.Kind(doc=s.doc, fields=s.fields, delivery=s.delivery, host_bound=s.host_bound))
        if self.sink:
            s = self.sink
            d.sink.CopyFrom(pb.Kind(doc=s.doc, fields=s.fields, delivery=s.delivery))
        return d

    def _make(self, config):
        kind = self.sink if config.sink else self.source
        if kind is None:
            raise Fatal("this plugin is no " + ("sink" if config.sink else "source"))
        types = {f.name: f.type for f in kind.fields} | {"topics": pb.Field.STRINGS}
        made = kind({v.name: _value(types.get(v.name), v) for v in config.values}, config.name)
        made.host = config.host
        return made

    def _answer(self, make, failed):
        try:
            return make()
        except Exception as e:
            return failed(failure=_failure(e))

    def Check(self, config, context):
        return self._answer(lambda: self._make(config) and pb.Findings(), pb.Findings)

    def Validate(self, config, context):
        return self._answer(lambda: pb.Findings(findings=[pb.Finding(message=m) for m in self._make(config).validate()]), pb.Findings)

    def Plan(self, request, context):
        def split(name):
            host = request.config.host if self.source.host_bound else ""
            return pb.Split(id=f"{name}@{host}" if host else name, host=host)  # no two hosts may share an id

        return self._answer(lambda: pb.Splits(splits=[split(name) for name in self._make(request.config).plan(request.max)]), pb.Splits)

    def Topics(self, config, context):
        return self._answer(lambda: pb.TopicSpecs(topics=[pb.TopicSpec(name=t) for t in self._make(config).topics()]), pb.TopicSpecs)

    def Compare(self, request, context):
        return self._answer(lambda: pb.Order(order=self._make(request.config).compare(_key(request.key), request.a, request.b)), pb.Order)

    def Source(self, requests, context):
        opened = next(requests).open
        stopped, credit = threading.Event(), queue.SimpleQueue()
        try:
            source = self._make(opened.config)
            name = opened.split.id.removesuffix("@" + opened.split.host) if opened.split.host else opened.split.id
            source.open(name, _positions(opened.positions))
        except Exception as e:
            yield pb.FromSource(failure=_failure(e))
            return
        yield pb.FromSource(opened=pb.Done())
        broken = []

        def listen():
            try:
                for m in requests:
                    if m.credit:
                        credit.put(m.credit)
                    if m.HasField("committed"):
                        source.committed(_positions(m.committed))
            except grpc.RpcError:
                pass  # the stream has ended
            except Exception as e:
                broken.append(e)
            stopped.set()
            credit.put(0)

        listener = threading.Thread(target=listen)
        listener.start()
        have = 0
        try:
            while not stopped.is_set():
                frame = Frame(opened.frame_bytes)
                ended = source.read(frame, stopped)
                if frame.size > MAX_FRAME:
                    raise Fatal(f"a frame of {frame.size} bytes; {MAX_FRAME} can be sent", "a record is too large")
                while frame.size and (have <= 0 or not credit.empty()) and not stopped.is_set():
                    have += credit.get()
                if frame.size and not stopped.is_set():
                    have -= frame.size
                    yield pb.FromSource(frame=b"".join(frame.parts))
                if ended:
                    yield pb.FromSource(end=pb.Done())
                    break
        except Exception as e:
            broken.append(e)
        if broken:
            yield pb.FromSource(failure=_failure(broken[0]))
        listener.join()
        source.close()

    def Sink(self, requests, context):
        first = next(requests)
        opened = first.open
        try:
            task = self._make(opened.config)
            task.open(opened.task_id, opened.epoch)
        except Exception as e:
            yield pb.FromSink(ask=first.ask, failure=_failure(e))
            return
        yield pb.FromSink(ask=first.ask, done=pb.Done())
        try:
            for m in requests:
                try:
                    answer = _ask(task, m)
                except Exception as e:
                    answer = pb.FromSink(failure=_failure(e))
                if answer is not None:
                    answer.ask = m.ask
                    yield answer
        finally:
            task.close()


def _pairs(partitions):
    return [(p.topic, p.partition) for p in partitions.partitions]


def _due(task, now):
    return pb.Partitions(partitions=[pb.Partition(topic=t, partition=n) for t, n in task.due(now / 1e9)])


def _ask(task, m):
    kind = m.WhichOneof("message")
    if kind == "write":
        rejects = task.write(list(records(m.write.frame))) or []
        return pb.FromSink(written=pb.Written(rejects=[pb.Reject(index=i, reason=r) for i, r in rejects], due=_due(task, m.write.now)))
    if kind == "tick":
        return pb.FromSink(due=_due(task, m.tick))
    if kind == "recover":
        offsets = []
        for a in m.recover.assignments:
            at = task.recover((a.partition.topic, a.partition.partition), a.topic_id, a.start, a.first)
            offsets.append(pb.Offset(partition=a.partition, next=at))
        return pb.FromSink(resume=pb.Offsets(offsets=offsets))
    if kind == "prepare":
        tokens = []
        for topic, n in _pairs(m.prepare.partitions):
            prepared = task.prepare((topic, n))
            if prepared is not None:
                tokens.append(pb.Token(partition=pb.Partition(topic=topic, partition=n), next=prepared[0], data=prepared[1]))
        return pb.FromSink(tokens=pb.Tokens(tokens=tokens))
    if kind == "commit":
        task.commit((m.commit.partition.topic, m.commit.partition.partition), m.commit.next, m.commit.data)
    elif kind == "revoke":
        for p in _pairs(m.revoke):
            task.revoke(p)
    elif kind == "advance":
        return None
    else:
        raise Fatal(f"this plugin knows no {kind}", "it is of another version")
    return pb.FromSink(done=pb.Done())
