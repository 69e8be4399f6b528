package file

import (
	"bufio"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/conformance"
	"github.com/forebayhub/forebay/connectors/spec"
)

func TestConformance(t *testing.T) {
	conformance.Sink(t, conformance.SinkKit{New: func(t testing.TB) (connectors.Sink, func() []string) {
		dir := t.TempDir()
		typ := Type()
		cfg, findings := typ.Spec.Parse(spec.FlatNode(map[string]string{"url": dir, "topics": "conformance", "format": "text"}))
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		sink, err := typ.New(cfg, connectors.Env{Name: "conformance", Group: "g", Host: "h", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return sink, func() []string { return lines(t, filepath.Join(dir, "conformance")) }
	}})
}

// lines reads what a reader of the directory sees.
func lines(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), "_") || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // it was only read
		for s := bufio.NewScanner(f); s.Scan(); {
			out = append(out, s.Text())
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return out
}
