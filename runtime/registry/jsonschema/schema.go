// Package jsonschema is JSON Schema for a registry: which kinds of constraints a schema has, and whether one takes everything that another took, by the rules of
// Confluent's registry (https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/serdes-json.html#json-schema-compatibility-rules).
//
// It validates no documents. A Schema belongs to one goroutine at a time: comparing looks further into it.
package jsonschema

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/runtime/registry/tree"
)

// Schema is a parsed document and what its references point at.
type Schema struct {
	root  *tree.Value
	docs  map[string]*tree.Value // by the name of a reference
	nodes map[*tree.Value]*node
	// modern says that the document is of draft 2019-09 or later: what stands beside a $ref counts. It did not before.
	modern bool
}

// modernDrafts are the values of $schema of such documents, without http(s):// and #.
var modernDrafts = []string{"json-schema.org/draft/2019-09/schema", "json-schema.org/draft/2020-12/schema"}

// Parse reads a schema. docs are those that it may reference, by name.
func Parse(text string, docs map[string]string) (*Schema, error) {
	root, err := tree.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	_, draft, _ := strings.Cut(strings.TrimSuffix(root.Get("$schema").Str(), "#"), "://")
	s := &Schema{root: root, docs: map[string]*tree.Value{}, nodes: map[*tree.Value]*node{}, modern: slices.Contains(modernDrafts, draft)}
	for name, text := range docs {
		if s.docs[name], err = tree.Parse([]byte(text)); err != nil {
			return nil, fmt.Errorf("reference %q: %w", name, err)
		}
	}
	if _, err := s.node(root, root); err != nil {
		return nil, err
	}
	return s, nil
}

// Canonical is the document without space, members in their order.
func (s *Schema) Canonical() string { return s.root.String() }

// Normalized is the document without space, members by their names.
func (s *Schema) Normalized() string { return s.root.Sorted() }

// The kinds of nodes. A schema with constraints of several kinds is one that combines a node for each.
const (
	anything  = "any"
	nothing   = "none"
	combined  = "combined"
	reference = "$ref"
)

// node is a schema or a part of one: constraints of one kind.
type node struct {
	kind     string // anything, nothing, combined, reference, enum, const, not, or a type: object, array, string, number, boolean, null
	value    *tree.Value
	how      string  // of a combined one: allOf, anyOf, oneOf
	parts    []*node // of a combined one; of a reference what it leads to
	whole    bool    // a number that must be an integer
	bytes    bool    // a schema that is Kafka Connect's for bytes
	fields   map[string]*node
	names    []string        // of fields, in their order
	requires map[string]bool // names of members that an object must have
	inner    map[string]*node
	items    []*node
}

func (n *node) get(name string) *tree.Value { return n.value.Get(name) }

// node finds or makes the node of a value in a document. Recursive schemas come back to a node that is being made.
func (s *Schema) node(v, doc *tree.Value) (*node, error) {
	if n := s.nodes[v]; n != nil {
		return n, nil
	}
	n := &node{value: v}
	s.nodes[v] = n
	switch v.Kind {
	case tree.Bool:
		n.kind = nothing
		if v.True {
			n.kind = anything
		}
		return n, nil
	case tree.Object:
	default:
		return nil, fmt.Errorf("a schema is an object or a boolean, and not %s", v.Kind)
	}
	var parts []*node
	if ref := v.Get("$ref"); ref != nil {
		to, in, err := s.Follow(ref, doc)
		if err != nil {
			return nil, err
		}
		target, err := s.node(to, in)
		if err != nil {
			return nil, err
		}
		parts = append(parts, &node{kind: reference, value: v, parts: []*node{target}})
	}
	if len(parts) == 0 || s.modern {
		more, err := s.parts(v, doc)
		if err != nil {
			return nil, err
		}
		parts = append(parts, more...)
	}
	switch len(parts) {
	case 0:
		n.kind = anything
	case 1:
		*n = *parts[0]
	default:
		n.kind, n.how, n.parts = combined, "allOf", parts
	}
	n.bytes = v.Get("connect.type").Str() == "bytes"
	return n, nil
}

// maxHops bounds references that lead to references; a circle has no end.
const maxHops = 100

// through is what a reference leads to.
func (n *node) through() *node {
	for range maxHops {
		if n.kind != reference {
			break
		}
		n = n.parts[0]
	}
	return n
}

// Root is the document.
func (s *Schema) Root() *tree.Value { return s.root }

// Follow finds what a $ref in a document points at, and the document that it stands in.
func (s *Schema) Follow(ref, doc *tree.Value) (to, in *tree.Value, err error) {
	name, at, _ := strings.Cut(ref.Str(), "#")
	in = doc
	if name != "" && name != doc.Get("$id").Str() {
		if in = s.docs[name]; in == nil {
			return nil, nil, fmt.Errorf("unresolved $ref %q: it is no reference of the schema", ref.Str())
		}
	}
	if at, err = url.PathUnescape(at); err != nil {
		return nil, nil, fmt.Errorf("$ref %q: %w", ref.Str(), err)
	}
	to = in
	if at == "" {
		return to, in, nil
	}
	if !strings.HasPrefix(at, "/") {
		return nil, nil, fmt.Errorf("$ref %q: anchors are not followed", ref.Str())
	}
	for step := range strings.SplitSeq(at[1:], "/") {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		if to.Is(tree.Array) {
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(to.Items) {
				return nil, nil, fmt.Errorf("unresolved $ref %q", ref.Str())
			}
			to = to.Items[i]
			continue
		}
		if to = to.Get(step); to == nil {
			return nil, nil, fmt.Errorf("unresolved $ref %q", ref.Str())
		}
	}
	return to, in, nil
}

// typeWords tell the type of a schema that does not say it.
var typeWords = []struct {
	kind  string
	words []string
}{
	{"object", []string{"properties", "additionalProperties", "required", "minProperties", "maxProperties", "patternProperties", "dependencies", "dependentRequired", "dependentSchemas"}},
	{"array", []string{"items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"}},
	{"string", []string{"minLength", "maxLength", "pattern"}},
	{"number", []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}},
}

func (s *Schema) parts(v, doc *tree.Value) (out []*node, err error) {
	if e := v.Get("enum"); e != nil {
		if e.Kind != tree.Array || len(e.Items) == 0 {
			return nil, errors.New("enum is no array of values")
		}
		out = append(out, &node{kind: "enum", value: v})
	}
	if v.Get("const") != nil {
		out = append(out, &node{kind: "const", value: v})
	}
	for _, how := range []string{"allOf", "anyOf", "oneOf"} {
		list := v.Get(how)
		if list == nil {
			continue
		}
		if list.Kind != tree.Array || len(list.Items) == 0 {
			return nil, fmt.Errorf("%s is no array of schemas", how)
		}
		c := &node{kind: combined, how: how, value: v}
		for _, item := range list.Items {
			part, err := s.node(item, doc)
			if err != nil {
				return nil, err
			}
			c.parts = append(c.parts, part)
		}
		out = append(out, c)
	}
	if not := v.Get("not"); not != nil {
		n := &node{kind: "not", value: v, inner: map[string]*node{}}
		if n.inner["not"], err = s.node(not, doc); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	typed, err := s.types(v, doc)
	if typed != nil {
		out = append(out, typed)
	}
	return out, err
}

// maxTypes is how many types there are.
const maxTypes = 7

// types is the node of what a schema says by type.
func (s *Schema) types(v, doc *tree.Value) (*node, error) {
	var kinds []string
	how := "anyOf"
	switch t := v.Get("type"); {
	case t.Is(tree.String):
		kinds = []string{t.Text}
	case t.Is(tree.Array):
		for _, item := range t.Items { // a type that is there twice is a node once
			if !slices.Contains(kinds, item.Str()) {
				kinds = append(kinds, item.Str())
			}
			if len(kinds) > maxTypes {
				return nil, errors.New("type names types that there are not")
			}
		}
	case t != nil:
		return nil, errors.New("type is no string and no array")
	default:
		how = "allOf"
		for _, w := range typeWords {
			if slices.ContainsFunc(w.words, func(word string) bool { return v.Get(word) != nil }) {
				kinds = append(kinds, w.kind)
			}
		}
	}
	c := &node{kind: combined, how: how, value: v}
	for _, kind := range kinds {
		n, err := s.typed(kind, v, doc)
		if err != nil {
			return nil, err
		}
		c.parts = append(c.parts, n)
	}
	switch {
	case len(c.parts) == 0:
		return nil, nil
	case len(c.parts) == 1 && !v.Get("type").Is(tree.Array):
		return c.parts[0], nil
	}
	return c, nil
}

func (s *Schema) typed(kind string, v, doc *tree.Value) (*node, error) {
	n := &node{kind: kind, value: v, inner: map[string]*node{}}
	sub := func(names ...string) error {
		for _, name := range names {
			if w := v.Get(name); w != nil && (w.Kind == tree.Object || w.Kind == tree.Bool) {
				var err error
				if n.inner[name], err = s.node(w, doc); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		return nil
	}
	switch kind {
	case "integer":
		n.kind, n.whole = "number", true
	case "string", "number", "boolean", "null":
	case "object":
		if p := v.Get("properties"); p != nil {
			if p.Kind != tree.Object {
				return nil, errors.New("properties is no object")
			}
			n.fields = map[string]*node{}
			for _, m := range p.Members {
				f, err := s.node(m.Value, doc)
				if err != nil {
					return nil, fmt.Errorf("property %q: %w", m.Name, err)
				}
				n.fields[m.Name] = f
				n.names = append(n.names, m.Name)
			}
		}
		if list := v.Get("required"); list.Is(tree.Array) {
			n.requires = make(map[string]bool, len(list.Items))
			for _, item := range list.Items {
				n.requires[item.Str()] = true
			}
		}
		return n, sub("additionalProperties", "unevaluatedProperties")
	case "array":
		list := v.Get("prefixItems")
		if items := v.Get("items"); list == nil && items.Is(tree.Array) {
			list = items
		}
		if list.Is(tree.Array) {
			for _, item := range list.Items {
				i, err := s.node(item, doc)
				if err != nil {
					return nil, err
				}
				n.items = append(n.items, i)
			}
		}
		if err := sub("items", "additionalItems", "unevaluatedItems"); err != nil {
			return nil, err
		}
		if v.Get("prefixItems") != nil { // since 2020-12 items are those that come behind
			n.inner["additionalItems"], n.inner["items"] = n.inner["items"], nil
		}
	default:
		return nil, fmt.Errorf("unknown type: %q", kind)
	}
	return n, nil
}
