package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// row hands an insert, update or delete over.
func (t *task) row(ctx context.Context, b *connectors.Batch, at LSN, kind byte, p []byte) error {
	s := t.stream
	if len(p) < 4 {
		return errShort
	}
	held := s.next()
	oid := binary.BigEndian.Uint32(p)
	st, known := s.relations[oid]
	if !known {
		return fmt.Errorf("the change stream has a row of relation %d before its description", oid)
	}
	if held || st == nil {
		return nil
	}
	verdict := st.tracked.cover.verdictOf(&s.tx)
	if verdict == sawAll {
		return nil
	}
	c := &s.change
	// One copy of the message; the row's values borrow it.
	if err := decodeChange(kind, b.Copy(p), c); err != nil {
		return err
	}
	if err := st.fits(c); err != nil {
		return err
	}
	// Before anything is decoded, as that may happen in place.
	ev := rowEvent{t: t, b: b, st: st, c: c, at: at, size: len(p)}
	ev.moved = c.kind == 'U' && c.oldKind != 0 && st.keyMoved(c)
	if verdict == sawMixed {
		var err error
		if ev.dropOld, ev.dropNew, err = t.split(ctx, st, c, ev.moved); err != nil {
			return err
		}
		if ev.dropOld && (ev.dropNew || !ev.moved) {
			return nil
		}
	}
	s.ours++
	return ev.emit(ctx)
}

// fits makes sure that the tuples have the columns of the description.
func (st *streamTable) fits(c *change) error {
	if c.kind != 'D' && len(c.new) != len(st.cols) || c.oldKind != 0 && len(c.old) != len(st.cols) {
		return fmt.Errorf("a change of %s does not have the columns of its description", st.name)
	}
	return nil
}

// keyMoved says whether an update changes the key.
func (st *streamTable) keyMoved(c *change) bool {
	for _, i := range st.keyCols {
		if c.new[i].kind != 'u' && !bytes.Equal(c.old[i].text, c.new[i].text) {
			return true
		}
	}
	return false
}

// keyTexts are the key's columns of a tuple.
func (st *streamTable) keyTexts(tuple, fallback []datum) [][]byte {
	out := make([][]byte, len(st.keyCols))
	for i, c := range st.keyCols {
		if out[i] = tuple[c].text; tuple[c].kind == 'u' && fallback != nil {
			out[i] = fallback[c].text
		}
	}
	return out
}

// split decides for a transaction that some runs saw and others did not: for the
// key that a row had, and for the key that it has. With another key than the runs were
// read by there is no telling, and the table is read anew.
func (t *task) split(ctx context.Context, st *streamTable, c *change, moved bool) (dropOld, dropNew bool, err error) {
	tt := st.tracked
	if tt.order == nil || !slices.Equal(st.keyNames(), tt.pos.Key) {
		t.stream.relations[tt.pos.Oid] = nil
		t.leave(tt)
		t.looked = time.Time{} // at once
		return true, true, nil
	}
	seen := func(key [][]byte) (bool, error) {
		return tt.cover.seen(&t.stream.tx, func(upto []string) (bool, error) {
			return tt.order.behind(ctx, t.conn, key, upto)
		})
	}
	if c.kind == 'D' {
		dropOld, err = seen(st.keyTexts(c.old, nil))
		return dropOld, false, err
	}
	if dropNew, err = seen(st.keyTexts(c.new, c.old)); err != nil || !moved {
		return dropNew, dropNew, err
	}
	dropOld, err = seen(st.keyTexts(c.old, nil))
	return dropOld, dropNew, err
}

// rowEvent is a change on its way into records.
type rowEvent struct {
	t                       *task
	b                       *connectors.Batch
	st                      *streamTable
	c                       *change
	at                      LSN
	size                    int
	moved, dropOld, dropNew bool
}

func (e *rowEvent) emit(ctx context.Context) error {
	st, c := e.st, e.c
	var oldKeyJSON, newKeyJSON []byte
	var newKey [][]byte // where it may be looked for, see fillLost
	if e.moved {
		oldKeyJSON = st.keyJSON(e.b, c.old, nil)
		newKeyJSON = st.keyJSON(e.b, c.new, c.old)
		if st.tracked.cover != nil && st.key != nil {
			for _, k := range st.keyTexts(c.new, c.old) {
				newKey = append(newKey, bytes.Clone(k))
			}
		}
	}
	var before, after []schema.Value
	var err error
	if c.oldKind != 0 {
		if before, err = e.tuple(c.old, nil, c.oldKind == 'K'); err != nil {
			return err
		}
	}
	if c.kind != 'D' {
		// A full old row has what an unchanged TOAST column leaves out; so has the
		// old key for a key column.
		if after, err = e.tuple(c.new, before, false); err != nil {
			return err
		}
	}
	source := e.t.block.source(e.b, st.shape, e.at)
	switch c.kind {
	case 'I':
		emit(e.b, st.shape, connectors.OpCreate, st.keyOf(e.b, after), nil, after, source, e.size)
	case 'D':
		key := st.keyOf(e.b, before)
		emit(e.b, st.shape, connectors.OpDelete, key, before, nil, source, e.size)
		tombstone(e.b, st.shape, key)
	case 'U':
		if !e.moved {
			if c.oldKind == 'K' {
				before = nil // the key alone, unchanged: nothing that after does not say
			}
			emit(e.b, st.shape, connectors.OpUpdate, st.keyOf(e.b, after), before, after, source, e.size)
			return nil
		}
		if !e.dropOld {
			key := st.keyOf(e.b, before)
			emit(e.b, st.shape, connectors.OpDelete, key, before, nil, source, e.size, connectors.Header{Key: headerNewKey, Value: newKeyJSON})
			tombstone(e.b, st.shape, key)
		}
		if !e.dropNew {
			if newKey != nil {
				if err := e.t.fillLost(ctx, e.b, st, after, newKey); err != nil {
					return err
				}
			}
			if !e.dropOld {
				source = e.t.block.source(e.b, st.shape, e.at)
			}
			emit(e.b, st.shape, connectors.OpCreate, st.keyOf(e.b, after), nil, after, source, e.size, connectors.Header{Key: headerOldKey, Value: oldKeyJSON})
		}
	}
	return nil
}

// tuple decodes a row. Columns that were not sent are taken from instead, and are
// Missing where that has none. Of a key-only tuple all else is null.
func (e *rowEvent) tuple(data []datum, instead []schema.Value, keyOnly bool) ([]schema.Value, error) {
	st := e.st
	row := e.b.Values(len(data))
	for i := range data {
		switch d := &data[i]; d.kind {
		case 't':
			v, err := st.cols[i].decode(e.b, d.text)
			if err != nil {
				return nil, valueError(st.name, st.cols[i].name, err)
			}
			row[i] = v
		case 'u':
			row[i] = schema.Missing
			if instead != nil && (e.c.oldKind == 'O' || !instead[i].IsNull()) {
				row[i] = instead[i]
			}
		case 'b':
			return nil, fmt.Errorf("%s, column %s: binary was not asked for", st.name, st.cols[i].name)
		}
	}
	return row, nil
}

// keyJSON is a key as a JSON object, from its texts.
func (st *streamTable) keyJSON(b *connectors.Batch, tuple, fallback []datum) []byte {
	out := make([]byte, 0, 64)
	out = append(out, '{')
	for n, i := range st.keyCols {
		if n > 0 {
			out = append(out, ',')
		}
		out = append(schema.AppendQuoted(out, []byte(st.cols[i].name)), ':')
		d := tuple[i]
		if d.kind == 'u' && fallback != nil {
			d = fallback[i]
		}
		switch k := st.row.Fields[i].Schema; {
		case d.kind != 't':
			out = append(out, "null"...)
		case k.Name == "" && (k.Kind == schema.Int16 || k.Kind == schema.Int32 || k.Kind == schema.Int64):
			out = append(out, d.text...)
		default:
			out = schema.AppendQuoted(out, d.text)
		}
	}
	return b.Copy(append(out, '}'))
}
