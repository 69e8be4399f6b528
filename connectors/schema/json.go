package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// kindNames are the type names of Connect's JSON schema form (JsonSchema.java).
var kindNames = [...]string{Null: "null", Bool: "boolean", Int16: "int16", Int32: "int32", Int64: "int64", Float32: "float",
	Float64: "double", String: "string", Bytes: "bytes", Struct: "struct", Array: "array", Map: "map", Unavailable: "unavailable"}

// String is the kind's name in Connect's JSON schema form.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// AppendJSON appends s as Connect's JsonConverter writes a schema. The text is
// canonical: equal schemas give equal text.
func (s *Schema) AppendJSON(dst []byte) []byte { return s.appendJSON(dst, "") }

func (s *Schema) appendJSON(dst []byte, field string) []byte {
	if s == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, `{"type":"`...)
	dst = append(append(dst, s.Kind.String()...), '"')
	switch s.Kind {
	case Struct:
		dst = append(dst, `,"fields":[`...)
		for i := range s.Fields {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = s.Fields[i].Schema.appendJSON(dst, s.Fields[i].Name)
		}
		dst = append(dst, ']')
	case Array:
		dst = s.Elem.appendJSON(append(dst, `,"items":`...), "")
	case Map:
		dst = s.Key.appendJSON(append(dst, `,"keys":`...), "")
		dst = s.Elem.appendJSON(append(dst, `,"values":`...), "")
	}
	dst = strconv.AppendBool(append(dst, `,"optional":`...), s.Optional)
	if s.Name != "" {
		dst = AppendQuoted(append(dst, `,"name":`...), []byte(s.Name))
	}
	if s.Version != 0 {
		dst = strconv.AppendInt(append(dst, `,"version":`...), int64(s.Version), 10)
	}
	if s.Doc != "" {
		dst = AppendQuoted(append(dst, `,"doc":`...), []byte(s.Doc))
	}
	if len(s.Params) > 0 {
		dst = append(dst, `,"parameters":{`...)
		for i, k := range slices.Sorted(maps.Keys(s.Params)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(AppendQuoted(dst, []byte(k)), ':')
			dst = AppendQuoted(dst, []byte(s.Params[k]))
		}
		dst = append(dst, '}')
	}
	if field != "" {
		dst = AppendQuoted(append(dst, `,"field":`...), []byte(field))
	}
	return append(dst, '}')
}

// MaxDepth bounds the nesting of a schema that is read.
const MaxDepth = 64

type jsonSchema struct {
	Type     string            `json:"type"`
	Fields   []json.RawMessage `json:"fields"`
	Items    json.RawMessage   `json:"items"`
	Keys     json.RawMessage   `json:"keys"`
	Values   json.RawMessage   `json:"values"`
	Optional bool              `json:"optional"`
	Name     string            `json:"name"`
	Version  int               `json:"version"`
	Doc      string            `json:"doc"`
	Params   map[string]string `json:"parameters"`
	Field    string            `json:"field"`
}

// ParseJSON reads what AppendJSON wrote, and what Connect's JsonConverter writes; "null" gives nil.
func ParseJSON(text []byte) (*Schema, error) {
	s, _, err := parseJSON(text, 0)
	return s, err
}

func parseJSON(text []byte, depth int) (*Schema, string, error) {
	if depth > MaxDepth {
		return nil, "", fmt.Errorf("schema is nested deeper than %d", MaxDepth)
	}
	if len(text) == 0 || string(text) == "null" {
		return nil, "", nil
	}
	var j jsonSchema
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, "", fmt.Errorf("schema: %w", err)
	}
	s := &Schema{Optional: j.Optional, Name: j.Name, Version: j.Version, Doc: j.Doc, Params: j.Params}
	kind := slices.Index(kindNames[:], j.Type)
	if j.Type == "int8" {
		kind = int(Int16)
	}
	if kind < 0 || kind == int(Unavailable) {
		return nil, "", fmt.Errorf("schema: unknown type %q", j.Type)
	}
	s.Kind = Kind(kind)
	var err error
	switch s.Kind {
	case Struct:
		s.Fields = make([]Field, 0, len(j.Fields))
		for _, raw := range j.Fields {
			child, name, err := parseJSON(raw, depth+1)
			if err != nil {
				return nil, "", err
			}
			if child == nil {
				return nil, "", fmt.Errorf("schema: field %q has no type", name)
			}
			s.Fields = append(s.Fields, Field{Name: name, Schema: child})
		}
	case Array:
		s.Elem, _, err = parseJSON(j.Items, depth+1)
	case Map:
		if s.Key, _, err = parseJSON(j.Keys, depth+1); err == nil {
			s.Elem, _, err = parseJSON(j.Values, depth+1)
		}
	}
	if err == nil && (s.Kind == Array || s.Kind == Map) && s.Elem == nil || s.Kind == Map && s.Key == nil && err == nil {
		err = fmt.Errorf("schema: %s without the type of its elements", s.Kind)
	}
	if err != nil {
		return nil, "", err
	}
	return s, j.Field, nil
}

const hexDigits = "0123456789abcdef"

// AppendQuoted appends text as a JSON string. Bytes that are not UTF-8 become
// U+FFFD, since a JSON text is UTF-8 (RFC 8259 §8.1).
func AppendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if plain[c] {
			i++
			continue
		}
		if c >= 0x80 {
			n := utf8Len(text[i:])
			if n > 0 {
				i += n
				continue
			}
			dst = append(append(dst, text[start:i]...), "\ufffd"...)
			i++
			start = i
			continue
		}
		dst = append(dst, text[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, text[start:]...), '"')
}

// plain marks the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()
