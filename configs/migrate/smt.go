package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// smt is one transform of Connect's config, while it is read.
type smt struct {
	d      *draft
	alias  string
	at     field // its type
	prefix string
	read   map[string]bool // which of its fields have been looked at
	key    bool            // it works on the key
	when   func(*step)     // its predicate
	made   []*step
	failed bool
}

// transforms makes ours of those that the config names, in their order.
func (d *draft) transforms() {
	f, _ := d.find("transforms")
	aliases := split(f.value)
	seen := map[string]bool{}
	for _, alias := range aliases {
		seen[alias] = true
		t := smt{d: d, alias: alias, prefix: "transforms." + alias + ".", read: map[string]bool{}}
		at, ok := d.find(t.prefix + "type")
		if !ok {
			d.left(f, "transforms", fmt.Sprintf("transform %s has no type", shown(alias)), "")
			continue
		}
		t.at = at
		t.translate()
	}
	usedBy := map[string]bool{}
	for _, alias := range aliases {
		usedBy[strings.TrimSpace(d.get("transforms."+alias+".predicate"))] = true
	}
	for _, f := range d.fields {
		rest, ok := strings.CutPrefix(f.key, "transforms.")
		if alias, _, _ := strings.Cut(rest, "."); ok && !seen[alias] {
			d.say(f, Idle, "", "`transforms` does not name it", "")
		}
		rest, ok = strings.CutPrefix(f.key, "predicates.")
		if alias, _, _ := strings.Cut(rest, "."); ok && !usedBy[alias] {
			d.say(f, Idle, "", "no transform has this predicate", "")
		}
	}
}

// field is one of the transform's own.
func (t *smt) field(name string) field {
	t.read[name] = true
	f, ok := t.d.find(t.prefix + name)
	if !ok {
		f = field{t.prefix + name, "", t.at.line}
	}
	return f
}

func (t *smt) get(name string) string           { return strings.TrimSpace(t.field(name).value) }
func (t *smt) is(name string, v ...string) bool { return is(t.field(name), v...) }
func (t *smt) text(name string) string          { return t.d.text(t.field(name), "transforms") }
func (t *smt) list(name string) value           { return list(split(t.text(name))...) }

func (t *smt) add(typ string) *step {
	s := newStep(t.at, typ)
	t.made = append(t.made, s)
	return s
}

// of says what a step of ours works on.
func (t *smt) of(s *step) *step {
	if t.key {
		s.with("of", text("key"))
	}
	return s
}

// fail gives the whole transform up: a part of it would do something else.
func (t *smt) fail(f field, message, hint string) {
	t.failed = true
	t.d.left(f, "transforms", message, hint)
}

func (t *smt) translate() {
	class := strings.TrimSpace(t.at.value)
	class, part, _ := strings.Cut(class, "$")
	name := class[strings.LastIndexByte(class, '.')+1:]
	t.key = part == "Key"
	t.read["type"], t.read["predicate"], t.read["negate"] = true, true, true
	make := smts[name]
	if strings.HasPrefix(class, "io.debezium.transforms.Filter") || strings.HasPrefix(class, "io.confluent.connect.transforms.Filter") {
		make = func(t *smt) {
			t.fail(t.at, "its condition is a program", "a transform `filter` with `when` drops records by a field, the operation or the topic")
		}
	}
	if make == nil {
		t.d.left(t.at, "transforms", fmt.Sprintf("there is no transform like %s", shown(class)), "docs/transforms.md lists those that are here")
	} else {
		t.predicate()
		if !t.failed {
			make(t)
		}
	}
	for _, f := range t.d.fields {
		rest, ok := strings.CutPrefix(f.key, t.prefix)
		if ok && make != nil && !t.failed && !t.read[rest] {
			t.d.left(f, "transforms", "nothing is known of this field here", "")
		}
	}
	if make == nil || t.failed {
		return
	}
	for _, s := range t.made {
		if t.when != nil {
			t.when(s)
		}
		t.d.add(s)
	}
}

// predicate reads when the transform applies.
func (t *smt) predicate() {
	name := t.get("predicate")
	negate := t.is("negate", "true")
	if name == "" {
		return
	}
	d := t.d
	own := "predicates." + name + "."
	class := strings.TrimSpace(d.get(own + "type"))
	var key string
	var v value
	switch class[strings.LastIndexByte(class, '.')+1:] {
	case "TopicNameMatches":
		f, _ := d.find(own + "pattern")
		key, v = "when.topic", text(d.text(f, "transforms"))
	case "HasHeaderKey":
		f, _ := d.find(own + "name")
		key, v = "when.header", text(d.text(f, "transforms"))
	case "RecordIsTombstone":
		key, v = "when.tombstone", text("true")
	default:
		t.fail(t.field("predicate"), fmt.Sprintf("there is no predicate like %s", shown(name)), "`when` knows the topic, a header, a tombstone, the operation and a field")
		return
	}
	t.when = func(s *step) {
		s.with(key, v)
		if negate {
			s.with("negate", text("true"))
		}
	}
}

// smts are Connect's and Debezium's transforms by the last part of their class.
var smts = map[string]func(t *smt){
	"Filter": func(t *smt) {
		if t.when == nil {
			t.fail(t.at, "without a predicate it drops every record", "")
			return
		}
		t.add("filter")
	},
	"RegexRouter":          func(t *smt) { t.route("regex", "replacement") },
	"TopicRegexRouter":     func(t *smt) { t.route("regex", "replacement") },
	"ByLogicalTableRouter": logicalRouter,
	"TimestampRouter": func(t *smt) {
		format := t.get("topic.format")
		if format == "" {
			format = "${topic}-${timestamp}"
		}
		java := t.get("timestamp.format")
		if java == "" {
			java = "yyyyMMdd"
		}
		pattern, ok := timePattern(java)
		if !ok || strings.ContainsAny(format, "%") || strings.Contains(pattern, "%y") || strings.Contains(pattern, "%j") {
			t.fail(t.field("timestamp.format"), "no pattern here says this", "%Y %m %d %H %M %S are what there is")
			return
		}
		t.add("route").with("to", text(strings.NewReplacer("${topic}", "{topic}", "${timestamp}", pattern).Replace(format)))
	},
	"ExtractTopic": func(t *smt) {
		name := t.get("field")
		if t.key || name == "" {
			t.fail(t.at, "a topic is made of a field of the value", "")
			return
		}
		s := t.add("route").with("to", text("{field}")).with("field", text(t.text("field")))
		if t.is("skip.missing.or.null", "true") {
			s.with("missing", text("skip"))
		}
	},
	"InsertField":  insertField,
	"ReplaceField": replaceField,
	"MaskField": func(t *smt) {
		s := t.of(t.add("mask").with("fields", t.list("fields")))
		if t.get("replacement") != "" {
			s.with("with", text(t.text("replacement")))
		}
		t.nulls()
	},
	"HoistField": func(t *smt) { t.of(t.add("hoist").with("field", text(t.text("field")))) },
	"ExtractField": func(t *smt) {
		t.of(t.add("extract").with("field", text(t.text("field"))))
		t.paths()
		t.nulls()
	},
	"ValueToKey": func(t *smt) { t.add("key").with("fields", t.list("fields")); t.nulls() },
	"Cast": func(t *smt) {
		spec := t.list("spec")
		if slices.ContainsFunc(spec.texts, func(s string) bool { return !strings.Contains(s, ":") }) {
			t.fail(t.field("spec"), "a whole key or value cannot be cast", "a transform `hoist` makes a field of it")
			return
		}
		t.of(t.add("cast").with("fields", spec))
		t.nulls()
	},
	"Flatten": func(t *smt) {
		s := t.of(t.add("flatten"))
		if d := t.get("delimiter"); d != "" {
			s.with("delimiter", text(t.text("delimiter")))
		}
	},
	"TimestampConverter": timestampConverter,
	"SetSchemaMetadata": func(t *smt) {
		for _, name := range []string{"schema.name", "schema.version"} {
			if f := t.field(name); f.value != "" {
				t.d.say(f, Idle, "", "schemas are told apart by what they are", "")
			}
		}
		t.nulls()
	},
	"InsertHeader": func(t *smt) {
		t.add("header").with("name", text(t.text("header"))).with("value", text(t.text("value.literal")))
	},
	"HeaderFrom":  headerFrom,
	"DropHeaders": func(t *smt) { t.add("drop-headers").with("names", t.list("headers")) },
	"TombstoneHandler": func(t *smt) {
		if t.is("behavior", "fail") {
			t.fail(t.field("behavior"), "a tombstone is no error", "")
			return
		}
		t.add("filter").with("when.tombstone", text("true"))
	},
	"ExtractNewRecordState":   unwrap,
	"ExtractNewDocumentState": unwrap,
}

// nulls are fields about the defaults of schemas, which there are none of here.
func (t *smt) nulls() {
	if f := t.field("replace.null.with.default"); f.value != "" {
		t.d.say(f, Idle, "", "a null is a null", "")
	}
}

// paths is the field of KIP-821: dots are paths here anyway, if the whole name is no field.
func (t *smt) paths() {
	if f := t.field("field.syntax.version"); f.value != "" {
		t.d.say(f, Idle, "", "a name with dots is a path, if there is no such field", "")
	}
}

func (t *smt) route(match, to string) {
	t.add("route").with("match", text(t.text(match))).with("to", text(strings.ReplaceAll(t.text(to), `\$`, "$")))
}

func logicalRouter(t *smt) {
	t.route("topic.regex", "topic.replacement")
	unique := t.field("key.enforce.uniqueness")
	if !is(unique, "false") {
		t.d.say(unique, Remark, "transforms", "the key does not get the name of the table; Debezium adds __dbz__physicalTableIdentifier to it", "rows of two tables with one key are one row to a sink")
	}
	for _, name := range []string{"key.field.name", "key.field.regex", "key.field.replacement"} {
		if f := t.field(name); f.value != "" && !is(unique, "false") {
			t.d.left(f, "transforms", "the key does not get the name of the table", "")
		}
	}
	if f := t.field("logical.table.cache.size"); f.value != "" {
		t.d.say(f, Idle, "", bySelf, "")
	}
}

func insertField(t *smt) {
	for _, from := range []string{"topic", "partition", "offset", "timestamp"} {
		if t.get(from+".field") != "" {
			t.of(t.add("insert").with("field", text(strings.TrimRight(t.text(from+".field"), "!?"))).with("from", text(from)))
		}
	}
	if t.get("static.field") != "" {
		t.of(t.add("insert").with("field", text(strings.TrimRight(t.text("static.field"), "!?"))).with("value", text(t.text("static.value"))))
	} else {
		t.get("static.value")
	}
	t.nulls()
}

func replaceField(t *smt) {
	for _, x := range []struct{ typ, name, old string }{{"drop", "exclude", "blacklist"}, {"keep", "include", "whitelist"}, {"rename", "renames", ""}} {
		for _, name := range []string{x.name, x.old} {
			if name != "" && t.get(name) != "" {
				t.of(t.add(x.typ).with("fields", t.list(name)))
			}
		}
	}
	t.nulls()
}

func timestampConverter(t *smt) {
	target := t.get("target.type")
	to := map[string]string{"string": "string", "unix": "unix", "Timestamp": "timestamp", "Date": "date"}[target]
	if to == "" || t.get("field") == "" {
		t.fail(t.field("target.type"), "a field becomes a string, unix, Timestamp or Date", "")
		return
	}
	s := t.of(t.add("timestamp").with("fields", list(t.text("field"))).with("to", text(to)))
	if java := t.get("format"); java != "" {
		pattern, ok := timePattern(java)
		if ok = ok && !strings.Contains(pattern, "%y") && !strings.Contains(pattern, "%j"); !ok {
			t.fail(t.field("format"), "no pattern here says this", "%Y %m %d %H %M %S %f are what there is")
			return
		}
		s.with("format", text(pattern))
	}
	if unit := t.get("unix.precision"); unit != "" {
		ours := map[string]string{"seconds": "s", "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}[unit]
		if ours == "" {
			t.fail(t.field("unix.precision"), "there is no such unit", "")
			return
		}
		s.with("unit", text(ours))
	}
	t.nulls()
	t.paths()
}

func headerFrom(t *smt) {
	fields, headers := t.list("fields"), t.list("headers")
	if t.key || len(fields.texts) != len(headers.texts) {
		t.fail(t.at, "a header is made of a field of the value, one for each", "")
		return
	}
	for i := range fields.texts {
		t.add("header").with("name", text(headers.texts[i])).with("field", text(fields.texts[i]))
	}
	if t.is("operation", "move") {
		t.add("drop").with("fields", fields)
	}
}

var renamed = regexp.MustCompile(`^[^:]+:[^:]+$`)

// unwrap is ExtractNewRecordState, and the same of documents.
func unwrap(t *smt) {
	s := t.add("unwrap")
	handling := t.get("delete.tombstone.handling.mode")
	old, drops := t.get("delete.handling.mode"), t.get("drop.tombstones") // until 2.4
	switch {
	case handling != "":
		switch handling {
		case "tombstone", "drop", "rewrite", "rewrite-with-tombstone":
			s.with("deletes", text(handling))
		default:
			t.d.left(t.field("delete.tombstone.handling.mode"), "transforms", "there is no such mode", "tombstone, drop, rewrite or rewrite-with-tombstone")
		}
	case old == "" && drops == "": // the default was another one until 2.4
		t.d.say(t.at, Remark, "transforms", "a delete becomes a tombstone, as in Debezium from 2.5 on; before, it was left out", "deletes: drop")
	case strings.EqualFold(old, "rewrite"):
		s.with("deletes", text(map[bool]string{true: "rewrite-with-tombstone", false: "rewrite"}[strings.EqualFold(drops, "false")]))
	case strings.EqualFold(drops, "false") || strings.EqualFold(old, "none"):
		s.with("deletes", text("tombstone"))
	default:
		s.with("deletes", text("drop"))
	}
	for _, x := range []struct{ name, ours string }{{"add.fields", "add"}, {"add.headers", "headers"}} {
		v := t.list(x.name)
		if slices.ContainsFunc(v.texts, renamed.MatchString) {
			t.d.left(t.field(x.name), "transforms", "what is added has the envelope's names", "a transform `rename` behind it")
			for i, f := range v.texts {
				v.texts[i], _, _ = strings.Cut(f, ":")
			}
		}
		if len(v.texts) > 0 {
			s.with(x.ours, v)
		}
	}
	for _, name := range []string{"add.fields.prefix", "add.headers.prefix"} {
		f, ok := t.d.find(t.prefix + name)
		t.read[name] = true
		if !ok {
			continue
		}
		if before, twice := s.values["prefix"]; twice && before.texts[0] != t.text(name) {
			t.d.left(f, "transforms", "fields and headers have one prefix", "")
			continue
		}
		s.with("prefix", text(t.text(name)))
	}
	for _, name := range []string{"drop.fields.header.name", "drop.fields.from.key", "drop.fields.keep.schema.compatible"} {
		if f := t.field(name); f.value != "" && !is(f, "false") {
			t.d.left(f, "transforms", "what is dropped is named", "a transform `drop`")
		}
	}
	if f := t.field("array.encoding"); f.value != "" && !is(f, "array") {
		t.d.left(f, "transforms", "an array stays one", "")
	}
	if t.is("flatten.struct", "true") {
		delimiter := t.text("flatten.struct.delimiter")
		if delimiter == "" {
			delimiter = "_"
		}
		t.add("flatten").with("delimiter", text(delimiter))
	} else {
		t.get("flatten.struct.delimiter")
	}
	if f := t.field("route.by.field"); f.value != "" {
		t.add("route").with("to", text("{field}")).with("field", text(t.text("route.by.field"))).with("missing", text("skip"))
	}
	t.nulls()
}
