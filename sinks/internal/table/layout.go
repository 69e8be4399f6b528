// Package table says which columns a file has and what a record is in them, for formats with columns (Parquet, Avro): a
// change event is its row and _op, _ts, _offset, _unchanged; a struct with a declared schema its fields, _ts, _offset;
// anything else value, _headers, _ts, _offset. The pages in docs/formats promise it to readers.
package table

import (
	"bytes"
	"errors"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// schemaHeader names the schema of a record that the runtime wrote.
const schemaHeader = "forebay.schema"

// Options are what a config says about columns.
type Options struct {
	Flatten     bool // false: every record is value and _headers
	Coordinates bool // adds _topic, _partition, _timestamp and _key
}

// Column is one column of a file. Its schema's Optional does not count.
type Column struct {
	Name     string
	Schema   *schema.Schema
	Required bool // null is never written
}

// Layout is what one file holds. It belongs to one goroutine.
type Layout struct {
	Columns []Column

	options   Options
	kind      kind
	row, key  *schema.Schema // of the records; key only for changes
	looseKeys bool           // key columns may be null, because the file holds a truncate
	keyAt     []int          // place of each key field in the row, -1 when it has none
	meta      int            // where the columns begin that are not the row's
	scratch   []schema.Value // a row that no record has
	values    []schema.Value // of the columns behind the row's
}

type kind uint8

const (
	rawKind    kind = iota // value, _headers
	valueKind              // the fields of a struct
	changeKind             // a change event's row
)

// The columns that are not the row's. OffsetColumn is in every file and rises within it.
const (
	OffsetColumn    = "_offset"
	opColumn        = "_op"
	tsColumn        = "_ts"
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
func (o Options) kindOf(r *connectors.Record) kind {
	if !o.Flatten || !declared(r) {
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
	if r.Declared {
		return true
	}
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

// Layout makes the layout of a file that begins with r. With looseKeys key columns may be null in any case.
func (o Options) Layout(r *connectors.Record, looseKeys bool) *Layout {
	l := &Layout{options: o, kind: o.kindOf(r), looseKeys: looseKeys}
	switch l.kind {
	case changeKind:
		l.row, l.key = r.Change.Row, keyOf(r)
		l.looseKeys = looseKeys || r.Change.Op == connectors.OpTruncate
		l.addRow()
	case valueKind:
		l.row = r.Value.Schema
		l.addRow()
	case rawKind:
		l.add("value", plainText, false)
	}
	l.meta = len(l.Columns)
	switch l.kind {
	case rawKind:
		l.add("_headers", headers, false)
	case changeKind:
		l.add(opColumn, plainText, true)
	}
	l.add(tsColumn, utcMillis, false)
	l.add(OffsetColumn, plainLong, true)
	if l.kind == changeKind {
		l.add(unchangedColumn, texts, false)
	}
	if o.Coordinates {
		l.add("_topic", plainText, true)
		l.add("_partition", plainInt, true)
		l.add("_timestamp", utcMillis, false)
		l.add("_key", plainText, false)
	}
	return l
}

func (l *Layout) add(name string, s *schema.Schema, required bool) {
	l.Columns = append(l.Columns, Column{name, s, required})
}

// addRow adds the row's columns; those of the key cannot be null.
func (l *Layout) addRow() {
	inKey := map[string]bool{}
	if l.key != nil {
		for _, f := range l.key.Fields {
			l.keyAt = append(l.keyAt, l.row.FieldIndex(f.Name))
			inKey[f.Name] = true
		}
	}
	names := Names(l.row, l.options.Coordinates)
	for i, f := range l.row.Fields {
		l.add(names[i], f.Schema, !l.looseKeys && inKey[f.Name])
	}
}

// Names are the names of a row's columns beside those that are not the row's: a table's own _op becomes _op_.
func Names(row *schema.Schema, coordinates bool) []string {
	taken := map[string]bool{opColumn: true, tsColumn: true, OffsetColumn: true, unchangedColumn: true}
	if coordinates {
		taken["_topic"], taken["_partition"], taken["_timestamp"], taken["_key"] = true, true, true, true
	}
	names := make([]string, len(row.Fields))
	for i, f := range row.Fields {
		names[i] = f.Name
		for taken[names[i]] {
			names[i] += "_"
		}
		taken[names[i]] = true
	}
	return names
}

// Fits says whether r has the columns of the file.
func (l *Layout) Fits(r *connectors.Record) bool {
	k := l.options.kindOf(r)
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

// Values are r's values, those of the row's columns and those of the columns behind them, null or unavailable where it
// has none. They borrow from r and hold until the next call.
func (l *Layout) Values(r *connectors.Record) (row, meta []schema.Value, err error) {
	switch l.kind {
	case changeKind:
		image := r.Change.After
		if image.IsNull() {
			image = r.Change.Before
		}
		if row = image.List; image.IsNull() {
			row = l.keyRow(r)
		}
	case valueKind:
		row = r.Value.Value.List
	case rawKind:
		row = append(l.scratch[:0], schema.Value{})
		if r.RawValue != nil {
			row[0] = schema.TextOf(r.RawValue)
		}
		l.scratch = row
	}
	if len(row) != l.meta {
		return nil, nil, errors.New("the row does not fit its schema")
	}
	return row, l.addMeta(r, row), nil
}

// keyRow is what is known of a row that the event does not have: the key, unless all rows are meant.
func (l *Layout) keyRow(r *connectors.Record) []schema.Value {
	row := l.scratch[:0]
	for range l.meta {
		row = append(row, schema.Value{})
	}
	l.scratch = row
	if r.Change.Op != connectors.OpTruncate {
		for i, at := range l.keyAt {
			if at >= 0 && i < len(r.Key.Value.List) {
				row[at] = r.Key.Value.List[i]
			}
		}
	}
	return row
}

// ops are the texts of change operations, so that a row costs no allocation for its own.
var ops = func() (out [256]schema.Value) {
	for i := range out {
		out[i] = schema.TextOf([]byte{byte(i)})
	}
	return out
}()

// addMeta fills the columns behind the row's, in the order of Layout.
func (l *Layout) addMeta(r *connectors.Record, row []schema.Value) []schema.Value {
	m, at := l.values[:0], r.Timestamp
	switch l.kind {
	case rawKind:
		m = append(m, headerMap(r.Headers))
	case changeKind:
		m, at = append(m, ops[byte(r.Change.Op)]), r.Change.At
	}
	m = append(m, millis(at), schema.Int64Of(r.Place().Offset))
	if l.kind == changeKind {
		m = append(m, l.unchanged(row))
	}
	if l.options.Coordinates {
		key := schema.Value{}
		if r.RawKey != nil {
			key = schema.TextOf(r.RawKey)
		}
		m = append(m, schema.StringOf(r.Topic), schema.Int32Of(r.Place().Partition), millis(r.Timestamp), key)
	}
	l.values = m
	return m
}

func millis(t time.Time) schema.Value {
	if t.IsZero() {
		return schema.Value{}
	}
	return schema.Int64Of(t.UnixMilli())
}

// unchanged lists the columns that the database did not send; null without one.
func (l *Layout) unchanged(row []schema.Value) schema.Value {
	var names []schema.Value
	for i := range row {
		if row[i].Kind == schema.Unavailable {
			names = append(names, schema.StringOf(l.row.Fields[i].Name))
		}
	}
	if names == nil {
		return schema.Value{}
	}
	return schema.ArrayOf(names...)
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
