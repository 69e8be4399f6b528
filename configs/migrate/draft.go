package migrate

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/transform"
)

// draft is one of our connectors while it comes into being.
type draft struct {
	*connector
	o        Options
	class    *class // nil: nothing here does what it does
	spec     spec.Spec
	wanted   string // the name that it should have
	name     string // the name that it has
	prefix   string // of a source: what its topics begin with in Connect, with the dot
	values   map[string]value
	steps    []step
	comments map[string][]string // by the field of ours that they stand above; "" is the end
	idle     []string            // fields without an effect
	findings []Finding

	refused field // why there is no class, though one has the name
	why     string
}

// value is what a field of ours gets, with references as our YAML has them.
type value struct {
	texts []string
	list  bool
}

func text(s string) value    { return value{texts: []string{s}} }
func list(s ...string) value { return value{texts: s, list: true} }
func (v value) node() spec.Node {
	if !v.list {
		return scalar(v.texts[0])
	}
	n := spec.Node{Shape: spec.List}
	for _, t := range v.texts {
		n.List = append(n.List, scalar(t))
	}
	return n
}

var references = regexp.MustCompile(`\$\{[^}]*\}`)

// scalar is a text as it will be read: what a variable stands for is not known, so 1 stands for it, and nothing if the text is one variable.
func scalar(t string) spec.Node {
	plain := strings.ReplaceAll(t, "$$", "\x00")
	read := strings.ReplaceAll(references.ReplaceAllLiteralString(plain, "1"), "\x00", "$")
	return spec.Node{Shape: spec.Scalar, Text: read, Unresolved: references.FindString(plain) == plain && plain != ""}
}

// step is one transform of ours.
type step struct {
	typ      string
	names    []string // of its fields, in order
	values   map[string]value
	of       field // what it is made of
	comments []string
}

func newStep(of field, typ string) *step { return &step{typ: typ, values: map[string]value{}, of: of} }

func (s *step) with(name string, v value) *step {
	if _, ok := s.values[name]; !ok {
		s.names = append(s.names, name)
	}
	s.values[name] = v
	return s
}

func newDraft(c *connector, o Options) *draft {
	d := &draft{connector: c, o: o, wanted: c.name, values: map[string]value{}, comments: map[string][]string{}}
	d.class = classOf(strings.TrimSpace(c.get("connector.class")))
	if d.class != nil && d.class.refuse != nil {
		if d.refused, d.why = d.class.refuse(c); d.why != "" {
			d.class = nil
		}
	}
	if d.class == nil {
		return d
	}
	if d.class.sink {
		for _, t := range o.Registry.Sinks {
			if t.Name == d.class.typ {
				d.spec = t.Spec.Join(o.SinkCommon)
			}
		}
	} else {
		for _, t := range o.Registry.Sources {
			if t.Name == d.class.typ {
				d.spec = t.Spec.Join(o.SourceCommon)
			}
		}
	}
	if d.class.topics != nil {
		d.wanted, d.prefix = d.class.topics(c)
	}
	return d
}

// say tells of a field, in a finding and in a comment above near, a field of ours; "" is the end.
func (d *draft) say(f field, kind Kind, near, message, hint string) {
	line := f.line
	if line == 0 {
		line = d.line
	}
	found := Finding{File: d.file, Line: line, Connector: shown(d.connector.name), Kind: kind, Message: message, Hint: hint}
	if f.key != "" {
		found.Field = shown(f.key)
	}
	d.findings = append(d.findings, found)
	if kind == Idle {
		d.idle = append(d.idle, found.Field)
		return
	}
	comment := found.text()
	if found.Field != "" {
		comment = found.Field + ": " + comment
	}
	d.comments[near] = append(d.comments[near], comment)
}

func (d *draft) left(f field, near, message, hint string) { d.say(f, Left, near, message, hint) }

// put gives a field of ours its value. One that the connector does not have is a mistake in the tables here.
func (d *draft) put(name string, v value) {
	if !slices.ContainsFunc(d.spec.Docs(), func(f spec.FieldDoc) bool { return f.Name == name }) {
		panic(fmt.Sprintf("migrate: %s has no field %s", d.class.typ, name))
	}
	d.values[name] = v
}

func (d *draft) add(s *step) {
	s.comments = append(s.comments, d.comments["transforms"]...)
	delete(d.comments, "transforms")
	d.steps = append(d.steps, *s)
}

// translate does the work.
func (d *draft) translate() {
	for _, f := range d.double {
		d.say(f, Idle, "", "it is there again below, and the last counts", "")
	}
	if d.why != "" {
		d.left(d.refused, "", d.why, "")
		return
	}
	if d.class == nil {
		f, _ := d.find("connector.class")
		d.left(f, "", fmt.Sprintf("no connector here does what %s does", shown(f.value)), "those that do: "+strings.Join(titles(), ", "))
		return
	}
	if d.prefix != "" && d.prefix != d.name+"." {
		f, _ := d.find("topic.prefix")
		d.say(f, Remark, "transforms", fmt.Sprintf("the source is called %s, and its topics begin as before", d.name), "source.name in change events is the source's name")
		d.add(newStep(f, "route").with("match", text(regexp.QuoteMeta(d.name)+`\.(.*)`)).with("to", text(escape(d.prefix)+"$1")))
	} else if d.prefix == "" && d.class.topics != nil && d.class.bare {
		d.add(newStep(field{}, "route").with("match", text(regexp.QuoteMeta(d.name)+`\.(.*)`)).with("to", text("$1")))
	}
	for _, f := range d.fields {
		d.rule(f.key)(d, f)
	}
	if d.class.finish != nil {
		d.class.finish(d)
	}
	d.transforms()
	d.check()
}

// rule is what is done with a field.
func (d *draft) rule(key string) rule {
	for _, rules := range []map[string]rule{d.class.rules, common} {
		if r, ok := rules[key]; ok {
			return r
		}
	}
	for _, p := range slices.Concat(d.class.prefixes, commonPrefixes) {
		if strings.HasPrefix(key, p.prefix) {
			return p.rule
		}
	}
	return unknown
}

// check lets the connector's own spec read what was made, and leaves out what it would refuse: lint passes.
func (d *draft) check() {
	for i := 0; i < len(d.steps); i++ {
		s := &d.steps[i]
		item := spec.Node{Shape: spec.Mapping, Map: []spec.Entry{{Key: "type", Value: spec.Node{Shape: spec.Scalar, Text: s.typ}}}}
		for _, name := range s.names {
			item.Map = append(item.Map, spec.Entry{Key: name, Value: s.values[name].node()})
		}
		side := transform.Source
		if d.class.sink {
			side = transform.Sink
		}
		found := transform.Field(side).Read(spec.Node{Shape: spec.List, List: []spec.Node{item}})
		if len(found) == 0 {
			continue
		}
		message := strings.TrimPrefix(found[0].Message, "transform 1 (")
		name, message, _ := strings.Cut(message, "): ")
		d.left(s.of, "", oneLine(fmt.Sprintf("%s would refuse it: %s", name, message)), found[0].Hint)
		d.comments[""] = append(d.comments[""], s.comments...)
		d.steps = slices.Delete(d.steps, i, i+1)
		i--
	}
	for range len(d.values) + 1 {
		values, found := d.spec.Parse(d.node())
		if len(found) == 0 {
			if err := d.make(values); err != nil {
				d.left(field{}, "", oneLine(err.Error()), "")
			}
			return
		}
		for _, f := range found {
			if v, ok := d.values[f.Path]; ok {
				delete(d.values, f.Path)
				if len(v.texts) > 0 {
					if f.Path == "url" { // what is wrong with it may be where its password stands
						f.Message, f.Hint = "no url that "+d.class.typ+" takes", ""
					}
					d.left(field{}, f.Path, oneLine(f.Message), f.Hint)
				}
				continue
			}
			d.fill(f.Path)
		}
	}
}

// fill lets a variable stand for a field that must be there, and whose value the config does not tell.
func (d *draft) fill(name string) {
	v := text("${" + d.variable(name) + "}")
	for _, f := range d.spec.Docs() {
		if f.Name == name && f.Type == spec.Strings.String() {
			v.list = true
		}
	}
	d.put(name, v)
	d.say(field{}, Remark, name, "the config does not say it: set "+d.variable(name), "")
}

// variable is the name of an environment variable for something of this connector.
func (d *draft) variable(of string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, d.name+"_"+of)
	return name[:min(len(name), 120)]
}

func (d *draft) node() spec.Node {
	n := spec.Node{Shape: spec.Mapping}
	for _, f := range d.spec.Docs() {
		if v, ok := d.values[f.Name]; ok {
			n.Map = append(n.Map, spec.Entry{Key: f.Name, Value: v.node()})
		}
	}
	return n
}

// make tries the constructor, as lint does; it does no I/O.
func (d *draft) make(v spec.Values) (err error) {
	if d.node().AnyUnresolved() {
		return nil
	}
	env := connectors.Env{Name: d.name, Group: "migrate", Logger: slog.New(slog.DiscardHandler)}
	for _, t := range d.o.Registry.Sinks {
		if d.class.sink && t.Name == d.class.typ {
			_, err = t.New(v, env)
		}
	}
	for _, t := range d.o.Registry.Sources {
		if !d.class.sink && t.Name == d.class.typ {
			_, err = t.New(v, env)
		}
	}
	return err
}

// write is the YAML of some connectors.
func write(drafts []*draft) string {
	var b strings.Builder
	b.WriteString("# Made of Kafka Connect's configs by `forebay migrate connect`; docs/migrate.md says what to look at.\n")
	for _, section := range []string{"sources", "sinks"} {
		started := false
		for _, d := range drafts {
			if d.class == nil || d.class.sink != (section == "sinks") {
				continue
			}
			if !started {
				b.WriteString(section + ":\n")
				started = true
			}
			d.write(&b)
		}
	}
	for _, d := range drafts {
		if d.class == nil {
			fmt.Fprintf(&b, "# %s\n", shown(d.connector.name))
			remarks(&b, "  ", d.comments[""])
		}
	}
	return b.String()
}

func remarks(b *strings.Builder, indent string, comments []string) {
	for _, c := range comments {
		fmt.Fprintf(b, "%s# %s\n", indent, c)
	}
}

func (d *draft) write(b *strings.Builder) {
	fmt.Fprintf(b, "  %s: # %s, %s in %s\n    type: %s\n", d.name, d.class.title, shown(d.connector.name), shown(d.file), d.class.typ)
	for _, f := range d.spec.Docs() {
		if f.Name == "transforms" {
			continue
		}
		remarks(b, "    ", d.comments[f.Name])
		if v, ok := d.values[f.Name]; ok {
			fmt.Fprintf(b, "    %s: %s\n", f.Name, v.yaml())
		}
	}
	if len(d.steps) > 0 {
		b.WriteString("    transforms:\n")
		for _, s := range d.steps {
			remarks(b, "      ", s.comments)
			fmt.Fprintf(b, "      - type: %s\n", s.typ)
			for _, name := range s.names {
				fmt.Fprintf(b, "        %s: %s\n", name, s.values[name].yaml())
			}
		}
	}
	remarks(b, "    ", d.comments["transforms"])
	remarks(b, "    ", d.comments[""])
	if len(d.idle) > 0 {
		remarks(b, "    ", []string{"no effect here: " + strings.Join(d.idle, ", ")})
	}
}

func (v value) yaml() string {
	if !v.list {
		return quote(v.texts[0])
	}
	out := make([]string, len(v.texts))
	for i, t := range v.texts {
		out[i] = quote(t)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

var (
	plain    = regexp.MustCompile(`^([A-Za-z_/][A-Za-z0-9_./-]*|[1-9][0-9]{0,17}|0|[0-9]+(ms|s|m|h|d|KiB|MiB|GiB))$`)
	reserved = regexp.MustCompile(`(?i)^(null|yes|no|on|off|y|n|\.inf|\.nan)$`)
)

// quote is a text as a YAML scalar.
func quote(s string) string {
	if plain.MatchString(s) && !reserved.MatchString(s) {
		return s
	}
	if !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
