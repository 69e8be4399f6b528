package migrate

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// rule is what is done with a field of a config.
type rule func(d *draft, f field)

type prefixRule struct {
	prefix string
	rule   rule
}

// class is a connector of Connect's that has one here.
type class struct {
	names    []string // of the Java class
	title    string
	typ      string // ours
	sink     bool
	rules    map[string]rule
	prefixes []prefixRule
	// topics, of a source: what it should be called, and what its topics begin with in Connect, with the dot.
	topics func(c *connector) (name, prefix string)
	bare   bool // without a prefix its topics have none
	// refuse names a field, and why with it nothing here does what this one does; "" is no reason.
	refuse func(c *connector) (f field, why string)
	// finish makes what depends on several fields, or on one that is not there.
	finish func(d *draft)
}

// classes are the connectors that can be carried; nobody changes them.
var classes = sync.OnceValue(func() []*class {
	return []*class{debeziumPostgres(), debeziumMongo(), mongoSource(), fileSource(), hdfsSink(), jdbcSink(), mongoSink(), fileSink()}
})

// classOf finds a class by its name, or by its last part, as Connect does.
func classOf(name string) *class {
	for _, c := range classes() {
		for _, n := range c.names {
			short := n[strings.LastIndexByte(n, '.')+1:]
			if name == n || name == short || name+"Connector" == short {
				return c
			}
		}
	}
	return nil
}

func titles() (out []string) {
	for _, c := range classes() {
		out = append(out, c.title)
	}
	return out
}

// unknown is the rule of a field that nobody here has heard of.
func unknown(d *draft, f field) {
	d.left(f, "", "nothing is known of this field here", "")
}

// handled is the rule of a field that another one's rule, or finish, reads.
func handled(*draft, field) {}

// carry puts the value into a field of ours.
func carry(name string) rule { return func(d *draft, f field) { d.put(name, text(d.text(f, name))) } }

// carryNumber carries a whole number.
func carryNumber(name string) rule {
	return func(d *draft, f field) {
		if n, ok := number(f.value); ok {
			d.put(name, text(n))
			return
		}
		d.left(f, name, "it is not a whole number", "")
	}
}

func number(s string) (string, bool) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 18 || strings.Trim(s, "0123456789") != "" {
		return "", false
	}
	if s = strings.TrimLeft(s, "0"); s == "" {
		s = "0"
	}
	return s, true
}

// carryList carries a list with commas.
func carryList(name string) rule {
	return func(d *draft, f field) {
		if items := d.texts(f, name); len(items) > 0 {
			d.put(name, list(items...))
		}
	}
}

// idle is the rule of a field that says nothing here.
func idle(why string) rule { return func(d *draft, f field) { d.say(f, Idle, "", why, "") } }

// leave is the rule of a field that cannot be carried.
func leave(why, hint string) rule { return func(d *draft, f field) { d.left(f, "", why, hint) } }

// same is the rule of a field that may only have values which say what is so here anyway.
func same(near, why, hint string, values ...string) rule {
	return func(d *draft, f field) {
		if !is(f, values...) {
			d.left(f, near, why, hint)
		}
	}
}

// is says that a field has one of some values, in whatever case.
func is(f field, values ...string) bool {
	v := strings.TrimSpace(f.value)
	return slices.ContainsFunc(values, func(w string) bool { return strings.EqualFold(v, w) })
}

// choose carries a value by a table.
func choose(name string, table map[string]string, why, hint string) rule {
	return func(d *draft, f field) {
		if to, ok := table[strings.ToLower(strings.TrimSpace(f.value))]; ok {
			d.put(name, text(to))
			return
		}
		d.left(f, name, why, hint)
	}
}

// tombstones is the rule of a field that, when false, leaves tombstones out.
func tombstones(d *draft, f field) {
	if is(f, "false") {
		d.add(newStep(f, "filter").with("when.tombstone", text("true")))
	}
}

// sinkOnly is a rule that a source has no use for.
func sinkOnly(r rule) rule {
	return func(d *draft, f field) {
		if d.class.sink {
			r(d, f)
		} else {
			idle("a source reads no topics")(d, f)
		}
	}
}

// topicsRegex carries the topics that an expression names.
func topicsRegex(d *draft, f field) {
	names, rest := globs([]string{f.value})
	if len(rest) > 0 {
		d.left(f, "topics", "no wildcard says what this expression does", "name the topics, with * for anything")
		return
	}
	for i := range names {
		names[i] = escape(names[i])
	}
	d.put("topics", list(names...))
}

const byWorkers = "the workers share the work out by themselves"

// common are the fields that Connect takes from every connector.
var common = map[string]rule{
	"name": handled, "connector.class": handled, "transforms": handled, "predicates": handled, "topics": sinkOnly(carryList("topics")), "topics.regex": sinkOnly(topicsRegex),
	"tasks.max": idle(byWorkers), "tasks.max.enforce": idle(byWorkers), "config.action.reload": idle("secrets are read at the start"), "connector.plugin.version": idle("there are no plugins"),
	"header.converter": idle("headers stay bytes"),
	"key.converter":    keyConverter(handled), "value.converter": converter,
	"errors.tolerance":                                same("", "a record that cannot be handled stops the connector", "`on_error: dlq` notes it and goes on; a transform `filter` leaves out what is known to be wrong", "none"),
	"errors.deadletterqueue.topic.name":               leave("dead letters are no topic of copies here", "`on_error: dlq` notes which record it was and goes on"),
	"errors.deadletterqueue.topic.replication.factor": leave("dead letters are no topic of copies here", ""), "errors.deadletterqueue.context.headers.enable": leave("dead letters are no topic of copies here", ""),
	"errors.retry.timeout": idle("what can be tried again is, until it works"), "errors.retry.delay.max.ms": idle("the pauses between tries grow to a minute"),
	"errors.log.enable": idle("errors are logged"), "errors.log.include.messages": idle("the log names records, and does not show them"),
	"exactly.once.support": idle("exactly once is the default: see `delivery`"), "transaction.boundary": idle("records and positions are one transaction"),
	"transaction.boundary.interval.ms": idle("records and positions are one transaction"), "offsets.storage.topic": idle("positions are in _forebay.positions"),
	"topic.creation.groups":                     leave("all topics of a source are made alike", "make others before: forebay topics create"),
	"topic.creation.default.partitions":         partitions,
	"topic.creation.default.replication.factor": idle("topics have min(3, nodes) replicas"),
}

var commonPrefixes = []prefixRule{
	{"key.converter.", handled}, {"value.converter.", handled}, {"transforms.", handled}, {"predicates.", handled},
	{"header.converter.", idle("headers stay bytes")},
	{"topic.creation.", leave("topics have Kafka's defaults, and are kept for 7 days", "make others before: forebay topics create")},
	{"producer.override.", leave("the producer is the runtime's", "")},
	{"consumer.override.", leave("the consumer is the runtime's, and begins where the sink's target stands", "")},
	{"admin.override.", leave("the admin client is the runtime's", "")},
}

func partitions(d *draft, f field) {
	if d.class.sink {
		idle("a sink makes no topics")(d, f)
		return
	}
	if n, ok := number(f.value); ok && n != "0" {
		d.put("partitions", text(n))
	} else if !is(f, "-1") {
		d.left(f, "partitions", "it is not a number of partitions", "")
	}
}

func converter(d *draft, f field) {
	name := className(f.value)
	switch {
	case registered[name] != "" && d.class.typ != "tail":
		withRegistry(d, f, name)
	case d.class.sink:
		if !slices.Contains([]string{"JsonConverter", "StringConverter", "ByteArrayConverter"}, name) {
			d.left(f, "", fmt.Sprintf("sinks read JSON, with or without a schema, Avro, Protobuf and JSON Schema with a registry, and text; %s is another format", shown(name)), "")
		}
	case d.class.typ == "tail":
		if name != "StringConverter" && name != "ByteArrayConverter" {
			d.left(f, "", "a line is the record's value, as it is", "")
		}
	case name != "JsonConverter":
		d.left(f, "schemas", fmt.Sprintf("change events are JSON, with or without a schema, Avro or Protobuf here, not what %s writes", shown(name)), "schemas: true writes {schema, payload}, value.converter: avro with a registry")
	}
}

// registered are the converters whose schemas are in a registry, and what they are called here.
var registered = map[string]string{"AvroConverter": "avro", "ProtobufConverter": "protobuf", "JsonSchemaConverter": "jsonschema"}

func className(full string) string {
	full = strings.TrimSpace(full)
	return full[strings.LastIndexByte(full, '.')+1:]
}

// keyConverter carries a key's converter where it is not the one of JSON; otherwise is the rule where it is.
func keyConverter(otherwise rule) rule {
	return func(d *draft, f field) {
		name, values := className(f.value), registered[className(d.get("value.converter"))]
		switch {
		case registered[name] != "" && d.class.typ != "tail":
			withRegistry(d, f, name)
		case d.class.sink && values != "" && name == "StringConverter":
			d.put(f.key, text("string"))
		case d.class.sink && values != "" && name == "ByteArrayConverter":
			d.put(f.key, text("raw"))
		default:
			otherwise(d, f)
		}
	}
}

// withRegistry carries a converter, and the registry that it names.
func withRegistry(d *draft, f field, name string) {
	d.put(f.key, text(registered[name]))
	if at, ok := d.find(f.key + ".schema.registry.url"); ok {
		d.put("registry.url", list(d.texts(at, "registry.url")...))
	}
	if login, ok := d.find(f.key + ".basic.auth.user.info"); ok {
		d.left(login, "registry.url", "the login is not shown", "registry.username, and registry.password: ${REGISTRY_PASSWORD}")
	}
}

// jsonSchemas, in finish of a source of change events: whether JSON comes as {schema, payload}, which is JsonConverter's default.
func jsonSchemas(d *draft) {
	f, ok := d.find("value.converter")
	if !ok {
		d.say(field{}, Remark, "schemas", "how records are written is not in this config but in the worker's: here they are JSON without schemas", "schemas: true where the worker's value.converter.schemas.enable is")
		return
	}
	if !strings.HasSuffix(strings.TrimSpace(f.value), "JsonConverter") {
		return
	}
	on := func(which string) bool { return !is(field{value: d.get(which + ".converter.schemas.enable")}, "false") }
	if on("value") {
		d.put("schemas", text("true"))
	}
	if k, ok := d.find("key.converter"); ok && (!strings.HasSuffix(strings.TrimSpace(k.value), "JsonConverter") || on("key") != on("value")) {
		d.left(k, "schemas", "key and value are written in one way", "")
	}
}

// Class is a connector of Connect's that has one here, as documents and tests need it.
type Class struct {
	Title  string
	Names  []string // of the Java class
	Type   string   // ours
	Fields []string // that are known, sorted
}

// Known lists the connectors that can be carried.
func Known() (out []Class) {
	for _, c := range classes() {
		k := Class{Title: c.title, Names: c.names, Type: c.typ}
		for _, rules := range []map[string]rule{c.rules, common} {
			for name := range rules {
				k.Fields = append(k.Fields, name)
			}
		}
		slices.Sort(k.Fields)
		k.Fields = slices.Compact(k.Fields)
		out = append(out, k)
	}
	return out
}
