package transform

import (
	"fmt"
	"strings"
	"testing"
)

// TestPrograms: what would end the process by its depth, or keep a processor busy, is refused before it is compiled; a long program is not.
func TestPrograms(t *testing.T) {
	alternatives := func(n int) string {
		var b strings.Builder
		b.WriteString(". as $a")
		for i := range n {
			fmt.Fprintf(&b, " ?// $a%d", i)
		}
		return b.String() + " | ."
	}
	for name, c := range map[string]struct{ program, err string }{
		"a megabyte of brackets": {strings.Repeat("[", 1<<20) + strings.Repeat("]", 1<<20), "bytes"},
		"thousands of ?//":       {alternatives(4000), "alternatives"},
		"a hundred ?//":          {alternatives(99), ""},
		"nested, and within":     {strings.Repeat("[", 9000) + strings.Repeat("]", 9000), ""},
		"long":                   {strings.Repeat(".a += 1 | ", 3000) + ".", ""},
	} {
		err := jqCompiles(c.program)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
