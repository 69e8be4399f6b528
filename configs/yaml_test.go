package configs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors/spec"
)

// parse reads a text without variables.
func parse(text []byte) (spec.Node, Problems) {
	var problems Problems
	r := reader{file: "x", getenv: func(string) (string, bool) { return "", false }, problems: &problems}
	n, _ := r.read(text)
	return n, problems
}

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
			n, problems := parse([]byte(text))
			if problems != nil {
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

// TestAliasesAreBounded: what aliases of aliases expand to is cut off, told once, and what is no alias does not count.
func TestAliasesAreBounded(t *testing.T) {
	var count func(n spec.Node) int
	count = func(n spec.Node) int {
		all := 1
		for _, v := range n.List {
			all += count(v)
		}
		for _, e := range n.Map {
			all += count(e.Value)
		}
		return all
	}
	ten := func(item string) string { return "[" + strings.Repeat(item+", ", 9) + item + "]" }
	text := "a: &a " + ten("x")
	for _, c := range []string{"b", "c", "d", "e"} { // 10^5 values
		text += fmt.Sprintf("\n%s: &%s %s", c, c, ten("*"+string(c[0]-1)))
	}
	n, problems := parse([]byte(text + "\nf: *e\ng: {<<: *a}\n"))
	if got := count(n); got > maxAliasNodes+10_000 {
		t.Errorf("%d values", got)
	}
	if len(problems) != 1 || problems[0].String() != "x:1:26: aliases expand to more than 10000 values" {
		t.Error(problems)
	}
	if n, problems := parse([]byte("a: [" + strings.Repeat("x, ", maxAliasNodes) + "&y z, *y]\n")); problems != nil || count(n) != maxAliasNodes+4 {
		t.Error(count(n), problems)
	}
}

// TestDepthIsBounded: the parser itself runs out of memory on some 100,000 brackets within each other.
func TestDepthIsBounded(t *testing.T) {
	for text, want := range map[string]string{
		strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth):         "",
		"a: " + strings.Repeat("[", 10_000):                                   "x:1:104: nested too deep for a config",
		"]" + strings.Repeat("{a: ", 10_000):                                  "x:1:402: nested too deep for a config",
		strings.Repeat("- ", 10_000):                                          "x:1:1001: nested too deep for a config",
		"a: [" + strings.Repeat("-1, [-x], ", 1000) + "]\n":                   "",
		"a:\n" + strings.Repeat("  - {b: [{c: [d]}]}\n", maxDepth+1) + "b:\n": "",
	} {
		_, problems := parse([]byte(text))
		var got string
		for _, p := range problems {
			got += p.String()
		}
		if got != want {
			t.Errorf("%.20s: %v", text, problems)
		}
	}
}

// TestMerge: a mapping's own keys win over those that it merges, and of what it merges the first.
func TestMerge(t *testing.T) {
	for text, want := range map[string]string{
		"{<<: *m, a: 1}":               "a=1 b=m c=m",
		"{a: 1, <<: *m}":               "a=1 b=m c=m",
		"{<<: [*n, *m], d: 1}":         "d=1 c=n a=m b=m",
		"{<<: {a: x, b: y}, b: 1}":     "b=1 a=x",
		"{<<: &o {a: x}, b: {<<: *o}}": "b={a=x} a=x",
		"{<<: []}":                     "",
		"{<<: x, a: 1}":                "x:3:5: `<<` merges a mapping or a list of mappings, and this is none",
		"{<<: [*m, x]}":                "x:3:5: `<<` merges a mapping or a list of mappings, and this is none",
		"{<<: [[*m]]}":                 "x:3:5: `<<` merges a mapping or a list of mappings, and this is none",
		"{<<: *none}":                  `x:3:9: alias *none has no anchor &none before it (a text that begins with * needs quotes: "*none")`,
	} {
		n, problems := parse([]byte("m: &m {a: m, b: m, c: m}\nn: &n {c: n}\nk: " + text + "\n"))
		var show func(n spec.Node) string
		show = func(n spec.Node) string {
			var all []string
			for _, e := range n.Map {
				v := e.Value.Text
				if e.Value.Shape == spec.Mapping {
					v = "{" + show(e.Value) + "}"
				}
				all = append(all, e.Key+"="+v)
			}
			return strings.Join(all, " ")
		}
		var got string
		if problems != nil {
			got = problems[0].String()
		} else {
			got = show(n.Map[2].Value)
		}
		if got != want || len(problems) > 1 {
			t.Errorf("%s: %q, want %q; %v", text, got, want, problems)
		}
	}
}

// TestByteOrderMark: an editor's mark at the beginning is none of the text; UTF-16 is told.
func TestByteOrderMark(t *testing.T) {
	for text, want := range map[string]string{
		"\ufeff# a comment\nsources: x\n": "",
		"\ufeffsources: x\n":              "",
		"\xff\xfes\x00o\x00":              "x:1:1: the file is UTF-16 (save it as UTF-8)",
		"\xfe\xff\x00s\x00o":              "x:1:1: the file is UTF-16 (save it as UTF-8)",
	} {
		n, problems := parse([]byte(text))
		if want != "" && (len(problems) != 1 || problems[0].String() != want) || want == "" && (problems != nil || len(n.Map) != 1 || n.Map[0].Key != "sources") {
			t.Errorf("%q: %+v %v", text, n, problems)
		}
	}
}
