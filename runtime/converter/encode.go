package converter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// Format is how a connector's records are written.
type Format struct {
	Envelope Envelope // Debezium (also "") or Plain
	Schemas  bool     // {schema, payload}
	// Key and Value are how each is laid out: one of SourceForms; "" is JSON.
	Key, Value Form
	// Register makes a schema known under a subject and gives its id. It may be slow; it is asked once for each schema of a topic, before the first
	// record that names the id is given out. Its errors come out of Encode as they are, with ErrRegistry.
	Register func(subject string, s SchemaText) (id int32, err error)
	// Latest is the newest schema of a subject, the zero SchemaText where it has none. Asked before Register, where the next schema goes by it.
	Latest func(subject string) (SchemaText, error)
}

// Encoder writes records; it belongs to one goroutine.
type Encoder struct {
	format Format
	plans  schema.Cache[planKey, *plan]
	last   *plan
	lastK  planKey
	copy   connectors.Record // of a record whose bytes were given a type
}

// NewEncoder makes an Encoder.
func NewEncoder(f Format) *Encoder {
	if f.Envelope == "" {
		f.Envelope = Debezium
	}
	return &Encoder{format: f}
}

// planKey tells schemas by their address: a source shares them between its records.
type planKey struct {
	topic                      string
	key, value, source, update *schema.Schema
	change                     bool
}

// plan is everything about records of one planKey that does not change.
type plan struct {
	entry               Entry
	header              []byte
	key, source, update *shape
	value               *shape // of the value; of a document's row, its content's
	document            bool   // the row is a document: its content alone is written
	keyLead, valueLead  []byte // `{"schema":…,"payload":` with schemas
	keyWire, valueWire  *wire  // nil: JSON
	announced           bool
}

// maxPlans bounds the memory for schemas of registries.
const maxPlans = 4096

// Encoded is a record as bytes. Key and Value lie in what Encode was given.
type Encoded struct {
	Key, Value []byte
	// SchemaID is the value of the SchemaHeader; nil when the record has no types.
	SchemaID []byte
	// New is an entry that no record has named so far: it must be in the
	// schema topic before this record is appended.
	New *Entry
	// Unwritten says that the format writes nothing for this record: a plain
	// delete, whose tombstone follows.
	Unwritten bool
}

var (
	errNoRow       = errors.New("a change without a row schema")
	errOtherBefore = errors.New("the rows before and after the change, which came as JSON without declared types, have not the same types, and one schema is declared for both: let an `unwrap` leave the first out, or write JSON without schemas")
)

// Encode appends a record's bytes to dst and returns it grown; the key and the value
// lie in what it returns. Raw bytes are not copied: they are returned as they are.
func (e *Encoder) Encode(dst []byte, r *connectors.Record) ([]byte, Encoded, error) {
	out := Encoded{Key: r.RawKey, Value: r.RawValue}
	if e.format.wired() {
		r = e.typed(r)
	}
	if r.Key.Schema == nil && r.Value.Schema == nil && r.Change == nil {
		return dst, out, nil
	}
	k := planKey{key: r.Key.Schema, value: r.Value.Schema, change: r.Change != nil}
	if r.Change != nil {
		if r.Change.Row == nil {
			return dst, out, errNoRow
		}
		k.value, k.source, k.update = r.Change.Row, r.Change.Source.Schema, r.Change.Update.Schema
	}
	if e.format.Schemas || e.format.wired() {
		k.topic = r.Topic
	}
	p := e.last
	if p == nil || k != e.lastK {
		var err error
		if p, err = e.plan(k); err != nil {
			return dst, out, err
		}
		e.last, e.lastK = p, k
	}
	if out.SchemaID = p.header; r.Change != nil && r.Change.Before.IsJSON() && e.format.Envelope == Debezium {
		if p.valueLead != nil || p.valueWire != nil {
			return dst, out, errOtherBefore
		}
		out.SchemaID = nil // the types are those of the row after the change alone
	}
	n := len(dst)
	dst, err := p.appendKey(dst, r)
	if err != nil {
		return dst[:n], out, err
	}
	end := len(dst)
	if dst, err = e.value(dst, p, r, &out); err != nil {
		return dst[:n], out, err
	}
	// Only now: the value may have moved dst to other memory, and what the caller gave is free again.
	if r.Key.Schema != nil {
		out.Key = dst[n:end:end]
	}
	if !p.announced && out.SchemaID != nil { // nor before: the caller of an Encode that fails registers nothing
		p.announced = true
		entry := p.entry
		out.New = &entry
	}
	return dst, out, nil
}

func (p *plan) appendKey(dst []byte, r *connectors.Record) ([]byte, error) {
	switch {
	case r.Key.Schema == nil:
		return dst, nil
	case p.keyWire != nil:
		dst, err := p.keyWire.append(dst, &r.Key.Value)
		if err != nil {
			err = fmt.Errorf("key: %w", err)
		}
		return dst, err
	}
	dst = append(dst, p.keyLead...)
	dst = p.key.append(dst, &r.Key.Value)
	if p.keyLead != nil {
		dst = append(dst, '}')
	}
	return dst, nil
}

// value appends what stands behind the key.
func (e *Encoder) value(dst []byte, p *plan, r *connectors.Record, out *Encoded) ([]byte, error) {
	plain := r.Change != nil && e.format.Envelope == Plain
	if plain && p.row(&r.Change.After).IsNull() {
		out.Unwritten = true
		return dst, nil
	}
	if p.valueWire != nil {
		n := len(dst)
		v := &r.Value.Value
		switch {
		case plain:
			v = p.row(&r.Change.After)
		case r.Change != nil:
			v = p.valueWire.envelope(p, r.Change)
		}
		dst, err := p.valueWire.append(dst, v)
		out.Value = dst[n:len(dst):len(dst)]
		if err != nil {
			err = fmt.Errorf("value: %w", err)
		}
		return dst, err
	}
	switch {
	case plain:
		row := p.row(&r.Change.After)
		if p.document && p.valueLead == nil { // JSON text already
			n := len(dst)
			dst = append(dst, row.Data...)
			out.Value = dst[n:len(dst):len(dst)]
			return dst, nil
		}
		dst, out.Value = p.wrap(dst, func(b []byte) []byte { return p.value.append(b, row) })
	case r.Change != nil:
		dst, out.Value = p.wrap(dst, func(b []byte) []byte { return p.change(b, r.Change) })
	case r.Value.Schema != nil:
		dst, out.Value = p.wrap(dst, func(b []byte) []byte { return p.value.append(b, &r.Value.Value) })
	}
	return dst, nil
}

func (p *plan) wrap(dst []byte, payload func([]byte) []byte) (grown, value []byte) {
	n := len(dst)
	dst = payload(append(dst, p.valueLead...))
	if p.valueLead != nil {
		dst = append(dst, '}')
	}
	return dst, dst[n:len(dst):len(dst)]
}

// change writes Debezium's envelope (facts: Envelope.java).
func (p *plan) change(dst []byte, c *connectors.Change) []byte {
	dst = p.value.append(append(dst, `{"before":`...), p.row(&c.Before))
	dst = p.value.append(append(dst, `,"after":`...), p.row(&c.After))
	if p.update != nil {
		dst = p.update.append(append(dst, `,"updateDescription":`...), &c.Update.Value)
	}
	dst = p.source.append(append(dst, `,"source":`...), &c.Source.Value)
	dst = append(append(dst, `,"op":"`...), byte(c.Op))
	dst = strconv.AppendInt(append(dst, `","ts_ms":`...), c.At.UnixMilli(), 10)
	dst = strconv.AppendInt(append(dst, `,"ts_us":`...), c.At.UnixMicro(), 10)
	dst = strconv.AppendInt(append(dst, `,"ts_ns":`...), c.At.UnixNano(), 10)
	return append(dst, `,"transaction":null}`...)
}

var null schema.Value

// row is what is written of a change's row: all of it, or a document's content.
// A content that the source did not have is null, as Debezium writes it.
func (p *plan) row(v *schema.Value) *schema.Value {
	if !p.document || v.IsNull() {
		return v
	}
	if len(v.List) <= schema.DocumentContent || v.List[schema.DocumentContent].Kind == schema.Unavailable {
		return &null
	}
	return &v.List[schema.DocumentContent]
}

func (e *Encoder) plan(k planKey) (*plan, error) {
	if p := e.plans.Get(k); p != nil {
		return p, nil
	}
	p := &plan{
		entry: Entry{Envelope: Value, Key: k.key, Value: k.value, Source: k.source, Update: k.update},
		key:   shapeOf(k.key), value: shapeOf(k.value), source: shapeOf(k.source), update: shapeOf(k.update),
	}
	if k.change && k.value.IsDocument() {
		p.document, p.value = true, p.value.fields[schema.DocumentContent]
	}
	if k.change {
		p.entry.Envelope = e.format.Envelope
		if e.format.Envelope == Plain {
			p.entry.Source, p.entry.Update = nil, nil
		}
	}
	if e.format.Schemas || e.format.wired() {
		key, value := p.named(k)
		if e.format.Schemas {
			p.keyLead, p.valueLead = lead(key), lead(value)
			for _, n := range []*shape{p.key, p.value, p.source, p.update} {
				n.declare()
			}
		}
		if err := p.register(e.format, k.topic, key, value); err != nil {
			return nil, err
		}
	}
	if p.entry.Key != nil || p.entry.Value != nil {
		p.header = []byte(p.entry.ID())
	}
	e.plans.Put(k, p, k.key.Size()+k.value.Size()+k.source.Size()+k.update.Size())
	return p, nil
}

// lead is what stands before a payload, with schemas; nil without one.
func lead(s *schema.Schema) []byte {
	if s == nil {
		return nil
	}
	return append(s.AppendJSON([]byte(`{"schema":`)), `,"payload":`...)
}

// named are the schemas of the key and of all of the value, under Debezium's names; nil where there is none.
func (p *plan) named(k planKey) (key, value *schema.Schema) {
	rename := func(s *schema.Schema, name string, optional bool) *schema.Schema {
		c := *s
		c.Optional = optional
		if k.change {
			c.Name = name
		}
		return &c
	}
	if key = k.key; key != nil && key.Kind == schema.Struct && key.Name == "" {
		key = rename(key, k.topic+".Key", false)
	}
	if k.value == nil {
		return key, nil
	}
	row := func(optional bool) *schema.Schema {
		if p.document {
			return p.value.s
		}
		return rename(k.value, k.topic+".Value", optional)
	}
	switch p.entry.Envelope {
	case Plain:
		return key, row(false)
	case Debezium:
		s := envelopeSchema(k.topic, row(true), k.source)
		if k.update != nil {
			s.Fields = slices.Insert(s.Fields, 2, schema.Field{Name: "updateDescription", Schema: k.update})
		}
		return key, s
	}
	return key, k.value
}

func envelopeSchema(topic string, row, source *schema.Schema) *schema.Schema {
	if source == nil {
		source = &schema.Schema{Kind: schema.Struct, Optional: true}
	}
	at := &schema.Schema{Kind: schema.Int64, Optional: true}
	text := &schema.Schema{Kind: schema.String}
	long := &schema.Schema{Kind: schema.Int64}
	return &schema.Schema{Kind: schema.Struct, Name: topic + ".Envelope", Version: 2, Fields: []schema.Field{
		{Name: "before", Schema: row}, {Name: "after", Schema: row}, {Name: "source", Schema: source}, {Name: "op", Schema: text},
		{Name: "ts_ms", Schema: at}, {Name: "ts_us", Schema: at}, {Name: "ts_ns", Schema: at},
		{Name: "transaction", Schema: &schema.Schema{Kind: schema.Struct, Name: "event.block", Version: 1, Optional: true, Fields: []schema.Field{
			{Name: "id", Schema: text}, {Name: "total_order", Schema: long}, {Name: "data_collection_order", Schema: long},
		}}},
	}}
}
