package migrate

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/forebayhub/forebay/internal/problem"
)

// maxFileBytes bounds a file: a cluster with thousands of connectors has less.
const maxFileBytes = 4 << 20

// connector is one config as Kafka Connect has it.
type connector struct {
	file   string
	name   string
	line   int
	fields []field // each key once: of several the last counts, as in Connect
	double []field // the earlier ones
}

// field is one entry of a config.
type field struct {
	key, value string
	line       int
}

// get is a field's value, "" when it is not there.
func (c *connector) get(key string) string {
	f, _ := c.find(key)
	return f.value
}

func (c *connector) find(key string) (field, bool) {
	i := slices.IndexFunc(c.fields, func(f field) bool { return f.key == key })
	if i < 0 {
		return field{}, false
	}
	return c.fields[i], true
}

// once keeps the last field of each key.
func (c *connector) once() {
	last := map[string]int{}
	for i, f := range c.fields {
		last[f.key] = i
	}
	all := c.fields
	c.fields = nil
	for i, f := range all {
		if last[f.key] == i {
			c.fields = append(c.fields, f)
		} else {
			c.double = append(c.double, f)
		}
	}
}

// bad is an error of the class Input.
func bad(file string, line int, what, hint string) error {
	where := file
	if line > 0 {
		where = fmt.Sprintf("%s:%d", file, line)
	}
	return &problem.Error{Code: "bad-connector", Class: problem.Input, Where: where, What: what, Hint: hint}
}

// read finds the connectors of a file: JSON in any of the forms that Connect takes or gives, or properties.
func read(f File) (found []connector, err error) {
	if len(f.Text) > maxFileBytes {
		return nil, bad(f.Name, 0, fmt.Sprintf("%d bytes are too many for connectors", len(f.Text)), "at most 4 MiB in a file")
	}
	text := bytes.TrimPrefix(f.Text, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(text) {
		line := 1
		for rest := text; len(rest) > 0; {
			r, n := utf8.DecodeRune(rest)
			if r == utf8.RuneError && n == 1 {
				break
			}
			if r == '\n' {
				line++
			}
			rest = rest[n:]
		}
		return nil, bad(f.Name, line, "not UTF-8", "save the file in UTF-8; in properties \\u00e9 stands for é")
	}
	switch start := bytes.TrimLeft(text, " \t\r\n"); {
	case len(start) == 0:
		return nil, bad(f.Name, 1, "the file is empty", "a connector's JSON or properties are wanted")
	case start[0] == '{' || start[0] == '[':
		found, err = readJSON(f.Name, text)
	case slices.Contains([]string{".yaml", ".yml"}, strings.ToLower(filepath.Ext(f.Name))):
		return nil, bad(f.Name, 1, "YAML is not read", "give the connector's JSON: curl http://connect:8083/connectors?expand=info")
	default:
		found, err = readProperties(f.Name, string(text))
	}
	if err != nil {
		return nil, err
	}
	for i := range found {
		c := &found[i]
		c.once()
		if c.name == "" {
			c.name = c.get("name")
		}
		if c.name == "" {
			c.name = strings.TrimSuffix(filepath.Base(f.Name), filepath.Ext(f.Name))
		}
		if strings.TrimSpace(c.get("connector.class")) == "" {
			return nil, bad(f.Name, c.line, fmt.Sprintf("%s has no connector.class", shown(c.name)), "a connector's config is wanted, not a worker's")
		}
	}
	return found, nil
}

// shown is a name from outside as a line of text may have it.
func shown(s string) string {
	const longest = 120
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return oneLine(s)
}

// oneLine is a text without what would end a line, or could not be seen.
func oneLine(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == utf8.RuneError
	}) {
		return fmt.Sprintf("%+q", s)
	}
	return s
}
