package configs

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/forebayhub/forebay/connectors/spec"
)

// maxFileBytes bounds a file that is read as config; a larger one is surely not one.
const maxFileBytes = 4 << 20

// maxAliasNodes bounds what aliases may expand to ("billion laughs").
const maxAliasNodes = 10_000

// maxDepth bounds brackets within brackets, and maxDash the column of a list's dash ("- - - x"): the parser's memory grows with the square of the depth.
const maxDepth, maxDash = 100, 1000

// reader turns the text of one file into a spec.Node with every place kept.
type reader struct {
	file     string
	getenv   func(string) (string, bool)
	remote   bool // references are resolved elsewhere: one that this machine cannot resolve is a warning
	problems *Problems
	anchors  map[string]ast.Node
	expanded int // values that aliases have become so far
}

// read parses text. The second result is false when there is nothing to go on with.
func (r *reader) read(text []byte) (spec.Node, bool) {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // YAML 1.2, 5.2; the parser takes it for a part of the first key
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		r.problems.add(r.file, 1, 1, "the file is UTF-16", "save it as UTF-8")
		return spec.Node{}, false
	}
	tokens := lexer.Tokenize(string(text))
	if at := tooDeep(tokens); at != nil {
		r.problems.add(r.file, at.Line, at.Column, "nested too deep for a config", "")
		return spec.Node{}, false
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		var syntax yaml.Error
		if errors.As(err, &syntax) && syntax.GetToken() != nil {
			at := syntax.GetToken().Position
			r.problems.add(r.file, at.Line, at.Column, "not YAML: "+syntax.GetMessage(), syntaxHint(syntax.GetMessage(), text, at.Line))
		} else {
			r.problems.add(r.file, 1, 1, "not YAML: "+err.Error(), "")
		}
		return spec.Node{}, false
	}
	r.anchors = map[string]ast.Node{}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			line, col := place(doc.Body)
			r.problems.add(r.file, line, col, "a second YAML document in one file", "put it into a file of its own: `forebay up` takes several")
			return spec.Node{}, false
		}
		body = doc.Body
	}
	if body == nil {
		return spec.Node{Shape: spec.Absent, Line: 1, Col: 1}, true
	}
	return r.node(body, nil), true
}

// tooDeep is where the text nests deeper than a config does, or nil.
func tooDeep(tokens token.Tokens) *token.Position {
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth = max(depth-1, 0)
		}
		if depth > maxDepth || t.Type == token.SequenceEntryType && t.Position.Column > maxDash {
			return t.Position
		}
	}
	return nil
}

// place is where a node starts; 1:1 when the parser does not know.
func place(n ast.Node) (line, col int) {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if v, ok := n.(*ast.MappingValueNode); ok {
		n = v.Key
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line, t.Position.Column
	}
	return 1, 1
}

// node converts n; within holds the aliases that are being expanded.
func (r *reader) node(n ast.Node, within []string) spec.Node {
	line, col := place(n)
	out := spec.Node{Line: line, Col: col}
	if len(within) > 0 {
		if r.expanded++; r.expanded > maxAliasNodes {
			if r.expanded == maxAliasNodes+1 { // said once
				r.problems.add(r.file, line, col, fmt.Sprintf("aliases expand to more than %d values", maxAliasNodes), "")
			}
			return bad(out)
		}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		out.Shape = spec.Mapping
		r.entries(&out, n.Values, within)
	case *ast.MappingValueNode:
		out.Shape = spec.Mapping
		r.entries(&out, []*ast.MappingValueNode{n}, within)
	case *ast.SequenceNode:
		out.Shape = spec.List
		for _, v := range n.Values {
			if key, text, ok := colonText(v); ok && n.IsFlowStyle {
				item := spec.Node{Line: key.Line, Col: key.Column}
				r.expand(&item, text)
				out.List = append(out.List, item)
				continue
			}
			out.List = append(out.List, r.node(v, within))
		}
	case *ast.AnchorNode:
		r.anchors[n.Name.GetToken().Value] = n.Value
		return r.node(n.Value, within)
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		target, ok := r.anchors[name]
		if !ok {
			hint := fmt.Sprintf("a text that begins with * needs quotes: %q", "*"+name)
			r.problems.add(r.file, line, col, fmt.Sprintf("alias *%s has no anchor &%s before it", name, name), hint)
			return bad(out)
		}
		for _, w := range within {
			if w == name {
				r.problems.add(r.file, line, col, fmt.Sprintf("alias *%s contains itself", name), "")
				return bad(out)
			}
		}
		return r.node(target, append(within[:len(within):len(within)], name))
	case *ast.TagNode:
		r.problems.add(r.file, line, col, fmt.Sprintf("YAML tag %s is not used here", n.Start.Value), "leave the tag out")
		return bad(out)
	case *ast.NullNode:
	case *ast.LiteralNode:
		r.expand(&out, n.Value.Value)
	case *ast.StringNode:
		r.expand(&out, n.Value)
	default:
		out.Shape = spec.Scalar
		if t := n.GetToken(); t != nil {
			out.Text = t.Value
		}
	}
	return out
}

// colonText mends what the parser makes of host:port in a list within { }: YAML takes a colon that no space follows for a part of a plain text
// (ns-plain-char), the parser for the end of a key. It is that when nothing stands on either side of the colon but plain text.
func colonText(n ast.Node) (at *token.Position, text string, ok bool) {
	m, ok := n.(*ast.MappingNode)
	if !ok || m.Start == nil || m.Start.Type != token.MappingValueType || len(m.Values) != 1 {
		return nil, "", false
	}
	key, colon, value := m.Values[0].Key.GetToken(), m.Start, m.Values[0].Value.GetToken()
	for _, t := range []*token.Token{key, colon, value} {
		if t == nil || t.Position == nil || t.Position.Line != colon.Position.Line || t != colon && t.Indicator != token.NotIndicator {
			return nil, "", false
		}
	}
	k, c, v := key.Position, colon.Position.Column, value.Position.Column
	if k.Column+utf8.RuneCountInString(key.Value) != c || v != c+1 || value.Type == token.ImplicitNullType {
		return nil, "", false
	}
	return k, key.Value + ":" + value.Value, true
}

// entries are those of a mapping: its own, and of what it merges (yaml.org/type/merge) those that it has not itself, wherever `<<` stands.
func (r *reader) entries(out *spec.Node, values []*ast.MappingValueNode, within []string) {
	var merged []spec.Node
	for _, v := range values {
		if _, merge := v.Key.(*ast.MergeKeyNode); !merge {
			r.entry(out, v, within)
			continue
		}
		from := r.node(v.Value, within)
		all := []spec.Node{from}
		if from.Shape == spec.List {
			all = from.List
		}
		for _, m := range all {
			if m.Shape != spec.Mapping && !m.Unresolved {
				line, col := place(v.Key)
				r.problems.add(r.file, line, col, "`<<` merges a mapping or a list of mappings, and this is none", "")
				break
			}
		}
		merged = append(merged, all...)
	}
	for _, m := range merged {
		for _, e := range m.Map {
			if lookup(*out, e.Key) == nil {
				out.Map = append(out.Map, e)
			}
		}
	}
}

func (r *reader) entry(out *spec.Node, v *ast.MappingValueNode, within []string) {
	line, col := place(v.Key)
	key := v.Key.GetToken().Value
	if s, ok := v.Key.(*ast.StringNode); ok {
		key = s.Value
	}
	if before := lookup(*out, key); before != nil {
		r.problems.add(r.file, line, col, fmt.Sprintf("key '%s' stands twice", key), fmt.Sprintf("the first is on line %d", before.Line))
		return
	}
	out.Map = append(out.Map, spec.Entry{Key: key, Line: line, Col: col, Value: r.node(v.Value, within)})
}

// lookup finds an entry of a mapping, or nil.
func lookup(n spec.Node, key string) *spec.Entry {
	for i := range n.Map {
		if n.Map[i].Key == key {
			return &n.Map[i]
		}
	}
	return nil
}

// bad is a node of which a problem was told: what it would have been is not checked.
func bad(n spec.Node) spec.Node {
	n.Unresolved = true
	return n
}

// syntaxHint says what a YAML parser does not: what was probably meant on that line, the first of which is 1.
func syntaxHint(message string, text []byte, line int) string {
	lines := strings.Split(string(text), "\n")
	at := lines[min(max(line, 1), len(lines))-1]
	next := line
	for next < len(lines) && strings.TrimSpace(lines[next]) == "" {
		next++
	}
	switch {
	case strings.Contains(message, "'\t'"): // the sign that it shows is a tab
		return "YAML indents with spaces, not with tabs"
	case bareReference.MatchString(at):
		return "within [ ] and { } a text with ${…} needs quotes"
	case bareStar.MatchString(at):
		return `a text that begins with * needs quotes: "*"`
	case !strings.Contains(message, "value is not allowed in this context"):
		return ""
	case strings.HasPrefix(message, "mapping") && next < len(lines) && indent(lines[next]) > indent(at):
		return fmt.Sprintf("look at the indentation of line %d or %d", line, next+1)
	case strings.HasPrefix(message, "mapping") && strings.Count(at, ": ") > 1:
		return "a text with a colon and a space in it needs quotes"
	}
	return fmt.Sprintf("look at the indentation of line %d", line)
}

var (
	bareReference = regexp.MustCompile(`[\[{][^"'#]*\$\{`)
	bareStar      = regexp.MustCompile(`(: |[\[,] *)\*[]},\s]*$`)
)

// indent is how many spaces a line begins with.
func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
