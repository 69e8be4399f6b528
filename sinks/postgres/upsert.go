package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// Headers that tie the two halves of a key change together (Debezium's
// RelationalChangeRecordEmitter).
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

// upsertRecord applies a record to the state that the next commit writes.
func (t *task) upsertRecord(ctx context.Context, p *part, r *connectors.Record) error {
	if r.Change != nil {
		err := t.upsertChange(ctx, p, r)
		p.torn = nil
		return err
	}
	if r.RawValue == nil && r.Value.Value.IsNull() {
		return t.remove(ctx, p, r, nil)
	}
	return t.put(ctx, p, r, r.Value.Schema, r.Value.Value)
}

func (t *task) upsertChange(ctx context.Context, p *part, r *connectors.Record) error {
	c := r.Change
	switch c.Op {
	case connectors.OpRead, connectors.OpCreate, connectors.OpUpdate:
		if c.Op == connectors.OpUpdate && c.After.IsNull() && c.Row != nil && c.Row.Kind != schema.Struct {
			return nil // a document that was gone when the source looked it up: its delete follows
		}
		if c.Row == nil || c.After.IsNull() {
			return reject("the change has no row after it")
		}
		return t.put(ctx, p, r, c.Row, c.After)
	case connectors.OpDelete:
		return t.remove(ctx, p, r, c.Row)
	case connectors.OpTruncate:
		t.settle(p)
		p.buf.clear()
		p.earlier = nil
		return nil
	}
	return reject("operation %q is no change of a row", rune(c.Op))
}

var errNoKey = errors.New("the record has no key, and mode upsert finds rows by their key: give the table a primary key in the source, or use mode append")

func (t *task) put(ctx context.Context, p *part, r *connectors.Record, row *schema.Schema, value schema.Value) error {
	if r.Key.Schema == nil || r.Key.Value.IsNull() {
		return &recordError{errNoKey}
	}
	pl, err := t.planFor(ctx, p.table, row, r.Key.Schema)
	if err != nil {
		return err
	}
	if t.key, err = pl.keyText(t.key[:0], r.Key.Value); err != nil {
		return &recordError{err}
	}
	t.spell(p)
	b := p.buf
	at := len(b.arena)
	var present string
	if b.arena, present, err = pl.line(b.arena, value, r.Key.Value, nil); err != nil {
		b.arena = b.arena[:at]
		return &recordError{err}
	}
	var from *moved
	second := r.Change != nil && r.Change.Op == connectors.OpCreate && hasHeader(r, headerOldKey)
	switch {
	case second && p.moving != nil:
		from = b.leave(p.moving)
	case second && present != pl.present:
		if err := t.orphan(p, r.Offset, pl.missing(present)); err != nil {
			b.arena = b.arena[:at]
			return err
		}
	}
	t.settle(p)
	b.put(t.key, at, len(pl.fields), present, pl.present, from, r.Offset)
	return nil
}

// orphan is for the second half of a key change that leaves columns out and has no first half before it. A restart of the sink
// goes on, and those columns are null.
func (t *task) orphan(p *part, offset int64, columns []string) error {
	left := strings.Join(columns, ", ")
	if p.torn != nil {
		return connectors.Fatal(fmt.Errorf("a row of %s has a new key, and the event lacks columns that were not sent (%s): the old row, which had them, was deleted by the event at offset %d, as the log had no second half for seconds after it",
			p.table, left, p.torn.offset),
			"whoever writes the topic should write both halves of a change of a key in one transaction, or give the table REPLICA IDENTITY FULL; restart the sink to go on with null in these columns, then update the row in the source")
	}
	if !p.warned { // once: of a topic whose halves lie in several partitions there may be many
		p.warned = true
		t.log.Warn("a row has a new key, and the delete of the old one is not before it in the log: columns that the event lacks are null", "table", p.table.String(), "columns", left, "topic", p.Topic, "partition", p.Partition, "offset", offset)
	}
	return nil
}

// leave says where the row is that is about to move away.
func (b *buffer) leave(m *moving) *moved {
	out := &moved{}
	switch was := b.find(string(m.key)); {
	case was == nil:
		if !b.truncate {
			out.from = string(m.key)
		}
	case was.live:
		out.was = *was
		if g := b.groups[was.group]; g.partly {
			if out.from = was.from; out.from == "" && !was.del && !b.truncate {
				out.from = was.key
			}
		}
	}
	return out
}

// settle applies a held delete.
func (t *task) settle(p *part) {
	if m := p.moving; m != nil {
		p.moving = nil
		p.buf.remove(m.key, m.offset)
	}
}

func (t *task) remove(ctx context.Context, p *part, r *connectors.Record, row *schema.Schema) error {
	if r.Key.Schema == nil || r.Key.Value.IsNull() {
		if r.Change == nil {
			return nil // neither key nor value: it says nothing
		}
		return &recordError{errNoKey}
	}
	pl, err := t.keyPlan(ctx, p.table, row, r.Key.Schema)
	if err != nil || pl == nil {
		return err
	}
	if t.key, err = pl.keyText(t.key[:0], r.Key.Value); err != nil {
		return &recordError{err}
	}
	t.spell(p)
	if p.moving != nil {
		if r.Change == nil && bytes.Equal(p.moving.key, t.key) {
			return nil // the tombstone behind the delete that is held
		}
		t.settle(p)
	}
	if r.Change != nil && hasHeader(r, headerNewKey) {
		p.moving = &moving{key: bytes.Clone(t.key), offset: r.Offset}
		return nil
	}
	p.buf.remove(t.key, r.Offset)
	return nil
}

// keyPlan is the plan of a delete. Nil: there is no table yet, so there is nothing to delete.
func (t *task) keyPlan(ctx context.Context, tb *table, row, key *schema.Schema) (*plan, error) {
	if row != nil {
		return t.planFor(ctx, tb, row, key)
	}
	if !tb.there {
		return nil, nil
	}
	return t.planFor(ctx, tb, nil, key)
}
