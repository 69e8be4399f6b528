package schema

import (
	"encoding/json"
	"math"
	"testing"
	"unicode/utf8"
)

var sample = &Schema{Kind: Struct, Name: "shop.public.orders.Value", Fields: []Field{
	{Name: "id", Schema: &Schema{Kind: Int64}},
	{Name: "price", Schema: &Schema{Kind: Bytes, Name: "org.apache.kafka.connect.data.Decimal", Version: 1, Optional: true, Params: map[string]string{"scale": "2", "connect.decimal.precision": "10"}}},
	{Name: "tags \"odd\"", Schema: &Schema{Kind: Array, Optional: true, Elem: &Schema{Kind: String, Optional: true}}},
	{Name: "h", Schema: &Schema{Kind: Map, Key: &Schema{Kind: String}, Elem: &Schema{Kind: Float32, Doc: "a doc"}}},
}}

func TestJSONRoundTrip(t *testing.T) {
	text := sample.AppendJSON(nil)
	if !json.Valid(text) {
		t.Fatalf("%s", text)
	}
	back, err := ParseJSON(text)
	if err != nil || !Equal(back, sample) || back.Fingerprint() != sample.Fingerprint() {
		t.Errorf("%v\n%s\n%s", err, text, back.AppendJSON(nil))
	}
	if nothing, err := ParseJSON([]byte("null")); nothing != nil || err != nil {
		t.Error("null is no schema")
	}
}

// The fingerprint lies in logs: it must never change for a schema.
func TestFingerprintIsStable(t *testing.T) {
	if got := (&Schema{Kind: Int64}).Fingerprint(); got != 0xfaefeec2d4edd1b6 {
		t.Errorf("%#x", got)
	}
	other := *sample
	other.Optional = true
	if other.Fingerprint() == sample.Fingerprint() || Equal(&other, sample) {
		t.Error("optional is part of a schema")
	}
}

func TestBadSchemas(t *testing.T) {
	for _, text := range []string{`{`, `{"type":"int128"}`, `{"type":"array"}`, `{"type":"map","keys":{"type":"string"}}`, `{"type":"struct","fields":[null]}`, `{"type":"unavailable"}`} {
		if s, err := ParseJSON([]byte(text)); err == nil {
			t.Errorf("%s gives %+v", text, s)
		}
	}
}

func TestValues(t *testing.T) {
	a := StructOf(Int16Of(-5), Int32Of(-6), Int64Of(math.MinInt64), Float32Of(1.5), Float64Of(math.NaN()), StringOf("x"), BytesOf([]byte{1}), BoolOf(true), Value{}, Missing, ArrayOf(StringOf("y")))
	b := a.Clone()
	if !Same(a, b) {
		t.Error("a clone is the same")
	}
	b.List[5].Data[0] = 'z'
	if Same(a, b) || a.List[5].Text() != "x" {
		t.Error("a clone shares nothing")
	}
	if a.List[0].Int() != -5 || a.List[1].Int() != -6 || a.List[2].Int() != math.MinInt64 || a.List[3].Float() != 1.5 || !a.List[7].Bool() || !a.List[8].IsNull() {
		t.Error("numbers")
	}
}

func FuzzQuoted(f *testing.F) {
	f.Add([]byte("a\"\\\n\x00\xff\u2028é"))
	f.Fuzz(func(t *testing.T, text []byte) {
		q := AppendQuoted(nil, text)
		var back string
		if err := json.Unmarshal(q, &back); err != nil {
			t.Fatalf("%q: %v", q, err)
		}
		if utf8.Valid(text) && back != string(text) {
			t.Errorf("%q became %q", text, back)
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	f.Add(sample.AppendJSON(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseJSON(text)
		if err != nil || s == nil {
			return
		}
		again, err := ParseJSON(s.AppendJSON(nil))
		if err != nil || again.Fingerprint() != s.Fingerprint() {
			t.Errorf("%s: %v", s.AppendJSON(nil), err)
		}
	})
}
