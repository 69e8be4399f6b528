package converter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/avro"
	"github.com/forebayhub/forebay/runtime/converter/protobuf"
	schemas "github.com/forebayhub/forebay/runtime/registry/protobuf"
)

// Reading is how a sink reads keys and values that have no schema header.
type Reading struct {
	Key, Value Form // "": Auto
	// Schema finds a schema by its id. It may be slow; it is asked once for each id. Needed where a form has a registry.
	Schema func(id int32) (SchemaText, error)
}

// Read has the Decoder read records so; it is called before the first.
func (d *Decoder) Read(r Reading) {
	d.forms = [2]Form{r.Key, r.Value}
	if r.Key.Registered() || r.Value.Registered() {
		d.wires = &wires{schema: r.Schema, known: map[wireKey]*described{}}
	}
}

// Registered says that a registry is asked. Then records have to be decoded before anybody looks at their bytes.
func (d *Decoder) Registered() bool { return d.wires != nil }

func (f Form) auto() bool { return f == Auto || f == "" }

// wires are the schemas of wire formats by their ids, and the text of what was read.
type wires struct {
	schema func(id int32) (SchemaText, error)
	known  map[wireKey]*described
	last   [2]struct { // of keys, of values
		lead []byte // of the bytes, up to the value
		in   *incoming
	}
	text []byte // the records that lie in it keep it alive when another one takes its place
}

// wireKey tells what is known of a schema by how it is read: one that is no JSON Schema may well be Avro.
type wireKey struct {
	form Form
	id   int32
}

// described is a registered schema.
type described struct {
	only     *incoming // nil: it has several messages
	file     *schemas.Schema
	messages map[string]*incoming // by what names them in front of a value
}

// incoming is how values of one type are read.
type incoming struct {
	read   reader
	shape  *shape
	change *layout        // nil: it is no envelope
	alone  *schema.Schema // the row of a document that stands alone; nil: it is none
	err    error          // why nothing of it can be read
}

type reader interface {
	Schema() *schema.Schema
	Read(b []byte, m *schema.Slab) (schema.Value, error)
}

// layout is where an envelope has its fields; -1: nowhere.
type layout struct {
	before, after, source, op, update int
	times                             [3]int
	row                               *schema.Schema
	sameRow, document                 bool
}

// ErrSchema says that nothing can be read with the schema that the bytes name: with that of the registry, or with none since what names it is cut off.
var ErrSchema = errors.New("values of it cannot be read")

var (
	errNotWire = errors.New("not in Confluent's wire format, which begins with a zero and a schema's id")
	errNotJSON = errors.New("not JSON")
	errNotText = errors.New("not UTF-8")
)

func isWire(b []byte) bool { return len(b) >= wireLead && b[0] == wireMagic }

// of finds what reads b, and where the value begins in it.
func (w *wires) of(part int, form Form, b []byte) (_ *incoming, at int, err error) {
	last := &w.last[part]
	if last.in != nil && bytes.HasPrefix(b, last.lead) {
		return last.in, len(last.lead), last.in.err
	}
	id := int32(binary.BigEndian.Uint32(b[1:]))
	k := wireKey{form, id}
	d := w.known[k]
	if d == nil {
		text, err := w.schema(id)
		if err != nil {
			return nil, 0, fmt.Errorf("schema %d: %w", id, err)
		}
		d = describe(form, text)
		if len(w.known) >= maxPlans {
			clear(w.known)
		}
		w.known[k] = d
	}
	in, at := d.only, wireLead
	if in == nil {
		in, at = d.message(b)
	}
	if in.err != nil {
		return in, at, fmt.Errorf("schema %d: %w", id, in.err)
	}
	last.lead, last.in = append(last.lead[:0], b[:at]...), in
	return in, at, nil
}

// describe makes a text of a registry ready.
func describe(form Form, text SchemaText) *described {
	fail := func(err error) *described {
		return &described{only: &incoming{err: fmt.Errorf("%w: %w", ErrSchema, err)}}
	}
	want := map[Form]string{Avro: avroType, Protobuf: protobufType, JSONSchema: jsonType}[form]
	if text.Type != want && (text.Type != "" || want != avroType) {
		return fail(fmt.Errorf("is of type %s, not %s", text.Type, want))
	}
	if form == Protobuf {
		s, err := schemas.Parse(text.Text, text.named())
		if err != nil {
			return fail(err)
		}
		return &described{file: s, messages: map[string]*incoming{}}
	}
	var r reader
	var err error
	if form == JSONSchema {
		r, err = newJSONReader(text)
	} else {
		r, err = avro.NewReader(text.Text, text.texts())
	}
	if err != nil {
		return fail(err)
	}
	return &described{only: newIncoming(r)}
}

// message is what reads the message that b names, and where it begins.
func (d *described) message(b []byte) (in *incoming, at int) {
	name, err := protobuf.IndexOf(b[wireLead:])
	if err != nil {
		return &incoming{err: fmt.Errorf("%w: %w", ErrSchema, err)}, 0
	}
	if in = d.messages[string(name)]; in == nil {
		r, err := protobuf.NewReader(d.file, name)
		if err != nil {
			in = &incoming{err: fmt.Errorf("%w: %w", ErrSchema, err)}
		} else {
			in = newIncoming(r)
		}
		if len(d.messages) >= maxPlans {
			clear(d.messages)
		}
		d.messages[string(name)] = in
	}
	return in, wireLead + len(name)
}

func newIncoming(r reader) *incoming {
	s := r.Schema()
	in := &incoming{read: r, shape: shapeOf(s), change: layoutOf(s)}
	if s.Kind == schema.String && s.Name == jsonName {
		in.alone = schema.DocumentOf(s)
	}
	return in
}

// layoutOf recognises a Debezium envelope by its fields, as changeOf does.
func layoutOf(s *schema.Schema) *layout {
	if s.Kind != schema.Struct {
		return nil
	}
	l := &layout{before: s.FieldIndex("before"), after: s.FieldIndex("after"), source: s.FieldIndex("source"), op: s.FieldIndex("op"), update: s.FieldIndex("updateDescription")}
	for i, name := range times {
		if l.times[i] = s.FieldIndex(name); l.times[i] >= 0 && s.Fields[l.times[i]].Schema.Kind != schema.Int64 {
			l.times[i] = -1
		}
	}
	if min(l.before, l.after, l.source, l.op) < 0 || s.Fields[l.op].Schema.Kind != schema.String || s.Fields[l.source].Schema.Kind != schema.Struct {
		return nil
	}
	before, after := s.Fields[l.before].Schema, s.Fields[l.after].Schema
	switch {
	case after.Kind == schema.Struct:
		l.row, l.sameRow = after, schema.Equal(before, after)
	case after.Kind == schema.String && before.Kind == schema.String: // a document, as Debezium's MongoDB connector has it
		l.row, l.document, l.sameRow = schema.DocumentOf(after), true, true
	default:
		return nil
	}
	return l
}

// part reads a key or a value of a form that was asked for. bytes are b, or JSON in its place. in is nil without a registry.
func (d *Decoder) part(part int, b []byte) (v connectors.Datum, bytes []byte, in *incoming, err error) {
	if b == nil {
		return v, nil, nil, nil
	}
	switch form := d.forms[part]; {
	case form.Registered():
		if !isWire(b) {
			return v, b, nil, fmt.Errorf("%w: %s", errNotWire, begin(b))
		}
		at := 0
		if in, at, err = d.wires.of(part, form, b); err != nil {
			return v, b, nil, err
		}
		v.Schema = in.shape.s
		if v.Value, err = in.read.Read(b[at:], &d.memory.values); err != nil {
			return v, b, nil, fmt.Errorf("schema %d: %w", binary.BigEndian.Uint32(b[1:]), err)
		}
		switch v.Value.Kind {
		case schema.String:
			return v, v.Value.Data, in, nil
		case schema.Bytes:
			if v.Schema.Name == "" {
				v = d.types.raw(v.Value.Data)
			}
			return v, v.Value.Data, in, nil
		}
		if form == JSONSchema {
			return v, b[at:], in, nil
		}
		return v, d.wires.json(in.shape, &v.Value), in, nil
	case form == JSON:
		if v, err = d.guess(b); err != nil {
			return v, b, nil, err
		}
		if v.Schema == d.types.text || v.Schema == d.types.bytes { // neither an object nor an array
			p := parser{b: b, m: &d.memory.values}
			s, value, err := p.infer()
			if err == nil {
				err = p.end()
			}
			if err != nil {
				return v, b, nil, fmt.Errorf("%w: %s", errNotJSON, begin(b))
			}
			v = connectors.Datum{Schema: d.types.one(s), Value: value}
		}
	case form == Text:
		if v = d.types.raw(b); !utf8.Valid(b) {
			return v, b, nil, errNotText
		}
	default: // Raw
		v = connectors.Datum{Schema: d.types.bytes, Value: schema.BytesOf(b)}
	}
	return v, b, nil, nil
}

// begin shows the first bytes of what cannot be read.
func begin(b []byte) string {
	const most = 24
	if len(b) > most {
		return fmt.Sprintf("%q…", b[:most])
	}
	return fmt.Sprintf("%q", b)
}

// json is v as text.
func (w *wires) json(n *shape, v *schema.Value) []byte {
	const chunk, least = 64 << 10, 4 << 10
	if cap(w.text)-len(w.text) < least {
		w.text = make([]byte, 0, chunk)
	}
	at := len(w.text)
	w.text = n.append(w.text, v)
	return w.text[at:len(w.text):len(w.text)]
}

// formed reads a value of a form that was asked for.
func (d *Decoder) formed(r *connectors.Record) error {
	v, b, in, err := d.part(1, r.RawValue)
	if err != nil {
		return err
	}
	r.Value, r.RawValue, r.Declared = v, b, in != nil
	switch {
	case in == nil:
		if c := d.changeOf(v); c != nil {
			r.Change, r.Value = c, connectors.Datum{}
		}
	case in.change != nil && v.Value.Kind == schema.Struct:
		if r.Change, err = in.change.change(&d.memory, v); err != nil {
			return err
		}
		r.Value = connectors.Datum{}
		if in.change.document {
			d.memory.documentRows(r)
		}
	case in.alone != nil && keyOfDocument(r.Key):
		r.Value = connectors.Datum{Schema: in.alone, Value: d.memory.pair(documentID(r), v.Value)}
	}
	return nil
}

const jsonName = "io.debezium.data.Json"

// keyOfDocument says whether a key is that of a document store's topic.
func keyOfDocument(k connectors.Datum) bool {
	return k.Schema != nil && k.Schema.Kind == schema.Struct && len(k.Schema.Fields) == 1 && k.Schema.Fields[0].Name == "id" && k.Schema.Fields[0].Schema.Kind == schema.String
}

// change takes an envelope apart.
func (l *layout) change(m *memory, v connectors.Datum) (*connectors.Change, error) {
	f := v.Value.List
	op := f[l.op].Data
	if len(op) != 1 {
		return nil, fmt.Errorf("op is one letter, not %q", op)
	}
	c := m.change()
	c.Op, c.Row, c.After = connectors.Op(op[0]), l.row, f[l.after]
	c.Source = connectors.Datum{Schema: v.Schema.Fields[l.source].Schema, Value: f[l.source]}
	if l.sameRow {
		c.Before = f[l.before]
	}
	if l.update >= 0 {
		c.Update = connectors.Datum{Schema: v.Schema.Fields[l.update].Schema, Value: f[l.update]}
	}
	for i, name := range times {
		if at2 := l.times[i]; at2 >= 0 && !f[at2].IsNull() {
			at(name, f[at2].Int(), c)
		}
	}
	return c, nil
}

// forms that a key or a value may have in a source, and in a sink.
var (
	SourceForms = []string{string(JSON), string(Avro), string(Protobuf), string(JSONSchema)}
	SinkForms   = []string{string(Auto), string(JSON), string(Avro), string(Protobuf), string(JSONSchema), string(Text), string(Raw)}
)
