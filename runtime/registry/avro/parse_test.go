package avro

import (
	"strings"
	"testing"
)

// TestCanonical has what Java's Schema.toString makes of a text.
func TestCanonical(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`int`, `"int"`},
		{` {"type" : "string"} `, `"string"`},
		{`{"type":{"type":"array","items":{"type":"int"}}}`, `{"type":"array","items":"int"}`},
		{`{"type":"long","logicalType":"timestamp-millis","x":{"b":1,"a":2}}`, `{"type":"long","logicalType":"timestamp-millis","x":{"b":1,"a":2}}`},
		{`{"fields":[{"default":1,"type":"int","doc":"d","name":"a","p":"q","order":"descending","aliases":["z"]}],"namespace":"n.s","name":"R","type":"record","extra":true,"aliases":["Old","other.X"],"doc":"<é>"}`,
			`{"type":"record","name":"R","namespace":"n.s","doc":"<é>","fields":[{"name":"a","type":"int","doc":"d","default":1,"order":"descending","aliases":["z"],"p":"q"}],"extra":true,"aliases":["Old","other.X"]}`},
		{`{"type":"record","name":"a.b.R","fields":[{"name":"f","type":{"type":"fixed","name":"a.b.F","size":3}},{"name":"g","type":"F"},{"name":"h","type":{"type":"enum","name":"c.E","symbols":["X"],"default":"X"}},{"name":"i","type":"c.E"}]}`,
			`{"type":"record","name":"R","namespace":"a.b","fields":[{"name":"f","type":{"type":"fixed","name":"F","size":3}},{"name":"g","type":"F"},{"name":"h","type":{"type":"enum","name":"E","namespace":"c","symbols":["X"],"default":"X"}},{"name":"i","type":"c.E"}]}`},
		{`["null",{"type":"map","values":["int","string"]}]`, `["null",{"type":"map","values":["int","string"]}]`},
	} {
		s, err := Parse(c.text, Options{Defaults: true})
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		got := s.Canonical(nil)
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.text, got, c.want)
		}
		again, err := Parse(got, Options{Defaults: true})
		if err != nil || again.Canonical(nil) != got {
			t.Errorf("%s is not stable: %v", got, err)
		}
	}
}

func TestNormalize(t *testing.T) {
	text := func(a, b string) string {
		return `{"type":"record","name":"R","doc":"","fields":[{"name":"a","type":{"type":"bytes",` + a + `}}],` + b + `}`
	}
	first, err1 := Parse(text(`"logicalType":"decimal","precision":4,"scale":2`, `"x":1,"a":2,"aliases":["B","A"]`), Options{Normalize: true})
	second, err2 := Parse(text(`"scale":2,"precision":4,"logicalType":"decimal"`, `"aliases":["A","B"],"a":2,"x":1`), Options{Normalize: true})
	if err1 != nil || err2 != nil || first.Canonical(nil) != second.Canonical(nil) {
		t.Errorf("%v %v\n%s\n%s", err1, err2, first.Canonical(nil), second.Canonical(nil))
	}
}

func TestRefused(t *testing.T) {
	for _, text := range []string{
		``, `null`, `nix`, `"nix"`, `1`, `{}`, `{"type":"nix"}`, `{"type":"array"}`, `{"type":"map"}`, `[["int"]]`, `["int","int"]`,
		`{"type":"record","fields":[]}`, `{"type":"record","name":"1a","fields":[]}`, `{"type":"record","name":"R"}`, `{"type":"record","name":"int","fields":[]}`,
		`{"type":"record","name":"R","fields":[{"name":"a"}]}`, `{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}`,
		`{"type":"record","name":"R","fields":[{"name":"a-b","type":"int"}]}`, `{"type":"record","name":"R","fields":[{"name":"a","type":"int","order":"up"}]}`,
		`{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":"x"}]}`, `{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":3000000000}]}`,
		`{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"],"default":"x"}]}`,
		`{"type":"enum","name":"E"}`, `{"type":"enum","name":"E","symbols":["A","A"]}`, `{"type":"enum","name":"E","symbols":["a b"]}`, `{"type":"enum","name":"E","symbols":["A"],"default":"B"}`,
		`{"type":"fixed","name":"F"}`, `{"type":"fixed","name":"F","size":-1}`, `{"type":"fixed","name":"F","size":1e9}`,
		`[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]`, `"int" "int"`, `{"type":"record","name":"R","fields":[],"aliases":"x"}`,
	} {
		if s, err := Parse(text, Options{Defaults: true}); err == nil {
			t.Errorf("%s was taken as %s", text, s.Canonical(nil))
		}
	}
}

// FuzzParse: whatever comes is refused or has a canonical text that is read as the same schema, and can be compared with itself.
func FuzzParse(f *testing.F) {
	f.Add(`{"type":"record","name":"a.R","fields":[{"name":"n","type":["null","R"],"default":null},{"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}}]}`)
	f.Add(`{"type":"fixed","name":"F","namespace":"","size":3,"aliases":["x.y"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, o := range []Options{{Defaults: true}, {Normalize: true}} {
			s, err := Parse(text, o)
			if err != nil {
				continue
			}
			got := s.Canonical(nil)
			o.Known = nil
			again, err := Parse(got, o)
			if err != nil || again.Canonical(nil) != got {
				t.Fatalf("%q became %s: %v", text, got, err)
			}
			if found := Read(s, again); len(found) > 0 {
				t.Fatalf("%s does not read itself: %v", got, found)
			}
		}
	})
}

// TestDefaultsAreBounded: a default in unions of records that name each other has 2^60 ways not to fit, and is refused at once.
func TestDefaultsAreBounded(t *testing.T) {
	deep := strings.Repeat(`{"f":`, 60) + "1" + strings.Repeat("}", 60)
	text := `{"type":"record","name":"A","fields":[{"name":"f","type":[{"type":"record","name":"B","fields":[{"name":"f","type":["A","B"]}]},"A"],"default":` + deep + `}]}`
	if s, err := Parse(text, Options{Defaults: true}); err == nil {
		t.Errorf("taken as %s", s.Canonical(nil))
	}
}
