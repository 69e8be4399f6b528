package sim

import (
	"cmp"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	search = flag.Int("search", 0, "TestMutations looks for every mutation in so many seeds, from the first on")
	only   = flag.String("only", "", "TestMutations takes only mutations whose name has this")
)

// TestMutations takes guards out, one at a time, and wants each found. -search N looks for all of them in the first N seeds. Without it, it is a
// few of those that are found soon.
func TestMutations(t *testing.T) {
	soon, tried := 0, 0
	for _, m := range Mutations {
		if !strings.Contains(m.Name, *only) {
			continue
		}
		count := *search
		if count == 0 {
			if count = ciSeeds; m.Seed == 0 || m.Seed > ciSeeds/8 {
				continue
			}
			if soon++; soon%ciEvery != 1 && *only == "" {
				continue
			}
		}
		tried++
		t.Run(m.Name, func(t *testing.T) {
			if m.Test != nil {
				out, err := exec.Command("go", "test", "-trimpath", "-vet=off", "-overlay", overlay(t, m), "-run", m.Test[1], filepath.Join("../..", m.Test[0])).CombinedOutput()
				if err == nil || !strings.Contains(string(out), "--- FAIL: "+m.Test[1]) {
					t.Errorf("%s is not found by %s: %v: %.2000s", m.Name, m.Test[1], err, out)
				}
				return
			}
			out, err := exec.Command(mutant(t, m), "-test.run", "TestSeeds$", "-kind", string(cmp.Or(m.Kind, Common)), "-seeds", strconv.Itoa(count)).CombinedOutput()
			found := regexp.MustCompile(`seed (\d+): (.*)`).FindSubmatch(out)
			switch {
			case err == nil:
				t.Errorf("%s is not found by %d seeds", m.Name, count)
			case found == nil:
				t.Errorf("%s: %v: %.2000s", m.Name, err, out)
			default:
				t.Logf("%s: seed %s: %.200s", m.Name, found[1], found[2])
			}
		})
	}
	if tried == 0 {
		t.Errorf("no mutation was tried; one that is not found soon needs -search")
	}
}

// CI tries one of so many mutations that are found within an eighth of so many seeds: each is a build.
const (
	ciEvery = 8
	ciSeeds = 400
)

// mutant builds this package's test without one guard.
func mutant(t *testing.T, m Mutation) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sim.test")
	build := exec.Command("go", "test", "-c", "-trimpath", "-vet=off", "-overlay", overlay(t, m), "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// overlay puts a patched file in the place of the product's.
func overlay(t *testing.T, m Mutation) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(root, m.File)
	source, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := string(source)
	for i := 0; i < len(m.Swap); i += 2 {
		if n := strings.Count(text, m.Swap[i]); n != 1 {
			t.Fatalf("%s has %d times %q: mend the patch of %s", m.File, n, m.Swap[i], m.Name)
		}
		text = strings.Replace(text, m.Swap[i], m.Swap[i+1], 1)
	}
	patched, overlay := filepath.Join(dir, "patched.go"), filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {name: patched}})
	if err != nil {
		t.Fatal(err)
	}
	for file, b := range map[string][]byte{patched: []byte(text), overlay: list} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return overlay
}

// TestPatches sees that every mutation still fits the product.
func TestPatches(t *testing.T) {
	seen := map[string]bool{}
	doc, err := os.ReadFile("MUTATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range Mutations {
		source, err := os.ReadFile(filepath.Join("../..", m.File))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(m.Swap); i += 2 {
			if n := strings.Count(string(source), m.Swap[i]); n != 1 {
				t.Errorf("%s has %d times %q: mend the patch of %s", m.File, n, m.Swap[i], m.Name)
			}
		}
		if seen[m.Name] || !strings.Contains(string(doc), "`"+m.Name+"`") {
			t.Errorf("%s is there twice, or not in MUTATIONS.md", m.Name)
		}
		seen[m.Name] = true
	}
}
