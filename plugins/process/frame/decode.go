package frame

import (
	"fmt"
	"math"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// maxMarks and maxRecords end a batch that has nothing else.
const (
	maxMarks   = 1 << 15
	maxRecords = 1 << 17
)

// valueBytes is what a value counts at least in a batch: a null is one byte in a frame, and many in memory.
const valueBytes = 8

// markBytes of marks end a batch: it counts what it has as records alone.
const markBytes = 1 << 20

// Decoder reads the frames of one stream, bit by bit: as much as a batch has room for.
type Decoder struct {
	// Topic says why records of a topic are refused; nil: none are.
	Topic func(name string) error

	rest      []byte // of the frame; records borrow from it
	topic     string
	partition int32
	begun     bool
	from      *connectors.Place // of the record that follows
	schemas   map[uint32]known
	held      int // bytes of the texts in schemas
	values    int // left for this record
}

// known is a schema with its text: one that is sent again stays the same one, by which converters know it.
type known struct {
	*schema.Schema
	text string
}

// NewDecoder makes the decoder of a new stream.
func NewDecoder() *Decoder {
	return &Decoder{schemas: map[uint32]known{}}
}

// Feed begins a frame. Records that are decoded of it borrow its bytes.
func (d *Decoder) Feed(frame []byte) { d.rest, d.begun, d.from = frame, false, nil }

// Done says that the frame is used up.
func (d *Decoder) Done() bool { return len(d.rest) == 0 }

// Fill moves records and marks into b until the frame is used up, or b is full and a position covers what is in it, or until it has moved
// so much that a batch is to end. What was decoded before an error is in b.
func (d *Decoder) Fill(b *connectors.Batch) error {
	marked := 0
	for values := 0; len(d.rest) > 0 && marked < markBytes && len(b.Marks) < maxMarks && len(b.Records) < maxRecords && values < batchValues; {
		if n := len(b.Marks); b.Full() && n > 0 && b.Marks[n-1].Upto == len(b.Records) {
			return nil
		}
		before := len(d.rest)
		tag, err := d.u8()
		if err != nil {
			return err
		}
		switch tag {
		case topicEntry:
			err = d.topicOf()
		case schemaEntry:
			err = d.schemaOf()
		case forgetEntry:
			clear(d.schemas)
			d.held = 0
		case placeEntry:
			err = d.place()
		case markEntry:
			err = d.mark(b)
			marked += before - len(d.rest)
		case recordEntry:
			var r connectors.Record
			if err = d.record(b, &r); err == nil {
				n := MaxValues - d.values
				values += n
				b.Add(r, max(before-len(d.rest), n*valueBytes))
			}
		default:
			err = fmt.Errorf("%w: an entry %q", ErrBad, tag)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) topicOf() error {
	topic, err := d.bytes()
	if err != nil {
		return err
	}
	partition, err := d.u32()
	if err != nil {
		return err
	}
	if string(topic) != d.topic {
		d.topic = string(topic)
		if d.Topic != nil {
			if err := d.Topic(d.topic); err != nil {
				return err
			}
		}
	}
	d.partition, d.begun = int32(partition), true
	return nil
}

func (d *Decoder) place() error {
	p, err := d.take(12)
	if err != nil {
		return err
	}
	d.from = &connectors.Place{Partition: int32(le.Uint32(p)), Offset: int64(le.Uint64(p[4:]))}
	return nil
}

func (d *Decoder) schemaOf() error {
	id, err := d.u32()
	if err != nil {
		return err
	}
	text, err := d.bytes()
	if err != nil {
		return err
	}
	before := d.schemas[id]
	if before.Schema != nil && before.text == string(text) {
		return nil
	}
	held := d.held + len(text) - len(before.text)
	if id == 0 || id > MaxSchemas || held > MaxSchemaBytes {
		return fmt.Errorf("%w: schema %d makes %d bytes of schemas; a stream has %d of at most %d bytes together", ErrBad, id, held, MaxSchemas, MaxSchemaBytes)
	}
	s, err := schema.ParseJSON(text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	if s == nil {
		return fmt.Errorf("%w: schema %d is none", ErrBad, id)
	}
	d.schemas[id], d.held = known{s, string(text)}, held
	return nil
}

func (d *Decoder) mark(b *connectors.Batch) error {
	flags, err := d.u8()
	if err != nil {
		return err
	}
	key, err := d.bytes()
	if err != nil {
		return err
	}
	p, err := d.bytes()
	if err != nil {
		return err
	}
	position := connectors.Position(p)
	if flags&forgetFlag != 0 {
		position = nil
	}
	b.Mark(connectors.PositionKey(key), position, flags&boundaryFlag != 0)
	return nil
}

func (d *Decoder) record(b *connectors.Batch, r *connectors.Record) error {
	if !d.begun {
		return fmt.Errorf("%w: a record before its topic", ErrBad)
	}
	head, err := d.take(20)
	if err != nil {
		return err
	}
	key, value, headers := head[0], head[1], int(le.Uint16(head[2:]))
	r.Topic, r.Partition, r.From, d.from = d.topic, d.partition, d.from, nil
	r.Timestamp, r.Offset = millis(int64(le.Uint64(head[4:]))), int64(le.Uint64(head[12:]))
	if headers > 0 {
		if headers*8 > len(d.rest) {
			return short()
		}
		r.Headers = b.Headers(headers)
		for i := range r.Headers {
			if err := d.header(&r.Headers[i]); err != nil {
				return err
			}
		}
	}
	d.values = MaxValues - headers
	switch key {
	case none:
	case raw:
		r.RawKey, err = d.bytes()
	case typed:
		r.Key, err = d.datumOf(b)
	default:
		err = fmt.Errorf("%w: a key of kind %d", ErrBad, key)
	}
	if err != nil {
		return err
	}
	switch value {
	case none:
	case raw:
		r.RawValue, err = d.bytes()
	case typed:
		r.Value, err = d.datumOf(b)
	case change:
		r.Change, err = d.change(b)
	default:
		err = fmt.Errorf("%w: a value of kind %d", ErrBad, value)
	}
	return err
}

func (d *Decoder) header(h *connectors.Header) error {
	key, err := d.bytes()
	if err != nil {
		return err
	}
	n, err := d.u32()
	if err != nil {
		return err
	}
	h.Key = string(key)
	if n == 0 {
		return nil
	}
	h.Value, err = d.take(int64(n) - 1)
	return err
}

func (d *Decoder) change(b *connectors.Batch) (*connectors.Change, error) {
	op, err := d.u8()
	if err != nil {
		return nil, err
	}
	switch connectors.Op(op) {
	case connectors.OpRead, connectors.OpCreate, connectors.OpUpdate, connectors.OpDelete, connectors.OpTruncate:
	default:
		return nil, fmt.Errorf("%w: a change that is %q", ErrBad, op)
	}
	ns, err := d.u64()
	if err != nil {
		return nil, err
	}
	c := b.NewChange()
	c.Op = connectors.Op(op)
	if ns != 0 {
		c.At = time.Unix(0, int64(ns)).UTC()
	}
	if c.Row, err = d.schema(); err != nil {
		return nil, err
	}
	if c.Source.Schema, err = d.schema(); err != nil {
		return nil, err
	}
	if c.Update.Schema, err = d.schema(); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		of   *schema.Schema
		into *schema.Value
	}{{c.Row, &c.Before}, {c.Row, &c.After}, {c.Source.Schema, &c.Source.Value}, {c.Update.Schema, &c.Update.Value}} {
		if *part.into, err = d.datum(b, part.of, 0); err != nil {
			return nil, err
		}
	}
	if c.Row == nil || c.Row.Kind != schema.Struct {
		return nil, fmt.Errorf("%w: a change without a row's schema", ErrBad)
	}
	return c, nil
}

// schema reads the number of one; 0 gives nil.
func (d *Decoder) schema() (*schema.Schema, error) {
	id, err := d.u32()
	if err != nil || id == 0 {
		return nil, err
	}
	s := d.schemas[id].Schema
	if s == nil {
		return nil, fmt.Errorf("%w: schema %d has not been sent", ErrBad, id)
	}
	return s, nil
}

func (d *Decoder) datumOf(b *connectors.Batch) (connectors.Datum, error) {
	s, err := d.schema()
	if err == nil && s == nil {
		err = fmt.Errorf("%w: a typed value without a schema", ErrBad)
	}
	if err != nil {
		return connectors.Datum{}, err
	}
	v, err := d.datum(b, s, 0)
	return connectors.Datum{Schema: s, Value: v}, err
}

// datum reads a value of s. What has another shape than s is refused, for converters go by the schema alone.
func (d *Decoder) datum(b *connectors.Batch, s *schema.Schema, depth int) (v schema.Value, err error) {
	k, err := d.u8()
	if err != nil {
		return v, err
	}
	kind := schema.Kind(k)
	switch {
	case kind == schema.Null:
		return v, nil
	case kind == schema.Unavailable:
		return schema.Missing, nil
	case s == nil || s.Kind != kind || depth > maxDepth:
		of := schema.Null
		if s != nil {
			of = s.Kind
		}
		return v, fmt.Errorf("%w: a %s where the schema has %s", ErrBad, kind, of)
	}
	switch kind {
	case schema.Bool:
		n, err := d.u8()
		return schema.BoolOf(n != 0), err
	case schema.Int16, schema.Int32, schema.Int64, schema.Float32, schema.Float64:
		n, err := d.u64()
		if err != nil {
			return v, err
		}
		return number(kind, n)
	case schema.String, schema.Bytes:
		p, err := d.bytes()
		return schema.Value{Kind: kind, Data: p}, err
	}
	n, err := d.u32()
	if err != nil {
		return v, err
	}
	if int64(n) > int64(len(d.rest)) || int(n) > d.values {
		return v, fmt.Errorf("%w: %d values where %d bytes are left; a record has at most %d", ErrBad, n, len(d.rest), MaxValues)
	}
	if kind == schema.Struct && int(n) != len(s.Fields) || kind == schema.Map && n%2 != 0 {
		return v, fmt.Errorf("%w: a %s of %d values; its schema has %d", ErrBad, kind, n, len(s.Fields))
	}
	d.values -= int(n)
	list := b.Values(int(n))
	for i := range list {
		of := s.Elem
		switch {
		case kind == schema.Struct:
			of = s.Fields[i].Schema
		case kind == schema.Map && i%2 == 0:
			of = s.Key
		}
		if list[i], err = d.datum(b, of, depth+1); err != nil {
			return v, err
		}
	}
	return schema.Value{Kind: kind, List: list}, nil
}

func number(kind schema.Kind, n uint64) (schema.Value, error) {
	i := int64(n)
	switch {
	case kind == schema.Int16 && i == int64(int16(i)):
		return schema.Int16Of(int16(i)), nil
	case kind == schema.Int32 && i == int64(int32(i)):
		return schema.Int32Of(int32(i)), nil
	case kind == schema.Int64:
		return schema.Int64Of(i), nil
	case kind == schema.Float32:
		return schema.Float32Of(float32(math.Float64frombits(n))), nil
	case kind == schema.Float64:
		return schema.Float64Of(math.Float64frombits(n)), nil
	}
	return schema.Value{}, fmt.Errorf("%w: %d is no %s", ErrBad, i, kind)
}

func short() error { return fmt.Errorf("%w: it ends in the middle of an entry", ErrBad) }

func (d *Decoder) take(n int64) ([]byte, error) {
	if n < 0 || n > int64(len(d.rest)) {
		return nil, short()
	}
	p := d.rest[:n:n]
	d.rest = d.rest[n:]
	return p, nil
}

func (d *Decoder) bytes() ([]byte, error) {
	n, err := d.u32()
	if err != nil {
		return nil, err
	}
	return d.take(int64(n))
}

func (d *Decoder) u8() (byte, error) {
	p, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return p[0], nil
}

func (d *Decoder) u32() (uint32, error) {
	p, err := d.take(4)
	if err != nil {
		return 0, err
	}
	return le.Uint32(p), nil
}

func (d *Decoder) u64() (uint64, error) {
	p, err := d.take(8)
	if err != nil {
		return 0, err
	}
	return le.Uint64(p), nil
}
