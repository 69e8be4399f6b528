package converter

import (
	"bytes"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// Decoder reads records back; it belongs to one goroutine. What it fills in
// borrows from the record's raw bytes.
type Decoder struct {
	// lookup finds an Entry by the value of the SchemaHeader.
	lookup func(id string) (Entry, error)
	plans  map[string]*decodePlan
	last   *decodePlan
	lastID string
	types  *interner
}

type decodePlan struct {
	entry               Entry
	key, source, update *shape
	value               *shape // of a document's row, its content's
	document            bool
}

// NewDecoder makes a Decoder; lookup may be slow, it is asked once for each id.
func NewDecoder(lookup func(id string) (Entry, error)) *Decoder {
	return &Decoder{lookup: lookup, plans: map[string]*decodePlan{}, types: newInterner()}
}

// Prepare looks up the types that records name and the Decoder does not know
// yet, so that Decode fails for what is wrong with a record alone. It returns the
// first error for which fatal says no: the others come out of Decode again.
func (d *Decoder) Prepare(records []connectors.Record, fatal func(error) bool) error {
	for i := range records {
		for j := len(records[i].Headers) - 1; j >= 0; j-- {
			if h := &records[i].Headers[j]; h.Key == SchemaHeader {
				if _, err := d.plan(h.Value); err != nil && !fatal(err) {
					return fmt.Errorf("schema %s: %w", h.Value, err)
				}
				break
			}
		}
	}
	return nil
}

// Decode fills Key, Value and Change of a record from its raw bytes. A record
// without a schema header is read as what it looks like: JSON objects and arrays
// with inferred types (a Debezium envelope as a Change), text, or bytes.
func (d *Decoder) Decode(r *connectors.Record) error {
	r.Key, r.Value, r.Change = connectors.Datum{}, connectors.Datum{}, nil
	for i := len(r.Headers) - 1; i >= 0; i-- {
		if r.Headers[i].Key == SchemaHeader {
			return d.typed(r, r.Headers[i].Value)
		}
	}
	return d.inferred(r)
}

func (d *Decoder) plan(id []byte) (*decodePlan, error) {
	if d.last != nil && string(id) == d.lastID {
		return d.last, nil
	}
	p := d.plans[string(id)]
	if p == nil {
		entry, err := d.lookup(string(id))
		if err != nil {
			return nil, err
		}
		if len(d.plans) >= maxPlans {
			clear(d.plans)
		}
		p = &decodePlan{entry: entry, key: shapeOf(entry.Key), value: shapeOf(entry.Value), source: shapeOf(entry.Source), update: shapeOf(entry.Update)}
		if entry.Envelope != Value && entry.Value.IsDocument() {
			p.document, p.value = true, p.value.fields[schema.DocumentContent]
		}
		d.plans[string(id)] = p
	}
	d.last, d.lastID = p, string(id)
	return p, nil
}

func (d *Decoder) typed(r *connectors.Record, id []byte) error {
	p, err := d.plan(id)
	if err != nil {
		return fmt.Errorf("schema %s: %w", id, err)
	}
	if p.key == nil {
		r.Key = d.types.raw(r.RawKey)
	} else if r.RawKey != nil {
		if r.Key.Value, err = payload(r.RawKey, p.key); err != nil {
			return fmt.Errorf("key: %w", err)
		}
		r.Key.Schema = p.entry.Key
	}
	if r.RawValue == nil {
		return nil // a tombstone
	}
	switch {
	case p.value == nil:
		r.Value = d.types.raw(r.RawValue)
	case p.entry.Envelope == Debezium:
		if r.Change, err = envelope(r.RawValue, p); err != nil {
			return fmt.Errorf("value: %w", err)
		}
		if p.document {
			documentRows(r)
		}
	case p.document: // plain
		if r.Value, err = plainDocument(r, p); err != nil {
			return fmt.Errorf("value: %w", err)
		}
	default:
		if r.Value.Value, err = payload(r.RawValue, p.value); err != nil {
			return fmt.Errorf("value: %w", err)
		}
		r.Value.Schema = p.entry.Value
	}
	return nil
}

// open positions a parser before the payload: {schema, payload} is recognised
// by its first bytes, which no row of ours begins with unless it has columns so named.
func open(text []byte, like *shape) (p parser, wrapped bool, err error) {
	p = parser{b: text}
	const lead = `{"schema":`
	if !bytes.HasPrefix(text, []byte(lead)) || like.s.FieldIndex("schema") >= 0 {
		return p, false, nil
	}
	p.i = len(lead)
	if err := p.skip(); err != nil {
		return p, false, err
	}
	if err := p.take(','); err != nil {
		return p, false, err
	}
	name, err := p.str()
	if err == nil && string(name) != "payload" {
		err = p.bad("expected the payload")
	}
	if err == nil {
		err = p.take(':')
	}
	return p, true, err
}

func (p *parser) close(wrapped bool) error {
	if wrapped {
		if err := p.take('}'); err != nil {
			return err
		}
	}
	return p.end()
}

func payload(text []byte, n *shape) (schema.Value, error) {
	p, wrapped, err := open(text, n)
	if err != nil {
		return schema.Value{}, err
	}
	v, err := p.value(n)
	if err == nil {
		err = p.close(wrapped)
	}
	return v, err
}

// envelope reads a Debezium envelope of known row and source types.
func envelope(text []byte, plan *decodePlan) (*connectors.Change, error) {
	p, wrapped, err := open(text, &shape{s: &schema.Schema{}})
	if err != nil {
		return nil, err
	}
	c := &connectors.Change{Row: plan.entry.Value}
	c.Source.Schema, c.Update.Schema = plan.entry.Source, plan.entry.Update
	if err := p.members(func(name string) (err error) {
		switch name {
		case "before":
			c.Before, err = p.value(plan.value)
		case "after":
			c.After, err = p.value(plan.value)
		case "source":
			if plan.source == nil {
				return p.skip()
			}
			c.Source.Value, err = p.value(plan.source)
		case "updateDescription":
			if plan.update == nil {
				return p.skip()
			}
			c.Update.Value, err = p.value(plan.update)
		case "op":
			c.Op, err = p.op()
		case "ts_ms", "ts_us", "ts_ns":
			err = p.at(name, c)
		default:
			err = p.skip()
		}
		return err
	}); err != nil {
		return nil, err
	}
	return c, p.close(wrapped)
}

func (p *parser) op() (connectors.Op, error) {
	text, err := p.str()
	if err == nil && len(text) != 1 {
		err = p.bad("op is one letter")
	}
	if err != nil {
		return 0, err
	}
	return connectors.Op(text[0]), nil
}

// at reads one of the three forms of a time; the finest comes last.
func (p *parser) at(name string, c *connectors.Change) error {
	if p.peek() == 'n' {
		return p.literal("null")
	}
	n, err := p.integer()
	if err != nil {
		return err
	}
	switch name {
	case "ts_ms":
		if c.At.IsZero() {
			c.At = time.UnixMilli(n).UTC()
		}
	case "ts_us":
		c.At = time.UnixMicro(n).UTC()
	case "ts_ns":
		c.At = time.Unix(n/1e9, n%1e9).UTC()
	}
	return nil
}

// members reads an object and calls fn at each value.
func (p *parser) members(fn func(name string) error) error {
	if p.depth++; p.depth > maxDepth {
		return p.bad("nested too deeply")
	}
	defer func() { p.depth-- }()
	if err := p.take('{'); err != nil {
		return err
	}
	if p.peek() == '}' {
		p.i++
		return nil
	}
	for {
		name, err := p.str()
		if err == nil {
			err = p.take(':')
		}
		if err == nil {
			err = fn(string(name))
		}
		if err != nil {
			return err
		}
		switch p.peek() {
		case ',':
			p.i++
		case '}':
			p.i++
			return nil
		default:
			return p.bad("expected , or }")
		}
	}
}

// raw types bytes that nobody described.
func (in *interner) raw(b []byte) connectors.Datum {
	switch {
	case b == nil:
		return connectors.Datum{}
	case utf8.Valid(b):
		return connectors.Datum{Schema: in.text, Value: schema.TextOf(b)}
	}
	return connectors.Datum{Schema: in.bytes, Value: schema.BytesOf(b)}
}
