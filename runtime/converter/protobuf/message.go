// Package protobuf is values as Protocol Buffers: which schema a typed value has, and its bytes, both ways.
//
// The schemas are those that Confluent's ProtobufConverter makes of the same Connect schemas (io.confluent.connect.protobuf.ProtobufData, with
// optional.for.nullables): one file, the package what stands before the last dot of the root's name, the types of fields nested where they
// come first. Its bytes lose what a type is called, and that a list is null. So options that ProtobufData knows, too (confluent.field_meta,
// confluent.message_meta), carry names, and a list that may be null or has items that may be has a message around it.
//
// ProtobufData counts fields anew for each schema: a column that is dropped moves all behind it. Here a field keeps the number that it has in the
// subject's latest version, and the number of one that is dropped is not given again.
package protobuf

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
)

// Options of Confluent are the 1088th of each kind: a Meta with a doc (1) and params (2).
const (
	metaOption  = 1088
	propWrapper = "forebay.wrapper"  // of a message that stands for its only field
	propRequire = "forebay.required" // of a field whose message is always there
	propDropped = "forebay.dropped"  // of a message: the numbers that fields had, name=number
)

// The types that are messages of others.
const (
	decimalType   = "confluent.type.Decimal"
	dateType      = "google.type.Date"
	timeType      = "google.type.TimeOfDay"
	timestampType = "google.protobuf.Timestamp"
)

var imports = map[string]string{decimalType: "confluent/type/decimal.proto", dateType: "google/type/date.proto",
	timeType: "google/type/timeofday.proto", timestampType: "google/protobuf/timestamp.proto"}

// message is a type of messages that is written.
type message struct {
	name    string
	full    string // with its package and the messages around it
	doc     string
	meta    map[string]string
	fields  []*field
	nested  []*message
	wrapper bool // it stands for its only field
	taken   map[string]bool
	dropped []int32
}

// field is one of its fields.
type field struct {
	name     string
	label    string // "", optional, repeated
	typ      string
	number   protowire.Number
	doc      string
	meta     map[string]string
	s        *schema.Schema // of one of its values
	inner    *message       // of messages of this file
	pairs    bool           // a map, whose entries are inner's
	nullable bool
	column   string // as errors name it
}

// scalars are the kinds that have a type of their own.
var scalars = map[schema.Kind]string{schema.Bool: "bool", schema.Int16: "int32", schema.Int32: "int32", schema.Int64: "int64", schema.Float32: "float",
	schema.Float64: "double", schema.String: "string", schema.Bytes: "bytes", schema.Null: "string"}

// maker makes the messages of one schema.
type maker struct {
	latest protoreflect.FileDescriptor // the subject's; nil: there is none
	made   []*made
}

type made struct {
	from *schema.Schema
	as   *message
}

// root is the message that values of s are.
func (m *maker) root(s *schema.Schema) (space string, _ *message) {
	name := "ConnectDefault1"
	if s.Name != "" {
		space, name = connect.Split(s.Name)
	}
	full := name
	if space != "" {
		full = space + "." + name
	}
	if s.Kind == schema.Struct && !s.Optional {
		return space, m.structOf(s, name, full)
	}
	return space, m.wrap(s, name, full, true)
}

func newMessage(name, full string) *message {
	return &message{name: name, full: full, meta: map[string]string{}, taken: map[string]bool{}}
}

// structOf is the message of a struct.
func (m *maker) structOf(s *schema.Schema, name, full string) *message {
	msg := newMessage(name, full)
	m.made = append(m.made, &made{required(s), msg})
	msg.describe(s)
	switch s.Name {
	case full:
		delete(msg.meta, connect.PropName)
	case "":
		msg.meta[connect.PropName] = ""
	}
	before := m.before(msg)
	numbers := numbersOf(before)
	// Readers of JSON tell names neither by case nor by underscores.
	like := map[string]bool{}
	fold := func(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }
	for _, f := range s.Fields {
		name := connect.Free(f.Name, func(name string) bool { return like[fold(name)] })
		like[fold(name)], msg.taken[name] = true, true
		msg.fields = append(msg.fields, &field{name: name, number: numbers.of(name), column: f.Name, meta: map[string]string{}})
	}
	numbers.rest(msg)
	for i, f := range s.Fields { // when all their names are taken
		m.fill(msg, msg.fields[i], f.Schema)
		if f.Name != msg.fields[i].name {
			msg.fields[i].meta[connect.PropOrigin] = f.Name
		}
	}
	if before != nil {
		msg.keep(before.Messages())
	}
	return msg
}

func required(s *schema.Schema) *schema.Schema {
	if !s.Optional {
		return s
	}
	c := *s
	c.Optional = false
	return &c
}

// fill gives f the type of s.
func (m *maker) fill(in *message, f *field, s *schema.Schema) {
	f.nullable = s.Optional || s.Kind == schema.Null
	switch {
	case (s.Kind == schema.Array || s.Kind == schema.Map) && (s.Optional || s.Name != ""):
		suffix := "List"
		if s.Kind == schema.Map {
			suffix = "Map"
		}
		f.message(m.nest(in, camel(f.name)+suffix, func(name, full string) *message { return m.wrap(s, name, full, false) }), s)
	case s.Kind == schema.Array:
		m.items(in, f, s.Elem)
	case s.Kind == schema.Map:
		f.label, f.pairs, f.s = "repeated", true, s
		entry := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "key", Schema: s.Key}, {Name: "value", Schema: s.Elem}}}
		f.inner = m.nest(in, camel(f.name)+"Entry", func(name, full string) *message { return m.structOf(entry, name, full) })
		delete(f.inner.meta, connect.PropName)
		f.typ = "." + f.inner.full
	case s.Kind == schema.Struct:
		f.message(m.define(in, f, s), s)
	default:
		f.scalar(s)
	}
}

// message makes f a single message.
func (f *field) message(inner *message, s *schema.Schema) {
	f.inner, f.typ, f.s = inner, "."+inner.full, s
	if !f.nullable {
		f.meta[propRequire] = "true"
	}
}

// items makes f a list of values of s. A message around each tells null from nothing, and has lists in it.
func (m *maker) items(in *message, f *field, s *schema.Schema) {
	switch {
	case s.Optional || s.Kind == schema.Array || s.Kind == schema.Map || s.Kind == schema.Null:
		f.s = s
		f.inner = m.nest(in, camel(f.name)+"Item", func(name, full string) *message { return m.wrap(s, name, full, true) })
		f.typ = "." + f.inner.full
	case s.Kind == schema.Struct:
		f.s, f.inner = s, m.define(in, f, s)
		f.typ = "." + f.inner.full
	default:
		f.scalar(s)
	}
	f.label = "repeated"
}

// scalar makes f a value that has no fields of this file's.
func (f *field) scalar(s *schema.Schema) {
	f.s, f.typ = s, scalars[s.Kind]
	f.doc = s.Doc
	named(f.meta, s)
	if s.Kind == schema.Int16 {
		f.meta[connect.PropType] = "int16"
	}
	switch {
	case s.Name == connect.Decimal && s.Kind == schema.Bytes:
		f.typ = decimalType
		for param, name := range map[string]string{connect.ParamScale: "scale", connect.ParamPrecision: "precision"} { // as ProtobufData calls them
			delete(f.meta, connect.PropParams+"."+param)
			if n := s.Params[param]; n != "" {
				f.meta[name] = n
			}
		}
		delete(f.meta, connect.PropName)
	case s.Name == connect.Date && s.Kind == schema.Int32:
		f.typ = dateType
	case s.Name == connect.Time && s.Kind == schema.Int32:
		f.typ = timeType
	case s.Name == connect.Timestamp && s.Kind == schema.Int64:
		f.typ = timestampType
	}
	switch {
	case imports[f.typ] != "":
		if !f.nullable {
			f.meta[propRequire] = "true"
		}
	case f.nullable:
		f.label = "optional"
	}
}

// named says in params what s is called.
func named(params map[string]string, s *schema.Schema) {
	if s.Name != "" {
		params[connect.PropName] = s.Name
	}
	if s.Version != 0 {
		params[connect.PropVersion] = strconv.Itoa(s.Version)
	}
	for k, v := range s.Params {
		params[connect.PropParams+"."+k] = v
	}
}

func (msg *message) describe(s *schema.Schema) {
	msg.doc = s.Doc
	named(msg.meta, s)
}

// wrap is a message that stands for a value of s. nulls says that it may be there and hold null.
func (m *maker) wrap(s *schema.Schema, name, full string, nulls bool) *message {
	msg := newMessage(name, full)
	msg.wrapper, msg.meta[propWrapper] = true, "true"
	f := &field{name: "value", number: 1, column: s.Kind.String(), meta: map[string]string{}}
	msg.fields, msg.taken["value"] = []*field{f}, true
	if (s.Kind == schema.Array || s.Kind == schema.Map) && !nulls {
		msg.describe(s)
		c := *s
		c.Optional, c.Name, c.Version, c.Params, c.Doc = false, "", 0, nil, ""
		m.fill(msg, f, &c)
		return msg
	}
	m.fill(msg, f, s)
	return msg
}

// nest makes a message in another one, under a name that is free.
func (m *maker) nest(in *message, name string, of func(name, full string) *message) *message {
	name = connect.Free(name, func(name string) bool { return in.taken[name] })
	in.taken[name] = true
	inner := of(name, in.full+"."+name)
	in.nested = append(in.nested, inner)
	return inner
}

// define is the message of a struct, which may be there already.
func (m *maker) define(in *message, f *field, s *schema.Schema) *message {
	name := camel(f.name)
	if s.Name != "" {
		for _, have := range m.made {
			if have.from.Name == s.Name && schema.Equal(have.from, required(s)) {
				return have.as
			}
		}
		_, name = connect.Split(s.Name)
	}
	if slices.ContainsFunc(in.fields, func(f *field) bool { return f.name == name }) {
		name += "Message" // as ProtobufData has it
	}
	return m.nest(in, name, func(name, full string) *message { return m.structOf(s, name, full) })
}

// camel is a name in CamelCase.
func camel(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return connect.LegalName(b.String())
}

// numbers are those of a message's fields, by name.
type numbers struct {
	known map[string]int32
	used  map[string]bool
	next  int32
}

// before is msg in the subject's latest version; nil when it is not there.
func (m *maker) before(msg *message) protoreflect.MessageDescriptor {
	if m.latest == nil {
		return nil
	}
	return find(m.latest.Messages(), strings.TrimPrefix(msg.full, string(m.latest.Package())+"."))
}

// numbersOf are the numbers that a message's fields have, or had.
func numbersOf(before protoreflect.MessageDescriptor) *numbers {
	n := &numbers{known: map[string]int32{}, used: map[string]bool{}}
	if before == nil {
		return n
	}
	_, params := metaOf(before.Options())
	for entry := range strings.SplitSeq(params[propDropped], ",") {
		name, digits, _ := strings.Cut(entry, "=")
		if number, err := strconv.ParseInt(digits, 10, 32); err == nil && number > 0 && protowire.Number(number).IsValid() {
			n.known[name] = int32(number)
		}
	}
	for i := range before.Fields().Len() {
		f := before.Fields().Get(i)
		n.known[string(f.Name())] = int32(f.Number())
	}
	for _, number := range n.known {
		n.next = max(n.next, number)
	}
	return n
}

func find(in protoreflect.MessageDescriptors, path string) protoreflect.MessageDescriptor {
	first, rest, deeper := strings.Cut(path, ".")
	d := in.ByName(protoreflect.Name(first))
	if d == nil || !deeper {
		return d
	}
	return find(d.Messages(), rest)
}

// of is a field's number; 0 when it has none yet.
func (n *numbers) of(name string) protowire.Number {
	n.used[name] = true
	return protowire.Number(n.known[name])
}

// rest gives numbers to msg's fields that have none, behind all others, and notes those that are free no more.
func (n *numbers) rest(msg *message) {
	for _, f := range msg.fields {
		if f.number != 0 {
			continue
		}
		n.next++
		if n.next >= int32(protowire.FirstReservedNumber) && n.next <= int32(protowire.LastReservedNumber) {
			n.next = int32(protowire.LastReservedNumber) + 1
		}
		f.number = protowire.Number(n.next)
	}
	var dropped []string
	for _, name := range slices.Sorted(maps.Keys(n.known)) {
		if !n.used[name] {
			msg.dropped = append(msg.dropped, n.known[name])
			dropped = append(dropped, name+"="+strconv.Itoa(int(n.known[name])))
		}
	}
	if len(dropped) > 0 {
		msg.meta[propDropped] = strings.Join(dropped, ",")
	}
	slices.Sort(msg.dropped)
	msg.dropped = slices.Compact(msg.dropped)
}

// keep takes over the types of columns that are gone: a registry refuses a schema in which one is missing.
func (msg *message) keep(all protoreflect.MessageDescriptors) {
	for i := range all.Len() {
		d := all.Get(i)
		if slices.ContainsFunc(msg.nested, func(m *message) bool { return m.name == string(d.Name()) }) {
			continue
		}
		if kept := keptOf(d); kept != nil {
			msg.nested = append(msg.nested, kept)
		}
	}
}

// keptOf is a message as it was written; nil when it is none of those that are written here.
func keptOf(d protoreflect.MessageDescriptor) *message {
	msg := newMessage(string(d.Name()), string(d.FullName()))
	msg.doc, msg.meta = metaOf(d.Options())
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		f := &field{name: string(fd.Name()), number: fd.Number(), typ: fd.Kind().String()}
		switch {
		case fd.Message() != nil && imports[string(fd.Message().FullName())] != "":
			f.typ = string(fd.Message().FullName())
		case fd.Message() != nil && !fd.IsMap() && fd.Message().ParentFile() == d.ParentFile():
			f.typ = "." + string(fd.Message().FullName())
		case fd.Message() != nil || fd.Enum() != nil:
			return nil
		}
		switch {
		case fd.IsList():
			f.label = "repeated"
		case fd.HasPresence() && fd.Message() == nil:
			f.label = "optional"
		}
		f.doc, f.meta = metaOf(fd.Options())
		msg.fields = append(msg.fields, f)
	}
	msg.keep(d.Messages())
	for i := range d.ReservedRanges().Len() {
		r := d.ReservedRanges().Get(i)
		for n := r[0]; n < r[1] && len(msg.dropped) < 1000; n++ {
			msg.dropped = append(msg.dropped, int32(n))
		}
	}
	return msg
}

var errMeta = errors.New("an option of Confluent's that cannot be read")

// metaOf reads the Meta of a descriptor's options; nothing when there is none.
func metaOf(options proto.Message) (doc string, params map[string]string) {
	b, err := proto.Marshal(options)
	if err != nil {
		return "", nil
	}
	params = map[string]string{}
	_ = each(b, func(n protowire.Number, v []byte) error { // what cannot be read says nothing
		if n != metaOption {
			return nil
		}
		return each(v, func(n protowire.Number, v []byte) error {
			switch n {
			case 1:
				doc = string(v)
			case 2:
				var kv [2]string
				err := each(v, func(n protowire.Number, v []byte) error {
					if n == 1 || n == 2 {
						kv[n-1] = string(v)
					}
					return nil
				})
				params[kv[0]] = kv[1]
				return err
			}
			return nil
		})
	})
	return doc, params
}

// each calls fn with the fields of a message that have bytes.
func each(b []byte, fn func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errMeta
		}
		b = b[n:]
		if typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return errMeta
			}
			if err := fn(number, v); err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, typ, b); n < 0 {
			return errMeta
		}
		b = b[n:]
	}
	return nil
}
