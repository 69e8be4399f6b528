package transform

import (
	"slices"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

var headerType = &Type{
	Name: "header", Connect: "InsertHeader, HeaderFrom",
	Spec: spec.Spec{Doc: "Adds a header with a text of its own, or with a field of the value. One of the same name stays beside it, as in Kafka.", Fields: []spec.Field{
		{Name: "name", Required: true, Check: ownHeader, Doc: "The header's name.", Example: "tenant"},
		{Name: "value", Doc: "Its text."},
		{Name: "field", Doc: "Or the field of the value whose text it gets, by name or by a path with dots; without the field, or with null, no header."}}},
	Example: "- {type: header, name: region, value: eu}\n- {type: header, name: tenant, field: customer.tenant}",
	make: func(v spec.Values, _ Side) (applier, error) {
		if v.Given("value") == v.Given("field") {
			return nil, advise("", "give one of `value` and `field`")
		}
		return &header{name: v.String("name"), value: []byte(v.String("value")), field: v.String("field")}, nil
	},
}

func ownHeader(v any) error {
	if v == "forebay.schema" {
		return advise("", "the header forebay.schema is the runtime's")
	}
	return nil
}

type header struct {
	name, field string
	value, buf  []byte
}

func (t *header) pure() bool { return true } // of the row nothing changes

func (t *header) apply(w *work) (bool, error) {
	text := t.value
	if t.field != "" {
		d, err := w.datum(value)
		if err != nil {
			return false, err
		}
		f, ok := find(d, t.field)
		if !ok || f.Value.IsNull() || f.Value.Kind == schema.Unavailable {
			return true, nil
		}
		if t.buf, ok = appendText(t.buf[:0], f); !ok {
			return false, advise("name a field within it", "field '%s' is %s, not a text", t.field, kindName(f.Value.Kind))
		}
		text = w.b.Copy(t.buf)
	}
	n := len(w.r.Headers)
	hs := w.b.Headers(n + 1)
	copy(hs, w.r.Headers)
	hs[n] = connectors.Header{Key: t.name, Value: text}
	w.r.Headers = hs
	return true, nil
}

var dropHeadersType = &Type{
	Name: "drop-headers", Connect: "DropHeaders",
	Spec: spec.Spec{Doc: "Takes headers away.", Fields: []spec.Field{
		{Name: "names", Type: spec.Strings, Required: true, Doc: "The headers' names.", Example: "[debug]"}}},
	Example: "- {type: drop-headers, names: [host, path]}",
	make: func(v spec.Values, _ Side) (applier, error) {
		return dropHeaders(slices.DeleteFunc(v.Strings("names"), func(n string) bool { return n == "forebay.schema" })), nil
	},
}

type dropHeaders []string

func (t dropHeaders) apply(w *work) (bool, error) {
	drop := func(h connectors.Header) bool { return slices.Contains(t, h.Key) }
	if !slices.ContainsFunc(w.r.Headers, drop) {
		return true, nil
	}
	hs := w.b.Headers(len(w.r.Headers))
	copy(hs, w.r.Headers)
	w.r.Headers = slices.DeleteFunc(hs, drop)
	return true, nil
}
