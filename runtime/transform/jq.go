package transform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/itchyny/gojq"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

// jqTime is how long a program may take for one record: one that never ends must not hold a pipeline in silence. Its memory has no other
// bound: a program that builds what is large has as much of it as it builds in that time.
const jqTime = 2 * time.Second

// jqProgram bounds a program, in bytes: what walks over it and compiles it calls itself for each level, and a megabyte of brackets is deeper than
// the stack that a process may have. jqPatterns bounds the alternatives of one destructuring (`?//`), which take their number cubed.
const (
	jqProgram  = 64 << 10
	jqPatterns = 100
)

// jqVariables are what a program knows beside its input, in the order of jq.variables.
var jqVariables = []string{"$topic", "$key", "$value", "$headers", "$timestamp", "$partition", "$offset"}

// jqForbidden are functions that would make of one record different ones at different times or places: a source that
// reads a record again must append the same.
var jqForbidden = []string{"now", "localtime", "strflocaltime", "input", "inputs", "env", "$ENV", "input_filename", "halt", "halt_error"}

var jqType = &Type{
	Name: "jq", Connect: "none of its own", keyed: true,
	Spec: spec.Spec{Doc: "Gives the value, as the JSON that a reader of the topic would see, to a jq program; what that makes is the new value, without declared types and with its fields sorted by name; a text becomes those bytes. " +
		"`empty` drops the record, null makes a tombstone, and more than one result is an error. A change event is unwrapped first; a tombstone stays one.", Fields: []spec.Field{
		{Name: "program", Required: true, Check: jqCompiles, Example: `'.total = .price * .count | del(.note)'`,
			Doc: "The program (jq 1.8, as gojq has it: numbers that are not touched keep all their digits, those that are computed with are 64-bit floats unless they are integers). It knows $topic, $key, $value, $headers, $timestamp (milliseconds), and in a sink $partition and $offset; it has no clock, files, modules, environment."}}},
	Example: "- {type: jq, program: 'select(.status != \"test\") | .total = .price * .count'}\n- {type: jq, of: key, program: '$value.customer.id | tostring'}",
	make: func(v spec.Values, _ Side) (applier, error) {
		code, uses, err := compileJQ(v.String("program"))
		if err != nil {
			return nil, err
		}
		return &jq{part: partOf(v), code: code, uses: uses}, nil
	},
}

type jq struct {
	part part
	code *gojq.Code
	uses map[string]bool // the variables that the program names
	text []byte
}

func jqCompiles(v any) error {
	_, _, err := compileJQ(v.(string)) //nolint:forcetypeassert // of a String
	return err
}

func compileJQ(program string) (*gojq.Code, map[string]bool, error) {
	if len(program) > jqProgram {
		return nil, nil, fmt.Errorf("the program has %d bytes, and %d are the most: split it between two transforms", len(program), jqProgram)
	}
	q, err := gojq.Parse(program)
	if err != nil {
		return nil, nil, fmt.Errorf("not a jq program: %w", err)
	}
	uses := map[string]bool{}
	if most := functions(reflect.ValueOf(q), func(name string) { uses[name] = true }); most > jqPatterns {
		return nil, nil, fmt.Errorf("the program has %d alternatives (?//) in a row, and %d are the most", most, jqPatterns)
	}
	for _, name := range jqForbidden {
		if uses[name] {
			return nil, nil, fmt.Errorf("the program calls %s: what becomes of a record may depend on the record alone ($timestamp is its time)", name)
		}
	}
	code, err := gojq.Compile(q, gojq.WithVariables(jqVariables))
	if err != nil {
		return nil, nil, fmt.Errorf("not a jq program: %w", err)
	}
	return code, uses, nil
}

// functions tells the name of every function and variable in a program, and the most alternatives that a destructuring has.
func functions(v reflect.Value, tell func(name string)) (most int) {
	switch v.Kind() {
	case reflect.Pointer:
		if f, ok := v.Interface().(*gojq.Func); ok && f != nil {
			tell(f.Name)
		}
		if !v.IsNil() {
			return functions(v.Elem(), tell)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				most = max(most, functions(v.Field(i), tell))
			}
		}
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[[]*gojq.Pattern]() {
			most = v.Len()
		}
		for i := range v.Len() {
			most = max(most, functions(v.Index(i), tell))
		}
	}
	return most
}

func (t *jq) apply(w *work) (bool, error) {
	if err := w.see(); err != nil {
		return false, err
	}
	r := w.r
	if r.Change != nil && (t.part == value || t.uses["$value"]) {
		return false, errChange
	}
	input, there, err := t.json(w, t.part)
	if err != nil || !there {
		return true, err
	}
	variables, err := t.variables(w)
	if err != nil {
		return false, err
	}
	out, keep, err := t.run(input, variables)
	if err != nil || !keep {
		return false, err
	}
	if out == nil {
		w.set(t.part, connectors.Datum{})
		return true, nil
	}
	if text, is := out.(string); is {
		w.setText(t.part, text)
		return true, nil
	}
	text, err := gojq.Marshal(out)
	if err != nil {
		return false, fmt.Errorf("the result is no JSON: %w", err)
	}
	return true, w.setJSON(t.part, text)
}

// run gives the program's one result; keep is false when it has none.
func (t *jq) run(input any, variables []any) (out any, keep bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), jqTime)
	defer cancel()
	results := t.code.RunWithContext(ctx, input, variables...)
	for n := 0; ; n++ {
		v, more := results.Next()
		if !more {
			return out, n > 0, nil
		}
		if err, bad := v.(error); bad {
			if errors.Is(err, context.DeadlineExceeded) {
				return nil, false, advise("mend the program: perhaps a loop without an end", "the program took longer than %s", jqTime)
			}
			return nil, false, fmt.Errorf("the program failed: %w", err)
		}
		if n > 0 {
			return nil, false, advise("put brackets round it for a list of all: `[ … ]`; or take one: `first( … )`", "the program has more than one result, and one record becomes one")
		}
		out = v
	}
}

// json is a part of the record as jq sees it; false when it has none.
func (t *jq) json(w *work, p part) (any, bool, error) {
	d, raw := w.r.Value, w.r.RawValue
	if p == key {
		d, raw = w.r.Key, w.r.RawKey
	}
	if d.Schema == nil && raw == nil || d.Schema != nil && d.Value.IsNull() {
		return nil, false, nil
	}
	// Bytes with the types in them, and texts that are no JSON, are read by what was decoded.
	if raw != nil && !typedBytes.Match(raw) {
		if v, err := jqValue(raw); err == nil {
			return v, true, nil
		}
	}
	text, err := w.encode(t.text[:0], d)
	if err != nil {
		return nil, false, err
	}
	t.text = text[:0]
	v, err := jqValue(text)
	if err != nil {
		return nil, false, fmt.Errorf("the %s cannot be read as JSON: %w", p, err)
	}
	return v, true, nil
}

// typedBytes may be the beginning of {schema, payload}.
var typedBytes = regexp.MustCompile(`^\s*{\s*"schema"\s*:`)

// jqValue reads one JSON value. Numbers stay texts until they are computed with, and lose nothing.
func jqValue(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the value")
	}
	return v, nil
}

// variables are the values of jqVariables, of those that the program names.
func (t *jq) variables(w *work) ([]any, error) {
	r := w.r
	out := make([]any, len(jqVariables))
	for i, name := range jqVariables {
		if !t.uses[name] {
			continue
		}
		var err error
		switch name {
		case "$topic":
			out[i] = r.Topic
		case "$key":
			out[i], _, err = t.json(w, key)
		case "$value":
			out[i], _, err = t.json(w, value)
		case "$headers":
			hs := map[string]any{}
			for _, h := range r.Headers { // of two with one name the last counts
				if hs[h.Key] = nil; h.Value != nil {
					hs[h.Key] = strings.ToValidUTF8(string(h.Value), "\uFFFD")
				}
			}
			out[i] = hs
		case "$timestamp":
			out[i] = int(w.at().UnixMilli())
		case "$partition", "$offset":
			if w.side == Sink {
				out[i] = int(r.Offset)
				if name == "$partition" {
					out[i] = int(r.Partition)
				}
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return out, nil
}

// setText makes a text the key or the value: its bytes, as a text that came with a record has them.
func (w *work) setText(p part, text string) {
	raw := w.b.Copy([]byte(text))
	w.setRead(p, raw, connectors.Record{Value: connectors.Datum{Schema: jqText, Value: schema.TextOf(raw)}})
}

var jqText = &schema.Schema{Kind: schema.String}

// setJSON makes JSON without declared types the key or the value.
func (w *work) setJSON(p part, text []byte) error {
	read := connectors.Record{RawValue: w.b.Copy(text)}
	err := w.decode(&read)
	if err == nil {
		w.setRead(p, read.RawValue, read)
	}
	return err
}

// setRead sets bytes, and what they say for the transforms that follow.
func (w *work) setRead(p part, raw []byte, read connectors.Record) {
	w.set(p, read.Value)
	if p == key {
		w.r.RawKey = raw
	} else {
		w.r.Change, w.r.RawValue = read.Change, raw
	}
}
