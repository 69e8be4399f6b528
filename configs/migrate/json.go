package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// maxDepth bounds what lies in each other: expand=info has five levels.
const maxDepth = 16

// node is a JSON value with its line.
type node struct {
	kind    byte // { [ s(calar) n(ull)
	text    string
	line    int
	members []member
	items   []node
}

type member struct {
	key   string
	line  int
	value node
}

func (n *node) get(key string) *node {
	for i := range n.members {
		if n.members[i].key == key {
			return &n.members[i].value
		}
	}
	return nil
}

// jsonReader is a JSON text that is read token by token, so that each key has its line.
type jsonReader struct {
	file string
	text []byte
	d    *json.Decoder
	at   int64 // up to where lines were counted
	line int
}

func (r *jsonReader) token() (json.Token, error) {
	t, err := r.d.Token()
	to := min(r.d.InputOffset(), int64(len(r.text)))
	r.line += bytes.Count(r.text[r.at:to], []byte("\n"))
	r.at = to
	if err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			r.line += bytes.Count(r.text[r.at:min(max(syntax.Offset, r.at), int64(len(r.text)))], []byte("\n"))
		}
		what := "not JSON: " + err.Error()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			what = "not JSON: it ends too early"
		}
		return nil, bad(r.file, r.line, what, "")
	}
	return t, nil
}

func (r *jsonReader) value(depth int) (n node, err error) {
	t, err := r.token()
	if err != nil {
		return n, err
	}
	n.line = r.line
	switch t := t.(type) {
	case json.Delim:
		n.kind = byte(t)
		if depth == maxDepth {
			return n, bad(r.file, r.line, "too many levels for a connector's JSON", "")
		}
		for r.d.More() {
			if n.kind == '[' {
				item, err := r.value(depth + 1)
				if err != nil {
					return n, err
				}
				n.items = append(n.items, item)
				continue
			}
			key, err := r.token()
			if err != nil {
				return n, err
			}
			name, ok := key.(string)
			if !ok {
				return n, bad(r.file, r.line, "not JSON: a key is a string", "")
			}
			m := member{key: name, line: r.line}
			if m.value, err = r.value(depth + 1); err != nil {
				return n, err
			}
			n.members = append(n.members, m)
		}
		_, err = r.token() // the end
		return n, err
	case nil:
		n.kind = 'n'
	case string:
		n.kind, n.text = 's', t
	default:
		n.kind, n.text = 's', fmt.Sprint(t) // a number as it was written, true, false
	}
	return n, nil
}

func readJSON(file string, text []byte) ([]connector, error) {
	r := jsonReader{file: file, text: text, d: json.NewDecoder(bytes.NewReader(text)), line: 1}
	r.d.UseNumber()
	root, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := r.d.Token(); !errors.Is(err, io.EOF) {
		return nil, bad(file, r.line, "more text behind the JSON", "one JSON value in a file; several connectors are a list")
	}
	found, err := connectorsOf(file, "", root)
	if err == nil && len(found) == 0 {
		err = bad(file, root.line, "no connector in it", "")
	}
	return found, err
}

// connectorsOf finds the connectors in any of Connect's forms: {name, config}, the config alone, and lists and maps of them.
func connectorsOf(file, name string, n node) (found []connector, err error) {
	switch {
	case n.kind == '[':
		for _, item := range n.items {
			more, err := connectorsOf(file, "", item)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
		return found, nil
	case n.kind == 's':
		return nil, bad(file, n.line, "names alone say nothing of connectors", "ask for GET /connectors?expand=info")
	case n.kind != '{':
		return nil, bad(file, n.line, "no connector: it is null", "")
	}
	if info := n.get("info"); info != nil && info.kind == '{' { // GET /connectors?expand=info
		return connectorsOf(file, name, *info)
	}
	if config := n.get("config"); config != nil {
		if own := n.get("name"); own != nil && own.kind == 's' {
			name = own.text
		}
		if config.kind != '{' {
			return nil, bad(file, config.line, "config is not an object", "it holds the connector's fields")
		}
		c, err := flat(file, name, *config)
		return []connector{c}, err
	}
	scalar := func(m member) bool { return m.value.kind != '{' && m.value.kind != '[' }
	if n.get("connector.class") != nil || len(n.members) == 0 || slices.ContainsFunc(n.members, scalar) {
		c, err := flat(file, name, n)
		return []connector{c}, err
	}
	if n.get("status") != nil && len(n.members) == 1 {
		return nil, bad(file, n.line, "a status without the config", "ask for GET /connectors?expand=info")
	}
	if name != "" {
		return nil, bad(file, n.line, fmt.Sprintf("%s is no connector", shown(name)), "it has no config")
	}
	for _, m := range n.members {
		if m.key == "" {
			return nil, bad(file, m.line, "a connector without a name", "")
		}
		more, err := connectorsOf(file, m.key, m.value)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// flat reads a config's fields. A null is as good as no field, as in Connect.
func flat(file, name string, n node) (connector, error) {
	c := connector{file: file, name: name, line: n.line}
	for _, m := range n.members {
		switch m.value.kind {
		case 's':
			c.fields = append(c.fields, field{m.key, m.value.text, m.line})
		case 'n':
		default:
			return c, bad(file, m.line, fmt.Sprintf("field %s is not a text", shown(m.key)), "the configs of Connect are flat")
		}
	}
	return c, nil
}
