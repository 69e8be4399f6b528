package mongodb

import (
	"strconv"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// maxHeaders bounds the work that one record's headers can ask for.
const maxHeaders = 1000

// appendRecord puts a record's document behind the others. Its _id is where the record lies in the log.
func (t *task) appendRecord(p *part, r *connectors.Record) error {
	if r.Change == nil && r.RawValue == nil && r.Value.Value.IsNull() {
		return nil // a tombstone: left out, as in files, but its offset counts
	}
	if len(r.Headers) > maxHeaders {
		return reject("%d headers are more than %d", len(r.Headers), maxHeaders)
	}
	id := recordID(r)
	start, dst := bsoncore.AppendDocumentStart(make([]byte, 0, len(r.RawValue)+256))
	dst = bsoncore.AppendValueElement(dst, "_id", bsoncore.Value{Type: bsoncore.Type(id.Type), Data: id.Value})
	dst, err := appendContent(dst, p, r)
	if err != nil {
		return &recordError{err}
	}
	if dst, err = bsoncore.AppendDocumentEnd(dst, start); err != nil {
		return &recordError{err}
	}
	if len(dst) > maxDocument {
		return reject("the document has %d bytes; MongoDB takes %d", len(dst), maxDocument)
	}
	p.buf.lines = append(p.buf.lines, line{id: id, doc: dst, live: true})
	p.buf.bytes += len(dst)
	return nil
}

// recordID is a record's coordinates.
func recordID(r *connectors.Record) bson.RawValue {
	start, b := bsoncore.AppendDocumentStart(nil)
	b = bsoncore.AppendStringElement(b, "topic", r.Topic)
	b = bsoncore.AppendInt32Element(b, "partition", r.Place().Partition)
	b = bsoncore.AppendInt64Element(b, "offset", r.Place().Offset)
	b, _ = bsoncore.AppendDocumentEnd(b, start) // it fails for a start that is none
	return bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: b}
}

func appendContent(dst []byte, p *part, r *connectors.Record) ([]byte, error) {
	at := r.Timestamp
	var err error
	switch {
	case r.Change != nil:
		c := r.Change
		if !c.At.IsZero() {
			at = c.At
		}
		row := c.After
		if row.IsNull() {
			row = c.Before
		}
		p.learn(r, c.Row)
		if dst, err = appendImage(dst, p, r, c.Row, row); err != nil {
			return dst, err
		}
		dst = bsoncore.AppendStringElement(dst, "_op", string(rune(c.Op)))
	case r.Value.Schema != nil && r.Value.Schema.Kind == schema.Struct:
		p.learn(r, r.Value.Schema)
		if dst, err = appendImage(dst, p, r, r.Value.Schema, r.Value.Value); err != nil {
			return dst, err
		}
	default:
		dst = appendBytes(dst, valueField, r.RawValue)
		if r.RawKey != nil {
			dst = appendBytes(dst, "_key", r.RawKey)
		}
		dst = appendHeaders(dst, r.Headers)
	}
	if !at.IsZero() {
		dst = bsoncore.AppendDateTimeElement(dst, "_ts", at.UnixMilli())
	}
	return dst, nil
}

// appendImage appends a row's columns, or a document's id and content; of a delete what its event has, the
// key at least.
func appendImage(dst []byte, p *part, r *connectors.Record, s *schema.Schema, row schema.Value) ([]byte, error) {
	if !row.IsNull() && !isDocument(r, s) {
		out, partly, _, err := appendColumns(dst, s, row, nil)
		if err != nil || !partly {
			return out, err
		}
		start, out := bsoncore.AppendArrayElementStart(out, "_unchanged")
		n := 0
		for i, f := range s.Fields {
			if row.List[i].Kind == schema.Unavailable {
				out = bsoncore.AppendStringElement(out, strconv.Itoa(n), f.Name)
				n++
			}
		}
		return bsoncore.AppendArrayEnd(out, start)
	}
	if r.Key.Schema != nil && !r.Key.Value.IsNull() {
		id, err := p.keyOf(r)
		if err != nil {
			return dst, err
		}
		dst = bsoncore.AppendValueElement(dst, "id", bsoncore.Value{Type: bsoncore.Type(id.raw.Type), Data: id.raw.Value})
	}
	if row.IsNull() {
		return dst, nil
	}
	content := row
	if s.IsDocument() && len(row.List) > schema.DocumentContent {
		content = row.List[schema.DocumentContent]
	}
	if content.Kind == schema.Unavailable || content.IsNull() {
		return dst, nil
	}
	doc, err := document(nil, content.Data, true)
	return bsoncore.AppendDocumentElement(dst, "document", doc), err
}

// appendBytes appends bytes as text when they are.
func appendBytes(dst []byte, name string, b []byte) []byte {
	switch {
	case b == nil:
		return bsoncore.AppendNullElement(dst, name)
	case utf8.Valid(b):
		return bsoncore.AppendStringElement(dst, name, string(b))
	}
	return bsoncore.AppendBinaryElement(dst, name, bson.TypeBinaryGeneric, b)
}

// appendHeaders appends headers as a list, in their order.
func appendHeaders(dst []byte, headers []connectors.Header) []byte {
	if len(headers) == 0 {
		return dst
	}
	at, dst := bsoncore.AppendArrayElementStart(dst, "headers")
	for i, h := range headers {
		one, d := bsoncore.AppendDocumentElementStart(dst, strconv.Itoa(i))
		d = appendBytes(appendBytes(d, "key", []byte(h.Key)), "value", h.Value)
		dst, _ = bsoncore.AppendDocumentEnd(d, one) // it fails for a start that is none
	}
	dst, _ = bsoncore.AppendArrayEnd(dst, at) // the same
	return dst
}
