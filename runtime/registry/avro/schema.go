// Package avro is Avro's schemas for a registry: parsed, written as Avro's Java library writes them, and compared by the rules of schema resolution
// (https://avro.apache.org/docs/1.12.0/specification/#schema-resolution, org.apache.avro.SchemaCompatibility).
//
// It has no codec. A Schema is never changed after it was parsed and may be used concurrently.
package avro

import (
	"strconv"

	"github.com/forebayhub/forebay/runtime/registry/tree"
)

// Type is a kind of schema, by its name in Avro.
type Type string

// The complex types; the others are in primitives.
const (
	Record Type = "record"
	Error  Type = "error" // a record in all but name
	Enum   Type = "enum"
	Fixed  Type = "fixed"
	Array  Type = "array"
	Map    Type = "map"
	Union  Type = "union"
)

var primitives = []Type{"null", "boolean", "int", "long", "float", "double", "bytes", "string"}

// Schema is one schema. A named one is one pointer wherever it is named, so a recursive schema is a ring.
type Schema struct {
	Type    Type
	Name    Name          // of a record, an enum, a fixed
	Aliases []Name        // of a named one
	Doc     *string       // of a named one
	Fields  []Field       // of a record
	Symbols []string      // of an enum
	Default *string       // of an enum: what an unknown symbol is read as; nil for none
	Size    int           // of a fixed, in bytes
	Of      *Schema       // an array's items, a map's values
	Types   []*Schema     // of a union
	Props   []tree.Member // everything else that was written, logical types among it
}

// Field is a field of a record.
type Field struct {
	Name    string
	Aliases []string
	Doc     *string
	Type    *Schema
	Default *tree.Value // nil: none
	Order   string      // "": ascending
	Props   []tree.Member
}

// Name is a full name: a space, "" for none, and a name in it.
type Name struct{ Space, Name string }

func (n Name) String() string {
	if n.Space == "" {
		return n.Name
	}
	return n.Space + "." + n.Name
}

// in is the name as it is written where a space is in force.
func (n Name) in(space string) string {
	if n.Space == "" || n.Space == space {
		return n.Name
	}
	return n.String()
}

func (s *Schema) named() bool {
	return s.record() || s.Type == Enum || s.Type == Fixed
}

func (s *Schema) record() bool { return s.Type == Record || s.Type == Error }

// kind is the name by which a branch of a union is told from another.
func (s *Schema) kind() string {
	if s.named() {
		return s.Name.String()
	}
	return string(s.Type)
}

// Canonical is the schema as Java's Schema.toString writes it: everything that it says, without space. Names in known are written as names only.
func (s *Schema) Canonical(known map[string]*Schema) string {
	w := writer{written: map[string]*Schema{}}
	for name, k := range known {
		w.written[name] = k
	}
	w.schema(s, "")
	return string(w.b)
}

type writer struct {
	b       []byte
	written map[string]*Schema
}

func (w *writer) str(s string)    { w.b = tree.AppendString(w.b, s) }
func (w *writer) lit(s string)    { w.b = append(w.b, s...) }
func (w *writer) key(name string) { w.lit(","); w.str(name); w.lit(":") }

func (w *writer) props(props []tree.Member) {
	for _, p := range props {
		w.key(p.Name)
		w.lit(p.Value.String())
	}
}

func (w *writer) strings(all []string) {
	w.lit("[")
	for i, s := range all {
		if i > 0 {
			w.lit(",")
		}
		w.str(s)
	}
	w.lit("]")
}

func (w *writer) schema(s *Schema, space string) {
	switch {
	case s.Type == Union:
		w.lit("[")
		for i, t := range s.Types {
			if i > 0 {
				w.lit(",")
			}
			w.schema(t, space)
		}
		w.lit("]")
	case s.named():
		if w.written[s.Name.String()] == s {
			w.str(s.Name.in(space))
			return
		}
		w.written[s.Name.String()] = s
		w.definition(s, space)
	case s.Type == Array || s.Type == Map:
		w.lit(`{"type":`)
		w.str(string(s.Type))
		if s.Type == Array {
			w.key("items")
		} else {
			w.key("values")
		}
		w.schema(s.Of, space)
		w.props(s.Props)
		w.lit("}")
	case len(s.Props) == 0:
		w.str(string(s.Type))
	default:
		w.lit(`{"type":`)
		w.str(string(s.Type))
		w.props(s.Props)
		w.lit("}")
	}
}

func (w *writer) definition(s *Schema, space string) {
	w.lit(`{"type":`)
	w.str(string(s.Type))
	w.key("name")
	w.str(s.Name.Name)
	if s.Name.Space != space {
		w.key("namespace")
		w.str(s.Name.Space)
	}
	if s.Doc != nil {
		w.key("doc")
		w.str(*s.Doc)
	}
	switch s.Type {
	case Enum:
		w.key("symbols")
		w.strings(s.Symbols)
		if s.Default != nil {
			w.key("default")
			w.str(*s.Default)
		}
	case Fixed:
		w.key("size")
		w.lit(strconv.Itoa(s.Size))
	default:
		w.key("fields")
		w.lit("[")
		for i := range s.Fields {
			if i > 0 {
				w.lit(",")
			}
			w.field(&s.Fields[i], s.Name.Space)
		}
		w.lit("]")
	}
	w.props(s.Props)
	if len(s.Aliases) > 0 {
		var names []string
		for _, a := range s.Aliases {
			names = append(names, a.in(s.Name.Space))
		}
		w.key("aliases")
		w.strings(names)
	}
	w.lit("}")
}

func (w *writer) field(f *Field, space string) {
	w.lit(`{"name":`)
	w.str(f.Name)
	w.key("type")
	w.schema(f.Type, space)
	if f.Doc != nil {
		w.key("doc")
		w.str(*f.Doc)
	}
	if f.Default != nil {
		w.key("default")
		w.lit(f.Default.String())
	}
	if f.Order != "" {
		w.key("order")
		w.str(f.Order)
	}
	if len(f.Aliases) > 0 {
		w.key("aliases")
		w.strings(f.Aliases)
	}
	w.props(f.Props)
	w.lit("}")
}
