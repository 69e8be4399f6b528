package converter

import "github.com/forebayhub/forebay/connectors/schema"

// Writer writes values of one schema as JSON, as an Encoder does.
type Writer struct{ n *shape }

// NewWriter makes a Writer.
func NewWriter(s *schema.Schema) Writer { return Writer{shapeOf(s)} }

// Append appends v.
func (w Writer) Append(dst []byte, v *schema.Value) []byte { return w.n.append(dst, v) }

// AppendField appends the i-th field of a Struct's value.
func (w Writer) AppendField(dst []byte, i int, v *schema.Value) []byte {
	return w.n.fields[i].append(dst, v)
}
