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
	"cmp"
	"errors"
	"maps"
	"net/url"
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
	propDropped = "forebay.dropped"  // of a message: the fields that it had, column=number=kind, the column escaped as in a URL
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
	wrapper bool     // it stands for its only field
	within  *message // which has the named types that fields need: an entry, or a wrapper, goes with its column; nil: itself
	taken   map[string]bool
	// What no field may have: numbers from and up to, and names.
	reserved      [][2]protowire.Number
	reservedNames []string
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
		return space, m.structOf(s, name, full, nil)
	}
	return space, m.wrap(s, name, full, true, nil)
}

func newMessage(name, full string, within *message) *message {
	return &message{name: name, full: full, within: within, meta: map[string]string{}, taken: map[string]bool{}}
}

// structOf is the message of a struct.
func (m *maker) structOf(s *schema.Schema, name, full string, within *message) *message {
	msg := newMessage(name, full, within)
	m.made = append(m.made, &made{required(s), msg})
	msg.describe(s)
	switch s.Name {
	case full:
		delete(msg.meta, connect.PropName)
	case "":
		msg.meta[connect.PropName] = ""
	}
	var columns []string
	for _, f := range s.Fields {
		columns = append(columns, f.Name)
	}
	// Readers of JSON tell names neither by case nor by underscores.
	for i, name := range connect.Names(columns, func(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }) {
		msg.taken[name] = true
		msg.fields = append(msg.fields, &field{name: name, column: columns[i], meta: map[string]string{}})
	}
	for i, f := range s.Fields { // when all their names are taken
		m.fill(msg, msg.fields[i], f.Schema)
		if f.Name != msg.fields[i].name {
			msg.fields[i].meta[connect.PropOrigin] = f.Name
		}
	}
	before := m.before(msg)
	msg.number(before)
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
		f.message(m.nest(in, camel(f.name)+suffix, func(name, full string) *message { return m.wrap(s, name, full, false, in) }), s)
	case s.Kind == schema.Array:
		m.items(in, f, s.Elem)
	case s.Kind == schema.Map:
		f.label, f.pairs, f.s = "repeated", true, s
		entry := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "key", Schema: s.Key}, {Name: "value", Schema: s.Elem}}}
		f.inner = m.nest(in, camel(f.name)+"Entry", func(name, full string) *message { return m.structOf(entry, name, full, in) })
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
		f.inner = m.nest(in, camel(f.name)+"Item", func(name, full string) *message { return m.wrap(s, name, full, true, in) })
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
func (m *maker) wrap(s *schema.Schema, name, full string, nulls bool, within *message) *message {
	msg := newMessage(name, full, within)
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
		for in.within != nil {
			in = in.within
		}
	}
	if slices.ContainsFunc(in.fields, func(f *field) bool { return f.name == name }) {
		name += "Message" // as ProtobufData has it
	}
	return m.nest(in, name, func(name, full string) *message { return m.structOf(s, name, full, nil) })
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

// earlier is a field that a message has in its latest version, or had.
type earlier struct {
	column string
	number protowire.Number
	kind   string // "": not known
	is     bool   // in the latest version
}

// kind tells types whose bytes are not alike.
func (f *field) kind() string {
	kind := strings.TrimPrefix(f.typ, ".")
	if f.label == "repeated" {
		kind = "repeated " + kind
	}
	return kind
}

// before is msg in the subject's latest version; nil when it is not there.
func (m *maker) before(msg *message) protoreflect.MessageDescriptor {
	if m.latest == nil {
		return nil
	}
	return find(m.latest.Messages(), strings.TrimPrefix(msg.full, string(m.latest.Package())+"."))
}

// number gives fields the numbers that they have in before, or had there with the same kind, and new ones to others, behind all that are or were. What
// before, or whoever wrote it, wants no field to have stays reserved, except a name that a column has now.
func (msg *message) number(before protoreflect.MessageDescriptor) {
	had := fieldsOf(before)
	next := protowire.Number(0)
	for _, g := range had {
		next = max(next, g.number)
	}
	used := map[protowire.Number]bool{}
	for _, f := range msg.fields {
		for i := len(had) - 1; i >= 0 && f.number == 0; i-- {
			if g := had[i]; g.column == f.column && !used[g.number] && (g.is || g.kind == f.kind() || g.kind == "") {
				f.number, used[g.number] = g.number, true
			}
		}
	}
	var kept [][2]protowire.Number
	if before != nil {
		for i := range before.ReservedRanges().Len() {
			kept = append(kept, before.ReservedRanges().Get(i))
		}
		for i := range before.ReservedNames().Len() {
			if name := string(before.ReservedNames().Get(i)); !msg.taken[name] {
				msg.reservedNames = append(msg.reservedNames, name)
			}
		}
	}
	var dropped []string
	for _, g := range had {
		if !used[g.number] {
			kept = append(kept, [2]protowire.Number{g.number, g.number + 1})
			dropped = append(dropped, url.QueryEscape(g.column)+"="+strconv.Itoa(int(g.number))+"="+g.kind)
		}
	}
	if len(dropped) > 0 {
		slices.Sort(dropped)
		msg.meta[propDropped] = strings.Join(dropped, ",")
	}
	byStart := func(a, b [2]protowire.Number) int { return cmp.Compare(a[0], b[0]) }
	slices.SortFunc(kept, byStart)
	taken := append(slices.Clone(kept), [2]protowire.Number{protowire.FirstReservedNumber, protowire.LastReservedNumber + 1})
	for n := range used {
		taken = append(taken, [2]protowire.Number{n, n + 1})
	}
	slices.SortFunc(taken, byStart)
	for _, f := range msg.fields {
		if f.number != 0 {
			continue
		}
		if next = free(next+1, taken); next > protowire.MaxValidNumber { // somebody has reserved all of the rest
			next = free(1, taken)
		}
		f.number = next
	}
	msg.reserved = except(kept, used)
}

// fieldsOf are a message's fields, those that are gone before those that are there.
func fieldsOf(before protoreflect.MessageDescriptor) (out []earlier) {
	if before == nil {
		return nil
	}
	_, params := metaOf(before.Options())
	for entry := range strings.SplitSeq(params[propDropped], ",") {
		column, rest, _ := strings.Cut(entry, "=")
		digits, kind, _ := strings.Cut(rest, "=")
		column, wrong := url.QueryUnescape(column)
		if n, err := strconv.ParseInt(digits, 10, 32); err == nil && wrong == nil && protowire.Number(n).IsValid() {
			out = append(out, earlier{column: column, number: protowire.Number(n), kind: kind})
		}
	}
	for i := range before.Fields().Len() {
		fd := before.Fields().Get(i)
		e := earlier{column: string(fd.Name()), number: fd.Number(), kind: fd.Kind().String(), is: true}
		if _, params := metaOf(fd.Options()); params[connect.PropOrigin] != "" {
			e.column = params[connect.PropOrigin]
		}
		if fd.Message() != nil {
			e.kind = string(fd.Message().FullName())
		}
		if fd.IsList() {
			e.kind = "repeated " + e.kind
		}
		out = append(out, e)
	}
	return out
}

// free is the first number from n on that lies in none of ranges, which are sorted.
func free(n protowire.Number, ranges [][2]protowire.Number) protowire.Number {
	for _, r := range ranges {
		if n >= r[0] && n < r[1] {
			n = r[1]
		}
	}
	return n
}

// except are sorted ranges without numbers that are used, and without what they have twice.
func except(ranges [][2]protowire.Number, used map[protowire.Number]bool) (out [][2]protowire.Number) {
	numbers, at := slices.Sorted(maps.Keys(used)), protowire.Number(0)
	for _, r := range ranges {
		at = max(at, r[0])
		first, _ := slices.BinarySearch(numbers, at)
		for _, n := range numbers[first:] {
			if n >= r[1] {
				break
			}
			if at < n {
				out = append(out, [2]protowire.Number{at, n})
			}
			at = n + 1
		}
		if at < r[1] {
			out = append(out, [2]protowire.Number{at, r[1]})
			at = r[1]
		}
	}
	return out
}

func find(in protoreflect.MessageDescriptors, path string) protoreflect.MessageDescriptor {
	first, rest, deeper := strings.Cut(path, ".")
	d := in.ByName(protoreflect.Name(first))
	if d == nil || !deeper {
		return d
	}
	return find(d.Messages(), rest)
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
	msg := newMessage(string(d.Name()), string(d.FullName()), nil)
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
		msg.reserved = append(msg.reserved, d.ReservedRanges().Get(i))
	}
	for i := range d.ReservedNames().Len() {
		msg.reservedNames = append(msg.reservedNames, string(d.ReservedNames().Get(i)))
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
