#!/usr/bin/env python3
"""A plugin of Forebay: SQLite as a source (the rows of a table in the order of their rowid) and as a sink (a table of records), both exactly once."""

import json
import sqlite3

import plugin_pb2 as pb
from forebay_plugin import EXACTLY_ONCE, Fatal, Record, Sink, Source, field, serve

PATH = field("path", "The database file.", required=True, example="/var/lib/shop.db")


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


class Rows(Source):
    doc = "Reads the rows of an SQLite table as JSON objects, in the order of their rowid; rows that are inserted later follow. Updates and deletes are not seen."
    fields = [
        PATH,
        field("table", "The table.", required=True, example="orders"),
        field("topic", "The topic to append to. Not given: the source's name."),
        field("poll", "How often to look for new rows.", type=pb.Field.DURATION, default="1s"),
    ]
    delivery = EXACTLY_ONCE

    def topics(self):
        return [self.config["topic"] or self.name]

    def connect(self):
        return sqlite3.connect(f"file:{self.config['path']}?mode=ro", uri=True, check_same_thread=False)

    def validate(self):
        try:
            db = self.connect()
            db.execute(f"SELECT rowid FROM {quoted(self.config['table'])} LIMIT 1").close()
            db.close()
        except sqlite3.Error as e:
            return [f"{self.config['path']}: {e}"]
        return []

    def compare(self, key, a, b):
        a, b = json.loads(a)["rowid"], json.loads(b)["rowid"]
        return (a > b) - (a < b)

    def open(self, split, positions):
        self.at = json.loads(positions["rows"])["rowid"] if "rows" in positions else -(1 << 63)
        self.db = self.connect()

    def read(self, frame, stopped):
        cursor = self.db.execute(f"SELECT rowid, * FROM {quoted(self.config['table'])} WHERE rowid > ? ORDER BY rowid LIMIT 1000", (self.at,))
        names = [d[0] for d in cursor.description][1:]
        topic, before = self.topics()[0], self.at
        for rowid, *row in cursor:
            value = {n: v.hex() if isinstance(v, bytes) else v for n, v in zip(names, row)}
            frame.record(Record(topic, key=str(rowid).encode(), value=json.dumps(value).encode()))
            self.at = rowid
            frame.mark("rows", json.dumps({"rowid": rowid}).encode())
            if frame.full:
                break
        if self.at == before:
            stopped.wait(self.config["poll"])

    def close(self):
        self.db.close()


class Table(Sink):
    doc = "Writes records into a table of an SQLite file, with their topic, partition and offset. Where it stands is stored in the same transaction."
    fields = [
        PATH,
        field("table", "The table; it is made when it is not there.", default="records"),
        field("interval", "How long records may wait for a transaction.", type=pb.Field.DURATION, default="1s"),
    ]
    delivery = EXACTLY_ONCE

    def open(self, task_id, epoch):
        self.table = quoted(self.config["table"])
        self.db = sqlite3.connect(self.config["path"], isolation_level=None, timeout=10, check_same_thread=False)
        self.rows = {}  # by partition: what is not committed
        self.start = {}  # by partition: the offset that the next transaction begins at
        self.next = {}  # by partition: the offset behind what was written
        self.since = {}  # by partition: when its oldest record came
        self.prepared = {}  # by partition and offset
        self.db.execute(
            f"CREATE TABLE IF NOT EXISTS {self.table} (topic TEXT, partition INT, offset INT, timestamp INT, key BLOB, value BLOB, PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID"
        )
        self.db.execute("CREATE TABLE IF NOT EXISTS _forebay (topic TEXT, partition INT, topic_id BLOB, next INT, PRIMARY KEY (topic, partition)) WITHOUT ROWID")

    def recover(self, partition, topic_id, start, first):
        found = self.db.execute("SELECT topic_id, next FROM _forebay WHERE topic = ? AND partition = ?", partition).fetchone()
        if found is None:
            self.db.execute("INSERT OR IGNORE INTO _forebay VALUES (?, ?, ?, ?)", (*partition, topic_id, first))
            found = (topic_id, first)
        if found[0] != topic_id:
            raise Fatal(f"the table has records of a topic {partition[0]} that was deleted", "give another file, or remove its row from _forebay")
        if found[1] < start:
            raise Fatal(f"the next offset of {partition[0]} is {found[1]}, and the log begins at {start}", "retention was too short")
        self.start[partition] = found[1]
        self.rows[partition] = []
        return found[1]

    def write(self, records):
        if records:
            partition = (records[0].topic, records[0].partition)
            self.rows[partition].extend((r.topic, *r.place, r.timestamp, r.key, r.value) for r in records)
            self.next[partition] = records[-1].offset + 1
            self.since.setdefault(partition, None)

    def due(self, now):
        out = []
        for partition, rows in self.rows.items():
            if not rows:
                continue
            if self.since.get(partition) is None:
                self.since[partition] = now
            if now - self.since[partition] >= self.config["interval"] or len(rows) >= 10000:
                out.append(partition)
        return out

    def prepare(self, partition):
        rows = self.rows.get(partition)
        if not rows:
            return None
        start, next = self.start[partition], self.next[partition]
        self.prepared[partition, next] = (start, rows)
        self.rows[partition], self.start[partition] = [], next
        self.since.pop(partition, None)
        return next, b"%d" % start

    def commit(self, partition, next, token):
        start, rows = self.prepared[partition, next]
        self.db.execute("BEGIN IMMEDIATE")
        try:
            (at,) = self.db.execute("SELECT next FROM _forebay WHERE topic = ? AND partition = ?", partition).fetchone()
            if at == next and rows is None:
                return  # it was committed before
            if at != start:
                raise Fatal(f"another writer has been here: {partition[0]} stands at {at}, and this transaction begins at {start}")
            self.db.executemany(f"INSERT INTO {self.table} VALUES (?, ?, ?, ?, ?, ?)", rows)
            self.db.execute("UPDATE _forebay SET next = ? WHERE topic = ? AND partition = ?", (next, *partition))
            self.db.execute("COMMIT")
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
        self.prepared = {of: p for of, p in self.prepared.items() if of[0] != partition or of[1] > next}
        self.prepared[partition, next] = (start, None)

    def revoke(self, partition):
        for of in (self.rows, self.start, self.next, self.since):
            of.pop(partition, None)

    def close(self):
        self.db.close()


if __name__ == "__main__":
    serve(Rows, Table)
