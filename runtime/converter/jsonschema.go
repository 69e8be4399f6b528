package converter

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
	"github.com/forebayhub/forebay/runtime/converter/jsonschema"
	texts "github.com/forebayhub/forebay/runtime/registry/jsonschema"
	"github.com/forebayhub/forebay/runtime/registry/tree"
)

// jsonWriter writes values of a registered JSON Schema.
type jsonWriter struct{ n *shape }

func (w jsonWriter) Append(dst []byte, v *schema.Value) ([]byte, error) {
	if err := w.n.check(v, false); err != nil {
		return dst, err
	}
	return w.n.append(dst, v), nil
}

// check says what of v its type does not allow.
func (n *shape) check(v *schema.Value, inArray bool) error {
	switch {
	case v.Kind == schema.Null && !n.s.Optional && n.s.Kind != schema.Null:
		return connect.ErrNull
	case v.Kind == schema.Unavailable:
		switch n.s.Kind {
		case schema.String, schema.Bytes, schema.Struct, schema.Map:
			return nil
		case schema.Array:
			return n.elem.check(v, true)
		case schema.Int32, schema.Int64:
			if inArray {
				return nil
			}
		}
		return connect.ErrMissing
	case len(v.List) > 0 && v.Kind != n.s.Kind:
		return connect.KindError(n.s, v)
	case v.Kind == schema.Struct && len(v.List) != len(n.fields):
		return fmt.Errorf("%d values for %d fields", len(v.List), len(n.fields))
	}
	for i := range v.List {
		of, where := n.elem, i
		switch v.Kind {
		case schema.Struct:
			if err := n.fields[i].check(&v.List[i], false); err != nil {
				return fmt.Errorf("field '%s': %w", n.s.Fields[i].Name, err)
			}
			continue
		case schema.Map:
			if where = i / 2; i%2 == 0 {
				of = n.key
			}
		}
		if err := of.check(&v.List[i], v.Kind == schema.Array); err != nil {
			return fmt.Errorf("item %d: %w", where, err)
		}
	}
	return nil
}

// jsonReader reads them.
type jsonReader struct{ n *shape }

func newJSONReader(text SchemaText) (reader, error) {
	s, err := texts.Parse(text.Text, text.named())
	if err != nil {
		return nil, err
	}
	t, defaults, err := jsonschema.TypesOf(s)
	if err != nil {
		return nil, err
	}
	n := newShape(t, true)
	n.fallBack(defaults)
	return jsonReader{n}, nil
}

// fallBack notes the defaults of types in n. One that is no value of its type is none.
func (n *shape) fallBack(defaults map[*schema.Schema]*tree.Value) {
	if n == nil || len(defaults) == 0 {
		return
	}
	for _, part := range append([]*shape{n.elem, n.key}, n.fields...) {
		part.fallBack(defaults)
	}
	if d := defaults[n.s]; d != nil {
		p := parser{b: []byte(d.String()), m: &schema.Slab{}}
		if v, err := p.value(n); err == nil {
			n.fallback = &v
		}
	}
}

var errRequired = errors.New("null or missing, and its schema neither allows that nor has a default")

// absent is what null stands for.
func (n *shape) absent() (schema.Value, error) {
	switch {
	case !n.strict || n.s.Optional:
		return schema.Value{}, nil
	case n.fallback != nil:
		return *n.fallback, nil
	}
	return schema.Value{}, errRequired
}

// complete fills in the fields that are not there.
func (n *shape) complete(list []schema.Value) (err error) {
	if !n.strict {
		return nil
	}
	for i := range list {
		if list[i].IsNull() {
			if list[i], err = n.fields[i].absent(); err != nil {
				return fmt.Errorf("field '%s': %w", n.s.Fields[i].Name, err)
			}
		}
	}
	return nil
}

func (r jsonReader) Schema() *schema.Schema { return r.n.s }

func (r jsonReader) Read(b []byte, m *schema.Slab) (schema.Value, error) {
	p := parser{b: b, m: m}
	v, err := p.value(r.n)
	if err == nil {
		err = p.end()
	}
	if err == nil && p.skipped && !json.Valid(b) { // what was passed over was not looked at
		err = errJSON
	}
	return v, err
}

// loose reads what a JSON Schema allows and Connect's JSON does not have; ok is false when n is nothing of that.
func (p *parser) loose(n *shape) (v schema.Value, ok bool, err error) {
	c := p.peek()
	switch {
	case n.s == jsonschema.Anything:
		start := p.i
		if err = p.skip(); err == nil {
			v = schema.TextOf(p.b[start:p.i:p.i])
		}
		return v, true, err
	case n.s.Name == jsonschema.OneOf && n.s.Kind == schema.Struct:
		v, err = p.oneOf(n)
		return v, true, err
	case n.s.Kind == schema.Struct && strings.HasPrefix(n.s.Name, "io.debezium.data.") && c == '{': // one value: not sent when a member of it was not
		v, err = p.object(n)
		for i := range v.List {
			if v.List[i].Kind == schema.Unavailable {
				v = schema.Missing
				break
			}
		}
		return v, true, err
	}
	return v, false, nil
}

// oneOf is a struct of which the member is not null whose type the value has, the first of several.
func (p *parser) oneOf(n *shape) (schema.Value, error) {
	for i, f := range n.fields {
		fits, err := p.fits(f)
		if err != nil {
			return schema.Value{}, err
		}
		if fits {
			list := p.m.Values(len(n.fields))
			list[i], err = p.value(f)
			return schema.StructOf(list...), err
		}
	}
	return schema.Value{}, p.bad("none of the types that the schema has for it")
}

// fits says whether the value that comes may be of a type, as JsonSchemaData looks at it.
func (p *parser) fits(n *shape) (bool, error) {
	c := p.peek()
	number := c == '-' || c >= '0' && c <= '9'
	look := parser{b: p.b, i: p.i, m: p.m, depth: p.depth}
	switch n.s.Kind {
	case schema.Bool:
		return c == 't' || c == 'f', nil
	case schema.Int16, schema.Int32, schema.Int64:
		if !number {
			return false, nil
		}
		text, err := look.number()
		return err == nil && !strings.ContainsAny(string(text), ".eE"), err
	case schema.Float32, schema.Float64:
		return number, nil
	case schema.Bytes:
		return c == '"' || number && n.s.Name == connect.Decimal, nil
	case schema.Array:
		return c == '[', nil
	case schema.Map:
		return c == '{' || c == '[', nil
	case schema.Struct:
		if n.s.Name == jsonschema.OneOf {
			for _, f := range n.fields {
				if fits, err := p.fits(f); fits || err != nil {
					return fits, err
				}
			}
			return false, nil
		}
		if c != '{' {
			return false, nil
		}
		known := true
		err := look.members(func(name []byte) error {
			known = known && n.places.Find(n.s.Fields, string(name)) >= 0
			return look.skip()
		})
		return known, err
	}
	return c == '"', nil
}

// entry reads a pair of a map whose keys are no strings.
func (p *parser) entry(n *shape) (k, v schema.Value, err error) {
	err = p.members(func(name []byte) (err error) {
		switch string(name) {
		case "key":
			k, err = p.value(n.key)
		case "value":
			v, err = p.value(n.elem)
		default:
			err = p.skip()
		}
		return err
	})
	if err == nil && k.IsNull() {
		k, err = n.key.absent()
	}
	if err == nil && v.IsNull() {
		v, err = n.elem.absent()
	}
	return k, v, err
}

// appendMissing writes what stands for a value that was not sent where a schema says the type.
func (n *shape) appendMissing(dst []byte, inArray bool) []byte {
	switch n.s.Kind {
	case schema.Bytes:
		return append(append(append(dst, '"'), unavailableBase64...), '"')
	case schema.Int32, schema.Int64:
		if inArray {
			return strconv.AppendInt(dst, int64(connect.PlaceholderNumber), 10)
		}
	case schema.Array:
		return append(n.elem.appendMissing(append(dst, '['), true), ']')
	case schema.Map:
		k := schema.TextOf([]byte(unavailable))
		return n.append(dst, &schema.Value{Kind: schema.Map, List: []schema.Value{k, schema.Missing}})
	case schema.Struct:
		v := schema.Value{Kind: schema.Struct}
		said := false
		for _, f := range n.s.Fields {
			if k := f.Schema.Kind; !said && (k == schema.String || k == schema.Bytes) {
				said = true
				v.List = append(v.List, schema.Missing)
				continue
			}
			v.List = append(v.List, nothing(f.Schema))
		}
		return n.append(dst, &v)
	}
	return append(append(append(dst, '"'), unavailable...), '"')
}

// nothing is a value that says nothing: null, 0, "".
func nothing(s *schema.Schema) schema.Value {
	v := schema.Value{Kind: s.Kind}
	if s.Optional {
		return schema.Value{}
	}
	for _, f := range s.Fields {
		v.List = append(v.List, nothing(f.Schema))
	}
	return v
}

// schemaFor is the text of a JSON Schema for s, as it follows on a subject's newest one.
func (f Format) schemaFor(subject string, s *schema.Schema) (SchemaText, error) {
	latest, err := f.newest(subject, jsonType)
	if err != nil {
		return latest, err
	}
	out := SchemaText{Type: jsonType}
	if latest.Text == "" {
		out.Text = jsonschema.SchemaOf(s, nil).String()
		return out, nil
	}
	was, err := texts.Parse(latest.Text, latest.named())
	if err != nil {
		return out, unreadable(subject, err)
	}
	out.Text = jsonschema.SchemaOf(s, jsonschema.Inlined(was)).String()
	return out, nil
}
