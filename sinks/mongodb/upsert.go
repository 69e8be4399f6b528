package mongodb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// Headers that tie the two halves of a key change together (Debezium's RelationalChangeRecordEmitter).
const (
	headerNewKey = "__debezium.newkey"
	headerOldKey = "__debezium.oldkey"
)

// recordError is what is wrong with one record: it is rejected.
type recordError struct{ err error }

func (e *recordError) Error() string { return e.err.Error() }
func (e *recordError) Unwrap() error { return e.err }

func reject(format string, args ...any) error { return &recordError{fmt.Errorf(format, args...)} }

func hasHeader(r *connectors.Record, key string) bool {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return true
		}
	}
	return false
}

// maxDocument is the largest document of MongoDB.
const maxDocument = 16 << 20

// upsertRecord applies a record to the state that the next commit writes.
func (t *task) upsertRecord(p *part, r *connectors.Record) error {
	c := r.Change
	if c == nil {
		if r.RawValue == nil && r.Value.Value.IsNull() {
			return t.remove(p, r)
		}
		return t.put(p, r, r.Value.Schema, r.Value.Value)
	}
	err := t.upsertChange(p, r)
	p.torn = nil
	return err
}

func (t *task) upsertChange(p *part, r *connectors.Record) error {
	c := r.Change
	switch c.Op {
	case connectors.OpRead, connectors.OpCreate, connectors.OpUpdate:
		if c.After.IsNull() {
			if c.Op == connectors.OpUpdate && c.Row != nil && c.Row.Kind != schema.Struct {
				return nil // a document that was gone when the source looked it up: its delete follows
			}
			return reject("the change has no row after it")
		}
		return t.put(p, r, c.Row, c.After)
	case connectors.OpDelete:
		p.learn(r, c.Row)
		return t.remove(p, r)
	case connectors.OpTruncate:
		p.learn(r, c.Row)
		t.settle(p)
		p.buf.clear()
		return nil
	}
	return reject("operation %q is no change of a row", rune(c.Op))
}

// isDocument says that a row is a document of a document store: of sources/mongodb, or from another tool's
// envelope, where it is a text, and a row of a table never is.
func isDocument(r *connectors.Record, row *schema.Schema) bool {
	return row.IsDocument() || row != nil && row.Kind == schema.String && (r.Change != nil || row.Name == nameJSON)
}

func (p *part) learn(r *connectors.Record, row *schema.Schema) {
	switch {
	case isDocument(r, row):
		*p.shape = shapeDocuments
	case row != nil:
		*p.shape = shapeRows
	}
}

var errNoKey = errors.New("the record has no key, and mode upsert finds documents by their key: give the table a primary key in the source, or use mode append")

// key is the _id that a record's key stands for.
type key struct {
	raw   bson.RawValue
	canon string
}

// keyOf makes the _id: the text of a document's key read back; of a row's key the one column, or a
// document of several.
func (p *part) keyOf(r *connectors.Record) (key, error) {
	s, v := r.Key.Schema, r.Key.Value
	if s == nil || v.IsNull() {
		return key{}, errNoKey
	}
	var b []byte
	var typ bsoncore.Type
	var err error
	switch {
	case *p.shape == shapeDocuments && v.Kind == schema.Struct && len(v.List) == 1 && v.List[0].Kind == schema.String:
		if b, typ, err = anyValue(nil, v.List[0].Data, true); err != nil {
			return key{}, fmt.Errorf("the key: %w", err)
		}
	case v.Kind == schema.Struct && s.Name != nameVariable && len(s.Fields) == len(v.List):
		for i, f := range s.Fields {
			if v.List[i].IsNull() || v.List[i].Kind == schema.Unavailable {
				return key{}, fmt.Errorf("column %s of its key is null", f.Name)
			}
		}
		if len(s.Fields) == 1 && s.Fields[0].Schema.Kind != schema.Array {
			b, typ, _, err = appendValue(nil, s.Fields[0].Schema, v.List[0], true, 1)
		} else {
			b, typ, err = appendStruct(nil, s, v, 1)
		}
	default:
		b, typ, _, err = appendValue(nil, s, v, true, 1)
	}
	if err != nil {
		return key{}, fmt.Errorf("the key: %w", err)
	}
	if typ == bsoncore.TypeArray || typ == bsoncore.TypeRegex || typ == bsoncore.TypeUndefined {
		return key{}, fmt.Errorf("a key of type %s cannot be an _id", typ)
	}
	raw := bson.RawValue{Type: bson.Type(typ), Value: b}
	return key{raw: raw, canon: canonical(raw)}, nil
}

// canonical makes ids the same that differ in the width of an integer only: the key of a document
// tells integers from doubles, and not int32 from int64.
func canonical(v bson.RawValue) string {
	return string(appendCanonical(nil, bsoncore.Value{Type: bsoncore.Type(v.Type), Data: v.Value}))
}

func appendCanonical(dst []byte, v bsoncore.Value) []byte {
	switch v.Type {
	case bsoncore.TypeInt32, bsoncore.TypeInt64:
		n, _ := v.AsInt64OK()
		return binary.BigEndian.AppendUint64(append(dst, byte(bsoncore.TypeInt64)), uint64(n))
	case bsoncore.TypeEmbeddedDocument, bsoncore.TypeArray:
		elements, err := bsoncore.Document(v.Data).Elements()
		if err != nil {
			break
		}
		dst = append(dst, byte(v.Type))
		for _, e := range elements {
			dst = append(append(dst, e.Key()...), 0)
			dst = appendCanonical(dst, e.Value())
		}
		return append(dst, 0xff)
	}
	dst = append(dst, byte(v.Type))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.Data)))
	return append(dst, v.Data...)
}

func (t *task) put(p *part, r *connectors.Record, row *schema.Schema, value schema.Value) error {
	p.learn(r, row)
	id, err := p.keyOf(r)
	if err != nil {
		return &recordError{err}
	}
	var doc bsoncore.Document
	var unset []string
	partly := false
	if isDocument(r, row) {
		content := value
		if row.IsDocument() && len(value.List) > schema.DocumentContent {
			content = value.List[schema.DocumentContent]
		}
		if content.Kind == schema.Unavailable {
			return nil // there was no image of it any more: its delete follows
		}
		if doc, err = whole(content.Data, id.raw); err != nil {
			return &recordError{err}
		}
	} else if doc, partly, unset, err = rowDocument(row, value, id.raw); err != nil {
		return &recordError{err}
	}
	if len(doc) > maxDocument {
		return reject("the document has %d bytes; MongoDB takes %d", len(doc), maxDocument)
	}
	var from *moved
	second := r.Change != nil && r.Change.Op == connectors.OpCreate && hasHeader(r, headerOldKey)
	switch {
	case second && p.moving != nil:
		from = p.buf.leave(p.moving)
	case second && partly:
		if err := t.orphan(p, r, row, value); err != nil {
			return err
		}
	}
	t.settle(p)
	return p.buf.put(id, doc, partly, unset, from)
}

// orphan is for the second half of a key change that leaves columns out and has no first half before it. A restart of the sink
// goes on, and the document does not have them.
func (t *task) orphan(p *part, r *connectors.Record, row *schema.Schema, value schema.Value) error {
	var names []string
	for i, f := range row.Fields {
		if value.List[i].Kind == schema.Unavailable {
			names = append(names, f.Name)
		}
	}
	left := strings.Join(names, ", ")
	if p.torn != nil {
		return connectors.Fatal(fmt.Errorf("a document of %s has a new key, and the event lacks columns that were not sent (%s): the old document, which had them, was deleted by the event at offset %d, as the log had no second half for seconds after it",
			p.collection, left, p.torn.offset),
			"whoever writes the topic should write both halves of a change of a key in one transaction, or give the table REPLICA IDENTITY FULL; restart the sink to go on without these columns, then update the row in the source")
	}
	if !p.warned { // once: of a topic whose halves lie in several partitions there may be many
		p.warned = true
		t.log.Warn("a document has a new key, and the delete of the old one is not before it in the log: it does not get the columns that the event lacks", "collection", p.collection, "columns", left, "topic", p.Topic, "partition", p.Partition, "offset", r.Offset)
	}
	return nil
}

// whole reads a document's text. Its own _id counts, whose type is exact.
func whole(text []byte, id bson.RawValue) (bsoncore.Document, error) {
	doc, err := document(make([]byte, 0, len(text)), text, true)
	if err != nil {
		return nil, err
	}
	if _, err := bsoncore.Document(doc).LookupErr("_id"); err == nil {
		return doc, nil
	}
	start, head := bsoncore.AppendDocumentStart(nil)
	head = bsoncore.AppendValueElement(head, "_id", bsoncore.Value{Type: bsoncore.Type(id.Type), Data: id.Value})
	return bsoncore.AppendDocumentEnd(append(head, doc[4:len(doc)-1]...), start)
}

// microField is where the microseconds of a column go that a date of BSON, which has milliseconds, cannot hold.
const microField = "_us_"

// valueField is where a value goes that is no struct.
const valueField = "value"

// rowDocument makes a document of a row: the key is its _id, and its columns keep their names. partly
// says that columns were not sent; unset names what an update of the others has to take away.
func rowDocument(row *schema.Schema, value schema.Value, id bson.RawValue) (_ bsoncore.Document, partly bool, unset []string, err error) {
	start, dst := bsoncore.AppendDocumentStart(nil)
	dst = bsoncore.AppendValueElement(dst, "_id", bsoncore.Value{Type: bsoncore.Type(id.Type), Data: id.Value})
	dst, partly, unset, err = appendColumns(dst, row, value, &id)
	if err != nil {
		return nil, false, nil, err
	}
	dst, err = bsoncore.AppendDocumentEnd(dst, start)
	return dst, partly, unset, err
}

// appendColumns appends the columns of a row, or the value under a name. id is what _id holds already.
func appendColumns(dst []byte, row *schema.Schema, value schema.Value, id *bson.RawValue) (_ []byte, partly bool, unset []string, err error) {
	if row == nil || row.Kind != schema.Struct || row.Name == nameVariable {
		dst, _, err = appendElement(dst, valueField, row, value, true, 1)
		return dst, false, nil, err
	}
	if value.Kind != schema.Struct || len(value.List) != len(row.Fields) {
		return dst, false, nil, errors.New("the value does not have the fields of its schema")
	}
	var micros []byte
	for i, f := range row.Fields {
		v := value.List[i]
		if v.Kind == schema.Unavailable {
			partly = true
			continue
		}
		at := len(dst)
		var us int64
		if dst, us, err = appendElement(dst, f.Name, f.Schema, v, false, 1); err != nil {
			return dst, false, nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		if f.Name == "_id" {
			have, _, _ := bsoncore.ReadElement(dst[at:])
			if id == nil || canonical(bson.RawValue{Type: bson.Type(have.Value().Type), Value: have.Value().Data}) != canonical(*id) {
				return dst, false, nil, errors.New("the row has a column _id that is not its key: a document's _id is its key")
			}
			dst = dst[:at]
		}
		switch {
		case us > 0:
			micros = bsoncore.AppendInt32Element(micros, microField+f.Name, int32(us))
		case microTime(f.Schema):
			unset = append(unset, microField+f.Name)
		}
	}
	return append(dst, micros...), partly, unset, nil
}

func microTime(s *schema.Schema) bool {
	return s != nil && (s.Name == nameMicroTimestamp || s.Name == nameZonedTimestamp)
}

// settle applies a held delete.
func (t *task) settle(p *part) {
	if m := p.moving; m != nil {
		p.moving = nil
		p.buf.remove(m.key)
	}
}

func (t *task) remove(p *part, r *connectors.Record) error {
	if r.Change == nil && (r.Key.Schema == nil || r.Key.Value.IsNull()) {
		return nil // neither key nor value: it says nothing
	}
	if r.Change == nil && *p.shape == "" {
		return nil // a tombstone before anything else of its topic: there is nothing to remove, and its key could mean two things
	}
	id, err := p.keyOf(r)
	if err != nil {
		return &recordError{err}
	}
	if p.moving != nil {
		if r.Change == nil && p.moving.key.canon == id.canon {
			return nil // the tombstone behind the delete that is held
		}
		t.settle(p)
	}
	if r.Change != nil && hasHeader(r, headerNewKey) {
		p.moving = &moving{key: id, offset: r.Offset}
		return nil
	}
	p.buf.remove(id)
	return nil
}
