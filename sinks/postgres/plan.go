package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// planKey names a kind of records: their schemas, by address, as the runtime
// shares them.
type planKey struct {
	row, key *schema.Schema
}

// plan is how the records of a kind become rows of a table.
type plan struct {
	fields  []field // for each column of the table at the time of the plan
	key     []field // in the order of table.key
	present string  // one byte for each column: 1 when the records have it
}

// field says where a column's value comes from.
type field struct {
	from   place
	index  int // in the struct; -1: the datum itself
	encode encodeFunc
	name   string
}

type place uint8

const (
	absent  place = iota
	fromRow       // the change's row, or the value
	fromKey
	fromMeta // mode append: index is a meta
)

// maxPlans bounds the kinds of records that a table remembers: schemaless JSON makes many.
const maxPlans = 1024

// scalarKey is the column of a key that is no struct; valueColumn of such a value.
const (
	scalarKey   = "_key"
	valueColumn = "value"
)

// planFor finds or makes the plan of a kind of records.
func (t *task) planFor(ctx context.Context, tb *table, row, key *schema.Schema) (*plan, error) {
	k := planKey{row, key}
	if p := tb.plans[k]; p != nil {
		return p, nil
	}
	if len(tb.plans) >= maxPlans {
		clear(tb.plans)
	}
	c, err := t.session(ctx)
	if err != nil {
		return nil, err
	}
	var p *plan
	if t.s.cfg.upsert {
		p, err = tb.upsertPlan(ctx, c, row, key)
	} else {
		p, err = tb.appendPlan(ctx, c, row, t.s.cfg.table != "")
	}
	if err == nil {
		tb.plans[k] = p
	}
	return p, err
}

// source is a field before its column is known.
type source struct {
	need
	from  place
	index int
}

// structFields lists the members of a struct, or the datum itself under a name.
func structFields(s *schema.Schema, from place, scalar string) []source {
	if s == nil {
		return nil
	}
	if s.Kind != schema.Struct || s.Name == nameVariable || s.Name == namePoint {
		return []source{{need: need{name: scalar, schema: s}, from: from, index: -1}}
	}
	var out []source
	for i, f := range s.Fields {
		out = append(out, source{need: need{name: f.Name, schema: f.Schema}, from: from, index: i})
	}
	return out
}

func (tb *table) upsertPlan(ctx context.Context, c *pgconn.PgConn, row, key *schema.Schema) (*plan, error) {
	keys := structFields(key, fromKey, scalarKey)
	all := structFields(row, fromRow, valueColumn)
	for i, k := range keys {
		k.key = i + 1
		found := false
		for j := range all {
			if all[j].name == k.name {
				all[j].key, found = k.key, true
			}
		}
		if !found { // a key column that is not among the row's
			all = append(all, k)
		}
	}
	p, err := tb.plan(ctx, c, all)
	if err != nil {
		return nil, err
	}
	for _, at := range tb.key {
		name := tb.cols[at].name
		i := -1
		for j := range keys {
			if keys[j].name == name {
				i = j
			}
		}
		if i < 0 {
			return nil, connectors.Fatal(fmt.Errorf("%s: the records' key has no column %s", tb, name), "write the topic into a new table: give the sink another name and table")
		}
		p.key = append(p.key, field{from: fromKey, index: keys[i].index, encode: encoderOf(keys[i].schema, tb.cols[at].typ), name: name})
	}
	return p, nil
}

// plan fits the table to the fields and orders them as its columns are.
func (tb *table) plan(ctx context.Context, c *pgconn.PgConn, all []source) (*plan, error) {
	needs := make([]need, len(all))
	for i := range all {
		needs[i] = all[i].need
	}
	places, err := tb.fit(ctx, c, needs)
	if err != nil {
		return nil, err
	}
	p := &plan{fields: make([]field, len(tb.cols))}
	present := make([]byte, len(tb.cols))
	for i, at := range places {
		if at < 0 {
			continue
		}
		p.fields[at] = field{from: all[i].from, index: all[i].index, encode: encoderOf(all[i].schema, tb.cols[at].typ), name: all[i].name}
		present[at] = 1
	}
	p.present = string(present)
	return p, nil
}

// missing names the columns of the plan that are not present.
func (p *plan) missing(present string) (names []string) {
	for i := range p.fields {
		if p.present[i] == 1 && present[i] == 0 {
			names = append(names, p.fields[i].name)
		}
	}
	return names
}

// keyText writes a key as COPY writes its columns: two keys are one row when their texts are the same.
func (p *plan) keyText(dst []byte, key schema.Value) ([]byte, error) {
	for i, f := range p.key {
		if i > 0 {
			dst = append(dst, '\t')
		}
		v, err := f.pick(key)
		if err != nil {
			return dst, err
		}
		if v.IsNull() || v.Kind == schema.Unavailable {
			return dst, fmt.Errorf("column %s of its key is null", f.name)
		}
		at := len(dst)
		if dst, err = f.encode(dst, v); err != nil {
			return dst, fmt.Errorf("key column %s: %w", f.name, err)
		}
		dst = escapeCopy(dst, at)
	}
	return dst, nil
}

var errShape = errors.New("the value does not have the fields of its schema")

func (f *field) pick(v schema.Value) (schema.Value, error) {
	if f.index < 0 {
		return v, nil
	}
	if v.Kind != schema.Struct || f.index >= len(v.List) {
		return schema.Value{}, errShape
	}
	return v.List[f.index], nil
}

// line writes a row as a line of COPY without its end. present says which columns
// it has: those of the plan but for what the database did not send.
func (p *plan) line(dst []byte, row, key schema.Value, meta func(dst []byte, which int) ([]byte, bool)) (_ []byte, present string, err error) {
	present = p.present
	var partly []byte
	for i := range p.fields {
		f := &p.fields[i]
		if i > 0 {
			dst = append(dst, '\t')
		}
		var v schema.Value
		switch f.from {
		case absent:
		case fromRow:
			v, err = f.pick(row)
		case fromKey:
			v, err = f.pick(key)
		case fromMeta:
			at, ok := len(dst), false
			if dst, ok = meta(dst, f.index); ok {
				dst = escapeCopy(dst, at)
			} else {
				dst = append(dst[:at], `\N`...)
			}
			continue
		}
		if err != nil {
			return dst, "", err
		}
		switch v.Kind {
		case schema.Unavailable:
			if partly == nil {
				partly = []byte(present)
			}
			partly[i] = 0
			dst = append(dst, `\N`...)
		case schema.Null:
			dst = append(dst, `\N`...)
		default:
			at := len(dst)
			if dst, err = f.encode(dst, v); err != nil {
				return dst, "", fmt.Errorf("column %s: %w", f.name, err)
			}
			dst = escapeCopy(dst, at)
		}
	}
	if partly != nil {
		present = string(partly)
	}
	return dst, present, nil
}

// escapeCopy escapes dst[at:] for COPY's text format (PostgreSQL, "COPY", File Formats).
func escapeCopy(dst []byte, at int) []byte {
	n := 0
	for _, c := range dst[at:] {
		if c == '\\' || c == '\t' || c == '\n' || c == '\r' {
			n++
		}
	}
	if n == 0 {
		return dst
	}
	end := len(dst)
	for range n {
		dst = append(dst, 0)
	}
	for r, w := end-1, len(dst)-1; r >= at; r-- {
		c := dst[r]
		switch c {
		case '\\':
		case '\t':
			c = 't'
		case '\n':
			c = 'n'
		case '\r':
			c = 'r'
		default:
			dst[w] = c
			w--
			continue
		}
		dst[w], dst[w-1] = c, '\\'
		w -= 2
	}
	return dst
}
