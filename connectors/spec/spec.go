// Package spec holds a connector's config fields as data. One Spec yields
// parsing, linting with positions and hints, documentation (`forebay fields`)
// and the flat map of the Connect-compatible REST API, so they cannot drift apart.
package spec

import (
	"regexp"
	"slices"
)

// Type is how a field's text is read.
type Type uint8

const (
	String   Type = iota
	Secret        // a string that prints as stars everywhere
	Int           // int64
	Bool          // true | false
	Duration      // 30s, 10m, 1h30m, 7d
	Size          // bytes: 128MiB, 1GB, 4096
	Enum          // one of Field.Enum
	Strings       // a list of strings; a single string is a list of one
	Group         // a mapping with fields of its own; flat name: group.field
	Tree          // a list of mappings, which Field.Read reads; flat names: field.0.key, field.1.key
)

// Field is one key that a connector takes.
type Field struct {
	Name     string // as in YAML; of a Group's member, without the group's name
	Type     Type
	Default  string // in YAML notation; "" means the type's zero (for Strings: empty list)
	Required bool
	Enum     []string
	Doc      string  // one sentence: what it does and what it costs
	Example  string  // in YAML notation
	Fields   []Field // of a Group
	// Read, of a Tree, finds what is wrong with it. The value is the Node itself: see Values.Tree.
	Read func(n Node) []Finding
	// Check, if set, refuses a parsed value with a message that says what is
	// allowed; it sees the same value that Values returns.
	Check func(v any) error
}

// Spec is the whole of what a connector takes.
type Spec struct {
	Doc    string // one paragraph about the connector
	Fields []Field
}

// Join is s followed by the common fields. A type that says more about a common field keeps its own.
func (s Spec) Join(common Spec) Spec {
	fields := s.Fields[:len(s.Fields):len(s.Fields)]
	for _, c := range common.Fields {
		if !slices.ContainsFunc(s.Fields, func(f Field) bool { return f.Name == c.Name }) {
			fields = append(fields, c)
		}
	}
	return Spec{Doc: s.Doc, Fields: fields}
}

var validName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,63}$`)

// ValidName says whether name can be a connector's: a topic's first part, a file's name, a transactional id's part.
func ValidName(name string) bool { return validName.MatchString(name) }

// Node is config text with its place: what a YAML or a flat REST map becomes
// before a Spec reads it. Exactly one of Text, List, Map is meaningful, by Shape.
type Node struct {
	Shape Shape
	Text  string
	List  []Node
	Map   []Entry // in the order of the text
	Line  int     // 1-based; 0 when the text has no lines (REST)
	Col   int
	Flat  bool // from a flat map (REST): a list is written with commas
	// Raw is a Scalar's text as it was written, when that is not Text: references such as ${VAR} are resolved in Text.
	Raw string
	// Unresolved: a reference in Raw has no value on this machine, so Text means nothing.
	Unresolved bool
}

// Shape says which field of a Node is meaningful.
type Shape uint8

const (
	Absent Shape = iota // key present without a value
	Scalar
	List
	Mapping
)

// Entry is one key of a Mapping with its place.
type Entry struct {
	Key       string
	Line, Col int
	Value     Node
}

// Written is a Scalar's text as the user wrote it.
func (n Node) Written() string {
	if n.Raw != "" {
		return n.Raw
	}
	return n.Text
}

// Finding is one thing that is wrong, or worth saying, about a config.
type Finding struct {
	Path    string // rotate.size; "" for the whole connector
	Line    int    // 0: unknown
	Col     int
	Message string // what is wrong
	Hint    string // how to mend it; "" for none
	Warning bool   // true: runs all the same
}
