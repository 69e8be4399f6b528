package mongodb

import (
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/testenv"
)

func TestRowsFollowTheirKeys(t *testing.T) {
	m := testenv.Mongo(t)
	l := start(t, newSink(t, m, nil))
	l.write(upsert(1, "a", "n"), upsert(2, "b", nil), upsert(1, "a2", "n2"), upsert(3, "c", "x"), deletion(3), tombstone(3), deletion(4))
	l.flush()
	holds(t, m, "orders", `{"_id":1,"id":1,"name":"a2","note":"n2","at":null}`, `{"_id":2,"id":2,"name":"b","note":null,"at":null}`)
	l.write(deletion(1), upsert(2, "again", "n"), deletion(2), upsert(2, "third", nil), tombstone(9))
	l.flush()
	holds(t, m, "orders", `{"_id":2,"id":2,"name":"third","note":null,"at":null}`)
}

// Columns that were not sent keep what the target has, with the microseconds that stand beside them.
func TestUnchangedColumns(t *testing.T) {
	m := testenv.Mongo(t)
	l := start(t, newSink(t, m, nil))
	at := schema.Int64Of(1_700_000_000_123_456)
	l.write(upsert(1, "a", "big", at), upsert(2, "b", "big", at), upsert(3, "c", "?", at)) // 3: nobody has its note
	l.flush()
	l.write(upsert(1, "a2", "?", "?"))                                                                           // in the target
	l.write(upsert(2, "b2", "?", schema.Int64Of(1_700_000_000_000_000)))                                         // no microseconds any more
	l.write(upsert(4, "d", "note", at), upsert(4, "d2", "?", "?"), upsert(5, "e", "?", at), upsert(5, "?", "?")) // in the commit
	l.flush()
	stamp := `{"$date":"2023-11-14T22:13:20.123Z"}`
	holds(t, m, "orders",
		`{"_id":1,"id":1,"name":"a2","note":"big","at":`+stamp+`,"_us_at":456}`,
		`{"_id":2,"id":2,"name":"b2","note":"big","at":{"$date":"2023-11-14T22:13:20Z"}}`,
		`{"_id":3,"id":3,"name":"c","at":`+stamp+`,"_us_at":456}`,
		`{"_id":4,"id":4,"name":"d2","note":"note","at":`+stamp+`,"_us_at":456}`,
		`{"_id":5,"id":5,"name":"e","at":null}`)
}

// A key change brings no unchanged columns: they are in the document that goes.
func TestKeyChanges(t *testing.T) {
	for _, commits := range []string{"one", "two"} {
		t.Run(commits, func(t *testing.T) {
			m := testenv.Mongo(t)
			l := start(t, newSink(t, m, nil))
			l.write(upsert(1, "a", "one"), upsert(2, "b", "two"), upsert(3, "c", "three"), upsert(4, "d", "four"))
			if commits == "two" {
				l.flush()
			}
			l.write(move(1, 10, "a", "?")...)
			l.write(move(10, 11, "a2", "?")...) // twice
			l.write(move(2, 20, "b", "new")...)
			l.write(move(3, 30, "c", "?")...) // to and fro
			l.write(move(30, 3, "c2", "?")...)
			// Two change places.
			l.write(move(4, 40, "d", "?")...)
			l.write(move(11, 4, "a3", "?")...)
			l.write(move(40, 11, "d2", "?")...)
			l.flush()
			holds(t, m, "orders", `{"_id":3,"id":3,"name":"c2","note":"three","at":null}`, `{"_id":4,"id":4,"name":"a3","note":"one","at":null}`,
				`{"_id":11,"id":11,"name":"d2","note":"four","at":null}`, `{"_id":20,"id":20,"name":"b","note":"new","at":null}`)
		})
	}
}

// A delete whose other half does not come is written by the next commit. When the other half comes after that, columns that it lacks are nowhere.
func TestHalfAKeyChange(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	l := start(t, s)
	l.write(upsert(1, "a", "one"), upsert(2, "b", "two"), upsert(3, "c", "three"))
	l.flush()
	half := func(from, to int64) []connectors.Record { return move(from, to, nil, nil)[:2] }
	l.write(half(1, 11)...)
	l.flush()
	if again := start(t, s); again.next != l.next {
		t.Fatalf("resumes at %d", again.next)
	}
	l = start(t, s)
	// Another record settles it.
	l.write(append(half(2, 22), upsert(7, "g", nil), move(2, 22, "b", "?")[2])...)
	l.flush()
	l.write(half(3, 33)[0])
	l.flush()
	l.write(half(3, 33)[1])
	l.flush()
	late := move(3, 33, "c", "?")[2]
	late.Topic, late.Offset = l.tp.Topic, l.next
	_, err := l.task.Write(t.Context(), []connectors.Record{late})
	fatalWith(t, err, "(note)", "by the event at offset 9", "REPLICA IDENTITY FULL")
	const others = `{"_id":7,"id":7,"name":"g","note":null,"at":null}`
	holds(t, m, "orders", others, `{"_id":22,"id":22,"name":"b","at":null}`)
	l = start(t, s) // a person has read it
	l.write(late)
	l.flush()
	holds(t, m, "orders", others, `{"_id":22,"id":22,"name":"b","at":null}`, `{"_id":33,"id":33,"name":"c","at":null}`)
}

func TestTruncate(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	s.cfg.chunk = 7 // several transactions
	l := start(t, s)
	for i := range 50 {
		l.write(upsert(int64(i), fmt.Sprint(i), nil))
	}
	l.flush()
	l.write(upsert(3, "before", nil), truncation(), upsert(3, "after", "?"), upsert(4, "x", nil), deletion(4))
	l.flush()
	holds(t, m, "orders", `{"_id":3,"id":3,"name":"after","at":null}`)
}

// Fields that an update would take for a path or an operator.
func TestOddColumnNames(t *testing.T) {
	m := testenv.Mongo(t)
	l := start(t, newSink(t, m, nil))
	row := structOf("r", "id", int64Type, "a.b", optText, "c$", optText, "note", optText)
	l.write(change(connectors.OpCreate, row, 1, "x", "y", "note"), change(connectors.OpCreate, row, 2, "x", "y", "note"))
	l.flush()
	l.write(change(connectors.OpUpdate, row, 1, "x2", "y2", "?"), change(connectors.OpUpdate, row, 3, "new", "y", "?"))
	l.flush()
	holds(t, m, "orders", `{"_id":1,"id":1,"a.b":"x2","c$":"y2","note":"note"}`, `{"_id":2,"id":2,"a.b":"x","c$":"y","note":"note"}`, `{"_id":3,"id":3,"a.b":"new","c$":"y"}`)
}

func TestDocuments(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	l := start(t, s)
	l.write(docTombstone(`"early"`), // before anything else: nobody knows what its key means
		docChange(connectors.OpRead, `"a"`, `{"_id": "a","n": {"$numberLong": "1"}}`),
		docChange(connectors.OpCreate, `42`, `{"_id": {"$numberLong": "42"},"n": 1}`),
		docChange(connectors.OpCreate, `{"x": 1,"y": "z"}`, `{"_id": {"x": 1,"y": "z"}}`),
		docChange(connectors.OpCreate, `{"$oid": "0102000000000000000000ff"}`, `{"_id": {"$oid": "0102000000000000000000ff"},"v": 2.0}`))
	l.flush()
	l = start(t, s)
	l.write(docTombstone(`"a"`), // a compacted topic may have only this of a delete
		docChange(connectors.OpUpdate, `42`, "?"),
		docChange(connectors.OpUpdate, `{"x": 1,"y": "z"}`, `{"_id": {"x": 1,"y": "z"},"$odd.name": {"$x": 1}}`))
	l.flush()
	holds(t, m, "orders", `{"_id":42,"n":1}`, `{"_id":{"x":1,"y":"z"},"$odd.name":{"$x":1}}`, `{"_id":{"$oid":"0102000000000000000000ff"},"v":2.0}`)
	l.write(docChange(connectors.OpDelete, `42`, ""), docTombstone(`42`), docChange(connectors.OpCreate, `42`, `{"_id": 42}`), // another type of the same number
		docChange(connectors.OpDelete, `{"x": 1,"y": "z"}`, ""))
	l.flush()
	var doc bson.Raw
	if err := m.DB().Collection("orders").FindOne(t.Context(), bson.D{{Key: "_id", Value: 42}}).Decode(&doc); err != nil || doc.Lookup("_id").Type != bson.TypeInt32 {
		t.Fatalf("%v, %v", doc, err)
	}
	l.write(docChange(connectors.OpUpdate, `42`, `{"_id": {"$numberLong": "42"},"now": "long"}`)) // looked up, when it was another already
	l.flush()
	holds(t, m, "orders", `{"_id":42,"now":"long"}`, `{"_id":{"$oid":"0102000000000000000000ff"},"v":2.0}`)
}

// What a tombstone's key means is known of the topic, not of the partition: of one that is new, and of that in which dead letters are played again.
func TestTombstonesOfOtherPartitions(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	l := start(t, s)
	l.write(docChange(connectors.OpRead, `1`, `{"_id": 1}`), docChange(connectors.OpRead, `2`, `{"_id": 2}`), docChange(connectors.OpRead, `3`, `{"_id": 3}`), docChange(connectors.OpRead, `4`, `{"_id": 4}`))
	l.flush()
	remove := func(l *life, partition int32, key string) {
		l.tp.Partition, l.next = partition, 0
		l.write(docTombstone(key))
		l.flush()
	}
	take := func(l *life, partitions ...int32) *life {
		t.Helper()
		as := make([]connectors.Assignment, len(partitions))
		for i, p := range partitions {
			as[i] = assigned(p)
		}
		if _, err := l.task.Recover(t.Context(), as); err != nil {
			t.Fatal(err)
		}
		return l
	}
	again := connectors.ReplayPartition
	remove(take(l, again), again, `1`)   // learnt while it runs
	remove(take(start(t, s), 1), 1, `2`) // … from the offset
	l, err := tryStart(t, s, assigned(2), epochs.Add(1))
	if err != nil {
		t.Fatal(err)
	}
	remove(take(l, 0), 2, `3`) // … of a partition that comes later
	holds(t, m, "orders", `{"_id":4}`)
	// It is noted with the commit.
	if n, err := m.DB().Collection("_forebay_offsets").CountDocuments(t.Context(), bson.D{{Key: "shape", Value: shapeDocuments}}); err != nil || n != 4 {
		t.Errorf("%d offsets say that the topic is of documents, %v", n, err)
	}
}

// An empty timestamp stays one: in a field of a document, and as a key. A server that is given one to insert or to replace with puts its clock there.
func TestEmptyTimestamp(t *testing.T) {
	m := testenv.Mongo(t)
	l := start(t, newSink(t, m, nil))
	const empty = `{"$timestamp":{"t":0,"i":0}}`
	doc := func(op connectors.Op, id, rest string) connectors.Record {
		return docChange(op, id, `{"_id": `+id+`,"at": `+empty+`,"deep": {"at": `+empty+`}`+rest+`}`)
	}
	l.write(doc(connectors.OpRead, "1", ""), doc(connectors.OpRead, "2", ""), doc(connectors.OpRead, empty, ""))
	l.flush()
	l.write(doc(connectors.OpUpdate, "1", `,"n": 1`), doc(connectors.OpDelete, "2", ""), doc(connectors.OpCreate, "2", `,"n": 2`))
	l.flush()
	rest := `,"at":` + empty + `,"deep":{"at":` + empty + `}`
	holds(t, m, "orders", `{"_id":1`+rest+`,"n":1}`, `{"_id":2`+rest+`,"n":2}`, `{"_id":`+empty+rest+`}`)

	l = start(t, newSink(t, m, map[string]string{"mode": "append", "collection": "history"}))
	l.write(doc(connectors.OpCreate, empty, ""), docChange(connectors.OpCreate, "1", `{"_id": 1}`))
	l.flush()
	id := func(n int) string {
		return fmt.Sprintf(`{"_id":{"topic":"shop.public.orders","partition":0,"offset":%d},`, n)
	}
	ts := `,"_op":"c","_ts":{"$date":"2026-01-02T03:04:05Z"}}`
	holds(t, m, "history", id(6)+`"id":`+empty+`,"document":{"_id":`+empty+rest+`}`+ts, id(7)+`"id":1,"document":{"_id":1}`+ts)
}

// Debezium's own events, without a schema: before and after are texts.
func TestDocumentsOfAnotherTool(t *testing.T) {
	m := testenv.Mongo(t)
	l := start(t, newSink(t, m, nil))
	text := &schema.Schema{Kind: schema.String, Optional: true}
	r, gone := docChange(connectors.OpCreate, `{"$oid": "0102000000000000000000ff"}`, ""), docChange(connectors.OpUpdate, `3`, "")
	r.Change.Row, r.Change.After = text, schema.StringOf(`{"_id": {"$oid": "0102000000000000000000ff"}, "n": {"$numberLong": "5"}}`)
	gone.Change.Row, gone.Change.After = text, schema.Value{}
	l.write(r, gone)
	l.flush()
	holds(t, m, "orders", `{"_id":{"$oid":"0102000000000000000000ff"},"n":5}`)
	d := docChange(connectors.OpDelete, `{"$oid": "0102000000000000000000ff"}`, "")
	d.Change.Row = text
	l.write(d, docTombstone(`{"$oid": "0102000000000000000000ff"}`))
	l.flush()
	holds(t, m, "orders")
}

func TestAppend(t *testing.T) {
	m := testenv.Mongo(t)
	l := start(t, newSink(t, m, map[string]string{"mode": "append", "collection": "history", "topics": "shop.*"}))
	line := connectors.Record{RawKey: []byte("key"), RawValue: []byte("a line"), Headers: []connectors.Header{{Key: "path", Value: []byte("/x")}, {Key: "bin", Value: []byte{0xff}}, {Key: "path"}}}
	l.write(upsert(1, "a", "?"), deletion(1), tombstone(1), truncation(), line, docChange(connectors.OpCreate, `7`, `{"_id": 7,"x": 1}`), docChange(connectors.OpDelete, `7`, ""))
	l.flush()
	id := func(n int) string {
		return fmt.Sprintf(`{"_id":{"topic":"shop.public.orders","partition":0,"offset":%d},`, n)
	}
	ts := `"_ts":{"$date":"2026-01-02T03:04:05Z"}}`
	holds(t, m, "history",
		id(0)+`"id":1,"name":"a","at":null,"_unchanged":["note"],"_op":"u",`+ts,
		id(1)+`"id":1,"name":null,"note":null,"at":null,"_op":"d",`+ts,
		id(3)+`"_op":"t",`+ts,
		id(4)+`"value":"a line","_key":"key","headers":[{"key":"path","value":"/x"},{"key":"bin","value":{"$binary":{"base64":"/w==","subType":"00"}}},{"key":"path","value":null}],`+ts,
		id(5)+`"id":7,"document":{"_id":7,"x":1},"_op":"c",`+ts,
		id(6)+`"id":7,"_op":"d",`+ts)
}

func TestRejects(t *testing.T) {
	l := start(t, newSink(t, testenv.Mongo(t), nil))
	noKey := upsert(1, "a", nil)
	noKey.Key = connectors.Datum{}
	badText := docChange(connectors.OpCreate, `1`, `{"_id": 1,`)
	odd := change('m', orderRow, 1)
	large := upsert(1, string(make([]byte, 17<<20)), nil)
	for what, r := range map[string]connectors.Record{"no key": noKey, "no JSON": badText, "an unknown operation": odd, "too large": large} {
		if rejects := l.tryWrite(r); len(rejects) != 1 {
			t.Errorf("%s: %v", what, rejects)
		}
	}
}

func TestDue(t *testing.T) {
	l := start(t, newSink(t, testenv.Mongo(t), map[string]string{"flush.size": "2KiB", "flush.interval": "1h"}))
	now := time.Now()
	l.write(upsert(1, "a", nil))
	if due := l.task.Tick(now); len(due) != 0 {
		t.Errorf("%v is due after one row", due)
	}
	l.write(upsert(2, string(make([]byte, 3000)), nil))
	if due := l.task.Tick(now); len(due) != 1 {
		t.Error("nothing is due by size")
	}
	l.flush()
	l.write(upsert(3, "a", nil))
	l.task.Tick(now)
	if due := l.task.Tick(now.Add(2 * time.Hour)); len(due) != 1 {
		t.Error("nothing is due by age")
	}
}
