// Package schema holds typed values and the types that describe them: what a
// source reads from a database column, what a converter writes to the log, and
// what a sink stores, all see the same pair (Schema, Value).
//
// The kinds and the semantic names are Kafka Connect's (org.apache.kafka.connect.data),
// so that a Debezium change event keeps its meaning field for field.
//
// A Schema is immutable once shared. A Value that holds bytes borrows them from
// whoever made it; in a connectors.Batch that is the batch's own memory, valid
// until the batch is reset.
package schema

// Kind is the physical type of a value, as in Connect's Schema.Type.
type Kind uint8

// Null is the kind of an absent value; Unavailable marks a column that the
// database did not send although it has a value (PostgreSQL's unchanged TOAST).
const (
	Null Kind = iota
	Bool
	Int16
	Int32
	Int64
	Float32
	Float64
	String
	Bytes
	Struct // Value.List holds one value per Schema.Fields entry, in order
	Array  // Value.List holds the elements
	Map    // Value.List holds key, value, key, value, …
	Unavailable
)

// Schema describes a value. The zero Schema describes only null.
type Schema struct {
	Kind     Kind
	Name     string            // semantic name, e.g. io.debezium.time.MicroTimestamp; "" for none
	Version  int               // of the semantic name; 0 when there is none
	Optional bool              // null is a legal value
	Doc      string            // for people
	Params   map[string]string // of the semantic name: scale, length, allowed
	Fields   []Field           // of a Struct
	Elem     *Schema           // of an Array, or a Map's values
	Key      *Schema           // of a Map's keys
}

// Field is one member of a Struct.
type Field struct {
	Name   string
	Schema *Schema
}

// FieldIndex returns the place of the field called name, or -1.
func (s *Schema) FieldIndex(name string) int {
	for i := range s.Fields {
		if s.Fields[i].Name == name {
			return i
		}
	}
	return -1
}
