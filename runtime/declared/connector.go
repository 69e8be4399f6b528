// Package declared keeps which connectors a worker group should run, in the compacted topic
// _forebay.configs: one record holds a group's whole set, so that a change of many connectors is one
// atomic step with one version. Every worker follows the topic. docs/formats/configs.md has the format.
//
// Values are stored as they were written: ${VAR} and ${file:PATH} are resolved by each worker at its
// place, so that no secret needs to be stored in clear.
package declared

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/reference"
)

// Connector is one declared connector.
type Connector struct {
	Name   string           `json:"name"`
	Kind   Kind             `json:"kind"`
	Type   string           `json:"type"`
	Fields map[string]Value `json:"fields"` // by flat name: rotate.size
	State  State            `json:"state,omitempty"`
	// Written are settings of Kafka Connect's flat map that Fields do not give back as they came: those that mean nothing here, and the text of a list. Tools that declare
	// connectors compare what they find with it; what runs does not know them.
	Written map[string]string `json:"written,omitempty"`
}

// State is what a connector shall be doing; Kafka Connect calls it its target state.
type State string

const (
	Running State = "" // what all did before there were states
	Paused  State = "PAUSED"
	Stopped State = "STOPPED"
)

// Same says whether two declarations say the same of what runs; whether it does is their State's matter.
func (c Connector) Same(o Connector) bool {
	return c.Name == o.Name && c.Kind == o.Kind && c.Type == o.Type && maps.EqualFunc(c.Fields, o.Fields, Value.equal)
}

// Place is where a declared connector runs.
type Place struct {
	Connector
	Here bool   // in this process
	HTTP string // the REST API of the worker that should run it; "": unknown
	// Parts are the REST APIs of the other workers that run a part of it, if it is bound to its host. Else there are none.
	Parts []string
}

// Kind says which way a connector's records flow.
type Kind string

const (
	Source Kind = "source"
	Sink   Kind = "sink"
)

// Value is a field's text as it was written, or the texts of a list.
type Value struct {
	Text string
	List []string // not nil: a list, and Text means nothing
}

// MarshalJSON writes a string or an array of strings.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.List != nil {
		return json.Marshal(v.List)
	}
	return json.Marshal(v.Text)
}

// UnmarshalJSON reads what MarshalJSON writes, and nothing else.
func (v *Value) UnmarshalJSON(text []byte) error {
	*v = Value{}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		v.List = []string{}
		return json.Unmarshal(text, &v.List)
	}
	if bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
		return errors.New("a value is a string or an array of strings")
	}
	return json.Unmarshal(text, &v.Text)
}

func (v Value) equal(o Value) bool {
	return v.Text == o.Text && (v.List == nil) == (o.List == nil) && slices.Equal(v.List, o.List)
}

// String is the value as YAML would have it, near enough for people.
func (v Value) String() string {
	if v.List == nil {
		return v.Text
	}
	return "[" + strings.Join(v.List, ", ") + "]"
}

// Types are what can be declared, with the fields that the runtime takes from each.
type Types struct {
	Registry                 connectors.Registry
	SourceCommon, SinkCommon spec.Spec
}

// Spec is the fields of a type; false when there is no such type.
func (t Types) Spec(kind Kind, typ string) (spec.Spec, bool) {
	if kind == Sink {
		for _, s := range t.Registry.Sinks {
			if s.Name == typ {
				return s.Spec.Join(t.SinkCommon), true
			}
		}
		return spec.Spec{}, false
	}
	for _, s := range t.Registry.Sources {
		if s.Name == typ {
			return s.Spec.Join(t.SourceCommon), true
		}
	}
	return spec.Spec{}, false
}

// make tries the connector's constructor, which does no I/O.
func (t Types) make(c Connector, v spec.Values) error {
	env := connectors.Env{Name: c.Name, Group: "check", Logger: slog.New(slog.DiscardHandler)}
	if c.Kind == Sink {
		for _, s := range t.Registry.Sinks {
			if s.Name == c.Type {
				_, err := s.New(v, env)
				return err
			}
		}
	}
	for _, s := range t.Registry.Sources {
		if s.Name == c.Type {
			_, err := s.New(v, env)
			return err
		}
	}
	return nil
}

// Fields flattens a connector's mapping, as YAML or a flat map of REST has it; keys in ignore are left out.
func (t Types) Fields(kind Kind, typ string, n spec.Node, ignore ...string) map[string]Value {
	s, _ := t.Spec(kind, typ) // of an unknown type every field is a string
	lists := map[string]bool{}
	for _, f := range s.Docs() {
		lists[f.Name] = f.Type == spec.Strings.String()
	}
	out := map[string]Value{}
	flatten("", n, lists, out)
	for _, k := range ignore {
		delete(out, k)
	}
	return out
}

func flatten(prefix string, n spec.Node, lists map[string]bool, out map[string]Value) {
	for _, e := range n.Map {
		name := prefix + e.Key
		switch {
		case e.Value.Shape == spec.Mapping:
			flatten(name+".", e.Value, lists, out)
		case e.Value.OfMappings():
			for i, item := range e.Value.List {
				flatten(name+"."+strconv.Itoa(i)+".", item, lists, out)
			}
		case e.Value.Shape == spec.List:
			list := []string{}
			for _, item := range e.Value.List {
				list = append(list, item.Written())
			}
			out[name] = Value{List: list}
		case e.Value.Shape == spec.Scalar && lists[name] && e.Value.Flat:
			out[name] = Value{List: append([]string{}, spec.SplitList(e.Value.Written())...)}
		case e.Value.Shape == spec.Scalar && lists[name]:
			out[name] = Value{List: []string{e.Value.Written()}}
		case e.Value.Shape == spec.Scalar:
			out[name] = Value{Text: e.Value.Written()}
		}
	}
}

// Resolved is a connector as one machine runs it.
type Resolved struct {
	Values  spec.Values
	Written spec.Node // its references unresolved
}

// Resolve reads a connector's fields, with this machine's variables and files. A nil getenv is os.LookupEnv.
// Written is right even when there is an error.
func (t Types) Resolve(c Connector, getenv func(string) (string, bool)) (Resolved, error) {
	out := Resolved{Written: c.node(func(_, text string) spec.Node { return spec.Node{Shape: spec.Scalar, Text: text} })}
	s, ok := t.Spec(c.Kind, c.Type)
	if !ok {
		return out, fmt.Errorf("this version knows no %s type '%s'", c.Kind, c.Type)
	}
	var troubles []string
	n := c.node(func(_, text string) spec.Node {
		resolved, problems := reference.Expand(text, getenv)
		for _, p := range problems {
			troubles = append(troubles, withHint(p.Message, p.Hint))
		}
		return spec.Node{Shape: spec.Scalar, Text: resolved, Raw: text, Unresolved: len(problems) > 0}
	})
	values, findings := s.Parse(n)
	for _, f := range findings {
		if !f.Warning {
			troubles = append(troubles, withHint(f.Message, f.Hint))
		}
	}
	if troubles != nil {
		return out, errors.New(strings.Join(troubles, "; "))
	}
	out.Values = values
	return out, nil
}

func withHint(message, hint string) string {
	if hint == "" {
		return message
	}
	return message + " (" + hint + ")"
}

// node is the connector's mapping, in the order of the names.
func (c Connector) node(scalar func(field, text string) spec.Node) spec.Node {
	out := spec.Node{Shape: spec.Mapping}
	for _, name := range slices.Sorted(maps.Keys(c.Fields)) {
		v := c.Fields[name]
		n := spec.Node{Shape: spec.List}
		if v.List == nil {
			n = scalar(name, v.Text)
			n.Flat = spec.InTree(name) // whether it is a list there, only the item's own fields say
		} else {
			for _, text := range v.List {
				n.List = append(n.List, scalar(name, text))
			}
		}
		out.Map = append(out.Map, spec.Entry{Key: name, Value: n})
	}
	return out
}

// ErrInvalid says that a declaration could run nowhere.
var ErrInvalid = errors.New("the declaration is wrong")

// Check refuses what no machine could run. What a reference that has no value here stands for is not checked.
func (t Types) Check(c Connector) error {
	who := fmt.Sprintf("%s '%s' (%s)", c.Kind, c.Name, c.Type)
	if !spec.ValidName(c.Name) {
		return fmt.Errorf("%w: '%s' cannot be a connector's name: letters, digits, _ and -, at most 64, a letter first", ErrInvalid, c.Name)
	}
	if c.State != Running && c.State != Paused && c.State != Stopped {
		return fmt.Errorf("%w: %s: '%s' is no state: PAUSED, STOPPED, or none, which is running", ErrInvalid, who, c.State)
	}
	if c.Kind != Source && c.Kind != Sink {
		return fmt.Errorf("%w: '%s' is neither a source nor a sink but '%s'", ErrInvalid, c.Name, c.Kind)
	}
	s, ok := t.Spec(c.Kind, c.Type)
	if !ok {
		hint := "GET /connector-plugins lists them"
		if strings.Contains(c.Type, ".") {
			hint = "this is the class of a connector of Kafka Connect: `forebay migrate connect` makes a config for here of its config"
		}
		return fmt.Errorf("%w: %s: no such type (%s)", ErrInvalid, who, hint)
	}
	var troubles []string
	for _, f := range t.findings(s, c) {
		troubles = append(troubles, withHint(f.Message, f.Hint))
	}
	if troubles != nil {
		return fmt.Errorf("%w: %s: %s", ErrInvalid, who, strings.Join(troubles, "; "))
	}
	return nil
}

// Findings are what is wrong with a connector's fields, wherever it would run. False: there is no such type.
func (t Types) Findings(c Connector) ([]spec.Finding, bool) {
	s, ok := t.Spec(c.Kind, c.Type)
	if !ok {
		return nil, false
	}
	return t.findings(s, c), true
}

func (t Types) findings(s spec.Spec, c Connector) (out []spec.Finding) {
	elsewhere := false
	n := c.node(func(field, text string) spec.Node {
		resolved, problems := reference.Expand(text, nil)
		n := spec.Node{Shape: spec.Scalar, Text: resolved}
		for _, p := range problems {
			if !p.Here {
				out = append(out, spec.Finding{Path: field, Message: p.Message, Hint: p.Hint})
			}
			n.Unresolved, elsewhere = true, true
		}
		return n
	})
	values, found := s.Parse(n)
	for _, f := range found {
		if !f.Warning {
			out = append(out, f)
		}
	}
	if out == nil && !elsewhere {
		if err := t.make(c, values); err != nil {
			out = append(out, spec.Finding{Message: err.Error()})
		}
	}
	return out
}

// secret says which of a connector's values must print as stars. Of a type that this version does not know
// everything is.
func (t Types) secret(c Connector) func(field string) bool {
	s, ok := t.Spec(c.Kind, c.Type)
	if !ok {
		return func(string) bool { return true }
	}
	secret := map[string]bool{}
	for _, f := range s.Docs() {
		secret[f.Name] = f.Type == spec.Secret.String()
	}
	return func(field string) bool { return secret[field] }
}

// Flat is a connector as Kafka Connect's config map has it, secrets as stars.
func (t Types) Flat(c Connector) map[string]string {
	secret := t.secret(c)
	out := map[string]string{"name": c.Name, "connector.class": c.Type}
	for name, v := range c.Fields {
		out[name] = show(v, secret(name))
		if v.List != nil && !secret(name) {
			out[name] = strings.Join(v.List, ",")
		}
	}
	for name, text := range c.Written {
		if v, given := c.Fields[name]; !given || v.List != nil && slices.Equal(v.List, spec.SplitList(text)) {
			out[name] = text
		}
	}
	return out
}

// show is a value as it may be printed: of a secret only a bare reference, which says where it is.
func show(v Value, secret bool) string {
	if secret && !reference.Pure(v.String()) {
		return spec.SecretText("").String()
	}
	return v.String()
}
