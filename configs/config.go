// Package configs reads the YAML that users write: places kept to line and
// column, every problem reported at once, the nearest known key as a hint. It
// is the only room that knows YAML; the rooms it translates for see spec.Values.
//
// The example files beside the code are the ones that README names; a test loads each.
package configs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/problem"
)

// Config is what a set of files declares.
type Config struct {
	Core       spec.Values // of CoreSpec
	Connectors []Connector // sources first, each in the order of the text
	Tests      []Test
	Registry   connectors.Registry // that of the Options, and what plugins add
	Warnings   Problems
}

// Connector is one entry under sources or sinks.
type Connector struct {
	Name   string
	Type   string
	Sink   bool
	Values spec.Values // of the type's fields and the common ones
	Node   spec.Node   // as written, for the flat REST form
	File   string
	Line   int
}

// Find returns the connector called name, or nil.
func (c *Config) Find(name string) *Connector {
	for i := range c.Connectors {
		if c.Connectors[i].Name == name {
			return &c.Connectors[i]
		}
	}
	return nil
}

// Options say what may stand in a file.
type Options struct {
	Registry     connectors.Registry
	SourceCommon spec.Spec // fields that the runtime takes from every source
	SinkCommon   spec.Spec
	// Plugin asks a plugin which types it has: as PluginSpec reads it. Where that is nil, or answers with neither, the fields of the plugin's
	// connectors are not checked, but for the common ones. Several are asked at once.
	Plugin func(name string, v spec.Values) (*connectors.SourceType, *connectors.SinkType, error)
	Getenv func(string) (string, bool) // nil: os.LookupEnv
	// Remote: the connectors run on other machines, which resolve the references. One that cannot be
	// resolved here is a warning, and what depends on its value is not checked.
	Remote bool
}

// Load reads files; a folder stands for its *.yaml and *.yml. The error, of the class
// Input, lists every problem of every file.
func Load(paths []string, o Options) (*Config, error) {
	l, err := load(paths, o)
	if err != nil {
		return nil, err
	}
	if err := l.problems.Err(); err != nil {
		return nil, err
	}
	l.out.Warnings = l.problems
	return &l.out, nil
}

// Lint is Load for its problems alone, warnings included.
func Lint(paths []string, o Options) (Problems, error) {
	l, err := load(paths, o)
	if err != nil {
		return nil, err
	}
	return l.problems, nil
}

func load(paths []string, o Options) (*loader, error) {
	if o.Getenv == nil {
		o.Getenv = os.LookupEnv
	}
	files, err := expandPaths(paths)
	if err != nil {
		return nil, err
	}
	l := &loader{o: o, seen: map[string]Connector{}, unasked: map[string]bool{}}
	var roots []root
	for _, f := range files {
		if r, ok := l.file(f); ok {
			roots = append(roots, r)
		}
	}
	for _, r := range roots {
		for _, e := range r.node.Map {
			if e.Key == "plugins" {
				l.pluginSection(r.file, e)
			}
		}
	}
	l.askPlugins()
	for _, r := range roots {
		l.sections(r)
	}
	l.out.Registry = l.o.Registry
	l.finish()
	l.problems = l.problems.sorted()
	return l, nil
}

func expandPaths(paths []string) ([]string, error) {
	var files []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, &problem.Error{Code: "no-such-file", Class: problem.Input, Where: p, What: cause(err).Error(), Hint: "name a YAML file or a folder of them"}
		}
		if !info.IsDir() {
			files = append(files, p)
			continue
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return nil, &problem.Error{Code: "no-such-file", Class: problem.Input, Where: p, What: cause(err).Error()}
		}
		n := len(files)
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml") {
				files = append(files, filepath.Join(p, e.Name()))
			}
		}
		if len(files) == n {
			return nil, &problem.Error{Code: "no-config", Class: problem.Input, Where: p, What: "no *.yaml file in this folder"}
		}
	}
	return files, nil
}

type loader struct {
	o          Options
	out        Config
	problems   Problems
	seen       map[string]Connector
	coreParsed bool
	tests      []spec.Node
	plugins    []*namedPlugin
	unasked    map[string]bool // plugins whose fields are not known
	core       string          // where the core section stood: file:line; "" for none yet
}

// root is what stands in a file.
type root struct {
	file string
	node spec.Node
}

func (l *loader) file(path string) (root, bool) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFileBytes {
		err = fmt.Errorf("%d bytes are too many for a config file", info.Size())
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		l.problems.add(path, 1, 1, cause(err).Error(), "")
		return root{}, false
	}
	before := len(l.problems)
	r := reader{file: path, getenv: l.o.Getenv, remote: l.o.Remote, problems: &l.problems}
	n, ok := r.read(text)
	switch {
	case ok && ofKafkaConnect(n):
		l.problems = l.problems[:before] // its references are of another kind
		l.problems.add(path, n.Line, n.Col, "this is a config of Kafka Connect", fmt.Sprintf("`forebay migrate connect %s` translates it", path))
		return root{}, false
	case !ok:
		return root{}, false
	case n.Shape == spec.Absent:
		l.problems.add(path, 1, 1, "the file is empty", "declare sources and sinks: see configs/quickstart.yaml")
		return root{}, false
	case n.Shape != spec.Mapping:
		l.problems.add(path, n.Line, n.Col, "a config is a mapping with the keys core, plugins, sources, sinks", "")
		return root{}, false
	}
	return root{path, n}, true
}

// ofKafkaConnect says whether a file is what Kafka Connect takes or shows: a connector's config, alone or with its name, or several by name.
func ofKafkaConnect(n spec.Node) bool {
	switch n.Shape {
	case spec.Scalar: // properties
		return connectorClass.MatchString(n.Text)
	case spec.Mapping:
		return !slices.ContainsFunc(rootKeys, func(key string) bool { return lookup(n, key) != nil }) && hasConnectorClass(n, 4)
	}
	return false
}

var (
	connectorClass = regexp.MustCompile(`(^|\s)connector\.class\s*=`)
	rootKeys       = []string{"core", "plugins", "sources", "sinks", "tests"}
)

// hasConnectorClass looks no deeper than depth: {name: {info: {config: {connector.class}}}} is what Kafka Connect shows of several.
func hasConnectorClass(n spec.Node, depth int) bool {
	return lookup(n, "connector.class") != nil ||
		depth > 1 && slices.ContainsFunc(n.Map, func(e spec.Entry) bool { return hasConnectorClass(e.Value, depth-1) })
}

func (l *loader) sections(r root) {
	for _, e := range r.node.Map {
		switch e.Key {
		case "plugins": // read before the others
		case "core":
			l.coreSection(r.file, e)
		case "sources":
			l.section(r.file, e, false)
		case "sinks":
			l.section(r.file, e, true)
		case "tests":
			l.testSection(r.file, e)
		default:
			l.problems.add(r.file, e.Line, e.Col, fmt.Sprintf("no key '%s' here", e.Key), nearestHint(e.Key, rootKeys))
		}
	}
}

func (l *loader) coreSection(path string, e spec.Entry) {
	if l.core != "" {
		l.problems.add(path, e.Line, e.Col, "a second `core` section", "the first is "+l.core)
		return
	}
	l.core = fmt.Sprintf("%s:%d", path, e.Line)
	n := e.Value
	if n.Shape == spec.Absent {
		return
	}
	if n.Shape != spec.Mapping {
		l.problems.add(path, n.Line, n.Col, "`core` is a mapping", "for example `core: {bootstrap: [kafka-1:9092]}`")
		return
	}
	values, findings := CoreSpec.Parse(n)
	if !l.report(path, "core", n, findings) {
		l.out.Core, l.coreParsed = values, true
	}
}

func (l *loader) section(path string, section spec.Entry, sink bool) {
	n := section.Value
	if n.Shape == spec.Absent {
		return
	}
	if n.Shape != spec.Mapping {
		l.problems.add(path, n.Line, n.Col, fmt.Sprintf("`%s` is a mapping from names to connectors", section.Key), fmt.Sprintf("for example `%s: {lake: {type: file, …}}`", section.Key))
		return
	}
	for i := 0; i < len(n.Map); i++ {
		e := n.Map[i]
		if e.Value.Shape == spec.Absent && !e.Value.Unresolved && i+1 < len(n.Map) && l.isField(n.Map[i+1], sink) {
			at := n.Map[i+1]
			l.problems.add(path, at.Line, at.Col, fmt.Sprintf("'%s' stands beside '%s', as if it were a name", at.Key, e.Key), fmt.Sprintf("indent it below '%s', as its other fields", e.Key))
			l.seen[e.Key] = Connector{Name: e.Key, Sink: sink, File: path, Line: e.Line}
			for i+1 < len(n.Map) && l.isField(n.Map[i+1], sink) {
				i++
			}
			continue
		}
		l.connector(path, e, sink)
	}
}

// isField says whether an entry in the place of a connector is a field of one: it has the name of one, and not the shape of a connector.
func (l *loader) isField(e spec.Entry, sink bool) bool {
	if lookup(e.Value, "type") != nil {
		return false
	}
	types := l.sourceTypes()
	if sink {
		types = l.sinkTypes()
	}
	first, _, _ := strings.Cut(e.Key, ".")
	return e.Key == "type" || slices.ContainsFunc(types, func(typ string) bool {
		s, _ := l.spec(typ, sink)
		return slices.ContainsFunc(s.Fields, func(f spec.Field) bool { return f.Name == first })
	})
}

func (l *loader) connector(path string, e spec.Entry, sink bool) {
	kind, names := "source", l.sourceTypes()
	if sink {
		kind, names = "sink", l.sinkTypes()
	}
	if !spec.ValidName(e.Key) {
		l.problems.add(path, e.Line, e.Col, fmt.Sprintf("'%s' cannot be a %s's name", e.Key, kind), "letters, digits, _ and -, at most 64, a letter first")
	}
	if before, ok := l.seen[e.Key]; ok {
		l.problems.add(path, e.Line, e.Col, fmt.Sprintf("a second connector called '%s'", e.Key), fmt.Sprintf("the first is %s:%d", before.File, before.Line))
		return
	}
	c := Connector{Name: e.Key, Sink: sink, Node: e.Value, File: path, Line: e.Line}
	l.seen[e.Key] = c
	if e.Value.Unresolved {
		return
	}
	if e.Value.Shape != spec.Mapping {
		l.problems.add(path, e.Line, e.Col, fmt.Sprintf("%s '%s' is a mapping of its fields", kind, e.Key), "at least `type`: "+strings.Join(names, ", "))
		return
	}
	typ := lookup(e.Value, "type")
	if typ == nil || typ.Value.Shape == spec.Absent {
		if at := slices.IndexFunc(e.Value.Map, func(f spec.Entry) bool { return spec.Nearest(f.Key, []string{"type"}) != "" }); typ == nil && at >= 0 {
			e = e.Value.Map[at]
			l.problems.add(path, e.Line, e.Col, fmt.Sprintf("%s '%s' has no type, but a field '%s'", kind, c.Name, e.Key), "did you mean 'type'?")
			return
		}
		l.problems.add(path, e.Line, e.Col, fmt.Sprintf("%s '%s' has no type", kind, e.Key), "one of "+strings.Join(names, ", "))
		return
	}
	if typ.Value.Unresolved && !l.o.Remote { // it was told
		return
	}
	c.Type = typ.Value.Text
	fields, ok := l.spec(c.Type, sink)
	if typ.Value.Shape != spec.Scalar || !ok {
		hint := nearestHint(c.Type, names)
		if _, other := l.spec(c.Type, !sink); other {
			hint = fmt.Sprintf("%s can only be a %s", c.Type, map[bool]string{true: "source", false: "sink"}[sink])
		}
		l.problems.add(path, typ.Value.Line, typ.Value.Col, fmt.Sprintf("no %s type '%s'", kind, c.Type), hint)
		return
	}
	ignore := []string{"type"}
	if l.unasked[c.Type] {
		ignore = append(ignore, foreign(e.Value, fields)...)
	}
	values, findings := fields.Parse(e.Value, ignore...)
	bad := l.report(path, fmt.Sprintf("%s '%s' (%s)", kind, c.Name, c.Type), e.Value, findings)
	c.Values = values
	l.seen[e.Key] = c
	if bad {
		return
	}
	if e.Value.AnyUnresolved() {
		l.out.Connectors = append(l.out.Connectors, c)
		return
	}
	if err := l.make(c); err != nil {
		l.problems.add(path, e.Line, e.Col, fmt.Sprintf("%s '%s' (%s): %v", kind, c.Name, c.Type, err), "")
		return
	}
	l.out.Connectors = append(l.out.Connectors, c)
}

// make tries the connector's constructor, which does no I/O: it sees what one field alone does not show. A plugin that was started is asked.
func (l *loader) make(c Connector) (err error) {
	env := connectors.Env{Name: c.Name, Group: "lint", Logger: slog.New(slog.DiscardHandler)}
	var made any
	for _, t := range l.o.Registry.Sinks {
		if c.Sink && t.Name == c.Type {
			made, err = t.New(c.Values, env)
		}
	}
	for _, t := range l.o.Registry.Sources {
		if !c.Sink && t.Name == c.Type {
			made, err = t.New(c.Values, env)
		}
	}
	if err != nil {
		return err
	}
	return connectors.Check(context.Background(), made)
}

// report turns findings into problems; it says whether one of them forbids to go on.
func (l *loader) report(path, who string, n spec.Node, findings []spec.Finding) (bad bool) {
	for _, f := range findings {
		line, col := f.Line, f.Col
		if line == 0 {
			line, col = n.Line, n.Col
		}
		l.problems = append(l.problems, Problem{File: path, Line: max(line, 1), Col: max(col, 1), Message: who + ": " + f.Message, Hint: f.Hint, Warning: f.Warning})
		bad = bad || !f.Warning
	}
	return bad
}

func (l *loader) spec(typ string, sink bool) (spec.Spec, bool) {
	if l.unasked[typ] && sink {
		return l.o.SinkCommon, true
	} else if l.unasked[typ] {
		return l.o.SourceCommon, true
	}
	if sink {
		for _, t := range l.o.Registry.Sinks {
			if t.Name == typ {
				return t.Spec.Join(l.o.SinkCommon), true
			}
		}
		return spec.Spec{}, false
	}
	for _, t := range l.o.Registry.Sources {
		if t.Name == typ {
			return t.Spec.Join(l.o.SourceCommon), true
		}
	}
	return spec.Spec{}, false
}

func (l *loader) sourceTypes() (names []string) {
	for _, t := range l.o.Registry.Sources {
		names = append(names, t.Name)
	}
	return names
}

func (l *loader) sinkTypes() (names []string) {
	for _, t := range l.o.Registry.Sinks {
		names = append(names, t.Name)
	}
	return names
}

// finish checks what only the whole shows.
func (l *loader) finish() {
	l.checkTests()
	sort.SliceStable(l.out.Connectors, func(i, j int) bool { return !l.out.Connectors[i].Sink && l.out.Connectors[j].Sink })
	if !l.coreParsed {
		l.out.Core, _ = CoreSpec.Parse(spec.Node{Shape: spec.Mapping})
	}
}

// nearestHint names the nearest of the known names, or lists them.
func nearestHint(got string, known []string) string {
	if n := spec.Nearest(got, known); n != "" {
		return fmt.Sprintf("did you mean '%s'?", n)
	}
	if len(known) == 0 {
		return ""
	}
	return "one of " + strings.Join(known, ", ")
}
