//go:build synctests

package exactly

import (
	"flag"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/tests/mutation"
)

var (
	search = flag.Int("search", 0, "TestMutations looks for every mutation in so many seeds, from the first on")
	only   = flag.String("only", "", "TestMutations takes only mutations whose name has this")
)

// TestMutations takes guards out, one at a time, and wants each found. -search N looks for all of them in the first N seeds. Without it, it is
// one of them.
func TestMutations(t *testing.T) {
	tried := 0
	for _, m := range Mutations {
		count := *search
		if count == 0 {
			if count = 50; tried > 0 && *only == "" {
				break // each is a build
			}
		}
		if strings.Contains(m.Name, *only) {
			tried++
			t.Run(m.Name, func(t *testing.T) { m.Hunt(t, "synctests", count) })
		}
	}
	if tried == 0 {
		t.Error("no mutation was tried")
	}
}

// TestPatches sees that every mutation still fits the product.
func TestPatches(t *testing.T) { mutation.Check(t, Mutations, "DESIGN.md") }
