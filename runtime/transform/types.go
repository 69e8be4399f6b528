package transform

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/connectors/spec"
)

// Type is a kind of transform.
type Type struct {
	Name string // route
	// Connect is what Kafka Connect's users know it by.
	Connect string
	Spec    spec.Spec // its own fields; Fields has the common ones too
	// Example is a list of one or more transforms, in YAML.
	Example string
	// keyed: it works on the value, or on the key when `of` says so.
	keyed bool
	// side, if set, refuses an end of the pipeline with the reason.
	side func(Side) error
	make func(v spec.Values, side Side) (applier, error)
}

// Fields are all fields that stand in a transform of this type.
func (t *Type) Fields() spec.Spec {
	s := t.Spec
	if t.keyed {
		s = s.Join(spec.Spec{Fields: []spec.Field{of}})
	}
	return s.Join(spec.Spec{Fields: []spec.Field{whenField, negateField}})
}

// Types lists every transform, in the order of the documentation.
func Types() []*Type {
	return []*Type{
		filterType, routeType, unwrapType,
		insertType, renameType, dropType, keepType, maskType,
		hoistType, extractType, keyType,
		castType, flattenType, timestampType, headerType, dropHeadersType, jqType,
	}
}

// Names lists the types' names.
func Names() (names []string) {
	for _, t := range Types() {
		names = append(names, t.Name)
	}
	return names
}

// Find is the type of that name, or nil.
func Find(name string) *Type {
	for _, t := range Types() {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// Field is the connector's field `transforms`.
func Field(side Side) spec.Field {
	return spec.Field{
		Name: "transforms", Type: spec.Tree,
		Doc: "What happens to each record on its way, step by step: a list of transforms, each with its `type` (" + strings.Join(Names(), ", ") +
			") and its fields. `forebay fields TRANSFORM` shows them.",
		Read: func(n spec.Node) []spec.Finding {
			_, findings := parse(n, side)
			return findings
		},
	}
}

// parse reads a list of transforms. The steps are to be used only when nothing was found.
func parse(n spec.Node, side Side) (steps []step, findings []spec.Finding) {
	find := func(path string, n spec.Node, message, hint string) {
		findings = append(findings, spec.Finding{Path: path, Line: n.Line, Col: n.Col, Message: message, Hint: hint})
	}
	switch n.Shape {
	case spec.Absent:
		return nil, nil
	case spec.List:
	default:
		find("", n, "transforms are a list", "for example `transforms: [{type: mask, fields: [card]}]`")
		return nil, findings
	}
	for i, item := range n.List {
		path := fmt.Sprint(i)
		who := func(name string) string { return fmt.Sprintf("transform %d (%s)", i+1, name) }
		if item.Shape != spec.Mapping {
			find(path, item, fmt.Sprintf("transform %d is not a mapping of its fields", i+1), "at least `type`: "+strings.Join(Names(), ", "))
			continue
		}
		at := slices.IndexFunc(item.Map, func(e spec.Entry) bool { return e.Key == "type" })
		if at < 0 || item.Map[at].Value.Shape == spec.Absent {
			find(path, item, fmt.Sprintf("transform %d has no type", i+1), "one of "+strings.Join(Names(), ", "))
			continue
		}
		name := item.Map[at].Value
		t := Find(name.Text)
		if t == nil {
			hint := "one of " + strings.Join(Names(), ", ")
			if near := spec.Nearest(name.Text, Names()); near != "" {
				hint = fmt.Sprintf("did you mean '%s'?", near)
			} else if ours := oursFor(name.Text); ours != "" {
				hint = fmt.Sprintf("Kafka Connect's %s is '%s' here", name.Text, ours)
			}
			find(path, name, fmt.Sprintf("no transform type '%s'", name.Text), hint)
			continue
		}
		values, found := t.Fields().Parse(item, "type")
		for _, f := range found {
			f.Path, f.Message = path+"."+f.Path, who(t.Name)+": "+f.Message
			findings = append(findings, f)
		}
		if len(found) > 0 || item.AnyUnresolved() {
			continue
		}
		s, err := t.step(values, side)
		if err != nil {
			hint := ""
			if h, ok := err.(*hinted); ok { //nolint:errorlint // it is always the outermost
				hint = h.hint
			}
			find(path, item, who(t.Name)+": "+err.Error(), hint)
			continue
		}
		s.number = i + 1
		steps = append(steps, s)
	}
	return steps, findings
}

// step makes one step of parsed fields.
func (t *Type) step(v spec.Values, side Side) (s step, err error) {
	if t.side != nil {
		if err := t.side(side); err != nil {
			return s, err
		}
	}
	s = step{typ: t, negate: v.Bool("negate")}
	if s.when, err = conditionOf(v); err != nil {
		return s, err
	}
	if s.negate && s.when == nil {
		return s, advise("add `when`", "`negate` turns `when` round, and there is none")
	}
	if t == filterType && s.when == nil {
		return s, advise("say `when`: for example `when: {tombstone: true}`", "it would drop every record")
	}
	s.do, err = t.make(v, side)
	return s, err
}

// oursFor is the type that a class of Kafka Connect is called here: RegexRouter, or org.apache.kafka…RegexRouter, or MaskField$Value.
func oursFor(class string) string {
	class = class[strings.LastIndexByte(class, '.')+1:]
	class, _, _ = strings.Cut(class, "$")
	if class == "" {
		return ""
	}
	for _, t := range Types() {
		if slices.Contains(strings.FieldsFunc(t.Connect, func(r rune) bool { return r == ',' || r == ' ' }), class) {
			return t.Name
		}
	}
	return ""
}

var of = spec.Field{Name: "of", Type: spec.Enum, Enum: []string{"value", "key"}, Default: "value",
	Doc: "What it works on. Of a row change, the value is its rows before and after it."}

func partOf(v spec.Values) part {
	if v.Has("of") && v.String("of") == "key" {
		return key
	}
	return value
}

var whenField = spec.Field{Name: "when", Type: spec.Group, Doc: "The records it applies to; all of them when there is none.", Fields: []spec.Field{
	{Name: "topic", Check: regex, Doc: "A regular expression that the whole topic matches (Connect: TopicNameMatches).", Example: `shop\.public\..*`},
	{Name: "header", Doc: "A header that the record has (Connect: HasHeaderKey)."},
	{Name: "tombstone", Type: spec.Bool, Doc: "Whether the record has no value (Connect: RecordIsTombstone)."},
	{Name: "op", Type: spec.Strings, Check: ops, Doc: "Kinds of row changes, by Debezium's letters: r (snapshot), c, u, d, t (truncate).", Example: "[d, t]"},
	{Name: "field", Doc: "A field of the value, or a path with dots; alone it says that the field is there and not null.", Example: "status"},
	{Name: "equals", Type: spec.Strings, Doc: "Texts, one of which the field's value has.", Example: "[cancelled, 3]"},
	{Name: "matches", Check: regex, Doc: "A regular expression that the field's whole value matches."},
}}

var negateField = spec.Field{Name: "negate", Type: spec.Bool, Default: "false", Doc: "Apply it to the other records: those that `when` does not name."}

// whole compiles a pattern that must match all of a text, as Java's Matcher.matches does.
func whole(pattern string) (*regexp.Regexp, error) {
	re, err := regexp.Compile("^(?s:" + pattern + ")$")
	if err != nil {
		return nil, fmt.Errorf("%q is not a regular expression (RE2: no look-ahead, no back-reference): %w", pattern, err)
	}
	return re, nil
}

func regex(v any) error {
	_, err := whole(v.(string)) //nolint:forcetypeassert // of a String
	return err
}

func ops(v any) error {
	for _, op := range v.([]string) { //nolint:forcetypeassert // of Strings
		if len(op) != 1 || !strings.Contains("rcudt", op) {
			return fmt.Errorf("%q is not one of r, c, u, d, t", op)
		}
	}
	return nil
}

// Document is docs/transforms.md.
func Document() string {
	var b strings.Builder
	b.WriteString(documentHead)
	for _, t := range Types() {
		fmt.Fprintf(&b, "\n## %s\n\n%s Kafka Connect: %s.\n\n```yaml\n%s\n```\n\n", t.Name, t.Spec.Doc, t.Connect, t.Example)
		for _, f := range t.Fields().Docs() {
			if !strings.HasPrefix(f.Name, "when.") && f.Name != "negate" {
				b.WriteString(documentField(f))
			}
		}
	}
	b.WriteString("\n## when\n\nEvery transform takes these. All that is said must hold.\n\n")
	for _, f := range (spec.Spec{Fields: []spec.Field{whenField, negateField}}).Docs() {
		b.WriteString(documentField(f))
	}
	return b.String()
}

func documentField(f spec.FieldDoc) string {
	kind := f.Type
	if len(f.Allowed) > 0 {
		kind = strings.TrimPrefix(strings.Join(f.Allowed, " \\| "), " \\| ")
	}
	switch {
	case f.Required:
		kind += ", required"
	case f.Default != "":
		kind += ", default `" + f.Default + "`"
	}
	return fmt.Sprintf("- `%s` (%s): %s\n", f.Name, kind, f.Doc)
}

const documentHead = `# Transforms

<!-- Written from runtime/transform by: go test ./runtime/transform -run TestDocument -update -->

A source or a sink may change each record on its way: ` + "`transforms`" + ` is a list, applied from top to bottom. A source's are applied before the append,
a sink's after the read. One record becomes one or none. A record that a transform cannot handle stops the connector with an error that says which
record it is and what to do; nothing is lost. runtime/transform/DESIGN.md has the promises and the edge cases.

On a change event, transforms of fields work on the row before and the row after the change. ` + "`forebay fields TRANSFORM`" + ` shows what is below,
` + "`forebay lint`" + ` checks it, ` + "`forebay preview`" + ` shows records as they come out, and ` + "`forebay audit`" + ` takes transforms into account, or says why it cannot.

## Tests

` + "`forebay test FILE…`" + ` runs what stands under ` + "`tests`" + ` in the same files, without a database or a log: each test gives records to the transforms of one
connector and says what comes out, both in the form that ` + "`forebay preview`" + ` prints. What an expected record does not name (key, headers, timestamp) is not compared.
Types are those that JSON shows; a value ` + "`{\"schema\": …, \"payload\": …}`" + ` has Kafka Connect's. configs/orders-without-secrets.yaml is an example.

` + "```yaml" + `
tests:
  - name: cards are masked
    connector: shop
    input: '{"topic": "shop.public.orders", "value": {"id": 1, "card": "4111"}}'
    output: '{"topic": "shop.public.orders", "value": {"id": 1, "card": ""}}'   # or error: a part of the message
` + "```" + `
`
