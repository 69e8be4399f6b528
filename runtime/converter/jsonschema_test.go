package converter

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/registry/jsonschema"
)

// Every type comes back as it was.
func TestJSONSchemaTypes(t *testing.T) {
	s, v := manyTypes()
	shelf := shelfOf(JSONSchema)
	r := shelf.through(t, Debezium, connectors.Record{Topic: "t", Value: connectors.Datum{Schema: s, Value: v}})
	for i := range v.List {
		if !schema.Same(r.Value.Value.List[i], v.List[i]) {
			t.Errorf("%s: %+v, not %+v", s.Fields[i].Name, r.Value.Value.List[i], v.List[i])
		}
	}
	if !schema.Equal(r.Value.Schema, s) {
		t.Errorf("the types\n got %s\nwant %s", r.Value.Schema.AppendJSON(nil), s.AppendJSON(nil))
	}
	var got bytes.Buffer
	if err := json.Indent(&got, []byte(shelf.texts[shelf.ids["t-value"]].Text), "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "value.schema.json", got.String()+"\n")
	if !json.Valid(r.RawValue) || !strings.Contains(string(r.RawValue), `"counts":[{"key":0,"value":["x"]},{"key":5,"value":null}]`) {
		t.Errorf("%s", r.RawValue)
	}
}

// Columns come and go, and the registry's BACKWARD takes each version.
func TestJSONSchemaEvolution(t *testing.T) {
	text := func(name string) schema.Field { return field(name, schema.String, optional) }
	inner := func(fields ...schema.Field) schema.Field {
		return schema.Field{Name: "in", Schema: &schema.Schema{Kind: schema.Struct, Optional: true, Fields: fields}}
	}
	s := shelfOf(JSONSchema)
	var was *jsonschema.Schema
	for i, columns := range [][]schema.Field{
		{text("a"), text("b"), inner(text("x"), text("y"))},
		{text("a"), text("c"), inner(text("y"), text("z"))}, // b and in.x are gone, c and in.z have come
		{text("b"), text("c")},                              // in and a are gone, b is back
		{text("d"), text("b"), text("a"), text("c"), inner(text("x"))},
	} {
		row := &schema.Schema{Kind: schema.Struct, Name: "shop.t.Value", Fields: columns}
		_, out, err := NewEncoder(s.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Value: connectors.Datum{Schema: row, Value: schema.Value{Kind: schema.Struct, List: make([]schema.Value, len(columns))}}})
		if err != nil {
			t.Fatal(err)
		}
		text := s.texts[s.ids["t-value"]]
		now, err := jsonschema.Parse(text.Text, nil)
		if err != nil {
			t.Fatal(err)
		}
		if was != nil {
			if d := jsonschema.Read(now, was); len(d) > 0 {
				t.Errorf("version %d: %v\n%s", i, d, text.Text)
			}
		}
		was = now
		r := connectors.Record{RawValue: bytes.Clone(out.Value)}
		if err := s.decoder().Decode(&r); err != nil || len(r.Value.Schema.Fields) != len(columns) || r.Value.Schema.Fields[0].Name != columns[0].Name {
			t.Errorf("version %d: %v %s", i, err, r.Value.Schema.AppendJSON(nil))
		}
	}
}

// What stays of a client's schema leads nowhere outside of itself, and takes all that it took.
func TestJSONSchemaFollowsOnReferences(t *testing.T) {
	s := shelfOf(JSONSchema)
	first := SchemaText{Type: "JSON", Text: `{"$ref":"#/definitions/row","definitions":{"row":{"type":"object","additionalProperties":false,"properties":{
		"a":{"oneOf":[{"type":"null"},{"type":"string"}]},"place":{"$ref":"place.json","description":"where"},"unit":{"type":"array","items":{"$ref":"#/definitions/unit"}},
		"tree":{"$ref":"#/definitions/tree"},"odd":{"const":{"$ref":"nowhere"}}}},
		"unit":{"enum":["m"]},"tree":{"type":"object","properties":{"left":{"$ref":"#/definitions/tree"},"unit":{"$ref":"#/definitions/unit"}}}}}`,
		References: []Reference{{"place.json", `{"$id":"place.json","type":"object","properties":{"x":{"$ref":"#/$defs/number"}},"$defs":{"number":{"type":"number"}}}`}}}
	s.ids["t-value"] = s.put(first)
	was, err := jsonschema.Parse(first.Text, first.named())
	if err != nil {
		t.Fatal(err)
	}
	row := &schema.Schema{Kind: schema.Struct, Name: "shop.t.Value", Fields: []schema.Field{field("a", schema.String, optional)}}
	for range 2 {
		if _, _, err := NewEncoder(s.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Value: connectors.Datum{Schema: row, Value: schema.StructOf(schema.StringOf("x"))}}); err != nil {
			t.Fatal(err)
		}
		text := s.texts[s.ids["t-value"]].Text
		now, err := jsonschema.Parse(text, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if d := jsonschema.Read(now, was); len(d) > 0 {
			t.Errorf("%v\n%s", d, text)
		}
		const kept = `"place":{"type":"object","properties":{"x":{"type":"number"}},"description":"where","connect.index":1,"forebay.dropped":true},` +
			`"unit":{"type":"array","items":{"enum":["m"]},"connect.index":2,"forebay.dropped":true},` +
			`"tree":{"type":"object","properties":{"left":{},"unit":{"enum":["m"]}},"connect.index":3,"forebay.dropped":true},"odd":{"const":{"$ref":"nowhere"},"connect.index":4,"forebay.dropped":true}`
		if !strings.Contains(text, kept) {
			t.Error(text)
		}
	}
	// Schemas that name each other twice do not come to more than can be kept.
	wide := `{"type":"string"}`
	for i := range 20 {
		wide = fmt.Sprintf(`{"type":"object","properties":{"a":{"$ref":"#/$defs/d%d"},"b":{"$ref":"#/$defs/d%d"}}},"d%d":%s`, i, i, i, wide)
	}
	s.ids["t-value"] = s.put(SchemaText{Type: "JSON", Text: `{"type":"object","properties":{"w":{"$ref":"#/$defs/all"}},"$defs":{"all":` + wide + `}}`})
	if _, _, err := NewEncoder(s.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Value: connectors.Datum{Schema: row, Value: schema.StructOf(schema.StringOf("x"))}}); err != nil {
		t.Fatal(err)
	}
	if text := s.texts[s.ids["t-value"]].Text; len(text) < 1<<10 || len(text) > 1<<20 || strings.Contains(text, "$ref") {
		t.Errorf("%d bytes", len(text))
	}
}

// What clients write, by whatever schema, has the types that Confluent's converter gives it, or none.
func TestJSONSchemaOfClients(t *testing.T) {
	const one = "io.confluent.connect.json.OneOf"
	refs := []Reference{{"place.json", `{"$id":"place.json","type":"object","title":"Place","properties":{"x":{"type":"number"}},"required":["x"]}`}}
	for _, c := range []struct{ schema, value, types, want string }{
		{`{"type":"object","title":"User","properties":{"name":{"type":"string"},"n":{"type":"integer"},"tags":{"type":"array","items":{"type":"string"}},"ok":{"type":"boolean"}},"required":["name"]}`,
			`{"name": "Ada", "ok": true, "more": [1, {"a": "b"}]}`, "struct(name:string n:int64? tags:array(string)? ok:boolean?)", `{"name":"Ada","n":null,"tags":null,"ok":true}`},
		{`{"type":"object","properties":{"place":{"$ref":"place.json"},"home":{"$ref":"#/$defs/home"}},"$defs":{"home":{"type":["null","object"],"properties":{"no":{"type":"integer","connect.type":"int32"}}}}}`,
			`{"place":{"x":1.5},"home":{"no":7}}`, "struct(place:struct(x:double)? home:struct(no:int32?)?)", `{"place":{"x":1.5},"home":{"no":7}}`},
		{`{"oneOf":[{"type":"string"},{"type":"integer"},{"type":"number"},{"type":"null"},{"type":"object","properties":{"a":{"type":"string"}}},{"type":"object","properties":{"b":{"type":"string"}}},{"type":"array","items":{"type":"boolean"}}]}`,
			`{"b":"x"}`, "struct(" + one + ".field.0:string? " + one + ".field.1:int64? " + one + ".field.2:double? " + one + ".field.3:struct(a:string?)? " + one + ".field.4:struct(b:string?)? " + one + ".field.5:array(boolean)?)?",
			`{"` + one + `.field.0":null,"` + one + `.field.1":null,"` + one + `.field.2":null,"` + one + `.field.3":null,"` + one + `.field.4":{"b":"x"},"` + one + `.field.5":null}`},
		{`{"type":["string","integer"]}`, `5`, "struct(" + one + ".field.0:string? " + one + ".field.1:int64?)", `{"` + one + `.field.0":null,"` + one + `.field.1":5}`},
		{`{"anyOf":[{"type":"integer"},{"type":"number"}]}`, `5.5`, "struct(" + one + ".field.0:int64? " + one + ".field.1:double?)", `{"` + one + `.field.0":null,"` + one + `.field.1":5.5}`},
		{`{"enum":["a","b"]}`, `"b"`, "string", `"b"`},
		{`{"const":"a"}`, `"a"`, "string", `"a"`},
		{`{"enum":["a",1]}`, `1`, "string?", `"1"`}, // JSON text
		{`{}`, `{"any": [1, "x"]}`, "string?", `"{\"any\": [1, \"x\"]}"`},
		{`true`, `null`, "string?", `null`},
		{`{"type":"object"}`, `{"k":1}`, "string?", `"{\"k\":1}"`},
		{`{"type":"object","additionalProperties":{"type":"integer"}}`, `{"k":1}`, "map(string int64)", `{"k":1}`},
		{`{"type":"object","connect.type":"map","additionalProperties":{"type":"integer"}}`, `{"k":1}`, "map(string int64)", `{"k":1}`},
		{`{"type":"array","connect.type":"map","items":{"type":"object","properties":{"key":{"type":"integer"},"value":{"type":"string"}}}}`, `[{"key": 1, "value": "x"}]`, "map(int64 string)", `[[1,"x"]]`},
		{`{"allOf":[{"$ref":"place.json"},{"properties":{"y":{"type":"number"}}}],"title":"Both"}`, `{"x":1,"y":2}`, "struct(x:double y:double?)", `{"x":1,"y":2}`},
		{`{"type":"object","oneOf":[{"required":["a"]},{"required":["b"]}],"properties":{"a":{"type":"integer"},"b":{"type":"integer"}}}`, `{"b":1}`, "struct(a:int64? b:int64?)", `{"a":null,"b":1}`},
		{`{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"n":{"type":"integer"},"left":{"$ref":"#/$defs/tree"}}}}}`, `{"n":1,"left":{"n":2}}`, "struct(n:int64? left:string?)", `{"n":1,"left":"{\"n\":2}"}`},
		{`{"type":"array","prefixItems":[{"type":"string"},{"type":"integer"}]}`, `["a",1]`, "array(string?)", `["\"a\"","1"]`},
		{`{"type":"number","title":"org.apache.kafka.connect.data.Decimal","connect.type":"bytes","connect.version":1,"connect.parameters":{"scale":"2"}}`, `-12.340e0`, "bytes", `"+y4="`},
		{`{"type":"number","title":"org.apache.kafka.connect.data.Decimal","connect.type":"bytes","connect.parameters":{"scale":"0"}}`, `1.2e1`, "bytes", `"DA=="`},
		{`{"type":"string","connect.type":"bytes"}`, `"AP8="`, "bytes?", `"AP8="`},
		{`{"type":"integer","connect.type":"int8"}`, `-5`, "int16", `-5`},
		{`{"type":"array","items":{"type":"integer"}}`, `[9007199254740993.0, 9.223372036854775807e18, -9223372036854775808, 1e3, 120e-1]`, "array(int64)", `[9007199254740993,9223372036854775807,-9223372036854775808,1000,12]`},
		{`{"type":"array","items":{"type":"string"}}`, `["\ud800\u0041b", "\ud83d\ude00", "\ud800\ud83d\ude00", "\udc00", "\ud800\n"]`, "array(string)", `["` + "\ufffdAb\",\"\U0001f600\",\"\ufffd\U0001f600\",\"\ufffd\",\"\ufffd" + `\n"]`},
		{`{"type":"object","properties":{"a":{"type":"integer","default":7},"b":{"type":"object","properties":{"x":{"type":"string","default":"y"}},"required":["x"],"default":{}},"c":{"$ref":"#/$defs/c"},"d":{"type":"string","default":"d"}},"required":["a","b","c"],
			"$defs":{"c":{"type":"array","items":{"type":"boolean"},"default":[true]}}}`, `{"a":null,"d":null}`, "struct(a:int64 b:struct(x:string) c:array(boolean) d:string?)", `{"a":7,"b":{"x":"y"},"c":[true],"d":null}`},
	} {
		s := shelfOf(JSONSchema)
		r := connectors.Record{Topic: "t", RawValue: append(binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "JSON", Text: c.schema, References: refs}))), c.value...)}
		if err := s.decoder().Decode(&r); err != nil {
			t.Errorf("%s: %v", c.schema, err)
			continue
		}
		if got := typesOf(r.Value.Schema); got != c.types {
			t.Errorf("%s\n got %s\nwant %s", c.schema, got, c.types)
		}
		if got := string(shapeOf(r.Value.Schema).append(nil, &r.Value.Value)); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.schema, got, c.want)
		}
	}
}

// typesOf shows kinds, ? where null is allowed.
func typesOf(s *schema.Schema) string {
	out := s.Kind.String()
	switch s.Kind {
	case schema.Struct:
		var fields []string
		for _, f := range s.Fields {
			fields = append(fields, f.Name+":"+typesOf(f.Schema))
		}
		out += "(" + strings.Join(fields, " ") + ")"
	case schema.Array:
		out += "(" + typesOf(s.Elem) + ")"
	case schema.Map:
		out += "(" + typesOf(s.Key) + " " + typesOf(s.Elem) + ")"
	}
	if s.Optional {
		out += "?"
	}
	return out
}

// Bad bytes are an error that says what is wrong, whatever they are.
func TestJSONSchemaBadBytes(t *testing.T) {
	s := shelfOf(JSONSchema)
	lead := func(text string) []byte {
		return binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "JSON", Text: text})))
	}
	required := lead(`{"type":"object","properties":{"in":{"type":"object","properties":{"a":{"type":"integer","default":"no number"},"b":{"type":"string","default":null}},"required":["a","b"]},"list":{"type":"array","items":{"type":"string"}}}}`)
	object := lead(`{"type":"object","properties":{"a":{"type":"integer"},"any":{}}}`)
	wide := `{"type":"string"}`
	for i := range 20 {
		wide = fmt.Sprintf(`{"type":"object","properties":{"a":{"$ref":"#/$defs/d%d"},"b":{"$ref":"#/$defs/d%d"}}},"d%d":%s`, i, i, i, wide)
	}
	for _, c := range []struct {
		value []byte
		want  string
	}{
		{object, "expected '{' at byte 0"},
		{append(object[:5:5], `{"a":"x"}`...), "a string in place of another type"},
		{append(object[:5:5], `{"a":1.5}`...), "not an integer: 1.5"},
		{append(object[:5:5], `{"a":9223372036854775808.0}`...), "not an integer: 9223372036854775808.0"},
		{append(object[:5:5], `null`...), "null or missing"},
		{append(required[:5:5], `{"in":{}}`...), "field 'in': field 'a': null or missing"},
		{append(required[:5:5], `{"in":{"a":1,"b":null}}`...), "field 'in': field 'b': null or missing"},
		{append(required[:5:5], `{"list":[null]}`...), "field 'list': null or missing"},
		{append(object[:5:5], `{"a":1} x`...), "more text"},
		{append(object[:5:5], `{"any":nonsense}`...), "not valid JSON"},
		{append(object[:5:5], `{"more":[1,}`...), "not valid JSON"},
		{append(lead(`{"type":["string","integer"]}`), `true`...), "none of the types that the schema has for it"},
		{append(lead(`{"type":"number","title":"org.apache.kafka.connect.data.Decimal","connect.type":"bytes","connect.parameters":{"scale":"1"}}`), `1e999999999`...), "a decimal of scale"},
		{append(lead(`{"type":"number","title":"org.apache.kafka.connect.data.Decimal","connect.type":"bytes","connect.parameters":{"scale":"2"}}`), `1.234`...), "a decimal of scale 3 where the schema says 2"},
		{append(lead(`{"$ref":"gone.json"}`), `1`...), `unresolved $ref "gone.json"`},
		{append(lead(`{"type":`), `1`...), "unexpected EOF"},
		{append(lead(`{"$ref":"#/$defs/all","$defs":{"all":`+wide+`}}`), `{}`...), "more than 20000 types"},
		{append(binary.BigEndian.AppendUint32([]byte{0}, uint32(s.put(SchemaText{Type: "AVRO", Text: `"long"`}))), '1'), "is of type AVRO, not JSON"},
	} {
		r := connectors.Record{RawValue: c.value}
		err := s.decoder().Decode(&r)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "value: schema ") {
			t.Errorf("%q: %v, not %s", c.value, err, c.want)
		}
		if r.Value.Schema != nil || !bytes.Equal(r.RawValue, c.value) {
			t.Errorf("%q: half read: %+v", c.value, r)
		}
	}
}

// A schema and a value may be anything: what is read is JSON, and its types can be written and read again.
func FuzzJSONSchema(f *testing.F) {
	f.Add(`{"type":"object","properties":{"a":{"oneOf":[{"type":"null"},{"type":"integer","connect.type":"int16"}]},"b":{"$ref":"#"}}}`, []byte(`{"a":1,"b":{"a":null}}`))
	f.Add(`{"oneOf":[{"type":"string"},{"type":"array","connect.type":"map","items":{"properties":{"key":{"type":"integer"},"value":{}}}}]}`, []byte(`[{"key":1,"value":"x"}]`))
	f.Add(`{"allOf":[{"properties":{"x":{"type":"number","title":"org.apache.kafka.connect.data.Decimal","connect.type":"bytes"}}},{"$ref":"#/$defs/a~1b"}],"$defs":{"a/b":{"enum":["a"]}}}`, []byte(`{"x":1.0}`))
	f.Fuzz(func(t *testing.T, text string, value []byte) {
		s := shelfOf(JSONSchema)
		id := s.put(SchemaText{Type: "JSON", Text: text})
		r := connectors.Record{Topic: "t", RawValue: append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), value...)}
		if s.decoder().Decode(&r) != nil || r.Change != nil {
			return
		}
		if r.Value.Schema == nil {
			t.Fatal("neither a value nor an error")
		}
		s.ids["t-value"] = id // its properties are kept
		_, out, err := NewEncoder(s.format(Debezium)).Encode(nil, &connectors.Record{Topic: "t", Value: r.Value})
		if errors.Is(err, ErrRegistry) {
			t.Fatal(err) // what follows on itself is another schema
		}
		if err != nil {
			return // a value that was not sent where no type says so
		}
		back := connectors.Record{Topic: "t", RawValue: out.Value}
		if err := s.decoder().Decode(&back); err != nil {
			t.Fatalf("%v: %s by %s", err, out.Value[wireLead:], s.texts[s.ids["t-value"]].Text)
		}
	})
}
