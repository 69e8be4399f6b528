package postgres

import (
	"bytes"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors/schema"
)

// FuzzType: whatever a schema in the log calls a type, only a type's name gets into a statement.
func FuzzType(f *testing.F) {
	for _, s := range []string{"integer", "numeric(10,-2)", "timestamp(3) with time zone", `"char"`, "bit varying(20)[]", "x); DROP TABLE t; --", "public.citext", "a.b.c", "text/**/", "a(0) with time zone"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		typ, _ := wanted(&schema.Schema{Kind: schema.String, Params: map[string]string{typeParam: s}})
		text := typ.String()
		if strings.ContainsAny(text, ";'\\\n\t-/*") && !strings.Contains(text, "(") || strings.Contains(text, "--") || strings.ContainsAny(text, ";'\\/*") {
			t.Fatalf("%q becomes %q", s, text)
		}
		if again, ok := parseType(text); !ok || again.String() != text {
			t.Fatalf("%q is not read back: %q", text, again)
		}
	})
}

// FuzzCopy: a value comes out of COPY's escapes as it went in, and never ends a column or a line.
func FuzzCopy(f *testing.F) {
	f.Add([]byte("a\tb\nc\\N\r"), []byte("x"))
	f.Add([]byte(`\.`), []byte{})
	f.Fuzz(func(t *testing.T, value, before []byte) {
		at := len(before)
		out := escapeCopy(append(bytes.Clone(before), value...), at)
		if !bytes.Equal(out[:at], before) {
			t.Fatal("what stood before has changed")
		}
		if bytes.ContainsAny(out[at:], "\t\n\r") {
			t.Fatalf("%q is not escaped", out[at:])
		}
		back := strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r").Replace(string(out[at:]))
		if back != string(value) {
			t.Fatalf("%q comes back as %q", value, back)
		}
	})
}

// FuzzValues: values that do not fit their schema are errors, never panics.
func FuzzValues(f *testing.F) {
	f.Add([]byte{0x80}, "+21016-11-04T06:51:30Z", int64(1<<62), int32(-5))
	f.Add([]byte{}, "-4713-12-31T23:59:59Z", int64(-1<<63), int32(200_001))
	f.Add([]byte(`{"a":null}`), "0000-01-01T00:00:00Z", int64(0), int32(0))
	f.Fuzz(func(t *testing.T, b []byte, s string, n int64, m int32) {
		values := []schema.Value{schema.BytesOf(b), schema.TextOf(b), schema.StringOf(s), schema.Int64Of(n), schema.Int32Of(m), schema.BoolOf(n > 0),
			schema.StructOf(schema.Int32Of(m), schema.BytesOf(b)), schema.StructOf(), schema.ArrayOf(schema.StringOf(s), schema.Value{}), schema.MapOf(schema.StringOf(s), schema.Int64Of(n)), schema.MapOf(schema.StringOf(s))}
		number := &schema.Schema{Kind: schema.Struct, Name: nameVariable, Fields: []schema.Field{{Name: "scale", Schema: &schema.Schema{Kind: schema.Int32}}, {Name: "value", Schema: &schema.Schema{Kind: schema.Bytes}}}}
		text := &schema.Schema{Kind: schema.String}
		schemas := []*schema.Schema{text, {Kind: schema.Bytes}, {Kind: schema.Int64}, {Kind: schema.Float64}, {Kind: schema.Bool}, number,
			{Kind: schema.Array, Elem: text}, {Kind: schema.Map, Key: text, Elem: &schema.Schema{Kind: schema.Int64}}, {Kind: schema.Struct, Fields: []schema.Field{{Name: s, Schema: text}}}}
		for _, name := range []string{nameDate, nameMicroTime, nameTimestamp, nameMicroTimestamp, nameZonedTimestamp, nameMicroDuration, nameJSON, nameBits, namePoint} {
			schemas = append(schemas, &schema.Schema{Kind: schema.String, Name: name})
		}
		schemas = append(schemas, &schema.Schema{Kind: schema.Bytes, Name: nameDecimal, Params: map[string]string{"scale": "3"}})
		for _, sc := range schemas {
			for _, typ := range []pgType{natural(sc), {base: "text"}, {base: "jsonb"}, {base: "hstore"}, {base: "bit", mods: []int{12}}} {
				encode := encoderOf(sc, typ)
				for _, v := range values {
					out, err := encode(nil, v)
					if err == nil && len(out) > 64<<20 {
						t.Fatalf("%d bytes", len(out))
					}
				}
			}
		}
	})
}
