// Package tree is JSON as it was written: the members of an object in their order, numbers by their digits. Schemas are texts that
// people and programs compare, so a registry must not shuffle them.
//
// A Value is never changed after it was parsed and may be used concurrently.
package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Kind is what a Value is.
type Kind int

// The kinds of JSON's values.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

func (k Kind) String() string {
	return [...]string{"null", "boolean", "number", "string", "array", "object"}[k]
}

// Value is one JSON value.
type Value struct {
	Kind    Kind
	True    bool     // of a Bool
	Text    string   // of a String; the digits of a Number
	Items   []*Value // of an Array
	Members []Member // of an Object, in the order of the text; a name comes once

	at map[string]int // where the members of a large Object are; nil for others
}

// Member is a name and its value.
type Member struct {
	Name  string
	Value *Value
}

// MaxDepth is how deep values may lie in each other: whoever walks a Value may recurse.
const MaxDepth = 256

// large is how many members make it worth to keep an index of them.
const large = 64

// Parse reads one value; anything but space behind it is an error. Of two members of one name the last counts, as in Jackson.
func Parse(text []byte) (*Value, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := value(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is more behind the JSON value")
	}
	return v, nil
}

func value(d *json.Decoder, depth int) (*Value, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("more than %d levels deep", MaxDepth)
	}
	t, err := d.Token()
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch t := t.(type) {
	case bool:
		return &Value{Kind: Bool, True: t}, nil
	case json.Number:
		return &Value{Kind: Number, Text: t.String()}, nil
	case string:
		return &Value{Kind: String, Text: t}, nil
	case json.Delim:
		if t == '[' {
			return array(d, depth)
		}
		return object(d, depth)
	}
	return &Value{Kind: Null}, nil
}

func array(d *json.Decoder, depth int) (*Value, error) {
	v := &Value{Kind: Array}
	for d.More() {
		item, err := value(d, depth+1)
		if err != nil {
			return nil, err
		}
		v.Items = append(v.Items, item)
	}
	_, err := d.Token()
	return v, err
}

func object(d *json.Decoder, depth int) (*Value, error) {
	v := &Value{Kind: Object}
	at := map[string]int{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := Member{Name: name.(string)} // the decoder gives nothing else here
		if m.Value, err = value(d, depth+1); err != nil {
			return nil, err
		}
		if i, twice := at[m.Name]; twice {
			v.Members[i] = m
			continue
		}
		at[m.Name] = len(v.Members)
		v.Members = append(v.Members, m)
	}
	if len(v.Members) > large {
		v.at = at
	}
	_, err := d.Token()
	return v, err
}

// Get is a member's value; nil when v is no object or has none of that name.
func (v *Value) Get(name string) *Value {
	if v == nil || v.Kind != Object {
		return nil
	}
	if v.at != nil {
		if i, there := v.at[name]; there {
			return v.Members[i].Value
		}
		return nil
	}
	for i := range v.Members {
		if v.Members[i].Name == name {
			return v.Members[i].Value
		}
	}
	return nil
}

// Is says whether v is there and of a kind.
func (v *Value) Is(k Kind) bool { return v != nil && v.Kind == k }

// Str is the text of a String, "" for anything else.
func (v *Value) Str() string {
	if v.Is(String) {
		return v.Text
	}
	return ""
}

// String is the value without space, members in their order.
func (v *Value) String() string { return string(v.append(nil, false)) }

// Sorted is the value without space, members by their names.
func (v *Value) Sorted() string { return string(v.append(nil, true)) }

func (v *Value) append(b []byte, sorted bool) []byte {
	switch v.Kind {
	case Bool:
		if v.True {
			return append(b, "true"...)
		}
		return append(b, "false"...)
	case Number:
		return append(b, v.Text...)
	case String:
		return AppendString(b, v.Text)
	case Array:
		b = append(b, '[')
		for i, item := range v.Items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.append(b, sorted)
		}
		return append(b, ']')
	case Object:
		members := v.Members
		if sorted {
			members = slices.Clone(members)
			slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
		}
		b = append(b, '{')
		for i, m := range members {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendString(b, m.Name)
			b = append(b, ':')
			b = m.Value.append(b, sorted)
		}
		return append(b, '}')
	}
	return append(b, "null"...)
}

// AppendString appends a string as Jackson writes it: only what JSON demands is escaped.
func AppendString(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= ' ':
			b = append(b, c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\t':
			b = append(b, '\\', 't')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\b':
			b = append(b, '\\', 'b')
		case c == '\f':
			b = append(b, '\\', 'f')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(b, '"')
}
