package parquet

import (
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

// layout is what one file holds: its columns, and how a record fills them.
type layout struct {
	*table.Layout
	columns []*column // one for each of the table's
	root    group
	leaves  int
}

// layoutOf makes the layout of a file that begins with r.
func (f *format) layoutOf(r *connectors.Record, looseKeys bool) (*layout, error) {
	l := &layout{Layout: f.options.Layout(r, looseKeys)}
	b := &builder{}
	for _, c := range l.Columns {
		column, err := b.build(c.Name, c.Schema, !c.Required, 0, 0, 0)
		if err != nil {
			return nil, err
		}
		l.columns = append(l.columns, column)
	}
	l.root, l.leaves = groupOf(l.columns), b.leaves
	return l, nil
}

// fill takes a record apart into out; after an error out holds a part of it.
func (l *layout) fill(out *rows, r *connectors.Record) error {
	row, meta, err := l.Values(r)
	if err != nil {
		return err
	}
	if err := putAll(out, l.columns[:len(row)], row); err != nil {
		return err
	}
	if err := putAll(out, l.columns[len(row):], meta); err != nil {
		return err
	}
	out.count++
	return nil
}

func putAll(out *rows, columns []*column, values []schema.Value) error {
	for i, c := range columns {
		if err := c.put(out, values[i], 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// offsetLeaf is the leaf of the column that orders a file's rows.
func (l *layout) offsetLeaf() int {
	for i, c := range l.Columns {
		if c.Name == table.OffsetColumn {
			return l.columns[i].leaf
		}
	}
	return -1
}
