package frame

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

var le = binary.LittleEndian

// Encoder makes the frames of one stream.
type Encoder struct {
	// Raw: a key and a value are their bytes, whatever types are beside them.
	Raw bool

	out       []byte
	topic     string
	partition int32
	begun     bool // topic and partition are those of the frame
	schemas   map[*schema.Schema]uint32
	held      int  // bytes of their texts, as the decoder counts them
	values    int  // that the record may still have
	stale     bool // the decoder has others, which it is to forget
}

// NewEncoder makes the encoder of a new stream.
func NewEncoder() *Encoder {
	return &Encoder{schemas: map[*schema.Schema]uint32{}}
}

// Begin drops what was encoded and begins a frame. The schemas that the stream has seen stay.
func (e *Encoder) Begin() { e.out, e.begun = e.out[:0], false }

// Bytes are the frame so far, valid until Begin.
func (e *Encoder) Bytes() []byte { return e.out }

// Len is how many bytes the frame has so far.
func (e *Encoder) Len() int { return len(e.out) }

// Mark adds a mark behind the records so far.
func (e *Encoder) Mark(key connectors.PositionKey, p connectors.Position, boundary bool) {
	flags := byte(0)
	if boundary {
		flags |= boundaryFlag
	}
	if p == nil {
		flags |= forgetFlag
	}
	e.out = append(e.out, markEntry, flags)
	e.out = appendBytes(appendText(e.out, string(key)), p)
}

// Record adds a record. What has both types and bytes is sent with its types. After an error, one of which is ErrFull, the frame is as it was.
func (e *Encoder) Record(r *connectors.Record) error {
	before, topic, partition, begun := len(e.out), e.topic, e.partition, e.begun
	err := e.record(r)
	if n := len(e.out) - before; err == nil && len(e.out) > MaxBytes {
		if err = ErrFull; before == 0 {
			err = fmt.Errorf("a record of topic %s has %d bytes; %d can be sent", r.Topic, n, MaxBytes)
		}
	}
	if err != nil {
		e.out, e.topic, e.partition, e.begun = e.out[:before], topic, partition, begun
		e.forget() // some may have been in what is cut off
	}
	return err
}

// forget has all schemas sent anew.
func (e *Encoder) forget() {
	clear(e.schemas)
	e.held, e.stale = 0, true
}

func (e *Encoder) record(r *connectors.Record) error {
	if e.Raw && (r.Key.Schema != nil || r.Value.Schema != nil || r.Change != nil) {
		bytes := *r
		bytes.Key, bytes.Value, bytes.Change = connectors.Datum{}, connectors.Datum{}, nil
		r = &bytes
	}
	if !e.begun || r.Topic != e.topic || r.Partition != e.partition {
		e.topic, e.partition, e.begun = r.Topic, r.Partition, true
		e.out = appendText(append(e.out, topicEntry), r.Topic)
		e.out = le.AppendUint32(e.out, uint32(r.Partition))
	}
	if len(r.Headers) > math.MaxUint16 {
		return fmt.Errorf("a record has %d headers; %d can be sent", len(r.Headers), math.MaxUint16)
	}
	e.values = MaxValues - len(r.Headers)
	for _, s := range e.needs(r) {
		if e.schemas[s] == 0 && deeper(s, schema.MaxDepth) {
			return fmt.Errorf("a record of topic %s is nested deeper than %d", r.Topic, schema.MaxDepth)
		}
	}
	// Schemas stand before the record that needs them.
	ids, ok := e.ids(r)
	if !ok { // there is no room beside those that the decoder holds
		e.forget()
		if ids, ok = e.ids(r); !ok {
			return fmt.Errorf("the schemas of a record of topic %s have more than %d bytes", r.Topic, MaxSchemaBytes)
		}
	}
	key, value := byte(none), byte(none)
	switch {
	case r.Key.Schema != nil:
		key = typed
	case r.RawKey != nil:
		key = raw
	}
	switch {
	case r.Change != nil:
		value = change
	case r.Value.Schema != nil:
		value = typed
	case r.RawValue != nil:
		value = raw
	}
	if p := r.From; p != nil {
		e.out = le.AppendUint64(le.AppendUint32(append(e.out, placeEntry), uint32(p.Partition)), uint64(p.Offset))
	}
	e.out = append(e.out, recordEntry, key, value)
	e.out = le.AppendUint16(e.out, uint16(len(r.Headers)))
	at := int64(0)
	if !r.Timestamp.IsZero() {
		at = r.Timestamp.UnixMilli()
	}
	e.out = le.AppendUint64(e.out, uint64(at))
	e.out = le.AppendUint64(e.out, uint64(r.Offset))
	for _, h := range r.Headers {
		e.out = appendText(e.out, h.Key)
		if h.Value == nil {
			e.out = le.AppendUint32(e.out, 0)
			continue
		}
		e.out = append(le.AppendUint32(e.out, uint32(len(h.Value))+1), h.Value...)
	}
	switch key {
	case raw:
		e.out = appendBytes(e.out, r.RawKey)
	case typed:
		e.out = le.AppendUint32(e.out, ids[0])
		if err := e.datum(r.Key.Value, 0); err != nil {
			return fmt.Errorf("the key of a record of topic %s %w", r.Topic, err)
		}
	}
	switch value {
	case raw:
		e.out = appendBytes(e.out, r.RawValue)
	case typed:
		e.out = le.AppendUint32(e.out, ids[1])
		if err := e.datum(r.Value.Value, 0); err != nil {
			return fmt.Errorf("a record of topic %s %w", r.Topic, err)
		}
	case change:
		c := r.Change
		ns := int64(0)
		if !c.At.IsZero() {
			ns = c.At.UnixNano()
		}
		e.out = le.AppendUint64(append(e.out, byte(c.Op)), uint64(ns))
		for _, id := range ids[1:] {
			e.out = le.AppendUint32(e.out, id)
		}
		for _, v := range []schema.Value{c.Before, c.After, c.Source.Value, c.Update.Value} {
			if err := e.datum(v, 0); err != nil {
				return fmt.Errorf("a record of topic %s %w", r.Topic, err)
			}
		}
	}
	return nil
}

// needs are the schemas of the record's key, and of its value or of the row, the source and the update of its change.
func (e *Encoder) needs(r *connectors.Record) [4]*schema.Schema {
	if c := r.Change; c != nil {
		return [4]*schema.Schema{r.Key.Schema, c.Row, c.Source.Schema, c.Update.Schema}
	}
	return [4]*schema.Schema{r.Key.Schema, r.Value.Schema}
}

// ids are the numbers of what r needs; false: one of them had no room.
func (e *Encoder) ids(r *connectors.Record) (ids [4]uint32, ok bool) {
	for i, s := range e.needs(r) {
		if ids[i], ok = e.schema(s); !ok {
			return ids, false
		}
	}
	return ids, true
}

// deeper says that s is nested deeper than that.
func deeper(s *schema.Schema, than int) bool {
	if s == nil || than < 0 {
		return s != nil
	}
	return deeper(s.Elem, than-1) || deeper(s.Key, than-1) || slices.ContainsFunc(s.Fields, func(f schema.Field) bool { return deeper(f.Schema, than-1) })
}

// schema is the number of s in this stream. Schemas are told apart by identity, as converters do: a source keeps one as long as it holds.
func (e *Encoder) schema(s *schema.Schema) (id uint32, ok bool) {
	if s == nil {
		return 0, true
	}
	if id := e.schemas[s]; id != 0 {
		return id, true
	}
	text := s.AppendJSON(nil)
	if len(e.schemas) == MaxSchemas || e.held+len(text) > MaxSchemaBytes {
		return 0, false
	}
	if e.stale {
		e.out, e.stale = append(e.out, forgetEntry), false
	}
	id = uint32(len(e.schemas)) + 1
	e.schemas[s] = id
	e.held += len(text)
	e.out = appendBytes(le.AppendUint32(append(e.out, schemaEntry), id), text)
	return id, true
}

// datum adds a value. What a decoder would refuse is refused here, where the record can still be set aside.
func (e *Encoder) datum(v schema.Value, depth int) error {
	e.out = append(e.out, byte(v.Kind))
	if depth > maxDepth && v.Kind != schema.Null && v.Kind != schema.Unavailable {
		return fmt.Errorf("is nested deeper than %d", maxDepth)
	}
	switch v.Kind {
	case schema.Bool:
		b := byte(0)
		if v.Bool() {
			b = 1
		}
		e.out = append(e.out, b)
	case schema.Int16, schema.Int32, schema.Int64:
		e.out = le.AppendUint64(e.out, uint64(v.Int()))
	case schema.Float32, schema.Float64:
		e.out = le.AppendUint64(e.out, math.Float64bits(v.Float()))
	case schema.String, schema.Bytes:
		e.out = appendBytes(e.out, v.Data)
	case schema.Struct, schema.Array, schema.Map:
		if e.values -= len(v.List); e.values < 0 {
			return fmt.Errorf("has more than %d values", MaxValues)
		}
		e.out = le.AppendUint32(e.out, uint32(len(v.List)))
		for _, item := range v.List {
			if err := e.datum(item, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func appendBytes(out, p []byte) []byte { return append(le.AppendUint32(out, uint32(len(p))), p...) }

func appendText(out []byte, s string) []byte {
	return append(le.AppendUint32(out, uint32(len(s))), s...)
}

// millis is a time of a frame.
func millis(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.UnixMilli(at).UTC()
}
