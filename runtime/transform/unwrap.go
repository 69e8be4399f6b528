package transform

import (
	"errors"
	"fmt"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

// What becomes of deletes (Debezium's delete.tombstone.handling.mode).
const (
	deleteTombstone        = "tombstone"
	deleteDrop             = "drop"
	deleteRewrite          = "rewrite"
	deleteRewriteTombstone = "rewrite-with-tombstone"
)

var unwrapType = &Type{
	Name: "unwrap", Connect: "ExtractNewRecordState, ExtractNewDocumentState",
	Spec: spec.Spec{Doc: "Makes a change event its row: the columns after the change. Of a document's change, its fields. What is no change event stays as it is; a truncate is dropped.", Fields: []spec.Field{
		{Name: "deletes", Type: spec.Enum, Enum: []string{deleteTombstone, deleteDrop, deleteRewrite, deleteRewriteTombstone}, Default: deleteTombstone,
			Doc: "What becomes of a delete: a tombstone (in a source, the one that follows it is dropped), nothing, or the row before it with the field __deleted, \"true\" (in others \"false\"), without or with the tombstone behind it."},
		{Name: "add", Type: spec.Strings, Check: added, Doc: "Fields of the envelope to add: op, ts_ms, or of its source block, such as source.lsn (or lsn).", Example: "[op, source.ts_ms]"},
		{Name: "headers", Type: spec.Strings, Check: added, Doc: "The same, as headers."},
		{Name: "prefix", Default: "__", Doc: "What the names of the added begin with; the dots in them become _."}}},
	Example: "- {type: unwrap, deletes: rewrite, add: [op, source.lsn]}",
	make: func(v spec.Values, side Side) (applier, error) {
		t := &unwrap{side: side, deletes: v.String("deletes"), prefix: v.String("prefix"), add: v.Strings("add"), headers: v.Strings("headers")}
		for _, h := range t.headers {
			t.names = append(t.names, t.nameOf(h))
		}
		return t, nil
	},
}

func added(v any) error {
	for _, f := range v.([]string) { //nolint:forcetypeassert // of Strings
		if f == "" {
			return errors.New("an empty name")
		}
	}
	return nil
}

type unwrap struct {
	side            Side
	deletes, prefix string
	add, headers    []string
	names           []string // of the headers
	plans           schema.Cache[unwrapKey, *unwrapPlan]
	buf             []byte
}

type unwrapKey struct{ row, source *schema.Schema }

// unwrapPlan is what the rows of one table become.
type unwrapPlan struct {
	out     *schema.Schema
	sources []int // of each added field: its place in the source block, or one of the below
}

const (
	fromOp = -1 - iota
	fromTime
	fromDeleted
)

func (t *unwrap) rewrites() bool {
	return t.deletes == deleteRewrite || t.deletes == deleteRewriteTombstone
}

// pure: a delete must stay one, and what is added of the envelope is not of the row.
func (t *unwrap) pure() bool { return t.deletes == deleteTombstone && len(t.add) == 0 }

func (t *unwrap) apply(w *work) (bool, error) {
	if err := w.see(); err != nil {
		return false, err
	}
	c := w.r.Change
	switch {
	case w.tombstone():
		// What a sink reads may have lost its delete to compaction, or be a tombstone that never followed one: the row has to go all the same.
		return t.deletes == deleteRewriteTombstone || t.deletes == deleteTombstone && t.side == Sink, nil
	case c == nil:
		return true, nil
	case c.Op == connectors.OpTruncate:
		return false, nil
	}
	row, deleted := c.After, c.Op == connectors.OpDelete
	if deleted && t.deletes == deleteDrop {
		return false, nil
	}
	if err := t.addHeaders(w, c); err != nil {
		return false, err
	}
	if deleted {
		if !t.rewrites() {
			w.setValue(connectors.Datum{})
			return true, nil
		}
		row = c.Before
	}
	return true, t.unwrap(w, c, row, deleted)
}

func (t *unwrap) unwrap(w *work, c *connectors.Change, row schema.Value, deleted bool) error {
	d := connectors.Datum{Schema: c.Row, Value: row}
	if c.Row.IsDocument() {
		var err error
		if d, err = w.document(c, row, deleted); err != nil {
			return err
		}
	}
	if d.Value.Kind != schema.Struct { // of a delete without an image: the key says which row it was
		d = connectors.Datum{Schema: d.Schema, Value: schema.Value{Kind: schema.Struct, List: w.b.Values(len(d.Schema.Fields))}}
		for i, f := range d.Schema.Fields {
			if at := keyField(w.r.Key, f.Name); at >= 0 {
				d.Value.List[i] = w.r.Key.Value.List[at]
			}
		}
	}
	if len(t.add) == 0 && !t.rewrites() {
		w.setValue(d)
		return nil
	}
	p, err := t.plan(unwrapKey{d.Schema, c.Source.Schema})
	if err != nil {
		return err
	}
	list := w.b.Values(len(p.out.Fields))
	n := copy(list, d.Value.List[:min(len(d.Value.List), len(d.Schema.Fields))])
	for i, from := range p.sources {
		list[n+i] = envelopeField(w, c, from, deleted)
	}
	w.setValue(connectors.Datum{Schema: p.out, Value: schema.Value{Kind: schema.Struct, List: list}})
	return nil
}

func keyField(k connectors.Datum, name string) int {
	if k.Schema == nil || k.Value.Kind != schema.Struct {
		return -1
	}
	if i := k.Schema.FieldIndex(name); i < len(k.Value.List) {
		return i
	}
	return -1
}

func envelopeField(w *work, c *connectors.Change, from int, deleted bool) schema.Value {
	switch from {
	case fromOp:
		return schema.TextOf(w.b.Copy([]byte{byte(c.Op)}))
	case fromTime:
		return schema.Int64Of(c.At.UnixMilli())
	case fromDeleted:
		if deleted {
			return textTrue
		}
		return textFalse
	}
	if from < len(c.Source.Value.List) {
		return c.Source.Value.List[from]
	}
	return schema.Value{}
}

var textTrue, textFalse = schema.StringOf("true"), schema.StringOf("false")

func (t *unwrap) plan(k unwrapKey) (*unwrapPlan, error) {
	if p := t.plans.Get(k); p != nil {
		return p, nil
	}
	p := &unwrapPlan{}
	out := *k.row
	out.Fields = append([]schema.Field(nil), k.row.Fields...)
	put := func(name string, s *schema.Schema, from int) error {
		if out.FieldIndex(name) >= 0 {
			return advise("give another `prefix`", "the row has a field '%s' of its own", name)
		}
		out.Fields = append(out.Fields, schema.Field{Name: name, Schema: s})
		p.sources = append(p.sources, from)
		return nil
	}
	for _, name := range t.add {
		from, s, err := t.place(name, k.source)
		if err == nil {
			err = put(t.nameOf(name), s, from)
		}
		if err != nil {
			return nil, err
		}
	}
	if t.rewrites() {
		if err := put("__deleted", &schema.Schema{Kind: schema.String, Optional: true}, fromDeleted); err != nil {
			return nil, err
		}
	}
	p.out = &out
	t.plans.Put(k, p, k.row.Size()+k.source.Size())
	return p, nil
}

// place finds a field of the envelope: of the source block, its place in it.
func (t *unwrap) place(name string, source *schema.Schema) (int, *schema.Schema, error) {
	switch name {
	case "op":
		return fromOp, &schema.Schema{Kind: schema.String, Optional: true}, nil
	case "ts_ms":
		return fromTime, &schema.Schema{Kind: schema.Int64, Optional: true}, nil
	}
	if source != nil {
		if i := source.FieldIndex(strings.TrimPrefix(name, "source.")); i >= 0 {
			return i, source.Fields[i].Schema, nil
		}
	}
	return 0, nil, advise("op, ts_ms, or a field of `source`, such as source.table", "the envelope has no field '%s'", name)
}

func (t *unwrap) nameOf(field string) string { return t.prefix + strings.ReplaceAll(field, ".", "_") }

func (t *unwrap) addHeaders(w *work, c *connectors.Change) error {
	if len(t.headers) == 0 {
		return nil
	}
	n := len(w.r.Headers)
	hs := w.b.Headers(n + len(t.headers))
	copy(hs, w.r.Headers)
	for i, name := range t.headers {
		from, s, err := t.place(name, c.Source.Schema)
		if err != nil {
			return err
		}
		t.buf, _ = appendText(t.buf[:0], connectors.Datum{Schema: s, Value: envelopeField(w, c, from, false)})
		hs[n+i] = connectors.Header{Key: t.names[i], Value: w.b.Copy(t.buf)}
	}
	w.r.Headers = hs
	return nil
}

// document is what a document's text says, with inferred types.
func (w *work) document(c *connectors.Change, row schema.Value, deleted bool) (connectors.Datum, error) {
	if row.Kind != schema.Struct || len(row.List) <= schema.DocumentContent || row.List[schema.DocumentContent].Kind != schema.String {
		if k := w.r.Key; deleted && k.Schema != nil && k.Schema.Kind == schema.Struct {
			return k, nil
		}
		if deleted {
			return connectors.Datum{}, advise("`deletes: tombstone` needs neither", "a delete without an image of the document, and without a key that has fields")
		}
		return connectors.Datum{}, advise("`images: post` in the source gives them", "an update without an image of the document")
	}
	r := connectors.Record{RawValue: row.List[schema.DocumentContent].Data}
	if err := w.decode(&r); err != nil {
		return connectors.Datum{}, fmt.Errorf("the document cannot be read: %w", err)
	}
	if r.Value.Value.Kind != schema.Struct {
		return connectors.Datum{}, errors.New("the document is no object")
	}
	return r.Value, nil
}
