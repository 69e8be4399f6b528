package postgres

import (
	"context"
	"slices"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sources/internal/cdc"
	"github.com/jackc/pgx/v5/pgconn"
)

// shape is a table as its rows arrive: by a Relation message, or from the catalog
// for a snapshot. It is immutable; a changed table gets a new one.
type shape struct {
	name  tableName
	topic string
	cols  []shapeColumn
	row   *schema.Schema
	key   *schema.Schema // nil: rows without a key
	// keyCols are the places of the key's columns in cols, in the key's order.
	keyCols []int
	width   int // bytes that the envelope's names add to a row, about

	schemaValue, tableValue schema.Value
}

type shapeColumn struct {
	name   string
	typ    uint32
	typmod int32
	decode decodeFunc
}

type connFunc func(context.Context) (*pgconn.PgConn, error)

// newShape makes a table's schemas. Only key columns are required: the replica
// identity leaves the others out of a delete, and the stream may lie behind an
// ALTER TABLE … SET NOT NULL that the catalog already shows.
func (s *source) newShape(ctx context.Context, ts *types, conn connFunc, name tableName, cols []shapeColumn, key []string) (*shape, error) {
	topic := s.topic(name)
	sh := &shape{name: name, topic: topic, cols: slices.Clone(cols),
		schemaValue: schema.StringOf(name.schema), tableValue: schema.StringOf(name.table)}
	sh.row = &schema.Schema{Kind: schema.Struct, Name: topic + ".Value", Optional: true}
	for i := range sh.cols {
		c := &sh.cols[i]
		k, err := ts.codec(ctx, conn, c.typ, c.typmod)
		if err != nil {
			return nil, err
		}
		c.decode = k.decode
		if slices.Contains(key, c.name) {
			k.schema = cdc.Required(k.schema)
		}
		sh.row.Fields = append(sh.row.Fields, schema.Field{Name: c.name, Schema: k.schema})
		sh.width += len(c.name) + 4
	}
	if len(key) == 0 {
		return sh, nil
	}
	sh.key = &schema.Schema{Kind: schema.Struct, Name: topic + ".Key"}
	for _, k := range key {
		i := sh.row.FieldIndex(k)
		if i < 0 {
			sh.key, sh.keyCols = nil, nil // the key's column is not published
			return sh, nil
		}
		sh.keyCols = append(sh.keyCols, i)
		sh.key.Fields = append(sh.key.Fields, sh.row.Fields[i])
	}
	return sh, nil
}

// keyNames are the key's columns, in its order.
func (sh *shape) keyNames() []string {
	names := make([]string, len(sh.keyCols))
	for i, c := range sh.keyCols {
		names[i] = sh.cols[c].name
	}
	return names
}

// keyOf picks the key out of a row's values.
func (sh *shape) keyOf(b *connectors.Batch, row []schema.Value) connectors.Datum {
	if sh.key == nil {
		return connectors.Datum{}
	}
	k := b.Values(len(sh.keyCols))
	for i, c := range sh.keyCols {
		k[i] = row[c]
	}
	return connectors.Datum{Schema: sh.key, Value: schema.StructOf(k...)}
}

// decode reads a row's texts; nil is null.
func (sh *shape) decode(b *connectors.Batch, texts [][]byte) ([]schema.Value, error) {
	row := b.Values(len(sh.cols))
	for i, t := range texts {
		if t == nil {
			continue
		}
		v, err := sh.cols[i].decode(b, t)
		if err != nil {
			return nil, valueError(sh.name, sh.cols[i].name, err)
		}
		row[i] = v
	}
	return row, nil
}
