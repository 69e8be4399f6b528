package jsonschema

import (
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/runtime/registry/tree"
)

// Difference is a change by which an updated schema refuses what the original one took, by the types of Confluent's json-schema-diff.
type Difference struct {
	Type string
	Path string // #/properties/a
}

// maxSteps bounds a comparison: alternatives of alternatives multiply. One that would need more is given up, and says so.
const maxSteps = 100_000

// maxFound bounds what is told of one pair.
const maxFound = 100

const tooComplex = "TOO_COMPLEX"

// Read says why the reader does not take everything that the writer took; nothing when it does.
func Read(reader, writer *Schema) []Difference {
	c := comparison{reader: reader, writer: writer, memo: map[[2]*node][]change{}, patterns: map[string]*regexp.Regexp{}}
	a, b := writer.nodes[writer.root], reader.nodes[reader.root]
	var out []Difference
	for _, d := range c.compare(a, b) {
		out = append(out, Difference{Type: d.kind, Path: "#" + d.path})
	}
	if c.spent() && !slices.ContainsFunc(out, func(d Difference) bool { return d.Type == tooComplex }) {
		out = append(out, Difference{Type: tooComplex, Path: "#"})
	}
	return out
}

type change struct{ kind, path string }

type comparison struct {
	reader, writer *Schema
	memo           map[[2]*node][]change
	patterns       map[string]*regexp.Regexp // nil for what is no RE2 expression
	steps          int
}

func (c *comparison) spent() bool { return c.steps > maxSteps }

func at(path string, found []change) (out []change) {
	for _, d := range found {
		out = append(out, change{d.kind, path + d.path})
	}
	return out
}

func one(kind, path string) []change { return []change{{kind, path}} }

// compare finds the incompatible changes from an original to an update. A pair that is being looked at counts as compatible.
func (c *comparison) compare(a, b *node) []change {
	switch {
	case a == nil && b == nil, b == nil:
		return nil
	case a == nil:
		return one("SCHEMA_ADDED", "")
	}
	a, b = a.through(), b.through() // first of all, as SchemaDiff.normalizeSchema: a reference is no kind of constraint
	if c.steps++; c.spent() || a.kind == reference || b.kind == reference {
		return one(tooComplex, "")
	}
	p := [2]*node{a, b}
	if found, done := c.memo[p]; done {
		return found
	}
	c.memo[p] = nil
	found := c.look(a, b)
	if len(found) > maxFound {
		found = slices.Clone(found[:maxFound])
	}
	c.memo[p] = found
	return found
}

func (c *comparison) fits(a, b *node) bool { return len(c.compare(a, b)) == 0 }

func (c *comparison) look(a, b *node) []change {
	switch {
	case a.kind != combined && b.kind == combined && (len(b.parts) == 1 || b.how != "allOf"):
		if slices.ContainsFunc(b.parts, func(p *node) bool { return c.fits(a, p) }) {
			return nil
		}
	case a.kind == combined && b.kind != combined && (len(a.parts) == 1 || a.how == "allOf"):
		if slices.ContainsFunc(a.parts, func(p *node) bool { return c.fits(p, b) }) {
			return nil
		}
	}
	if a.kind != b.kind {
		if a.kind == nothing || b.kind == anything || a.bytes && b.bytes { // Connect's converter wrote a decimal as text and as number
			return nil
		}
		return one("TYPE_CHANGED", "")
	}
	switch a.kind {
	case "string":
		found := append(bounds(a, b, "maxLength", "MAX_LENGTH", false), bounds(a, b, "minLength", "MIN_LENGTH", true)...)
		switch p, q := a.get("pattern"), b.get("pattern"); {
		case q != nil && p == nil:
			found = append(found, change{"PATTERN_ADDED", "/pattern"})
		case q != nil && p.Str() != q.Str():
			found = append(found, change{"PATTERN_CHANGED", "/pattern"})
		}
		return found
	case "number":
		return c.numbers(a, b)
	case "const":
		if a.get("const").Sorted() != b.get("const").Sorted() {
			return one("ENUM_ARRAY_CHANGED", "/const")
		}
	case "enum":
		return c.enums(a, b)
	case "not":
		if !c.fits(b.inner["not"], a.inner["not"]) {
			return one("NOT_TYPE_EXTENDED", "/not")
		}
	case combined:
		return c.combined(a, b)
	case "object":
		return c.objects(a, b)
	case "array":
		return c.arrays(a, b)
	}
	return nil
}

// number reads a keyword's number; nil: there is none, or one that nobody can work with.
func number(v *tree.Value) *big.Rat {
	if !v.Is(tree.Number) || len(v.Text) > 64 {
		return nil
	}
	f, err := strconv.ParseFloat(v.Text, 64)
	if err != nil || f != 0 && (f > 1e100 || f < -1e100 || f < 1e-100 && f > -1e-100) {
		return nil
	}
	n, ok := new(big.Rat).SetString(v.Text)
	if !ok {
		return nil
	}
	return n
}

// bounds compares an upper bound, or a lower one: a new one and a tighter one refuse what was taken.
func bounds(a, b *node, word, kind string, lower bool) []change {
	p, q := number(a.get(word)), number(b.get(word))
	switch {
	case q == nil:
		return nil
	case p == nil:
		return one(kind+"_ADDED", "/"+word)
	case lower && q.Cmp(p) > 0:
		return one(kind+"_INCREASED", "/"+word)
	case !lower && q.Cmp(p) < 0:
		return one(kind+"_DECREASED", "/"+word)
	}
	return nil
}

func (c *comparison) numbers(a, b *node) []change {
	found := slices.Concat(bounds(a, b, "maximum", "MAXIMUM", false), bounds(a, b, "minimum", "MINIMUM", true),
		bounds(a, b, "exclusiveMaximum", "EXCLUSIVE_MAXIMUM", false), bounds(a, b, "exclusiveMinimum", "EXCLUSIVE_MINIMUM", true))
	switch p, q := number(a.get("multipleOf")), number(b.get("multipleOf")); {
	case q == nil:
	case p == nil:
		found = append(found, change{"MULTIPLE_OF_ADDED", "/multipleOf"})
	case p.Cmp(q) == 0:
	case multiple(q, p):
		found = append(found, change{"MULTIPLE_OF_EXPANDED", "/multipleOf"})
	case !multiple(p, q):
		found = append(found, change{"MULTIPLE_OF_CHANGED", "/multipleOf"})
	}
	if b.whole && !a.whole {
		found = append(found, change{"TYPE_NARROWED", ""})
	}
	return found
}

func multiple(a, b *big.Rat) bool {
	return b.Sign() != 0 && new(big.Rat).Quo(a, b).IsInt()
}

func (c *comparison) enums(a, b *node) []change {
	bytes := 0
	set := func(n *node) map[string]bool {
		out := map[string]bool{}
		for _, v := range n.get("enum").Items {
			text := v.Sorted()
			out[text] = true
			bytes += 20 + len(text) // an entry of the map takes something, too
		}
		return out
	}
	defer func() { c.steps += bytes / 100 }()
	p, q := set(a), set(b)
	within := func(small, large map[string]bool) bool {
		for v := range small {
			if !large[v] {
				return false
			}
		}
		return true
	}
	switch {
	case within(p, q):
		return nil
	case within(q, p):
		return one("ENUM_ARRAY_NARROWED", "/enum")
	}
	return one("ENUM_ARRAY_CHANGED", "/enum")
}

// combined compares alternatives: as many of one side as the smaller side has must each have a partner of their own on the other.
func (c *comparison) combined(a, b *node) (found []change) {
	p, q := c.distinct(a.parts), c.distinct(b.parts)
	if a.how != b.how && b.how != "anyOf" && (len(p) != 1 || len(q) != 1 && b.how != "oneOf") && (len(q) != 1 || a.how != "allOf") {
		return one("COMBINED_TYPE_CHANGED", "")
	}
	switch {
	case len(p) < len(q) && b.how == "allOf":
		found = one("PRODUCT_TYPE_EXTENDED", "")
	case len(p) > len(q) && a.how != "allOf":
		found = one("SUM_TYPE_NARROWED", "")
	}
	partner := make([]int, len(q))
	for i := range partner {
		partner[i] = -1
	}
	matched := 0
	for i := range p { // augmenting paths
		if c.spent() {
			break
		}
		seen := make([]bool, len(q))
		var try func(i int) bool
		try = func(i int) bool {
			for j := range q {
				if c.spent() {
					return false
				}
				if seen[j] || !c.fits(p[i], q[j]) {
					continue
				}
				seen[j] = true
				if partner[j] < 0 || try(partner[j]) {
					partner[j] = i
					return true
				}
			}
			return false
		}
		if try(i) {
			matched++
		}
	}
	if matched < min(len(p), len(q)) {
		found = append(found, change{"COMBINED_TYPE_SUBSCHEMAS_CHANGED", ""})
	}
	return found
}

// distinct leaves out parts that say the same.
func (c *comparison) distinct(parts []*node) (out []*node) {
	seen := map[string]bool{}
	for _, p := range parts {
		key := p.kind
		if p.value != nil {
			key += p.value.Sorted()
			c.steps += len(key) / 100
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, p)
		}
	}
	return out
}

// permits says that additional members are taken, and of the schema of one.
func (n *node) permits(word string) (bool, *node) {
	inner := n.inner[word]
	switch {
	case inner == nil, inner.kind == anything && inner.value.Is(tree.Bool):
		return true, nil
	case inner.kind == nothing:
		return false, nil
	}
	return true, inner
}

// model is the content model of an object: open; or partially, of a schema; or closed. A pattern keeps it from being open.
func (n *node) model(additional, unevaluated string) (open bool, partial *node) {
	permits, of := n.permits(additional)
	if !permits || of != nil {
		return false, of
	}
	if permits, of := n.permits(unevaluated); !permits || of != nil {
		return false, of
	}
	return len(members(n.get("patternProperties"))) == 0, nil
}

func members(v *tree.Value) []tree.Member {
	if v.Is(tree.Object) {
		return v.Members
	}
	return nil
}

// covering is what an object that is not open says of a property that it does not name.
func (c *comparison) covering(n *node, s *Schema, name string) *node {
	for _, m := range members(n.get("patternProperties")) {
		if re := c.pattern(m.Name, len(name)); re != nil && re.MatchString(name) {
			if of, err := s.node(m.Value, s.root); err == nil {
				return of
			}
		}
	}
	_, of := n.model("additionalProperties", "unevaluatedProperties")
	return of
}

// pattern is a compiled pattern for a name of some bytes; nil: it is none, or there is no time for it. A repetition is compiled up to a thousand times, which
// is why a pattern with one counts for more.
func (c *comparison) pattern(text string, name int) *regexp.Regexp {
	re, done := c.patterns[text]
	c.steps += 1 + len(text)*name/1000
	if !done {
		c.steps += len(text)
		if strings.Contains(text, "{") {
			c.steps += 20 * len(text)
		}
	}
	if c.spent() || done {
		return re
	}
	re, _ = regexp.Compile(text)
	c.patterns[text] = re
	return re
}

func (n *node) hasDefault(name string) bool {
	return n.get("properties").Get(name).Get("default") != nil
}

func (c *comparison) objects(a, b *node) (found []change) {
	c.steps += (len(a.names) + len(b.names)) / 100 // those that both have are steps of their own
	for _, name := range a.names {
		if b.fields[name] != nil && b.requires[name] && !a.requires[name] && !b.hasDefault(name) {
			found = append(found, change{"REQUIRED_ATTRIBUTE_ADDED", "/required/" + name})
		}
	}
	openA, _ := a.model("additionalProperties", "unevaluatedProperties")
	openB, _ := b.model("additionalProperties", "unevaluatedProperties")
	for _, name := range a.names {
		if len(found) > maxFound {
			return found
		}
		path, old := "/properties/"+name, a.fields[name]
		switch now := b.fields[name]; {
		case now != nil:
			found = append(found, at(path, c.compare(old, now))...)
		case openB:
		default:
			if of := c.covering(b, c.sideOf(b), name); of != nil {
				if more := c.compare(old, of); len(more) > 0 {
					found = append(append(found, at(path, more)...), change{"PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path})
				}
			} else if old.kind != nothing {
				found = append(found, change{"PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", path})
			}
		}
	}
	for _, name := range b.names {
		if len(found) > maxFound {
			return found
		}
		if a.fields[name] != nil {
			continue
		}
		path, now := "/properties/"+name, b.fields[name]
		must := b.requires[name]
		if openA {
			switch {
			case now.kind == anything:
			case must && b.hasDefault(name):
				found = append(found, change{"REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_OPEN_CONTENT_MODEL", path})
			case must:
				found = append(found, change{"REQUIRED_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", path})
			default:
				found = append(found, change{"OPTIONAL_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", path})
			}
			continue
		}
		if of := c.covering(a, c.sideOf(a), name); of != nil {
			if more := c.compare(of, now); len(more) > 0 {
				found = append(append(found, at(path, more)...), change{"PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path})
			}
		}
		if must && !b.hasDefault(name) {
			found = append(found, change{"REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL", path})
		}
	}
	found = append(found, dependencies(c, a, b)...)
	found = append(found, c.rest(a, b, "additionalProperties", "ADDITIONAL_PROPERTIES")...)
	found = append(found, c.rest(a, b, "unevaluatedProperties", "UNEVALUATED_PROPERTIES")...)
	return append(append(found, bounds(a, b, "maxProperties", "MAX_PROPERTIES", false)...), bounds(a, b, "minProperties", "MIN_PROPERTIES", true)...)
}

// sideOf is the schema that a node is of: NOT turns the sides.
func (c *comparison) sideOf(n *node) *Schema {
	if n.value != nil && c.reader.nodes[n.value] != nil {
		return c.reader
	}
	return c.writer
}

// rest compares what is said of members that are not named.
func (c *comparison) rest(a, b *node, word, kind string) []change {
	p, of := a.permits(word)
	q, now := b.permits(word)
	switch {
	case p && !q:
		return one(kind+"_REMOVED", "/"+word)
	case !p || now == nil:
		return nil
	case of == nil:
		return one(kind+"_NARROWED", "/"+word)
	}
	return at("/"+word, c.compare(of, now))
}

// dependencies compares arrays of names, and schemas.
func dependencies(c *comparison, a, b *node) (found []change) {
	for _, word := range []string{"dependencies", "dependentRequired", "dependentSchemas"} {
		for _, m := range members(b.get(word)) {
			path, old := "/dependencies/"+m.Name, a.get(word).Get(m.Name)
			if m.Value.Kind == tree.Array {
				if !old.Is(tree.Array) {
					found = append(found, change{"DEPENDENCY_ARRAY_ADDED", path})
				} else if slices.ContainsFunc(m.Value.Items, func(v *tree.Value) bool {
					return !slices.ContainsFunc(old.Items, func(w *tree.Value) bool { return v.Str() == w.Str() })
				}) {
					found = append(found, change{"DEPENDENCY_ARRAY_EXTENDED", path})
				}
				continue
			}
			if old == nil || old.Kind == tree.Array {
				found = append(found, change{"DEPENDENCY_SCHEMA_ADDED", path})
				continue
			}
			sa, sb := c.sideOf(a), c.sideOf(b)
			p, err1 := sa.node(old, sa.root)
			q, err2 := sb.node(m.Value, sb.root)
			if err1 == nil && err2 == nil {
				found = append(found, at(path, c.compare(p, q))...)
			}
		}
	}
	return found
}

func (c *comparison) arrays(a, b *node) (found []change) {
	found = at("/items", c.compare(a.inner["items"], b.inner["items"]))
	open := func(n *node) (bool, *node) { return n.model("additionalItems", "unevaluatedItems") }
	n := min(len(a.items), len(b.items))
	for i := range n {
		found = append(found, at("/items/"+strconv.Itoa(i), c.compare(a.items[i], b.items[i]))...)
	}
	for i := n; i < len(a.items); i++ {
		path := "/items/" + strconv.Itoa(i)
		if isOpen, of := open(b); of != nil {
			if !c.fits(a.items[i], of) {
				found = append(found, change{"ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path})
			}
		} else if !isOpen && a.items[i].kind != nothing {
			found = append(found, change{"ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL", path})
		}
	}
	for i := n; i < len(b.items); i++ {
		path := "/items/" + strconv.Itoa(i)
		if isOpen, of := open(a); of != nil {
			if !c.fits(of, b.items[i]) {
				found = append(found, change{"ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path})
			}
		} else if isOpen && b.items[i].kind != anything {
			found = append(found, change{"ITEM_ADDED_TO_OPEN_CONTENT_MODEL", path})
		}
	}
	found = append(found, c.rest(a, b, "additionalItems", "ADDITIONAL_ITEMS")...)
	found = append(found, c.rest(a, b, "unevaluatedItems", "UNEVALUATED_ITEMS")...)
	found = append(append(found, bounds(a, b, "maxItems", "MAX_ITEMS", false)...), bounds(a, b, "minItems", "MIN_ITEMS", true)...)
	found = append(append(found, bounds(a, b, "maxContains", "MAX_CONTAINS", false)...), bounds(a, b, "minContains", "MIN_CONTAINS", true)...)
	if b.get("uniqueItems").Is(tree.Bool) && b.get("uniqueItems").True && !(a.get("uniqueItems").Is(tree.Bool) && a.get("uniqueItems").True) {
		found = append(found, change{"UNIQUE_ITEMS_ADDED", "/uniqueItems"})
	}
	return found
}
