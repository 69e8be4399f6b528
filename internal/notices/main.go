// Command notices prints the licences of every module that is linked into
// forebay, as their terms ask for: `make notices` writes THIRD_PARTY_NOTICES.md.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

type module struct{ path, version, dir string }

func run() error {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}", "./cmd/forebay").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	seen := map[string]module{}
	for _, line := range strings.Split(string(out), "\n") {
		if f := strings.Fields(line); len(f) == 3 {
			seen[f[0]] = module{f[0], f[1], f[2]}
		}
	}
	byText := map[string][]module{}
	for _, m := range seen {
		text, err := licence(m.dir)
		if err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
		byText[text] = append(byText[text], m)
	}
	var texts []string
	for text, ms := range byText {
		sort.Slice(ms, func(i, j int) bool { return ms[i].path < ms[j].path })
		texts = append(texts, text)
	}
	sort.Slice(texts, func(i, j int) bool { return byText[texts[i]][0].path < byText[texts[j]][0].path })
	w := bufio.NewWriter(os.Stdout)
	fmt.Fprint(w, "# Third-party notices\n\nThe modules that are linked into forebay, and their licences.\n")
	for _, text := range texts {
		fmt.Fprintln(w)
		for _, m := range byText[text] {
			fmt.Fprintf(w, "## %s %s\n", m.path, m.version)
		}
		fmt.Fprintf(w, "\n```\n%s\n```\n", strings.TrimSpace(text))
	}
	return w.Flush()
}

// licence is the text of the licence and notice files of a module.
func licence(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !strings.HasPrefix(name, "LICEN") && !strings.HasPrefix(name, "NOTICE") && !strings.HasPrefix(name, "COPYING") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		b.Write(bytes.TrimSpace(text))
		b.WriteString("\n\n")
	}
	if b.Len() == 0 {
		return "", fmt.Errorf("no licence file in %s", filepath.Base(dir))
	}
	return b.String(), nil
}
