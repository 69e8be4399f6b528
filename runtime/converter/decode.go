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
	plans  schema.Cache[string, *decodePlan]
	last   *decodePlan
	lastID string
	types  *interner
	wires  *wires // nil: no key and no value needs a registry
	forms  [2]Form
	memory memory
	before []byte // of the JSON that was guessed last: the text of its member of that name; nil: it has none
	other  bool   // the last record's row before its change is left out, for it has other types than the row after it
}

// memory is where typed things lie. What was given out lives on.
type memory struct {
	values  schema.Slab
	changes []connectors.Change
}

// change is one that is zero.
func (m *memory) change() *connectors.Change {
	const chunk = 256
	if len(m.changes) == 0 {
		m.changes = make([]connectors.Change, chunk)
	}
	c := &m.changes[0]
	m.changes = m.changes[1:]
	return c
}

// pair is a Struct of two.
func (m *memory) pair(a, b schema.Value) schema.Value {
	list := m.values.Values(2)
	list[0], list[1] = a, b
	return schema.StructOf(list...)
}

type decodePlan struct {
	entry               Entry
	key, source, update *shape
	value               *shape // of a document's row, its content's
	document            bool
}

// NewDecoder makes a Decoder; lookup may be slow, it is asked once for each id.
func NewDecoder(lookup func(id string) (Entry, error)) *Decoder {
	return &Decoder{lookup: lookup, types: newInterner()}
}

// Prepare looks up the types that records name and the Decoder does not know
// yet, so that Decode fails for what is wrong with a record alone. It returns the
// first error for which fatal says no, and names its record: the others come out of Decode again.
func (d *Decoder) Prepare(records []connectors.Record, fatal func(error) bool) error {
	for i := range records {
		r := &records[i]
		if id := schemaID(r); id != nil {
			if _, err := d.plan(id); err != nil && !fatal(err) {
				return fmt.Errorf("%s-%d at offset %d: schema %s: %w", r.Topic, r.Partition, r.Offset, id, err)
			}
		}
		if d.wires == nil {
			continue
		}
		for part, b := range [2][]byte{r.RawKey, r.RawValue} {
			if d.forms[part].Registered() && isWire(b) {
				if _, _, err := d.wires.of(part, d.forms[part], b); err != nil && !fatal(err) {
					return fmt.Errorf("%s-%d at offset %d: %w", r.Topic, r.Partition, r.Offset, err)
				}
			}
		}
	}
	return nil
}

// schemaID is the value of the record's schema header; nil when it has none.
func schemaID(r *connectors.Record) []byte {
	for i := len(r.Headers) - 1; i >= 0; i-- {
		if r.Headers[i].Key == SchemaHeader {
			return r.Headers[i].Value
		}
	}
	return nil
}

// Decode fills Key, Value and Change of a record from its raw bytes. A record
// without a schema header is read as what it looks like: JSON objects and arrays
// with inferred types (a Debezium envelope as a Change), text, or bytes. So is a key, or
// a value, of which the header says nothing.
//
// Bytes that a registry's schema describes give way to JSON, which is what they are where nobody asked for another form: so
// whoever looks at them sees the same. Such a record is read once.
func (d *Decoder) Decode(r *connectors.Record) error {
	if d.wires != nil && (r.Value.Schema != nil || r.Change != nil || r.RawValue == nil && r.Key.Schema != nil) {
		return nil
	}
	r.Key, r.Value, r.Change, d.other = connectors.Datum{}, connectors.Datum{}, nil, false
	var p *decodePlan
	if id := schemaID(r); id != nil {
		var err error
		if p, err = d.plan(id); err != nil {
			return fmt.Errorf("schema %s: %w", id, err)
		}
	}
	out := *r
	if err := d.key(&out, p); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if out.RawValue != nil { // else a tombstone
		if err := d.value(&out, p); err != nil {
			r.Key, r.RawKey = out.Key, out.RawKey // whose record it is is known all the same
			return fmt.Errorf("value: %w", err)
		}
	}
	*r = out
	return nil
}

// DecodeWhole is Decode for who writes the record again. The row before a change is left out where its inferred types are others than those of the row
// after it, and readers do without; here it is JSON then (schema.JSONOf), or Unavailable where its text is not at hand.
func (d *Decoder) DecodeWhole(r *connectors.Record) error {
	err := d.Decode(r)
	if d.other && r.Change != nil {
		if r.Change.Before = schema.Missing; d.before != nil {
			r.Change.Before = schema.JSONOf(d.before)
		}
	}
	return err
}

func (d *Decoder) key(r *connectors.Record, p *decodePlan) (err error) {
	switch {
	case p != nil && p.key != nil:
		if r.RawKey != nil {
			r.Key.Schema = p.entry.Key
			r.Key.Value, err = payload(r.RawKey, p.key, &d.memory.values)
		}
	case !d.forms[0].auto():
		r.Key, r.RawKey, _, err = d.part(0, r.RawKey)
	default:
		r.Key, err = d.guess(r.RawKey)
	}
	return err
}

func (d *Decoder) value(r *connectors.Record, p *decodePlan) (err error) {
	switch {
	case p != nil && p.value != nil:
		return d.typed(r, p)
	case !d.forms[1].auto():
		return d.formed(r)
	}
	if r.Value, err = d.guess(r.RawValue); err != nil {
		return err
	}
	if c := d.changeOf(r.Value); c != nil {
		r.Change, r.Value = c, connectors.Datum{}
	}
	return nil
}

func (d *Decoder) plan(id []byte) (*decodePlan, error) {
	if d.last != nil && string(id) == d.lastID {
		return d.last, nil
	}
	p := d.plans.Get(string(id))
	if p == nil {
		entry, err := d.lookup(string(id))
		if err != nil {
			return nil, err
		}
		p = &decodePlan{entry: entry, key: shapeOf(entry.Key), value: shapeOf(entry.Value), source: shapeOf(entry.Source), update: shapeOf(entry.Update)}
		if entry.Envelope != Value && entry.Value.IsDocument() {
			p.document, p.value = true, p.value.fields[schema.DocumentContent]
		}
		d.plans.Put(string(id), p, entry.Key.Size()+entry.Value.Size()+entry.Source.Size()+entry.Update.Size())
	}
	d.last, d.lastID = p, string(id)
	return p, nil
}

func (d *Decoder) typed(r *connectors.Record, p *decodePlan) (err error) {
	switch {
	case p.entry.Envelope == Debezium:
		if r.Change, err = d.memory.envelope(r.RawValue, p); err == nil && p.document {
			d.memory.documentRows(r)
		}
	case p.document: // plain
		r.Value, err = d.memory.plainDocument(r, p)
	default:
		r.Value.Schema = p.entry.Value
		r.Value.Value, err = payload(r.RawValue, p.value, &d.memory.values)
	}
	return err
}

// open positions a parser before the payload: {schema, payload} is recognised
// by its first bytes, which no row of ours begins with unless it has columns so named.
func open(text []byte, like *shape, m *schema.Slab) (p parser, wrapped bool, err error) {
	p = parser{b: text, m: m}
	const lead = `{"schema":`
	if !bytes.HasPrefix(text, []byte(lead)) || like.s.FieldIndex("schema") >= 0 {
		return p, false, nil
	}
	if _, ok := p.wrapped(); !ok {
		err = p.bad("expected a schema and the payload")
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

func payload(text []byte, n *shape, m *schema.Slab) (schema.Value, error) {
	p, wrapped, err := open(text, n, m)
	if err != nil {
		return schema.Value{}, err
	}
	v, err := p.value(n)
	if err == nil {
		err = p.close(wrapped)
	}
	return v, err
}

var noShape = shapeOf(&schema.Schema{})

// envelope reads a Debezium envelope of known row and source types.
func (m *memory) envelope(text []byte, plan *decodePlan) (*connectors.Change, error) {
	p, wrapped, err := open(text, noShape, &m.values)
	if err != nil {
		return nil, err
	}
	c := m.change()
	c.Row = plan.entry.Value
	c.Source.Schema, c.Update.Schema = plan.entry.Source, plan.entry.Update
	if err := p.members(func(name []byte) (err error) {
		switch string(name) {
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
			err = p.at(string(name), c)
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
	at(name, n, c)
	return nil
}

func at(name string, n int64, c *connectors.Change) {
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
}

// members reads an object and calls fn at each value.
func (p *parser) members(fn func(name []byte) error) error {
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
			err = fn(name)
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
