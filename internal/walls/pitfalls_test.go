package walls

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every pitfall of docs/pitfalls.md has tests, and they are where it says.
func TestPitfalls(t *testing.T) {
	doc, err := os.ReadFile("../../docs/pitfalls.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "|---|---|\n")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if len(lines) < 15 {
		t.Fatalf("only %d pitfalls", len(lines))
	}
	named := regexp.MustCompile(`Test\w+`)
	for _, line := range lines {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !named.MatchString(cells[2]) {
			t.Errorf("no pitfall and its tests: %s", line)
			continue
		}
		for _, in := range strings.Split(cells[2], " · ") {
			room, names, _ := strings.Cut(strings.TrimSpace(in), ": ")
			files, err := filepath.Glob(filepath.Join("../..", room, "*_test.go"))
			if err != nil || len(files) == 0 {
				t.Errorf("%q has no tests (%v): name the room where they are", room, err)
			}
			var all strings.Builder
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				all.Write(b)
			}
			for _, name := range named.FindAllString(names, -1) {
				if !strings.Contains(all.String(), "func "+name+"(") {
					t.Errorf("%s has no %s: a pitfall of docs/pitfalls.md is without its test", room, name)
				}
			}
		}
	}
}
