package protobuf

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Difference is a change that breaks who reads with one schema what was written with another, by the names that Confluent's registry has for it.
type Difference struct {
	Type string // FIELD_KIND_CHANGED, …
	Path string // #/Message/Inner/3: a message, and the number of a field or the name of a oneof in it
}

// maxFound bounds what one comparison reports.
const maxFound = 100

// Read says why data written with one schema cannot be read with another; nothing when it can. It holds to the rules of Confluent's registry: what was written by
// field number must keep its encoding and its kind, and if it is a number, the label that is written out; messages do not vanish; the package stays; required fields neither come nor go; a oneof
// holds nothing together that was apart, but for one field in a new one, and loses no field to nowhere unless it goes as a whole.
func Read(reader, writer *Schema) []Difference {
	c := &comparison{seen: map[pair]bool{}}
	if reader.file.Package() != writer.file.Package() {
		c.add("PACKAGE_CHANGED", "#")
	}
	c.messages("#", writer.file.Messages(), reader.file.Messages())
	return c.found
}

type pair struct{ was, is protoreflect.FullName }

type comparison struct {
	found []Difference
	seen  map[pair]bool // messages that were compared, or are being compared
}

func (c *comparison) add(kind, path string) {
	d := Difference{kind, path}
	if len(c.found) < maxFound && !slices.Contains(c.found, d) {
		c.found = append(c.found, d)
	}
}

// messages compares those of a file or a message by name. One more, or another order, breaks nothing: data names its message by its place in its own schema.
func (c *comparison) messages(path string, was, is protoreflect.MessageDescriptors) {
	for i := range was.Len() {
		old := was.Get(i)
		if old.IsMapEntry() {
			continue
		}
		at := path + "/" + string(old.Name())
		if now := is.ByName(old.Name()); now == nil || now.IsMapEntry() {
			c.add("MESSAGE_REMOVED", at)
		} else {
			c.message(at, old, now)
		}
	}
}

func (c *comparison) message(path string, was, is protoreflect.MessageDescriptor) {
	p := pair{was.FullName(), is.FullName()}
	if c.seen[p] {
		return
	}
	c.seen[p] = true
	c.oneofs(path, was, is)
	for i := range was.Fields().Len() {
		old := was.Fields().Get(i)
		at := fmt.Sprintf("%s/%d", path, old.Number())
		switch now := is.Fields().ByNumber(old.Number()); {
		case now != nil:
			c.field(at, old, now)
		case old.Cardinality() == protoreflect.Required:
			c.add("REQUIRED_FIELD_REMOVED", at)
		}
	}
	for i := range is.Fields().Len() {
		now := is.Fields().Get(i)
		if now.Cardinality() == protoreflect.Required && was.Fields().ByNumber(now.Number()) == nil {
			c.add("REQUIRED_FIELD_ADDED", fmt.Sprintf("%s/%d", path, now.Number()))
		}
	}
	c.messages(path, was.Messages(), is.Messages())
}

// oneofs: only one field of a oneof is there at a time, so of two that could be there together before one would be lost. As MessageSchemaDiff since June 2026.
func (c *comparison) oneofs(path string, was, is protoreflect.MessageDescriptor) {
	for i := range is.Oneofs().Len() {
		o := is.Oneofs().Get(i)
		if o.IsSynthetic() {
			continue
		}
		moved, from := 0, map[protoreflect.Name]bool{} // fields that stood alone, and oneofs that had others
		for k := range o.Fields().Len() {
			if old := was.Fields().ByNumber(o.Fields().Get(k).Number()); old != nil && oneof(old) == nil {
				moved++
			} else if old != nil {
				from[oneof(old).Name()] = true
			}
		}
		at := path + "/" + string(o.Name())
		switch {
		case moved > 1:
			c.add("MULTIPLE_FIELDS_MOVED_TO_ONEOF", at)
		case moved+len(from) > 1:
			c.add("FIELD_MOVED_TO_EXISTING_ONEOF", at)
		}
	}
	for i := range was.Oneofs().Len() {
		o := was.Oneofs().Get(i)
		if o.IsSynthetic() {
			continue
		}
		var gone []protoreflect.FieldNumber
		for k := range o.Fields().Len() {
			if n := o.Fields().Get(k).Number(); is.Fields().ByNumber(n) == nil {
				gone = append(gone, n)
			}
		}
		if len(gone) == o.Fields().Len() && is.Oneofs().ByName(o.Name()) == nil {
			continue // the whole choice is gone, and nobody takes what is left of it for the choice
		}
		for _, n := range gone {
			c.add("ONEOF_FIELD_REMOVED", fmt.Sprintf("%s/%s/%d", path, o.Name(), n))
		}
	}
}

// oneof is the field's, but for the one that `optional` stands for.
func oneof(f protoreflect.FieldDescriptor) protoreflect.OneofDescriptor {
	if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
		return o
	}
	return nil
}

func (c *comparison) field(path string, was, is protoreflect.FieldDescriptor) {
	a, b := shapeOf(was), shapeOf(is)
	switch {
	case a != b:
		c.add("FIELD_KIND_CHANGED", path)
	case a == mapShape:
		c.field(path, was.MapKey(), is.MapKey())
		c.field(path, was.MapValue(), is.MapValue())
	case a == messageShape:
		c.named(path, was.Message(), is.Message())
	case encodings[was.Kind()] != encodings[is.Kind()]:
		c.add("FIELD_SCALAR_KIND_CHANGED", path)
	case label(was) != "" && label(is) != "" && label(was) != label(is) && encodings[was.Kind()] != "bytes":
		c.add("FIELD_NUMERIC_LABEL_CHANGED", path)
	}
}

// label is the one that a field is written with; "": none. Of a oneof's fields and proto3's none is written, unless it is optional or repeated, and they are compared with no other one (FieldSchemaDiff).
func label(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Cardinality() != protoreflect.Optional:
		return f.Cardinality().String()
	case f.HasOptionalKeyword():
		return protoreflect.Optional.String()
	}
	return ""
}

// named compares the messages of a field: they have the same name within their packages, and the one reads the other.
func (c *comparison) named(path string, was, is protoreflect.MessageDescriptor) {
	if localName(was) != localName(is) {
		c.add("FIELD_NAMED_TYPE_CHANGED", path)
		return
	}
	if c.seen[pair{was.FullName(), is.FullName()}] {
		return
	}
	before := len(c.found)
	c.message("#/"+strings.ReplaceAll(localName(was), ".", "/"), was, is)
	if len(c.found) > before {
		c.add("FIELD_NAMED_TYPE_CHANGED", path)
	}
}

func localName(m protoreflect.MessageDescriptor) string {
	name := string(m.FullName())
	if p := string(m.ParentFile().Package()); p != "" {
		name = strings.TrimPrefix(name, p+".")
	}
	return name
}

type shape uint8

const (
	scalarShape shape = iota
	messageShape
	mapShape
)

func shapeOf(f protoreflect.FieldDescriptor) shape {
	switch {
	case f.IsMap():
		return mapShape
	case f.Message() != nil:
		return messageShape
	}
	return scalarShape
}

// encodings are kinds that read each other's bytes (Protocol Buffers, "Updating a message type").
var encodings = map[protoreflect.Kind]string{
	protoreflect.Int32Kind: "number", protoreflect.Int64Kind: "number", protoreflect.Uint32Kind: "number", protoreflect.Uint64Kind: "number",
	protoreflect.BoolKind: "number", protoreflect.EnumKind: "number",
	protoreflect.Sint32Kind: "zigzag", protoreflect.Sint64Kind: "zigzag",
	protoreflect.StringKind: "bytes", protoreflect.BytesKind: "bytes",
	protoreflect.Fixed32Kind: "fixed32", protoreflect.Sfixed32Kind: "fixed32",
	protoreflect.Fixed64Kind: "fixed64", protoreflect.Sfixed64Kind: "fixed64",
	protoreflect.FloatKind: "float", protoreflect.DoubleKind: "double",
}
