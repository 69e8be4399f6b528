package converter

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/avro"
)

// Form is how the bytes of keys or of values are laid out.
type Form string

// The forms. Those with a registry are in Confluent's wire format:
//
//	0 | the schema's id, 4 bytes, big-endian | the value as the schema has it
const (
	Auto Form = "auto"   // of a sink: what the schema header, or the bytes themselves, say
	JSON Form = "json"   //
	Avro Form = "avro"   // with a registry
	Text Form = "string" // of a sink: UTF-8
	Raw  Form = "raw"    // of a sink: bytes
)

// Registered says whether the form's schemas are in a registry.
func (f Form) Registered() bool { return f == Avro }

const (
	wireMagic = 0
	wireLead  = 5
)

// SchemaText is a schema as a registry keeps it.
type SchemaText struct {
	Type string // AVRO
	Text string
	// References are the texts of what it names, each behind those that it names itself.
	References []string
}

// ErrRegistry marks an error that came from asking the registry, and says nothing about the record.
var ErrRegistry = errors.New("the schema registry")

func (f Format) wired() bool { return f.Key.Registered() || f.Value.Registered() }

// wire is how values of one registered schema are written. It belongs to one goroutine.
type wire struct {
	lead  [wireLead]byte
	write avro.Writer
	// An envelope is put together here.
	fields []schema.Value
	whole  schema.Value
	op     [1]byte
}

func (w *wire) append(dst []byte, v *schema.Value) ([]byte, error) {
	return w.write.Append(append(dst, w.lead[:]...), v)
}

// envelope is a change as a Struct of envelopeSchema; it lives until the next one.
func (w *wire) envelope(p *plan, c *connectors.Change) *schema.Value {
	f := append(w.fields[:0], *p.row(&c.Before), *p.row(&c.After))
	if p.update != nil {
		f = append(f, c.Update.Value)
	}
	w.op[0] = byte(c.Op)
	f = append(f, c.Source.Value, schema.TextOf(w.op[:]), schema.Int64Of(c.At.UnixMilli()), schema.Int64Of(c.At.UnixMicro()), schema.Int64Of(c.At.UnixNano()), schema.Value{})
	w.fields = f
	w.whole = schema.StructOf(f...)
	return &w.whole
}

// bare describes bytes that came without a type.
var bare = &schema.Schema{Kind: schema.Bytes}

// typed gives bytes without a type one, where the form needs it.
func (e *Encoder) typed(r *connectors.Record) *connectors.Record {
	key := e.format.Key.Registered() && r.Key.Schema == nil && r.RawKey != nil
	value := e.format.Value.Registered() && r.Value.Schema == nil && r.Change == nil && r.RawValue != nil
	if !key && !value {
		return r
	}
	e.copy = *r
	if key {
		e.copy.Key = connectors.Datum{Schema: bare, Value: schema.BytesOf(r.RawKey)}
	}
	if value {
		e.copy.Value = connectors.Datum{Schema: bare, Value: schema.BytesOf(r.RawValue)}
	}
	return &e.copy
}

// register makes the plan's schemas known, and takes out of its entry what needs none there.
func (p *plan) register(f Format, topic string, key, value *schema.Schema) (err error) {
	if f.Key.Registered() && key != nil {
		if p.keyWire, err = newWire(f, topic+"-key", key); err != nil {
			return err
		}
		p.entry.Key = nil
	}
	if f.Value.Registered() && value != nil {
		if p.valueWire, err = newWire(f, topic+"-value", value); err != nil {
			return err
		}
		p.entry = Entry{Envelope: Value, Key: p.entry.Key}
	}
	return nil
}

func newWire(f Format, subject string, s *schema.Schema) (*wire, error) {
	if f.Register == nil {
		return nil, errors.New("there is no schema registry")
	}
	id, err := f.Register(subject, SchemaText{Type: "AVRO", Text: avro.SchemaOf(s).Canonical(nil)})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRegistry, err)
	}
	w := &wire{write: avro.NewWriter(s)}
	w.lead[0] = wireMagic
	binary.BigEndian.PutUint32(w.lead[1:], uint32(id))
	return w, nil
}
