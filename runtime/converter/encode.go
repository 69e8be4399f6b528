package converter

import (
	"errors"
	"slices"
	"strconv"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// Format is how a connector's records are written.
type Format struct {
	Envelope Envelope // Debezium (also "") or Plain
	Schemas  bool     // {schema, payload}
}

// Encoder writes records; it belongs to one goroutine.
type Encoder struct {
	format Format
	plans  map[planKey]*plan
	last   *plan
	lastK  planKey
}

// NewEncoder makes an Encoder.
func NewEncoder(f Format) *Encoder {
	if f.Envelope == "" {
		f.Envelope = Debezium
	}
	return &Encoder{format: f, plans: map[planKey]*plan{}}
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
	id                  string
	header              []byte
	key, source, update *shape
	value               *shape // of the value; of a document's row, its content's
	document            bool   // the row is a document: its content alone is written
	keyLead, valueLead  []byte // `{"schema":…,"payload":` with schemas
	announced           bool
}

// maxPlans bounds the memory for sources that do not share their schemas.
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

var errNoRow = errors.New("a change without a row schema")

// Encode appends a record's bytes to dst and returns it grown; the key and the value
// lie in what it returns. Raw bytes are not copied: they are returned as they are.
func (e *Encoder) Encode(dst []byte, r *connectors.Record) ([]byte, Encoded, error) {
	out := Encoded{Key: r.RawKey, Value: r.RawValue}
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
	if e.format.Schemas {
		k.topic = r.Topic
	}
	p := e.last
	if p == nil || k != e.lastK {
		p = e.plan(k)
		e.last, e.lastK = p, k
	}
	if !p.announced {
		p.announced = true
		entry := p.entry
		out.New = &entry
	}
	out.SchemaID = p.header
	n := len(dst)
	if r.Key.Schema != nil {
		dst = append(dst, p.keyLead...)
		dst = p.key.append(dst, &r.Key.Value)
		if p.keyLead != nil {
			dst = append(dst, '}')
		}
	}
	end := len(dst)
	dst = e.value(dst, p, r, &out)
	// Only now: the value may have moved dst to other memory, and what the caller gave is free again.
	if r.Key.Schema != nil {
		out.Key = dst[n:end:end]
	}
	return dst, out, nil
}

// value appends what stands behind the key.
func (e *Encoder) value(dst []byte, p *plan, r *connectors.Record, out *Encoded) []byte {
	switch {
	case r.Change != nil && e.format.Envelope == Plain:
		row := p.row(&r.Change.After)
		if row.IsNull() {
			out.Unwritten = true
			return dst
		}
		if p.document && p.valueLead == nil { // JSON text already
			n := len(dst)
			dst = append(dst, row.Data...)
			out.Value = dst[n:len(dst):len(dst)]
			return dst
		}
		dst, out.Value = p.wrap(dst, func(b []byte) []byte { return p.value.append(b, row) })
	case r.Change != nil:
		dst, out.Value = p.wrap(dst, func(b []byte) []byte { return p.change(b, r.Change) })
	case r.Value.Schema != nil:
		dst, out.Value = p.wrap(dst, func(b []byte) []byte { return p.value.append(b, &r.Value.Value) })
	}
	return dst
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

func (e *Encoder) plan(k planKey) *plan {
	if p := e.plans[k]; p != nil {
		return p
	}
	if len(e.plans) >= maxPlans {
		clear(e.plans)
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
	p.id = p.entry.ID()
	p.header = []byte(p.id)
	if e.format.Schemas {
		p.leads(k)
	}
	e.plans[k] = p
	return p
}

// leads prepares what stands before a payload, under Debezium's schema names.
func (p *plan) leads(k planKey) {
	lead := func(s *schema.Schema) []byte {
		return append(s.AppendJSON([]byte(`{"schema":`)), `,"payload":`...)
	}
	named := func(s *schema.Schema, name string, optional bool) *schema.Schema {
		c := *s
		c.Optional = optional
		if k.change {
			c.Name = name
		}
		return &c
	}
	if k.key != nil {
		key := k.key
		if key.Kind == schema.Struct && key.Name == "" {
			key = named(key, k.topic+".Key", false)
		}
		p.keyLead = lead(key)
	}
	if k.value == nil {
		return
	}
	row := func(optional bool) *schema.Schema {
		if p.document {
			return p.value.s
		}
		return named(k.value, k.topic+".Value", optional)
	}
	switch p.entry.Envelope {
	case Value:
		p.valueLead = lead(k.value)
	case Plain:
		p.valueLead = lead(row(false))
	case Debezium:
		s := envelopeSchema(k.topic, row(true), k.source)
		if k.update != nil {
			s.Fields = slices.Insert(s.Fields, 2, schema.Field{Name: "updateDescription", Schema: k.update})
		}
		p.valueLead = lead(s)
	}
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
