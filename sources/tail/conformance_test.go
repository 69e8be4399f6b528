package tail

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/conformance"
	"github.com/forebayhub/forebay/connectors/spec"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	n := 0
	conformance.Source(t, conformance.SourceKit{
		New: func(t testing.TB) connectors.Source {
			v, findings := Spec().Parse(spec.Node{Shape: spec.Mapping, Map: []spec.Entry{
				{Key: "paths", Value: spec.Node{Shape: spec.Scalar, Text: filepath.Join(dir, "*.log")}},
				{Key: "poll", Value: spec.Node{Shape: spec.Scalar, Text: "5ms"}},
			}})
			if len(findings) > 0 {
				t.Fatalf("%+v", findings)
			}
			s, err := New(v, connectors.Env{Name: "logs", Group: "g", Host: "h1"})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Grow: func(tb testing.TB, count int) (ids []string) {
			for range count {
				n++
				line := fmt.Sprintf("line %d", n)
				write(t, filepath.Join(dir, fmt.Sprintf("%d.log", n%3)), line+"\n")
				ids = append(ids, line)
			}
			return ids
		},
		Identity: func(r *connectors.Record) string { return string(r.RawValue) },
	})
}

func TestSpec(t *testing.T) {
	if err := Spec().Check(); err != nil {
		t.Fatal(err)
	}
}
