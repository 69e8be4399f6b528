package parquet

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// schemaHeader names the schema of a record that the runtime wrote.
const schemaHeader = "forebay.schema"

// layout is what one file holds: its columns, and how a record fills them.
type layout struct {
	kind        kind
	row, key    *schema.Schema // of the records; key only for changes
	looseKeys   bool           // key columns may be null, because the file holds a truncate
	coordinates bool

	columns []*column // all, in the order of the file
	meta    []*column // those of columns that are not the row's
	keyAt   []int     // place of each key field in the row, -1 when it has none
	list    *column   // _unchanged
	root    group
	leaves  int
}

type kind uint8

const (
	rawKind    kind = iota // value, _headers
	valueKind              // the fields of a struct
	changeKind             // a change event's row
)

// The columns that are not the row's.
const (
	opColumn        = "_op"
	tsColumn        = "_ts"
	offsetColumn    = "_offset"
	unchangedColumn = "_unchanged"
)

var (
	utcMillis = &schema.Schema{Kind: schema.Int64, Name: connect + "Timestamp"}
	plainText = &schema.Schema{Kind: schema.String}
	plainLong = &schema.Schema{Kind: schema.Int64}
	plainInt  = &schema.Schema{Kind: schema.Int32}
	texts     = &schema.Schema{Kind: schema.Array, Elem: plainText}
	headers   = &schema.Schema{Kind: schema.Map, Key: plainText, Elem: plainText}
)

// kindOf says how a record is laid out. Only a schema that somebody declared makes columns:
// one that was guessed from a JSON text changes with every null in it.
func (f *format) kindOf(r *connectors.Record) kind {
	if !f.flatten || !declared(r) {
		return rawKind
	}
	switch {
	case r.Change != nil && r.Change.Row != nil && r.Change.Row.Kind == schema.Struct:
		return changeKind
	case r.Change == nil && r.Value.Schema != nil && r.Value.Schema.Kind == schema.Struct && r.Value.Value.Kind == schema.Struct:
		return valueKind
	}
	return rawKind
}

func declared(r *connectors.Record) bool {
	for i := range r.Headers {
		if r.Headers[i].Key == schemaHeader {
			return true
		}
	}
	return bytes.HasPrefix(r.RawValue, []byte(`{"schema":`)) // Kafka Connect's JsonConverter
}

func keyOf(r *connectors.Record) *schema.Schema {
	if s := r.Key.Schema; s != nil && s.Kind == schema.Struct && len(s.Fields) > 0 {
		return s
	}
	return nil
}

// layoutOf makes the layout of a file that begins with r.
func (f *format) layoutOf(r *connectors.Record, looseKeys bool) (*layout, error) {
	l := &layout{kind: f.kindOf(r), coordinates: f.coordinates, looseKeys: looseKeys}
	b := &builder{}
	var err error
	switch l.kind {
	case changeKind:
		l.row, l.key = r.Change.Row, keyOf(r)
		l.looseKeys = looseKeys || r.Change.Op == connectors.OpTruncate
		err = l.addRow(b)
	case valueKind:
		l.row = r.Value.Schema
		err = l.addRow(b)
	case rawKind:
		err = errors.Join(l.add(b, "value", plainText, true), l.addMeta(b, "_headers", headers, true))
	}
	if err == nil {
		err = l.addMetas(b)
	}
	if err != nil {
		return nil, err
	}
	l.root, l.leaves = groupOf(l.columns), b.leaves
	return l, nil
}

func (l *layout) add(b *builder, name string, s *schema.Schema, optional bool) error {
	c, err := b.build(name, s, optional, 0, 0, 0)
	if err == nil {
		l.columns = append(l.columns, c)
	}
	return err
}

func (l *layout) addMeta(b *builder, name string, s *schema.Schema, optional bool) error {
	err := l.add(b, name, s, optional)
	if err == nil {
		l.meta = append(l.meta, l.columns[len(l.columns)-1])
	}
	return err
}

// addRow adds the row's columns; those of the key cannot be null.
func (l *layout) addRow(b *builder) error {
	inKey := map[string]bool{}
	if l.key != nil {
		for _, f := range l.key.Fields {
			l.keyAt = append(l.keyAt, l.row.FieldIndex(f.Name))
			inKey[f.Name] = true
		}
	}
	taken := map[string]bool{opColumn: true, tsColumn: true, offsetColumn: true, unchangedColumn: true}
	if l.coordinates {
		taken["_topic"], taken["_partition"], taken["_timestamp"], taken["_key"] = true, true, true, true
	}
	for _, f := range l.row.Fields {
		name := f.Name
		for taken[name] { // a table's own _op becomes _op_
			name += "_"
		}
		taken[name] = true
		if err := l.add(b, name, f.Schema, l.looseKeys || !inKey[f.Name]); err != nil {
			return err
		}
	}
	return nil
}

func (l *layout) addMetas(b *builder) error {
	var err error
	if l.kind == changeKind {
		err = l.addMeta(b, opColumn, plainText, false)
	}
	err = errors.Join(err, l.addMeta(b, tsColumn, utcMillis, true), l.addMeta(b, offsetColumn, plainLong, false))
	if l.kind == changeKind {
		err = errors.Join(err, l.addMeta(b, unchangedColumn, texts, true))
		if err == nil {
			l.list = l.meta[len(l.meta)-1]
		}
	}
	if l.coordinates {
		err = errors.Join(err, l.addMeta(b, "_topic", plainText, false), l.addMeta(b, "_partition", plainInt, false),
			l.addMeta(b, "_timestamp", utcMillis, true), l.addMeta(b, "_key", plainText, true))
	}
	return err
}

// fits says whether r has the columns of the file.
func (l *layout) fits(f *format, r *connectors.Record) bool {
	k := f.kindOf(r)
	if k != l.kind {
		return false
	}
	switch k {
	case changeKind:
		if !same(&l.row, r.Change.Row) {
			return false
		}
		if l.looseKeys {
			return true
		}
		if r.Change.Op == connectors.OpTruncate {
			return len(l.keyAt) == 0
		}
		return same(&l.key, keyOf(r))
	case valueKind:
		return same(&l.row, r.Value.Schema)
	}
	return true
}

// same compares schemas and remembers the address of an equal one, so that the
// next comparison is one of pointers.
func same(mine **schema.Schema, other *schema.Schema) bool {
	if *mine == other {
		return true
	}
	if !schema.Equal(*mine, other) {
		return false
	}
	*mine = other
	return true
}

// fill takes a record apart into out; after an error out holds a part of it.
func (l *layout) fill(out *rows, r *connectors.Record) error {
	var err error
	switch l.kind {
	case changeKind:
		err = l.fillChange(out, r)
	case valueKind:
		err = l.fillRow(out, r.Value.Value)
	case rawKind:
		l.fillRaw(out, r)
	}
	if err != nil {
		return err
	}
	for _, c := range l.meta {
		if err := l.fillMeta(out, c, r); err != nil {
			return err
		}
	}
	out.count++
	return nil
}

func (l *layout) fillRow(out *rows, row schema.Value) error {
	if len(row.List) != len(l.row.Fields) {
		return errors.New("the row does not fit its schema")
	}
	for i := range l.row.Fields {
		if err := l.columns[i].put(out, row.List[i], 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// fillChange writes the new row, or what is known of the old one.
func (l *layout) fillChange(out *rows, r *connectors.Record) error {
	row := r.Change.After
	if row.IsNull() {
		row = r.Change.Before
	}
	if !row.IsNull() {
		return l.fillRow(out, row)
	}
	if r.Change.Op != connectors.OpTruncate && len(l.keyAt) > 0 {
		return l.fillRow(out, l.rowOfKey(r))
	}
	for i := range l.row.Fields {
		if err := l.columns[i].put(out, schema.Value{}, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// rowOfKey is a row of which only the key is known.
func (l *layout) rowOfKey(r *connectors.Record) schema.Value {
	row := schema.Value{Kind: schema.Struct, List: make([]schema.Value, len(l.row.Fields))}
	for i, at := range l.keyAt {
		if at >= 0 && i < len(r.Key.Value.List) {
			row.List[at] = r.Key.Value.List[i]
		}
	}
	return row
}

func (l *layout) fillRaw(out *rows, r *connectors.Record) {
	value := l.columns[0]
	if r.RawValue == nil {
		value.putNull(out, 0, 0)
		return
	}
	out.add(value.leaf, text(out, r.RawValue).Level(0, value.levels, value.leaf))
}

func (l *layout) fillMeta(out *rows, c *column, r *connectors.Record) error {
	one := func(x pq.Value) { out.add(c.leaf, x.Level(0, c.levels, c.leaf)) }
	at := func(t time.Time) {
		if t.IsZero() {
			c.putNull(out, 0, 0)
			return
		}
		one(pq.Int64Value(t.UnixMilli()))
	}
	switch c.name {
	case opColumn:
		one(text(out, []byte{byte(r.Change.Op)}))
	case tsColumn:
		if l.kind == changeKind {
			at(r.Change.At)
		} else {
			at(r.Timestamp)
		}
	case offsetColumn:
		one(pq.Int64Value(r.Offset))
	case unchangedColumn:
		l.fillUnchanged(out, r.Change)
	case "_headers":
		return c.put(out, headerMap(r.Headers), 0, 0)
	case "_topic":
		one(text(out, []byte(r.Topic)))
	case "_partition":
		one(pq.Int32Value(r.Partition))
	case "_timestamp":
		at(r.Timestamp)
	case "_key":
		if r.RawKey == nil {
			c.putNull(out, 0, 0)
		} else {
			one(text(out, r.RawKey))
		}
	default:
		return fmt.Errorf("no such column: %s", c.name) // the lists above are complete
	}
	return nil
}

// fillUnchanged lists the columns that the database did not send.
func (l *layout) fillUnchanged(out *rows, c *connectors.Change) {
	row := c.After
	if row.IsNull() {
		row = c.Before
	}
	names, rep := l.list.children[0], 0
	for i := range row.List {
		if row.List[i].Kind != schema.Unavailable {
			continue
		}
		out.add(names.leaf, text(out, []byte(l.row.Fields[i].Name)).Level(rep, names.levels, names.leaf))
		rep = l.list.rep
	}
	if rep == 0 {
		l.list.putNull(out, 0, 0)
	}
}

// headerMap is a record's headers without the runtime's own; of two with one
// name the last stands, because a map's keys must differ.
func headerMap(hs []connectors.Header) schema.Value {
	var pairs []schema.Value
next:
	for i, h := range hs {
		if h.Key == schemaHeader {
			continue
		}
		for _, later := range hs[i+1:] {
			if later.Key == h.Key {
				continue next
			}
		}
		value := schema.Value{}
		if h.Value != nil {
			value = schema.TextOf(h.Value)
		}
		pairs = append(pairs, schema.StringOf(h.Key), value)
	}
	if pairs == nil {
		return schema.Value{}
	}
	return schema.MapOf(pairs...)
}
