package configs

import (
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors/spec"
)

// TestColons: a colon that no space follows is a part of a text, wherever a list stands.
func TestColons(t *testing.T) {
	for list, want := range map[string]string{
		"[kafka-1:9092]":                "kafka-1:9092",
		"[localhost:9092, 127.0.0.1:1]": "localhost:9092 127.0.0.1:1",
		"[a, b:c:d, é:1 ]":              "a b:c:d é:1",
		"[http://x:9/y, 1:0x10, a:1_0]": "http://x:9/y 1:0x10 a:1_0",
		"[a::b, null:true]":             "a::b null:true",
		`["a:1", 'b:2', "c: d"]`:        "a:1 b:2 c: d",
		"[a: 1]":                        "",
		"[{a:1}]":                       "",
		"[[a:1]]":                       "",
		`["a":1]`:                       "",
	} {
		for _, text := range []string{"{k: " + list + "}", "{g: {k: " + list + "}}", "a:\n  - {k: " + list + "}"} {
			var problems Problems
			r := reader{file: "x", getenv: func(string) (string, bool) { return "", false }, problems: &problems}
			n, ok := r.read([]byte(text))
			if !ok {
				t.Errorf("%s: %v", text, problems)
				continue
			}
			for n.Shape != spec.List || n.List[0].Shape == spec.Mapping && n.List[0].Map[0].Key == "k" {
				if n.Shape == spec.List {
					n = n.List[0]
				}
				n = n.Map[0].Value
			}
			var got []string
			for _, item := range n.List {
				if item.Shape == spec.Scalar {
					got = append(got, item.Text)
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: %q, want %q", text, got, want)
			}
		}
	}
}
