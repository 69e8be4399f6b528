package tail

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/conformance"
	"github.com/forebayhub/forebay/connectors/spec"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	typ := Type()
	cfg, findings := typ.Spec.Parse(spec.FlatNode(map[string]string{"paths": filepath.Join(dir, "*.log")}))
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	line := 0
	conformance.Source(t, conformance.SourceKit{
		New: func(t testing.TB) connectors.Source {
			src, err := typ.New(cfg, connectors.Env{Name: "logs", Group: "g", Host: "h", Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			return src
		},
		Grow: func(t testing.TB, n int) []string {
			f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%d.log", line%3)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for range n {
				text := fmt.Sprintf("line %d", line)
				line++
				out = append(out, text)
				if _, err := fmt.Fprintln(f, text); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			return out
		},
		Identity: func(r *connectors.Record) string { return string(r.RawValue) },
	})
}
