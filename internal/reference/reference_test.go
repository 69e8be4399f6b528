package reference

import (
	"os"
	"path/filepath"
	"testing"
)

func env(name string) (string, bool) {
	v, ok := map[string]string{"A": "1", "EMPTY": ""}[name]
	return v, ok
}

func TestExpand(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text, want string
		problems   int
		here       bool
	}{
		{text: "plain", want: "plain"},
		{text: "a${A}b${A}", want: "a1b1"},
		{text: "$${A} $A $", want: "${A} $A $"},
		{text: "${EMPTY}|${EMPTY:-d}|${NONE:-d}|${NONE:-}", want: "|d|d|"},
		{text: "${file:" + secret + "}", want: "s3cret"},
		{text: "x${NONE}y", want: "xy", problems: 1, here: true},
		{text: "${file:/nowhere/at/all}", problems: 1, here: true},
		{text: "${A", problems: 1},
		{text: "${}", problems: 1},
		{text: "${NONE}${}", problems: 2, here: true},
	} {
		got, problems := Expand(c.text, env)
		if got != c.want || len(problems) != c.problems {
			t.Errorf("%q: %q %v", c.text, got, problems)
		}
		if len(problems) > 0 && problems[0].Here != c.here {
			t.Errorf("%q: here is %t", c.text, problems[0].Here)
		}
	}
}

func TestPure(t *testing.T) {
	for text, want := range map[string]bool{
		"${A}": true, "${file:/run/secrets/pg}": true,
		"${A:-secret}": false, "x${A}": false, "${A}${B}": false, "plain": false, "${}": false,
	} {
		if Pure(text) != want {
			t.Errorf("%q is %t", text, !want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"${A}", "$$", "${", "${file:", "a${B:-c}d", "$}{"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = Expand(text, env)
		Pure(text)
	})
}
