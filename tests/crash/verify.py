"""Reads what Forebay left in HDFS, over WebHDFS, with pyarrow, and holds it against the truth.

usage: verify.py WEBHDFS_HOST:PORT USER ROOT TRUTH.json

TRUTH.json: {"tables": {"customers": [row, …], …}, "lines": {"a.log": count, …}}; a row is a list of texts.
Prints what is wrong, one line each, and ends with 1; prints a summary and ends with 0 when nothing is.
"""
import json
import sys
from decimal import Decimal

import fsspec
import pyarrow.parquet as pq

COLUMNS = {
    "customers": ["id", "name", "note", "balance", "vip", "created", "rev"],
    "orders": ["id", "customer_id", "status", "total", "meta", "placed", "rev"],
}


def text(v):
    if v is None:
        return None
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, Decimal):
        return str(v)
    if hasattr(v, "timestamp"):
        # microseconds since the epoch, exactly; a time without a zone is UTC
        from datetime import datetime, timezone

        if v.tzinfo is None:
            v = v.replace(tzinfo=timezone.utc)
        d = v - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return str((d.days * 86400 + d.seconds) * 1_000_000 + d.microseconds)
    return str(v)


def main():
    addr, user, root, truth_file = sys.argv[1:5]
    host, port = addr.rsplit(":", 1)
    fs = fsspec.filesystem("webhdfs", host=host, port=int(port), user=user)
    truth = json.load(open(truth_file))
    wrong = []

    def say(what):
        wrong.append(what)
        if len(wrong) <= 20:
            print(what)

    files = [f for f in fs.find(root)]
    for f in files:
        if "/_forebay/tmp/" in f or f.endswith(".tmp"):
            say(f"temp file left: {f}")

    rows_read = 0
    for table, want in truth["tables"].items():
        columns = COLUMNS[table]
        mine = sorted((f for f in files if f"shop.public.{table}/" in f and f.endswith(".parquet") and "/_forebay/" not in f),
                      key=lambda f: int(f.rsplit("+", 2)[1]))
        seen, state, revs = set(), {}, {}
        for f in mine:
            t = pq.read_table(fs.open(f), columns=columns + ["_op", "_offset", "_unchanged"])
            for r in t.to_pylist():
                rows_read += 1
                offset, op, key = r["_offset"], r["_op"], r["id"]
                if offset in seen:
                    say(f"{table}: offset {offset} is there twice, again in {f}")
                    continue
                seen.add(offset)
                if op == "d":
                    if state.pop(key, None) is None:
                        say(f"{table}: row {key} is deleted at {offset} and was not there")
                    continue
                if op == "t":
                    state.clear()
                    continue
                row = {c: text(r[c]) for c in columns}
                left = r["_unchanged"] or []
                if isinstance(left, str):
                    left = [c for c in left.split(",") if c]
                before = state.get(key)
                for c in left:
                    row[c] = before[c] if before else f"unchanged {c} of an unknown row"
                if op == "u":
                    if before is None:
                        say(f"{table}: row {key} is updated at {offset} and was not there")
                    elif int(row["rev"]) != int(before["rev"]) + 1:
                        say(f"{table}: row {key} goes from rev {before['rev']} to {row['rev']} at {offset}")
                elif before is not None:
                    say(f"{table}: row {key} comes with op {op} at {offset} and was there already")
                state[key] = row
        got = sorted([[row[c] for c in columns] for row in state.values()], key=lambda r: int(r[0]))
        want.sort(key=lambda r: int(r[0]))
        have, need = {r[0]: r for r in got}, {r[0]: r for r in want}
        for k in need.keys() - have.keys():
            say(f"{table}: row {k} is missing")
        for k in have.keys() - need.keys():
            say(f"{table}: row {k} should not be there")
        for k in have.keys() & need.keys():
            if have[k] != need[k]:
                say(f"{table}: row {k} is {[h for h, n in zip(have[k], need[k]) if h != n]}, not {[n for h, n in zip(have[k], need[k]) if h != n]}")

    texts = [f for f in files if "weblogs/" in f and "/_forebay/" not in f]
    texts.sort(key=lambda f: (f.rsplit("+", 3)[1], int(f.rsplit("+", 2)[1])))
    last, lines_read = {}, 0
    for f in texts:
        for line in fs.open(f).read().split(b"\n")[:-1]:
            lines_read += 1
            name, number = line.split(b" ")[:2]
            name, number = name.decode(), int(number)
            before = last.get(name, -1)
            if number != before + 1:
                say(f"lines: {name} goes from {before} to {number} in {f}")
            last[name] = number
    for name, count in truth["lines"].items():
        if last.get(name, -1) != count - 1:
            say(f"lines: {name} ends at {last.get(name)}, not at {count - 1}")

    print(f"{rows_read} change rows and {lines_read} lines in {len(files)} files; {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


main()
