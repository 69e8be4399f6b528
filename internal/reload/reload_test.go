package reload

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A changed file is a new value, a broken one leaves the old, and what is wrong with it is told once.
func TestChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	var told []string
	loads := 0
	v, err := New([]string{path}, func() (string, error) {
		loads++
		b, err := os.ReadFile(path)
		if strings.HasPrefix(string(b), "bad") {
			err = errors.New(string(b))
		}
		return string(b), err
	}, func(err error) { told = append(told, err.Error()) })
	if err != nil {
		t.Fatal(err)
	}
	get := func() string { v.looked = time.Time{}; return v.Get() } // as if Every had passed
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ text, want string }{{"one", "one"}, {"two", "two"}, {"bad", "two"}, {"bad", "two"}, {"bad2", "two"}, {"six", "six"}, {"six", "six"}} {
		if b, _ := os.ReadFile(path); string(b) != step.text {
			write(step.text)
		}
		if got := get(); got != step.want {
			t.Errorf("%q gives %q, want %q", step.text, got, step.want)
		}
	}
	if len(told) != 2 || told[0] != "bad" || told[1] != "bad2" {
		t.Errorf("told %q", told)
	}
	// The same length within a tick of the clock, and another file of the same length and time.
	write("xis")
	if got := get(); got != "xis" {
		t.Errorf("a young file is believed by its time: %q", got)
	}
	other := path + "2"
	if err := os.WriteFile(other, []byte("own"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, other} {
		if err := os.Chtimes(p, old, old); err != nil {
			t.Fatal(err)
		}
	}
	get()
	get()
	before := loads
	if get(); loads != before {
		t.Error("a file that is as it was is read again")
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != "own" {
		t.Errorf("a file that took another's place is not seen: %q", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := get(); got != "own" || len(told) != 3 {
		t.Errorf("without the file: %q, told %q", got, told)
	}
}
