// Package migrate turns the connector configs of Kafka Connect into Forebay's YAML: `forebay migrate connect`.
//
// Nothing is dropped in silence. Each field of a config is carried, or is what Forebay does anyway, or has no effect here, or cannot be
// carried; of the last two a Finding tells, and a comment at the place in the YAML. What Forebay has is asked of the connectors' own specs: a field
// that they do not know cannot be written, and what they would refuse is left out and told.
//
// Values of fields that are not known to be harmless are never shown: they may be secrets.
package migrate

import (
	"fmt"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// Options say what a Forebay has.
type Options struct {
	Registry     connectors.Registry
	SourceCommon spec.Spec // fields that the runtime takes from every source
	SinkCommon   spec.Spec
}

// File is a file of Kafka Connect's, with its text.
type File struct {
	Name string
	Text []byte
}

// Kind says what became of a field.
type Kind uint8

const (
	Remark Kind = iota // it is carried, and there is something to know or to do
	Idle               // it has no effect here
	Left               // it cannot be carried
)

func (k Kind) String() string { return [...]string{"note", "no effect here", "not carried"}[k] }

// Finding is what is to be said of one field of a connector.
type Finding struct {
	File      string `json:"file"`
	Line      int    `json:"line"` // of the field, or of the connector
	Connector string `json:"connector"`
	Field     string `json:"field,omitempty"` // "": the whole connector
	Kind      Kind   `json:"-"`
	Message   string `json:"message"`
	Hint      string `json:"hint,omitempty"`
}

func (f Finding) String() string {
	s := fmt.Sprintf("%s:%d: %s: ", f.File, max(f.Line, 1), f.Connector)
	if f.Field != "" {
		s += f.Field + ": "
	}
	return s + f.text()
}

func (f Finding) text() string {
	s := f.Kind.String() + ": " + f.Message
	if f.Hint != "" {
		s += " (" + f.Hint + ")"
	}
	return s
}

// Result is what became of some files.
type Result struct {
	YAML     string
	Findings []Finding // in the order of the input
}

// Left counts what could not be carried.
func (r Result) Left() (n int) {
	for _, f := range r.Findings {
		if f.Kind == Left {
			n++
		}
	}
	return n
}

// Connect turns the connectors of files into one YAML. The error is of the class Input.
func Connect(files []File, o Options) (Result, error) {
	var all []connector
	for _, f := range files {
		found, err := read(f)
		if err != nil {
			return Result{}, err
		}
		all = append(all, found...)
	}
	names := map[string]bool{}
	var r Result
	var drafts []*draft
	for i := range all {
		d := newDraft(&all[i], o)
		d.name = unique(d.wanted, names)
		d.translate()
		drafts = append(drafts, d)
		r.Findings = append(r.Findings, d.findings...)
	}
	r.YAML = write(drafts)
	return r, nil
}

// unique makes a connector's name of what it should be called, and notes it in taken: sources and sinks share their names.
func unique(wanted string, taken map[string]bool) string {
	var b strings.Builder
	for _, c := range []byte(wanted) {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
		if !ok {
			c = '_'
		}
		b.WriteByte(c)
	}
	name := b.String()
	if name == "" || !(name[0]|0x20 >= 'a' && name[0]|0x20 <= 'z') {
		name = "c" + name
	}
	const longest = 56 // of 64: room for a number
	name = name[:min(len(name), longest)]
	for base, n := name, 2; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	taken[name] = true
	return name
}
