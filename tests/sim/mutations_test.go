package sim

import (
	"cmp"
	"flag"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/tests/mutation"
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
		m.Kind = cmp.Or(m.Kind, string(Common))
		t.Run(m.Name, func(t *testing.T) { m.Hunt(t, "", count) })
	}
	if tried == 0 {
		t.Errorf("no mutation was tried; one that is not found soon needs -search")
	}
}

// CI tries one of so many mutations that are found within an eighth of so many seeds: each is a build.
const (
	ciEvery = 9
	ciSeeds = 400
)

// TestPatches sees that every mutation still fits the product.
func TestPatches(t *testing.T) { mutation.Check(t, Mutations, "MUTATIONS.md") }
