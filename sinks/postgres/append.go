package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// The columns that mode append adds to a record's own.
const (
	metaTopic = iota
	metaPartition
	metaOffset
	metaTime
	metaOp
	metaUnchanged
	metaKey
	metaValue
	metaRaw
	metaHeaders
)

var metas = [...]need{
	metaTopic:     {name: "_topic", schema: &schema.Schema{Kind: schema.String}},
	metaPartition: {name: "_partition", schema: &schema.Schema{Kind: schema.Int32}},
	metaOffset:    {name: "_offset", schema: &schema.Schema{Kind: schema.Int64}},
	metaTime:      {name: "_ts", schema: &schema.Schema{Kind: schema.String, Name: nameZonedTimestamp}},
	metaOp:        {name: "_op", schema: &schema.Schema{Kind: schema.String}},
	metaUnchanged: {name: "_unchanged", schema: &schema.Schema{Kind: schema.Array, Elem: &schema.Schema{Kind: schema.String}}},
	metaKey:       {name: "_key", schema: &schema.Schema{Kind: schema.String}},
	metaValue:     {name: valueColumn, schema: &schema.Schema{Kind: schema.String}},
	metaRaw:       {name: "_raw", schema: &schema.Schema{Kind: schema.Bytes}},
	metaHeaders:   {name: "headers", schema: &schema.Schema{Kind: schema.String, Name: nameJSON}},
}

// Three kinds of records are told apart by the schema that their plan goes by.
var (
	plainKind = &schema.Schema{} // no columns of its own: the value's text
	emptyKind = &schema.Schema{} // a change without a row: a truncate
)

func (tb *table) appendPlan(ctx context.Context, c *pgconn.PgConn, row *schema.Schema, topic bool) (*plan, error) {
	var which []int
	var all []source
	switch row {
	case plainKind:
		which = []int{metaValue, metaRaw, metaKey, metaHeaders}
	case emptyKind:
		which = []int{metaKey, metaOp}
	default:
		all = structFields(row, fromRow, valueColumn)
		which = []int{metaOp, metaUnchanged}
	}
	if topic {
		which = append(which, metaTopic)
	}
	for _, m := range append(which, metaPartition, metaOffset, metaTime) {
		all = append(all, source{need: metas[m], from: fromMeta, index: m})
	}
	return tb.plan(ctx, c, all)
}

// appendRecord puts a record's row behind the others.
func (t *task) appendRecord(ctx context.Context, p *part, r *connectors.Record) error {
	kind, row, op := plainKind, schema.Value{}, connectors.OpNone
	switch {
	case r.Change != nil:
		op = r.Change.Op
		if row = r.Change.After; row.IsNull() {
			row = r.Change.Before
		}
		if kind = r.Change.Row; kind == nil || row.IsNull() {
			kind = emptyKind
		}
	case r.RawValue == nil && r.Value.Value.IsNull():
		return nil // a tombstone: left out, as in files, but its offset counts
	case typed(r.Value.Schema):
		kind, row = r.Value.Schema, r.Value.Value
	}
	if len(r.Headers) > maxHeaders {
		return &recordError{fmt.Errorf("%d headers are more than %d", len(r.Headers), maxHeaders)}
	}
	pl, err := t.planFor(ctx, p.table, kind, nil)
	if err != nil {
		return err
	}
	t.spell(p)
	b := p.buf
	at := len(b.arena)
	meta := func(dst []byte, which int) ([]byte, bool) { return appendMeta(dst, which, r, op, row) }
	// What was not sent is null, and named in _unchanged.
	b.arena, _, err = pl.line(b.arena, row, schema.Value{}, meta)
	if err != nil {
		b.arena = b.arena[:at]
		return &recordError{err}
	}
	b.rows = append(b.rows, line{at: at, n: len(b.arena) - at, cols: len(pl.fields), live: true, offset: r.Offset})
	return nil
}

// maxHeaders bounds the work that one record's headers can ask for.
const maxHeaders = 1000

// typed says that a value has columns that somebody described: an inferred struct has no name.
func typed(s *schema.Schema) bool { return s != nil && s.Kind == schema.Struct && s.Name != "" }

func appendMeta(dst []byte, which int, r *connectors.Record, op connectors.Op, row schema.Value) ([]byte, bool) {
	switch which {
	case metaTopic:
		return append(dst, r.Topic...), true
	case metaPartition:
		return strconv.AppendInt(dst, int64(r.Place().Partition), 10), true
	case metaOffset:
		return strconv.AppendInt(dst, r.Place().Offset, 10), true
	case metaTime:
		at := r.Timestamp
		if r.Change != nil && !r.Change.At.IsZero() {
			at = r.Change.At
		}
		return at.UTC().AppendFormat(dst, "2006-01-02T15:04:05.999999Z"), !at.IsZero()
	case metaOp:
		if op == connectors.OpNone {
			return dst, false
		}
		return append(dst, byte(op)), true
	case metaUnchanged:
		return appendUnchanged(dst, r, row)
	case metaKey:
		return appendKey(dst, r.RawKey)
	case metaValue:
		return append(dst, r.RawValue...), r.RawValue != nil && storable(r.RawValue)
	case metaRaw:
		return hex.AppendEncode(append(dst, `\x`...), r.RawValue), r.RawValue != nil && !storable(r.RawValue)
	case metaHeaders:
		return appendHeaders(dst, r.Headers), len(r.Headers) > 0
	}
	return dst, false
}

func appendUnchanged(dst []byte, r *connectors.Record, row schema.Value) ([]byte, bool) {
	if r.Change == nil || r.Change.Row == nil || row.Kind != schema.Struct || len(row.List) != len(r.Change.Row.Fields) {
		return dst, false
	}
	n := 0
	for i, v := range row.List {
		if v.Kind != schema.Unavailable {
			continue
		}
		if n++; n == 1 {
			dst = append(dst, '{')
		} else {
			dst = append(dst, ',')
		}
		at := len(dst)
		dst = quoteElement(append(dst, r.Change.Row.Fields[i].Name...), at)
	}
	if n == 0 {
		return dst, false
	}
	return append(dst, '}'), true
}

// appendKey writes a key as text, or its bytes in hex when they are none.
func appendKey(dst, key []byte) ([]byte, bool) {
	switch {
	case key == nil:
		return dst, false
	case storable(key):
		return append(dst, key...), true
	}
	return hex.AppendEncode(append(dst, `\x`...), key), true
}

// appendHeaders writes headers as a JSON object; a name that occurs again has an array of values.
func appendHeaders(dst []byte, headers []connectors.Header) []byte {
	text := func(dst, v []byte) []byte {
		if v == nil {
			return append(dst, "null"...)
		}
		s, _ := appendKey(nil, v)
		return schema.AppendQuoted(dst, s)
	}
	dst = append(dst, '{')
	first := true
	for i := range headers {
		var values [][]byte
		again := false
		for j := range headers {
			if headers[j].Key == headers[i].Key {
				again = again || j < i
				values = append(values, headers[j].Value)
			}
		}
		if again {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		name := []byte(strings.ReplaceAll(headers[i].Key, "\x00", "\ufffd"))
		dst = append(schema.AppendQuoted(dst, bytes.ToValidUTF8(name, []byte("\ufffd"))), ':')
		if len(values) == 1 {
			dst = text(dst, values[0])
			continue
		}
		dst = append(dst, '[')
		for k, v := range values {
			if k > 0 {
				dst = append(dst, ',')
			}
			dst = text(dst, v)
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}
