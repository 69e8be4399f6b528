package transform

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/transforms.md")

// TestDocument: the page says what the code takes.
func TestDocument(t *testing.T) {
	const path = "../../docs/transforms.md"
	if *update {
		if err := os.WriteFile(path, []byte(Document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != Document() {
		t.Error("docs/transforms.md is not what the types say: go test ./runtime/transform -run TestDocument -update")
	}
}

// TestTypes: every type documents itself without a mistake.
func TestTypes(t *testing.T) {
	for _, typ := range Types() {
		if err := typ.Fields().Check(); err != nil {
			t.Errorf("%s: %v", typ.Name, err)
		}
		if typ.Spec.Doc == "" || typ.Connect == "" || typ.Example == "" {
			t.Errorf("%s is not documented", typ.Name)
		}
	}
}
