package transform

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

// reshaper is a transform that gives the fields of a part another layout.
type reshaper struct {
	part    part
	layouts *layouts
	other   bool // it looks at more than the row
}

func (t *reshaper) pure() bool { return !t.other && t.part == value }

func (t *reshaper) apply(w *work) (bool, error) { return true, w.reshape(t.part, t.layouts) }

func reshaperOf(v spec.Values, compile func(in *schema.Schema) (*layout, error)) *reshaper {
	return &reshaper{part: partOf(v), layouts: layoutsOf(compile)}
}

// editorOf is a reshaper that edits the fields of these names.
func editorOf(v spec.Values, names []string, fn edit) *reshaper {
	return reshaperOf(v, func(in *schema.Schema) (*layout, error) { return edited(in, names, fn) })
}

// namesField is the list of fields that several transforms take.
func namesField(doc, example string) spec.Field {
	return spec.Field{Name: "fields", Type: spec.Strings, Required: true, Doc: doc, Example: example}
}

var dropType = &Type{
	Name: "drop", Connect: "ReplaceField (exclude)", keyed: true,
	Spec: spec.Spec{Doc: "Leaves fields out.", Fields: []spec.Field{
		namesField("The fields that go, by name or by a path with dots. One that is not there is no error.", "[internal_note]")}},
	Example: "- {type: drop, fields: [internal_note, address.geo]}",
	make: func(v spec.Values, _ Side) (applier, error) {
		return editorOf(v, v.Strings("fields"), func(b *builder, _ int, _ string) error { b.drop(); return nil }), nil
	},
}

var keepType = &Type{
	Name: "keep", Connect: "ReplaceField (include)", keyed: true,
	Spec: spec.Spec{Doc: "Leaves out all fields but some.", Fields: []spec.Field{
		namesField("The fields that stay, by name. Their order is the record's.", "[id, status]")}},
	Example: "- {type: keep, fields: [id, status]}",
	make: func(v spec.Values, _ Side) (applier, error) {
		names := v.Strings("fields")
		return reshaperOf(v, func(in *schema.Schema) (*layout, error) {
			b := build(in)
			for i := range in.Fields {
				if slices.Contains(names, in.Fields[i].Name) {
					b.keep(i)
				} else {
					b.drop()
				}
			}
			return b.layout(), nil
		}), nil
	},
}

var renameType = &Type{
	Name: "rename", Connect: "ReplaceField (renames)", keyed: true,
	Spec: spec.Spec{Doc: "Gives fields other names.", Fields: []spec.Field{
		{Name: "fields", Type: spec.Strings, Required: true, Check: pairs, Doc: "Pairs of old and new name. A field that is not there is no error; one that has the new name already gives way.", Example: "[\"cust_no:customer\"]"}}},
	Example: "- {type: rename, fields: [\"cust_no:customer\", \"amt:amount\"]}",
	make: func(v spec.Values, _ Side) (applier, error) {
		var names []string
		to := map[string]string{}
		for _, p := range v.Strings("fields") {
			from, name := pair(p)
			if to[from] != "" {
				return nil, fmt.Errorf("field '%s' is given two names", from)
			}
			names, to[from] = append(names, from), name
		}
		return editorOf(v, names, func(b *builder, i int, path string) error {
			b.put(schema.Field{Name: to[path], Schema: b.in.Fields[i].Schema}, column{from: i})
			return nil
		}), nil
	},
}

// pair splits old:new; the last colon counts, for names of fields may have some.
func pair(text string) (left, right string) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return "", ""
	}
	return strings.TrimSpace(text[:i]), strings.TrimSpace(text[i+1:])
}

func pairs(v any) error {
	for _, p := range v.([]string) { //nolint:forcetypeassert // of Strings
		if l, r := pair(p); l == "" || r == "" {
			return fmt.Errorf("%q is not old:new", p)
		}
	}
	return nil
}

var maskType = &Type{
	Name: "mask", Connect: "MaskField", keyed: true,
	Spec: spec.Spec{Doc: "Replaces the values of fields by one that says nothing: \"\", 0, false, an empty list. Null stays null.", Fields: []spec.Field{
		namesField("The fields, by name or by a path with dots. One that is not there is no error.", "[card, email]"),
		{Name: "with", Doc: "What stands there instead, in text and number fields.", Example: "'***'"}}},
	Example: "- {type: mask, fields: [card, address.street], with: '***'}",
	make: func(v spec.Values, _ Side) (applier, error) {
		with, given := v.String("with"), v.Given("with")
		return editorOf(v, v.Strings("fields"), func(b *builder, i int, path string) error {
			f := b.in.Fields[i]
			mask, err := zeroOf(f.Schema)
			if given {
				mask, err = parseAs(f.Schema.Kind, with)
			}
			if err != nil {
				return fmt.Errorf("field '%s': %w", path, err)
			}
			b.put(f, column{from: i, convert: func(_ *work, v schema.Value) (schema.Value, error) {
				if v.IsNull() {
					return v, nil
				}
				return mask, nil // of a column that was not sent, too: it is not null
			}})
			return nil
		}), nil
	},
}

var insertType = &Type{
	Name: "insert", Connect: "InsertField", keyed: true,
	Spec: spec.Spec{Doc: "Adds a field with a text of its own or with something that is known of the record. A field of that name gives way; a record without a value stays without one.", Fields: []spec.Field{
		{Name: "field", Required: true, Doc: "The field's name.", Example: "_source"},
		{Name: "value", Doc: "The text that it gets.", Example: "shop-eu"},
		{Name: "from", Type: spec.Enum, Enum: []string{"", "topic", "partition", "offset", "timestamp", "op"}, Doc: "What it gets instead: of a source, partition and offset are not known yet; timestamp is in milliseconds (a Connect Timestamp); op is the letter of a row change."},
		{Name: "header", Doc: "Or the text of that header."}}},
	Example: "- {type: insert, field: region, value: eu}\n- {type: insert, field: _topic, from: topic}",
	make:    makeInsert,
}

func makeInsert(v spec.Values, side Side) (applier, error) {
	n := 0
	for _, f := range []string{"value", "from", "header"} {
		if v.Given(f) {
			n++
		}
	}
	if n != 1 {
		return nil, advise("", "give one of `value`, `from` and `header`")
	}
	from, header := v.String("from"), v.String("header")
	if side == Source && (from == "partition" || from == "offset") {
		return nil, advise("a sink's transforms see it", "a record has no %s before it is in the log", from)
	}
	f := schema.Field{Name: v.String("field"), Schema: &schema.Schema{Kind: schema.String, Optional: true}}
	fixed := schema.StringOf(v.String("value"))
	fill := func(*work, schema.Value) (schema.Value, error) { return fixed, nil }
	switch from {
	case "topic":
		fill = func(w *work, _ schema.Value) (schema.Value, error) {
			return schema.TextOf(w.b.Copy([]byte(w.r.Topic))), nil
		}
	case "partition":
		f.Schema = &schema.Schema{Kind: schema.Int32, Optional: true}
		fill = func(w *work, _ schema.Value) (schema.Value, error) { return schema.Int32Of(w.r.Partition), nil }
	case "offset":
		f.Schema = &schema.Schema{Kind: schema.Int64, Optional: true}
		fill = func(w *work, _ schema.Value) (schema.Value, error) { return schema.Int64Of(w.r.Offset), nil }
	case "timestamp":
		f.Schema = &schema.Schema{Kind: schema.Int64, Name: "org.apache.kafka.connect.data.Timestamp", Version: 1, Optional: true}
		fill = func(w *work, _ schema.Value) (schema.Value, error) { return schema.Int64Of(w.at().UnixMilli()), nil }
	case "op":
		fill = func(w *work, _ schema.Value) (schema.Value, error) {
			if w.r.Change == nil || w.r.Change.Op == connectors.OpNone {
				return schema.Value{}, nil
			}
			return schema.TextOf(w.b.Copy([]byte{byte(w.r.Change.Op)})), nil
		}
	}
	if header != "" {
		fill = func(w *work, _ schema.Value) (schema.Value, error) {
			for i := len(w.r.Headers) - 1; i >= 0; i-- { // the last one counts, as in Kafka's Headers.lastHeader
				if w.r.Headers[i].Key == header {
					return schema.TextOf(w.r.Headers[i].Value), nil
				}
			}
			return schema.Value{}, nil
		}
	}
	t := reshaperOf(v, func(in *schema.Schema) (*layout, error) {
		b := build(in)
		for i := range in.Fields {
			b.keep(i)
		}
		b.put(f, column{from: -1, convert: fill})
		return b.layout(), nil
	})
	t.other = !v.Given("value")
	return t, nil
}

var filterType = &Type{
	Name: "filter", Connect: "Filter",
	Spec:    spec.Spec{Doc: "Drops the records that `when` names. Their positions count as read: they are not seen again."},
	Example: "- {type: filter, when: {field: status, equals: [test]}}\n- {type: filter, when: {topic: 'shop\\.public\\..*'}, negate: true}",
	make:    func(spec.Values, Side) (applier, error) { return filter{}, nil },
}

type filter struct{}

func (filter) apply(*work) (bool, error) { return false, nil }
func (filter) pure() bool                { return true }

// missingField is what to do about a record without the field that a transform is about.
var missingField = spec.Field{Name: "missing", Type: spec.Enum, Enum: []string{"error", "skip"}, Default: "error",
	Doc: "What happens when the record does not have the field: the task stops and says so, or the record stays as it is."}

var errMissing = errors.New("there is no such field")

func missing(skip bool, name string) error {
	if skip {
		return nil
	}
	return advise("`missing: skip` leaves such records as they are", "field '%s': %w", name, errMissing)
}

var hoistType = &Type{
	Name: "hoist", Connect: "HoistField", keyed: true,
	Spec: spec.Spec{Doc: "Makes a field of the whole key or value. A change event is unwrapped first.", Fields: []spec.Field{
		{Name: "field", Required: true, Doc: "The field's name.", Example: "line"}}},
	Example: "- {type: hoist, field: line}",
	make: func(v spec.Values, _ Side) (applier, error) {
		name := v.String("field")
		return &hoist{part: partOf(v), layouts: layoutsOf(func(in *schema.Schema) (*layout, error) {
			return &layout{out: &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: name, Schema: in}}}}, nil
		})}, nil
	},
}

type hoist struct {
	part    part
	layouts *layouts
}

func (t *hoist) apply(w *work) (bool, error) {
	if err := w.see(); err != nil {
		return false, err
	}
	if t.part == value && w.r.Change != nil {
		return false, errChange
	}
	d, err := w.datum(t.part)
	if err != nil || d.Schema == nil {
		return true, err
	}
	l, err := t.layouts.of(d.Schema)
	if err != nil {
		return false, err
	}
	list := w.b.Values(1)
	list[0] = d.Value
	w.set(t.part, connectors.Datum{Schema: l.out, Value: schema.Value{Kind: schema.Struct, List: list}})
	return true, nil
}

var errChange = advise("put an `unwrap` before it", "the record is a row change, which has two rows")

func (w *work) set(p part, d connectors.Datum) {
	if p == key {
		w.setKey(d)
	} else {
		w.setValue(d)
	}
}

var extractType = &Type{
	Name: "extract", Connect: "ExtractField", keyed: true,
	Spec: spec.Spec{Doc: "Makes one field the whole key or value. One that is null makes a tombstone. A change event is unwrapped first.", Fields: []spec.Field{
		{Name: "field", Required: true, Doc: "The field, by name or by a path with dots.", Example: "id"}, missingField}},
	Example: "- {type: extract, of: key, field: id}",
	make: func(v spec.Values, _ Side) (applier, error) {
		return &extract{part: partOf(v), field: v.String("field"), skip: v.String("missing") == "skip"}, nil
	},
}

type extract struct {
	part  part
	field string
	skip  bool
}

func (t *extract) apply(w *work) (bool, error) {
	if err := w.see(); err != nil {
		return false, err
	}
	if t.part == value && w.r.Change != nil {
		return false, errChange
	}
	d, err := w.datum(t.part)
	if err != nil || d.Schema == nil || d.Value.IsNull() {
		return true, err
	}
	f, ok := find(d, t.field)
	if !ok {
		return true, missing(t.skip, t.field)
	}
	w.set(t.part, f)
	return true, nil
}

var keyType = &Type{
	Name: "key", Connect: "ValueToKey",
	Spec: spec.Spec{Doc: "Makes a key of fields of the value, of a row change of the row after it (before it, when it is a delete). A tombstone keeps its key.", Fields: []spec.Field{
		namesField("The key's fields, in this order.", "[customer, id]"), missingField}},
	Example: "- {type: key, fields: [customer, id]}",
	make: func(v spec.Values, _ Side) (applier, error) {
		return &keyOf{fields: v.Strings("fields"), skip: v.String("missing") == "skip"}, nil
	},
}

type keyOf struct {
	fields  []string
	skip    bool
	schemas schema.Cache[*schema.Schema, *schema.Schema] // of the key, by the value's
}

func (t *keyOf) apply(w *work) (bool, error) {
	d, err := w.datum(value)
	if err != nil || d.Schema == nil || d.Value.IsNull() {
		return true, err
	}
	list := w.b.Values(len(t.fields))
	out := t.schemas.Get(d.Schema)
	var fields []schema.Field
	for i, name := range t.fields {
		f, ok := find(d, name)
		if !ok {
			return true, missing(t.skip, name)
		}
		if list[i] = f.Value; out == nil {
			fields = append(fields, schema.Field{Name: name, Schema: f.Schema})
		}
	}
	if out == nil {
		out = &schema.Schema{Kind: schema.Struct, Fields: fields}
		t.schemas.Put(d.Schema, out, d.Schema.Size())
	}
	w.setKey(connectors.Datum{Schema: out, Value: schema.Value{Kind: schema.Struct, List: list}})
	return true, nil
}
