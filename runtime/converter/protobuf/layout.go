package protobuf

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
	"github.com/forebayhub/forebay/runtime/registry/protobuf"
)

// maxTypes bounds what a schema comes to when each message in it is written out: messages that name each other twice double at each step.
const maxTypes = 20_000

var errRecursive = errors.New("is part of itself: such messages have no columns")

// how a value's bytes are read.
type how uint8

const (
	scalar   how = iota
	enum         // the name of the number
	unsigned     // 64 bits: a decimal without a scale, since no integer here holds it
	record
	inside // of a message that stands for its only field
	decimal
	variable // a decimal whose scale is in each value
	day
	clock
	instant
)

// form is how bytes become a value of one type.
type form struct {
	s       *schema.Schema
	how     how
	kind    protoreflect.Kind
	fields  []*member
	at      map[protowire.Number]int // of fields, by their numbers
	zero    []schema.Value           // of fields that are not there
	symbols map[int32][]byte
	scale   int
	types   int
	whole   bool // a struct that is one value: not sent when a member of it was not
}

// member is a field of a message.
type member struct {
	*form
	number protowire.Number
	name   string
	s      *schema.Schema // of the whole field
	list   bool
	pairs  bool
	absent schema.Value
	others []int // fields of the same oneof, of which one is there
}

type compiler struct {
	done map[protoreflect.FullName]*form
	busy map[protoreflect.FullName]bool
}

// compile makes the form of a message, which is the root.
func compile(d protoreflect.MessageDescriptor) (*form, error) {
	c := compiler{map[protoreflect.FullName]*form{}, map[protoreflect.FullName]bool{}}
	return c.message(d)
}

// message is the form of a message by itself.
func (c *compiler) message(d protoreflect.MessageDescriptor) (*form, error) {
	name := d.FullName()
	if f := c.done[name]; f != nil {
		return f, nil
	}
	if c.busy[name] {
		return nil, fmt.Errorf("the message %s %w", name, errRecursive)
	}
	c.busy[name] = true
	defer delete(c.busy, name)
	doc, meta := metaOf(d.Options())
	f := &form{how: record, types: 1, at: map[protowire.Number]int{}, s: &schema.Schema{Kind: schema.Struct, Name: string(name), Doc: doc}}
	if name == "ConnectDefault1" {
		f.s.Name = ""
	}
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		m, err := c.field(fd)
		if err == nil {
			err = f.add(m, fd)
		}
		if err != nil {
			return nil, fmt.Errorf("field '%s': %w", fd.Name(), err)
		}
	}
	for i := range d.Oneofs().Len() {
		f.oneof(d.Oneofs().Get(i))
	}
	wraps := len(f.fields) == 1 && (meta[propWrapper] != "" || strings.HasPrefix(string(name), "google.protobuf.") && strings.HasSuffix(string(name), "Value"))
	if wraps {
		f.how, f.s = inside, f.fields[0].s
		if meta[connect.PropName] != "" || meta[connect.PropVersion] != "" {
			c := *f.s
			c.Doc = doc
			rename(&c, meta)
			f.s = &c
		}
	} else {
		rename(f.s, meta)
		f.whole = strings.HasPrefix(f.s.Name, "io.debezium.data.")
	}
	c.done[name] = f
	return f, nil
}

func (f *form) add(m *member, fd protoreflect.FieldDescriptor) error {
	if f.types += m.types; f.types > maxTypes {
		return fmt.Errorf("the schema comes to more than %d types", maxTypes)
	}
	f.at[fd.Number()] = len(f.fields)
	f.fields, f.zero = append(f.fields, m), append(f.zero, m.absent)
	f.s.Fields = append(f.s.Fields, schema.Field{Name: m.name, Schema: m.s})
	return nil
}

func (f *form) oneof(o protoreflect.OneofDescriptor) {
	if o.IsSynthetic() {
		return
	}
	for i := range o.Fields().Len() {
		m := f.fields[f.at[o.Fields().Get(i).Number()]]
		for k := range o.Fields().Len() {
			if k != i {
				m.others = append(m.others, f.at[o.Fields().Get(k).Number()])
			}
		}
	}
}

// rename gives s the name that the meta says.
func rename(s *schema.Schema, meta map[string]string) {
	if name, ok := meta[connect.PropName]; ok {
		s.Name = name
	}
	if n, err := strconv.Atoi(meta[connect.PropVersion]); err == nil {
		s.Version = n
	}
	for k, v := range meta {
		if param, ok := strings.CutPrefix(k, connect.PropParams+"."); ok {
			if s.Params == nil {
				s.Params = map[string]string{}
			}
			s.Params[param] = v
		}
	}
}

func (c *compiler) field(fd protoreflect.FieldDescriptor) (*member, error) {
	doc, meta := metaOf(fd.Options())
	f, err := c.value(fd, doc, meta)
	if err != nil {
		return nil, err
	}
	m := &member{form: f, number: fd.Number(), name: string(fd.Name())}
	if origin := meta[connect.PropOrigin]; origin != "" {
		m.name = origin
	}
	switch {
	case entries(fd):
		m.pairs, m.s, m.absent = true, &schema.Schema{Kind: schema.Map, Key: f.fields[0].s, Elem: f.fields[1].s}, schema.MapOf([]schema.Value{}...)
	case fd.IsList():
		m.list, m.s, m.absent = true, &schema.Schema{Kind: schema.Array, Elem: f.s}, schema.ArrayOf([]schema.Value{}...)
	case fd.HasPresence() && fd.Cardinality() != protoreflect.Required && meta[propRequire] == "":
		m.s = schema.OptionalOf(f.s)
		if fd.HasDefault() {
			m.absent = f.grant(fd.Default())
		}
	default: // never null
		m.s, m.absent = f.s, f.grant(fd.Default())
	}
	return m, nil
}

// entries says that a field is a map, by its option or, as ProtobufConverter writes them, by its message's name.
func entries(fd protoreflect.FieldDescriptor) bool {
	if fd.IsMap() {
		return true
	}
	d := fd.Message()
	return fd.IsList() && d != nil && strings.HasSuffix(string(d.Name()), "Entry") && d.Fields().Len() == 2 && d.Fields().Get(0).Name() == "key" && d.Fields().Get(1).Name() == "value"
}

// grant is the value of a field that is not there and may not be null; null for a message.
func (f *form) grant(v protoreflect.Value) schema.Value {
	if !v.IsValid() || f.how != scalar && f.how != enum && f.how != unsigned {
		return schema.Value{}
	}
	switch x := v.Interface().(type) {
	case bool:
		return schema.BoolOf(x)
	case int32:
		return f.integer(int64(x))
	case int64:
		return schema.Int64Of(x)
	case uint32:
		return schema.Int64Of(int64(x))
	case uint64:
		return schema.BytesOf(unsignedBytes(x))
	case float32:
		return schema.Float32Of(x)
	case float64:
		return schema.Float64Of(x)
	case string:
		return schema.StringOf(x)
	case []byte:
		return schema.BytesOf(bytes.Clone(x))
	case protoreflect.EnumNumber:
		return schema.TextOf(f.symbol(int32(x)))
	}
	return schema.Value{}
}

// value is the form of one value of a field.
func (c *compiler) value(fd protoreflect.FieldDescriptor, doc string, meta map[string]string) (*form, error) {
	f := &form{kind: fd.Kind(), types: 1, s: &schema.Schema{Doc: doc}}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		f.s.Kind = schema.Bool
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		f.s.Kind = schema.Int32
		if t := meta[connect.PropType]; t == "int16" || t == "int8" {
			f.s.Kind = schema.Int16
		}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		f.s.Kind = schema.Int64
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		f.how = unsigned
		f.s.Kind, f.s.Name, f.s.Version = schema.Bytes, connect.Decimal, 1
		f.s.Params = map[string]string{connect.ParamScale: "0", connect.ParamPrecision: "20"}
	case protoreflect.FloatKind:
		f.s.Kind = schema.Float32
	case protoreflect.DoubleKind:
		f.s.Kind = schema.Float64
	case protoreflect.StringKind:
		f.s.Kind = schema.String
	case protoreflect.BytesKind:
		f.s.Kind = schema.Bytes
	case protoreflect.EnumKind:
		f.how, f.s.Kind, f.symbols = enum, schema.String, map[int32][]byte{}
		values := fd.Enum().Values()
		for i := range values.Len() {
			v := values.Get(i)
			if f.symbols[int32(v.Number())] == nil { // of two names of a number the first
				f.symbols[int32(v.Number())] = []byte(v.Name())
			}
		}
	default:
		return c.known(fd, f, meta)
	}
	rename(f.s, meta)
	return f, nil
}

// known are messages that are values of a type here; others are structs.
func (c *compiler) known(fd protoreflect.FieldDescriptor, f *form, meta map[string]string) (*form, error) {
	named := func(how how, kind schema.Kind, name string) {
		f.how, f.s.Kind, f.s.Name, f.s.Version = how, kind, name, 1
	}
	switch fd.Message().FullName() {
	case dateType:
		named(day, schema.Int32, connect.Date)
	case timeType:
		named(clock, schema.Int64, "io.debezium.time.MicroTime")
		if meta[connect.PropName] == connect.Time {
			f.s.Kind = schema.Int32
		}
	case timestampType: // as fine as PostgreSQL's: Connect's has milliseconds
		named(instant, schema.Int64, "io.debezium.time.MicroTimestamp")
	case decimalType:
		scale, err := strconv.Atoi(meta["scale"])
		if err != nil {
			named(variable, schema.Struct, "io.debezium.data.VariableScaleDecimal")
			f.s.Fields = []schema.Field{{Name: "scale", Schema: &schema.Schema{Kind: schema.Int32}}, {Name: "value", Schema: &schema.Schema{Kind: schema.Bytes}}}
			break
		}
		named(decimal, schema.Bytes, connect.Decimal)
		f.scale, f.s.Params = scale, map[string]string{connect.ParamScale: meta["scale"]}
		if precision := meta["precision"]; precision != "" {
			f.s.Params[connect.ParamPrecision] = precision
		}
	default:
		inner, err := c.message(fd.Message())
		if err != nil {
			return nil, err
		}
		out := *inner
		out.kind = fd.Kind()
		return &out, nil
	}
	rename(f.s, meta)
	return f, nil
}

// Reader reads values of one message. It holds nothing of them and may be used concurrently.
type Reader struct{ root *form }

// Schema describes what Read gives.
func (r Reader) Schema() *schema.Schema { return r.root.s }

// maxIndex is how deep a message may lie in others.
const maxIndex = 64

// NewReader makes a Reader of a message of s, which index names as IndexOf gives it.
func NewReader(s *protobuf.Schema, index []byte) (Reader, error) {
	numbers, _, err := readIndex(index)
	if err != nil {
		return Reader{}, err
	}
	in := s.File().Messages()
	var d protoreflect.MessageDescriptor
	for _, n := range numbers {
		if n < 0 || n >= int64(in.Len()) {
			return Reader{}, fmt.Errorf("message %d where there are %d", n, in.Len())
		}
		d = in.Get(int(n))
		in = d.Messages()
	}
	root, err := compile(d)
	return Reader{root}, err
}

// IndexOf is what stands in front of a message and says which one it is, as Writer.Index has it.
func IndexOf(b []byte) ([]byte, error) {
	_, n, err := readIndex(b)
	return b[:n], err
}

func readIndex(b []byte) (numbers []int64, at int, err error) {
	next := func() (n int64) {
		v, size := protowire.ConsumeVarint(b[at:])
		if size < 0 {
			err = errIndex
			return 0
		}
		at += size
		return protowire.DecodeZigZag(v)
	}
	count := next()
	if count < 0 || count > maxIndex {
		return nil, 0, errIndex
	}
	if count == 0 && err == nil {
		return []int64{0}, at, nil
	}
	for ; count > 0 && err == nil; count-- {
		numbers = append(numbers, next())
	}
	if err != nil {
		return nil, 0, err
	}
	return numbers, at, nil
}

var errIndex = errors.New("which message of its schema it is cannot be read")
