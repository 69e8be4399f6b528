package mongodb

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

// event is a change event of the server, taken apart. It borrows from the cursor's memory.
type event struct {
	token  bson.Raw
	op     string
	at     stamp
	wall   time.Time
	ns, to namespace
	id     bson.RawValue
	full   bson.Raw // nil: not there, or null
	before bson.Raw
	update bson.Raw
	lsid   bson.Raw // with txn: of a transaction of several documents
	txn    int64
	part   int32 // of an event that the server has split: which of them, from 1, and how many; 0: whole
	of     int32
}

// parseEvent reads one change event (MongoDB manual, "Change Events").
func parseEvent(raw bson.Raw) (event, error) {
	var e event
	elements, err := raw.Elements()
	if err != nil {
		return e, fmt.Errorf("a change event: %w", err)
	}
	for _, el := range elements {
		v := el.Value()
		doc, _ := v.DocumentOK()
		switch el.Key() {
		case "_id":
			e.token = doc
		case "operationType":
			e.op, _ = v.StringValueOK()
		case "clusterTime":
			e.at.T, e.at.I, _ = v.TimestampOK()
		case "wallTime":
			if ms, ok := v.DateTimeOK(); ok {
				e.wall = time.UnixMilli(ms)
			}
		case "ns":
			e.ns = namespaceOf(doc)
		case "to":
			e.to = namespaceOf(doc)
		case "documentKey":
			e.id = doc.Lookup("_id")
		case "fullDocument":
			e.full = doc
		case "fullDocumentBeforeChange":
			e.before = doc
		case "updateDescription":
			e.update = doc
		case "lsid":
			e.lsid = doc
		case "txnNumber":
			e.txn, _ = v.AsInt64OK()
		case "splitEvent":
			part, _ := doc.Lookup("fragment").AsInt64OK()
			of, _ := doc.Lookup("of").AsInt64OK()
			e.part, e.of = int32(part), int32(of)
		}
	}
	if e.token == nil || tokenData(e.token) == "" {
		return e, fmt.Errorf("a change event without a resume token")
	}
	return e, nil
}

func namespaceOf(doc bson.Raw) namespace {
	db, _ := doc.Lookup("db").StringValueOK()
	coll, _ := doc.Lookup("coll").StringValueOK()
	return namespace{db, coll}
}

// join puts the parts of a split event together: each member of the event is in one of them, and the last
// one's token stands for all ($changeStreamSplitLargeEvent).
func join(parts []bson.Raw) (event, error) {
	var whole event
	for i, raw := range parts {
		e, err := parseEvent(raw)
		if err != nil {
			return whole, err
		}
		if int(e.part) != i+1 || int(e.of) != len(parts) {
			return whole, fmt.Errorf("part %d of %d of a split change event came as number %d of %d", e.part, e.of, i+1, len(parts))
		}
		whole.token, whole.of = e.token, e.of
		whole.op += e.op
		if !e.at.isZero() {
			whole.at = e.at
		}
		if !e.wall.IsZero() {
			whole.wall = e.wall
		}
		if e.ns.db != "" {
			whole.ns = e.ns
		}
		if !e.id.IsZero() {
			whole.id = e.id
		}
		if e.lsid != nil {
			whole.lsid = e.lsid
		}
		if e.txn != 0 {
			whole.txn = e.txn
		}
		for _, m := range []struct{ to, from *bson.Raw }{{&whole.full, &e.full}, {&whole.before, &e.before}, {&whole.update, &e.update}} {
			if *m.from != nil {
				*m.to = *m.from
			}
		}
	}
	return whole, nil
}

// take handles one event of the cursor.
func (t *task) take(ctx context.Context, b *connectors.Batch, raw bson.Raw) error {
	e, err := parseEvent(raw)
	if err != nil {
		return err
	}
	if e.of > 0 {
		t.stream.parts = append(t.stream.parts, bytes.Clone(raw))
		if e.part < e.of {
			return nil
		}
		parts := t.stream.parts
		t.stream.parts = nil
		if e, err = join(parts); err != nil {
			return err
		}
	} else if len(t.stream.parts) > 0 {
		return fmt.Errorf("a split change event ends after %d parts", len(t.stream.parts))
	}
	if e.at.isZero() { // an invalidate of old servers
		e.at = t.pos.At
	}
	if t.known(&e) {
		return nil
	}
	t.stream.byTime = false // nothing that is known follows
	n := int64(1)
	if e.at == t.pos.At {
		n = t.pos.N + 1
	}
	// The record first, the position second: an error in between repeats the event.
	if err := t.handle(ctx, b, &e, n); err != nil {
		return err
	}
	t.advance(e.at, n, e.token)
	if e.of > 0 {
		t.pos.Of = "" // a part's token, which holds only while the event is cut as it was
	}
	return nil
}

// known says that an event was handed over already, or lies before the beginning.
func (t *task) known(e *event) bool {
	if t.token == "" {
		// The first stream: it begins at a cluster time, which snapshots cover.
		return e.at.compare(t.pos.At) <= 0
	}
	data := tokenData(e.token)
	if !t.stream.byTime {
		return data == t.token
	}
	if c := e.at.compare(t.pos.At); c != 0 {
		return c < 0
	}
	return data <= t.token
}

func (t *task) handle(ctx context.Context, b *connectors.Batch, e *event, n int64) error {
	switch e.op {
	case "insert", "update", "replace", "delete":
		if !t.matches(e.ns) {
			return nil
		}
		c, err := t.seen(ctx, b, e.ns)
		if err != nil {
			return err
		}
		drop, err := t.covered(ctx, c, e.id, e.at)
		if err != nil || drop {
			return err
		}
		return t.emitChange(ctx, b, c, e, n)
	case "drop":
		return t.gone(b, e.ns, e, n)
	case "rename":
		if err := t.gone(b, e.ns, e, n); err != nil || !t.matches(e.to) {
			return err
		}
		// Its documents came from elsewhere, without an event for each.
		if err := t.ownTopic(ctx, e.to); err != nil {
			return err
		}
		c := t.follow(e.to)
		if t.cfg.snapshot == "never" {
			return t.gone(b, e.to, e, n)
		}
		if first, _ := c.bounds(); c.pos.State == stateCopied && e.at.compare(first) <= 0 {
			return nil // the snapshot has seen it under its new name
		}
		t.again(c)
		return t.markCollection(b, c)
	}
	return nil // dropDatabase: each collection's drop came before; invalidate: the cursor ends
}

// ownTopic refuses a collection that came while the stream runs and would share the topic of another one that is there.
func (t *task) ownTopic(ctx context.Context, n namespace) error {
	topic := t.topic(n)
	for other := range t.collections {
		if other == n || t.topic(other) != topic {
			continue
		}
		if info, err := describe(ctx, t.client, other); err != nil {
			return err
		} else if info != nil {
			return sharedTopic(other, n, topic)
		}
	}
	return nil
}

// seen returns a collection that has an event. One that was made while the stream runs
// needs no snapshot: all its documents come by the stream.
func (t *task) seen(ctx context.Context, b *connectors.Batch, n namespace) (*collection, error) {
	if c := t.collections[n]; c != nil {
		return c, nil
	}
	if err := t.ownTopic(ctx, n); err != nil {
		return nil, err
	}
	c := t.follow(n)
	c.pos.State = stateDone
	if t.cfg.images != imagesLookup {
		if info, err := describe(ctx, t.client, n); err == nil && info != nil {
			_ = t.keepImages(ctx, info, false) // without them, documents are looked up
		}
	}
	return c, t.markCollection(b, c)
}

// gone empties a collection that was dropped or has another name now.
func (t *task) gone(b *connectors.Batch, n namespace, e *event, ord int64) error {
	if !t.matches(n) {
		return nil
	}
	c := t.follow(n)
	if c.pos.State == stateCopied {
		first, last := c.bounds()
		if e.at.compare(first) <= 0 {
			return nil
		}
		if e.at.compare(last) <= 0 { // between two runs, and back by the second
			t.again(c)
			return t.markCollection(b, c)
		}
		t.covering--
	}
	c.pos = collectionPosition{V: 1, State: stateDone, Gen: c.pos.Gen}
	src := t.block.source(b, c.shape, e.at, e.wall, cdc.Streamed)
	src[cdc.FieldSequence] = sequence(b, e.at, ord)
	truncated(b, c.shape, src)
	return t.markCollection(b, c)
}

func unreadable(n namespace, err error) error {
	return connectors.Fatal(fmt.Errorf("a document of %s: %w", n, err), "")
}

// emitChange adds the records of a document's change.
func (t *task) emitChange(ctx context.Context, b *connectors.Batch, c *collection, e *event, n int64) error {
	if e.id.IsZero() {
		return connectors.Fatal(fmt.Errorf("a change of %s at %s has no _id", c.name, e.at), "")
	}
	id, err := t.texts.id(b, e.id)
	if err != nil {
		return unreadable(c.name, err)
	}
	var before, after, update schema.Value
	if e.before != nil {
		content, err := t.texts.document(b, documentStyle, e.before)
		if err != nil {
			return unreadable(c.name, err)
		}
		before = row(b, id, content)
	}
	op := connectors.OpUpdate
	switch e.op {
	case "insert":
		op = connectors.OpCreate
	case "delete":
		op = connectors.OpDelete
	}
	if op != connectors.OpDelete {
		if after, err = t.imageOf(ctx, b, c, e, id); err != nil {
			return err
		}
	}
	if e.op == "update" && e.update != nil {
		if update, err = t.updateOf(b, e.update); err != nil {
			return unreadable(c.name, err)
		}
	}
	src := t.block.source(b, c.shape, e.at, e.wall, cdc.Streamed)
	src[cdc.FieldSequence] = sequence(b, e.at, n)
	if e.lsid != nil {
		if src[fieldLsid], err = t.texts.document(b, documentStyle, e.lsid); err != nil {
			return unreadable(c.name, err)
		}
		src[fieldTxnNumber] = schema.Int64Of(e.txn)
	}
	key := c.shape.keyOf(b, id)
	emit(b, c.shape, op, key, before, after, update, src)
	if op == connectors.OpDelete {
		tombstone(b, c.shape, key)
	}
	return nil
}

// updateOf writes updateDescription as Debezium does: lists that are empty are null.
func (t *task) updateOf(b *connectors.Batch, update bson.Raw) (schema.Value, error) {
	v := b.Values(3)
	if list, ok := update.Lookup("removedFields").ArrayOK(); ok {
		values, err := list.Values()
		if err != nil {
			return schema.Value{}, err
		}
		if len(values) > 0 {
			removed := b.Values(len(values))
			for i, f := range values {
				name, _ := f.StringValueOK()
				removed[i] = schema.TextOf(b.Copy([]byte(name)))
			}
			v[0] = schema.ArrayOf(removed...)
		}
	}
	if fields, ok := update.Lookup("updatedFields").DocumentOK(); ok {
		var err error
		if v[1], err = t.texts.document(b, updateStyle, fields); err != nil {
			return schema.Value{}, err
		}
	}
	if list, ok := update.Lookup("truncatedArrays").ArrayOK(); ok {
		values, err := list.Values()
		if err != nil {
			return schema.Value{}, err
		}
		if len(values) > 0 {
			arrays := b.Values(len(values))
			for i, a := range values {
				doc, _ := a.DocumentOK()
				name, _ := doc.Lookup("field").StringValueOK()
				size, _ := doc.Lookup("newSize").AsInt64OK()
				m := b.Values(2)
				m[0], m[1] = schema.TextOf(b.Copy([]byte(name))), schema.Int32Of(int32(size))
				arrays[i] = schema.StructOf(m...)
			}
			v[2] = schema.ArrayOf(arrays...)
		}
	}
	return schema.StructOf(v...), nil
}
