package pattern

import (
	"errors"
	"regexp/syntax"
	"strings"
	"testing"
)

func TestWholeNames(t *testing.T) {
	for text, names := range map[string]string{"": "", "a": "a", "a|bc": "bc", "orders-.*": "orders-1", "(?i)A{2,3}": "aaa", `[\p{L}\d_-]{1,249}`: "é_1"} {
		p, err := Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		if !p.MatchString(names) || p.MatchString("x"+names+" ") {
			t.Errorf("%q does not match %q as a whole", text, names)
		}
	}
}

func TestRefusals(t *testing.T) {
	for text, code := range map[string]syntax.ErrorCode{
		"a)|(b":                          syntax.ErrUnexpectedParen,
		"[":                              syntax.ErrMissingBracket,
		strings.Repeat(".{0,1000}", 800): syntax.ErrLarge,
		strings.Repeat("(x{9}){99}", 20): syntax.ErrLarge,
		strings.Repeat(`\pL`, 1<<20):     syntax.ErrLarge,
	} {
		_, err := Compile(text)
		var e *syntax.Error
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("%.40q: %v, want %s", text, err, code)
		}
	}
}

// Who lists the topics that it reads has a long expression, and a cheap one.
func TestManyNames(t *testing.T) {
	names := make([]string, 300)
	for i := range names {
		names[i] = strings.Repeat(string(rune('a'+i%26)), 20) + "-orders-" + string(rune('a'+i/26))
	}
	p, err := Compile(strings.Join(names, "|"))
	if err != nil {
		t.Fatal(err)
	}
	if !p.MatchString(names[299]) {
		t.Error("the last name is not matched")
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("orders-.*", "orders-1")
	f.Add(strings.Repeat("(a{9}){99}", 30), "a")
	f.Add(`\p{L}{1000}`, "é")
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := Compile(text)
		if err != nil {
			return
		}
		compiled, err := syntax.Parse(p.String(), syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		prog, err := syntax.Compile(compiled.Simplify())
		if err != nil {
			t.Fatal(err)
		}
		if n := len(prog.Inst); n > 2*maxSize {
			t.Errorf("%q has %d instructions", text, n)
		}
		p.MatchString(name)
	})
}
