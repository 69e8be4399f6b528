package converter

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/avro"
	"github.com/forebayhub/forebay/runtime/converter/protobuf"
	schemas "github.com/forebayhub/forebay/runtime/registry/protobuf"
)

// Form is how the bytes of keys or of values are laid out.
type Form string

// The forms. Those with a registry are in Confluent's wire format:
//
//	0 | the schema's id, 4 bytes, big-endian | the value as the schema has it
//
// In Protobuf's a schema has several messages, and behind the id stands which one it is.
const (
	Auto       Form = "auto"       // of a sink: what the schema header, or the bytes themselves, say
	JSON       Form = "json"       //
	Avro       Form = "avro"       // with a registry
	Protobuf   Form = "protobuf"   // with a registry
	JSONSchema Form = "jsonschema" // JSON, with a registry
	Text       Form = "string"     // of a sink: UTF-8
	Raw        Form = "raw"        // of a sink: bytes
)

// Registered says whether the form's schemas are in a registry.
func (f Form) Registered() bool { return f == Avro || f == Protobuf || f == JSONSchema }

const (
	wireMagic = 0
	wireLead  = 5
)

// SchemaText is a schema as a registry keeps it.
type SchemaText struct {
	Type string // AVRO, JSON, PROTOBUF
	Text string
	// References are what it names, each behind those that it names itself.
	References []Reference
}

// Reference is a schema that another one names.
type Reference struct{ Name, Text string }

// ErrRegistry marks an error that came from asking the registry, and says nothing about the record.
var ErrRegistry = errors.New("the schema registry")

func (f Format) wired() bool { return f.Key.Registered() || f.Value.Registered() }

// wire is how values of one registered schema are written. It belongs to one goroutine.
type wire struct {
	lead  []byte
	write interface {
		Append(dst []byte, v *schema.Value) ([]byte, error)
	}
	// An envelope is put together here.
	fields []schema.Value
	whole  schema.Value
	op     [1]byte
}

func (w *wire) append(dst []byte, v *schema.Value) ([]byte, error) {
	return w.write.Append(append(dst, w.lead...), v)
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
		if p.keyWire, err = newWire(f, f.Key, topic+"-key", key); err != nil {
			return err
		}
		p.entry.Key = nil
	}
	if f.Value.Registered() && value != nil {
		if p.valueWire, err = newWire(f, f.Value, topic+"-value", value); err != nil {
			return err
		}
		p.entry = Entry{Envelope: Value, Key: p.entry.Key}
	}
	return nil
}

func newWire(f Format, form Form, subject string, s *schema.Schema) (*wire, error) {
	if f.Register == nil {
		return nil, errors.New("there is no schema registry")
	}
	w := &wire{lead: make([]byte, wireLead)}
	var sent SchemaText
	for range maxRaces {
		text, err := w.schemaFor(f, form, subject, s)
		if err != nil {
			return nil, err
		}
		if text.Text == sent.Text { // it follows on what is the newest one now
			return w, nil
		}
		id, err := f.Register(subject, text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRegistry, err)
		}
		w.lead[0] = wireMagic
		binary.BigEndian.PutUint32(w.lead[1:], uint32(id))
		sent = text
	}
	return nil, fmt.Errorf("%w: others register schemas of subject %s all the time", ErrRegistry, subject)
}

// maxRaces is how often a schema is made anew since another one was registered between the look at the newest one and its own registering, which a
// registry does not tell: two writers that gave one number to two columns would read each other's values.
const maxRaces = 10

// schemaFor has w write values by a schema that follows on the subject's newest one.
func (w *wire) schemaFor(f Format, form Form, subject string, s *schema.Schema) (SchemaText, error) {
	switch form {
	case Protobuf:
		latest, err := f.latest(subject)
		if err != nil {
			return SchemaText{}, err
		}
		writer := protobuf.NewWriter(s, latest)
		w.write, w.lead = writer, append(w.lead[:wireLead], writer.Index()...)
		return SchemaText{Type: protobufType, Text: writer.Text()}, nil
	case JSONSchema:
		w.write = jsonWriter{newShape(s, true)}
		return f.schemaFor(subject, s)
	}
	w.write = avro.NewWriter(s)
	return SchemaText{Type: avroType, Text: avro.SchemaOf(s).Canonical(nil)}, nil
}

// The types of schemas, as registries call them.
const (
	avroType     = "AVRO"
	protobufType = "PROTOBUF"
	jsonType     = "JSON"
)

// latest is a subject's newest schema, whose numbers the next one keeps; nil: there is none in Protobuf.
func (f Format) latest(subject string) (*schemas.Schema, error) {
	text, err := f.newest(subject, protobufType)
	if err != nil || text.Text == "" {
		return nil, err
	}
	s, err := schemas.Parse(text.Text, text.named())
	if err != nil {
		return nil, unreadable(subject, err)
	}
	return s, nil
}

// unreadable says that a subject's newest schema is one that no other can follow on. It is about no record.
func unreadable(subject string, err error) error {
	err = fmt.Errorf("%w: the newest schema of subject %s, which the next one follows on, cannot be read: %w", ErrRegistry, subject, err)
	return connectors.Fatal(err, "delete that version from the registry, or register one that can be read behind it; the source goes on from where it stands once it is restarted")
}

// newest is a subject's newest schema, if it is of a type.
func (f Format) newest(subject, kind string) (SchemaText, error) {
	if f.Latest == nil {
		return SchemaText{}, nil
	}
	text, err := f.Latest(subject)
	if err != nil {
		return SchemaText{}, fmt.Errorf("%w: %w", ErrRegistry, err)
	}
	if text.Type != kind {
		return SchemaText{}, nil
	}
	return text, nil
}

// texts are those of the references.
func (s SchemaText) texts() (out []string) {
	for _, r := range s.References {
		out = append(out, r.Text)
	}
	return out
}

// named are the references by their names.
func (s SchemaText) named() map[string]string {
	out := make(map[string]string, len(s.References))
	for _, r := range s.References {
		out[r.Name] = r.Text
	}
	return out
}
