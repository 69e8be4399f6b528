// Package mutation takes guards out of the product, one at a time, so that a suite can be asked whether it would notice. Nothing in the product
// switches one: each is a patch of a source file that `go build -overlay` puts in the file's place.
package mutation

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Mutation is a guard that is taken out.
type Mutation struct {
	Name string
	Kind string   // of the histories that find it, for the suite's -kind; "": the usual ones
	File string   // from the root of the module
	Swap []string // what is there, what comes instead, and so on; each is there once
	// Seed is the first that finds it, as of the last search; 0: none of those tried. A change of the suite, or of the order in which
	// the product does things, gives other histories under the same numbers.
	Seed uint64
	// Test is what finds it where the seeds do not: a package and the name of a test of it.
	Test []string
}

// root of the module, from a package below tests.
const root = "../.."

// patched is the file's text without the guard; what does not fit is said.
func (m Mutation) patched(t testing.TB) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	for i := 0; i < len(m.Swap); i += 2 {
		if n := strings.Count(text, m.Swap[i]); n != 1 {
			t.Errorf("%s has %d times %q: mend the patch of %s", m.File, n, m.Swap[i], m.Name)
		}
		text = strings.Replace(text, m.Swap[i], m.Swap[i+1], 1)
	}
	return text
}

// Overlay writes the file for `go build -overlay`.
func (m Mutation) Overlay(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	name, err := filepath.Abs(filepath.Join(root, m.File))
	if err != nil {
		t.Fatal(err)
	}
	patched, overlay := filepath.Join(dir, "patched.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {name: patched}})
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string][]byte{patched: []byte(m.patched(t)), overlay: list} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return overlay
}

var found = regexp.MustCompile(`seed (\d+): (.*)`)

// Hunt wants the mutation found: by the test that it names, or by TestSeeds of the package that is tested, with so many seeds.
func (m Mutation) Hunt(t *testing.T, tags string, seeds int) {
	t.Helper()
	build := []string{"test", "-vet=off", "-tags", tags, "-overlay", m.Overlay(t)}
	if m.Test != nil {
		out, err := exec.Command("go", append(build, "-run", m.Test[1], filepath.Join(root, m.Test[0]))...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "--- FAIL: "+m.Test[1]) {
			t.Errorf("%s is not found by %s: %v: %.2000s", m.Name, m.Test[1], err, out)
			return
		}
		t.Logf("soak: found by %s of %s", m.Test[1], strings.TrimPrefix(m.Test[0], "./"))
		return
	}
	binary := filepath.Join(t.TempDir(), "mutant.test")
	if out, err := exec.Command("go", append(build, "-c", "-o", binary, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	args := []string{"-test.run", "TestSeeds$", "-seeds", strconv.Itoa(seeds)}
	if m.Kind != "" {
		args = append(args, "-kind", m.Kind)
	}
	out, err := exec.Command(binary, args...).CombinedOutput()
	seed := found.FindSubmatch(out)
	switch {
	case err == nil:
		t.Errorf("%s is not found by %d seeds", m.Name, seeds)
	case seed == nil:
		t.Errorf("%s: %v: %.2000s", m.Name, err, out)
	default:
		t.Logf("soak: found by seed %s: %.200s", seed[1], seed[2])
	}
}

// Check sees that every mutation still fits the product, and is told in a page.
func Check(t testing.TB, all []Mutation, page string) {
	t.Helper()
	seen := map[string]bool{}
	doc, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		m.patched(t)
		if seen[m.Name] || !strings.Contains(string(doc), "`"+m.Name+"`") {
			t.Errorf("%s is there twice, or not in %s", m.Name, page)
		}
		seen[m.Name] = true
	}
}
