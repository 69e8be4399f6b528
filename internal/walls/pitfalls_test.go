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
	for _, line := range lines {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !named.MatchString(cells[2]) {
			t.Errorf("no pitfall and its tests: %s", line)
			continue
		}
		namedTestsAreThere(t, "a pitfall of docs/pitfalls.md", cells[2])
	}
}

var named = regexp.MustCompile(`Test\w+`)

// namedTestsAreThere checks "room: TestA, TestB · room: TestC · docs/page.md".
func namedTestsAreThere(t *testing.T, who, cell string) {
	t.Helper()
	for _, in := range strings.Split(cell, " · ") {
		room, names, _ := strings.Cut(strings.TrimSpace(in), ": ")
		if strings.HasSuffix(room, ".md") {
			if _, err := os.Stat(filepath.Join("../..", room)); err != nil {
				t.Errorf("%s is not there, and %s needs it", room, who)
			}
			continue
		}
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
		if !named.MatchString(names) {
			t.Errorf("%q names no test", in)
		}
		for _, name := range named.FindAllString(names, -1) {
			if !strings.Contains(all.String(), "func "+name+"(") {
				t.Errorf("%s has no %s: %s is without its test", room, name, who)
			}
		}
	}
}

// Every demand of docs/demands.md says yes, no or partly, and what it names is there.
func TestDemands(t *testing.T) {
	doc, err := os.ReadFile("../../docs/demands.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "|---|---|---|---|\n")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if len(lines) < 15 {
		t.Fatalf("only %d demands", len(lines))
	}
	for _, line := range lines {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			t.Errorf("no demand, answer and place: %s", line)
			continue
		}
		answer, where := strings.TrimSpace(cells[3]), strings.TrimSpace(cells[4])
		kind := regexp.MustCompile(`^(yes|no|partly)\b`).FindString(answer)
		if kind == "" || where == "nothing" && kind != "no" {
			t.Errorf("yes, no or partly, and only no without a test or a page: %s", line)
		}
		if where != "nothing" {
			namedTestsAreThere(t, "demand"+cells[1]+"of docs/demands.md", where)
		}
	}
}
