package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const (
	bySelf    = "it is found by itself"
	ownPace   = "how much is read at a time is bounded in bytes"
	retried   = "what can be tried again is, with pauses that grow"
	noSignals = "there are no signals; a table that is added to the config gets its snapshot by itself"
)

// debezium are the fields that Debezium's connectors share.
func debezium(own map[string]rule) map[string]rule {
	rules := map[string]rule{
		"topic.prefix": handled, "database.server.name": handled, "tombstones.on.delete": tombstones,
		"max.batch.size": idle(ownPace), "max.queue.size": idle(ownPace), "max.queue.size.in.bytes": idle(ownPace), "poll.interval.ms": idle("changes are read as they come"),
		"errors.max.retries": idle(retried), "retriable.restart.connector.wait.ms": idle(retried), "executor.shutdown.timeout.ms": idle("a stop drains"),
		"snapshot.delay.ms": idle("the snapshot begins at once"), "streaming.delay.ms": idle("the stream begins behind the snapshot"),
		"snapshot.fetch.size": idle(ownPace), "snapshot.max.threads": idle("the snapshot goes on after a stop where it was"),
		"snapshot.tables.order.by.row.count":         idle("tables come in the order of their names"),
		"snapshot.include.collection.list":           leave("the snapshot is of all that is named", "two sources may share a database: one with snapshot: never"),
		"snapshot.select.statement.overrides":        leave("the snapshot reads whole tables", "a transform `filter` leaves rows out"),
		"incremental.snapshot.chunk.size":            idle("the snapshot is read in pieces, and goes on after a stop where it was"),
		"incremental.snapshot.watermarking.strategy": idle(noSignals), "read.only": idle("nothing is written to the database's tables"),
		"provide.transaction.metadata": same("", "there is no topic of transactions", "", "false"),
		"skipped.operations":           skipped, "custom.metric.tags": idle("metrics have the connector's name"),
		"event.processing.failure.handling.mode": same("", "an event that cannot be handled stops the source", "", "fail"),
		"schema.name.adjustment.mode":            same("", "names stay as they are", "", "none"), "field.name.adjustment.mode": same("", "names stay as they are", "", "none"),
		"topic.naming.strategy": same("", "topics are called source.schema.table", "a transform `route` calls them otherwise",
			"io.debezium.schema.SchemaTopicNamingStrategy", "io.debezium.schema.DefaultTopicNamingStrategy"),
		"topic.delimiter": same("", "the parts of a topic's name have dots between them", "a transform `route` calls them otherwise", "."), "topic.cache.size": idle(bySelf),
		"sanitize.field.names": same("", "names stay as they are", "", "false"), "converters": leave("types are written in one way", ""),
		"post.processors":         leave("there are none", "transforms may do it"),
		"heartbeat.topics.prefix": idle("there is no topic of heartbeats"), "topic.heartbeat.prefix": idle("there is no topic of heartbeats"), "topic.transaction": idle("there is no topic of transactions"),
	}
	for name, r := range own {
		rules[name] = r
	}
	return rules
}

var debeziumPrefixes = []prefixRule{
	{"signal.", leave(noSignals, "")}, {"notification.", leave("there are no notifications", "forebay connectors describe, and /metrics, say how far it is")},
	{"incremental.snapshot.", leave(noSignals, "")}, {"snapshot.select.statement.overrides.", leave("the snapshot reads whole tables", "a transform `filter` leaves rows out")},
	{"openlineage.", leave("lineage is not told", "")},
}

// debeziumTopics: a source is called as its topics begin.
func debeziumTopics(c *connector) (name, prefix string) {
	name = strings.TrimSpace(c.get("topic.prefix"))
	if name == "" {
		name = strings.TrimSpace(c.get("database.server.name")) // until 1.9
	}
	if name == "" {
		name = strings.TrimSpace(c.get("mongodb.name"))
	}
	if name == "" || external.MatchString(name) {
		return c.name, ""
	}
	return name, name + "."
}

// skipped leaves out operations. Debezium's own default, truncates, is told of in finish.
func skipped(d *draft, f field) {
	ops := split(strings.ToLower(f.value))
	if i := slices.IndexFunc(ops, func(op string) bool { return !slices.Contains([]string{"c", "u", "d", "t"}, op) }); i >= 0 {
		if !slices.Equal(ops, []string{"none"}) {
			d.left(f, "", shown(ops[i])+" is no operation", "")
		}
		return
	}
	if len(ops) > 0 {
		d.add(newStep(f, "filter").with("when.op", list(ops...)))
	}
}

func debeziumPostgres() *class {
	timeFields := func(what string, values ...string) rule {
		return same("", what, "transforms `timestamp` and `cast` change single fields", values...)
	}
	rules := debezium(map[string]rule{
		"database.hostname": handled, "database.port": handled, "database.user": handled, "database.password": handled, "database.dbname": handled,
		"database.sslmode": handled, "database.sslcert": handled, "database.sslkey": handled, "database.sslrootcert": handled, "database.sslpassword": handled,
		"database.sslfactory": idle("TLS is part of the program"), "database.tcpkeepalive": idle("connections are kept alive"), "database.tcpKeepAlive": idle("connections are kept alive"),
		"database.initial.statements": leave("no statements are run", "ALTER ROLE … SET says settings for a user"), "database.query.timeout.ms": idle("a query may take its time"),
		"plugin.name": handled, "slot.name": carry("slot"), "publication.name": carry("publication"),
		"slot.drop.on.stop":  same("slot", "the slot is kept: without it changes are lost", "drop it when the source is given up", "false"),
		"slot.stream.params": leave("the stream has pgoutput's own options", ""),
		"slot.failover":      same("slot", "a slot is made without failover", "make it before: pg_create_logical_replication_slot(…, failover => true)", "false"),
		"slot.max.retries":   idle(retried), "slot.retry.delay.ms": idle(retried), "status.update.interval.ms": idle("the server is told after each commit"),
		"publication.autocreate.mode":     publication,
		"replica.identity.autoset.values": leave("replica identities stay as they are", "ALTER TABLE … REPLICA IDENTITY FULL"),
		"publish.via.partition.root":      same("publication", "a publication that is made here publishes via the root", "make one before, without publish_via_partition_root", "true"),
		"table.include.list":              tables, "table.whitelist": tables, "schema.include.list": schemas, "schema.whitelist": schemas,
		"table.exclude.list": leave("tables are named, not left out", "name those that are wanted in `tables`"), "schema.exclude.list": leave("tables are named, not left out", "name the schemas that are wanted: [shop.*, sales.*]"),
		"table.ignore.builtin": same("", "PostgreSQL's own tables are left out", "", "true"),
		"column.exclude.list":  columns("drop", ""), "column.blacklist": columns("drop", ""),
		"column.include.list":   leave("columns are left out, not named", "a transform `drop` leaves out columns; `keep` names those of one table, with `when: {topic: …}`"),
		"message.key.columns":   keyColumns,
		"snapshot.mode":         snapshotMode(map[string]string{"initial": "initial", "never": "never", "no_data": "never", "initial_only": "initial_only"}),
		"snapshot.locking.mode": idle("a table is locked against DDL alone, and for minutes"), "snapshot.lock.timeout.ms": idle("it waits for locks a moment at a time"),
		"snapshot.isolation.mode": idle("the rows read are those before the stream, whatever the mode"), "snapshot.query.mode": idle("whole tables are read"),
		"time.precision.mode":           timeFields("times have the precision of their columns", "adaptive"),
		"decimal.handling.mode":         timeFields("numeric is Connect's Decimal", "precise"),
		"interval.handling.mode":        timeFields("an interval is a number of microseconds", "numeric"),
		"binary.handling.mode":          timeFields("bytea is bytes", "bytes"),
		"hstore.handling.mode":          timeFields("hstore is a JSON text", "json"),
		"money.fraction.digits":         timeFields("money has two digits behind the point", "2"),
		"include.unknown.datatypes":     same("", "columns of unknown types are their text", "a transform `drop` leaves them out", "true"),
		"unavailable.value.placeholder": same("", "a value that PostgreSQL did not send is __debezium_unavailable_value", "", "__debezium_unavailable_value"),
		"heartbeat.interval.ms":         heartbeat, "heartbeat.action.query": idle("an idle slot moves without writing to the database"),
		"message.prefix.include.list": leave("messages of pg_logical_emit_message are not read", ""), "message.prefix.exclude.list": idle("messages of pg_logical_emit_message are not read"),
		"flush.lsn.source": same("", "the slot moves behind what is durable in the log", "", "true"), "lsn.flush.mode": same("", "the slot moves behind what is durable in the log", "", "connector"),
		"lsn.flush.timeout.ms": idle("the slot moves behind what is durable in the log"), "lsn.flush.timeout.action": idle("the slot moves behind what is durable in the log"),
		"offset.mismatch.strategy": same("slot", "a slot that somebody else has moved stops the source", "", "no_validation", "trust_offset"), "xmin.fetch.interval.ms": same("", "source.xmin is null", "", "0"),
		"schema.refresh.mode": idle("tables are read again when they change"),
	})
	return &class{
		names: []string{"io.debezium.connector.postgresql.PostgresConnector"}, title: "Debezium PostgreSQL", typ: "postgres",
		rules: rules, topics: debeziumTopics,
		prefixes: append([]prefixRule{{"column.mask.with.", maskColumns}, {"column.mask.hash.", leave("values are not hashed", "a transform `mask` hides them")},
			{"column.truncate.to.", leave("values are not cut", "a transform `mask` hides them")}, {"column.propagate.", leave("types of columns are not told", "schemas: true tells Connect's")},
			{"datatype.propagate.", leave("types of columns are not told", "schemas: true tells Connect's")}, {"database.", leave("this option of the JDBC driver is not known here", "options of the connection are part of `url`")}}, debeziumPrefixes...),
		finish: finishPostgres,
	}
}

func finishPostgres(d *draft) {
	plugin, ok := d.find("plugin.name")
	if !ok {
		plugin = field{key: "plugin.name"} // its default is decoderbufs
	}
	if _, ok := d.find("slot.name"); !ok {
		d.put("slot", text("debezium")) // Debezium's defaults
	}
	if _, ok := d.find("publication.name"); !ok {
		d.put("publication", text("dbz_publication"))
	}
	if !is(plugin, "pgoutput") {
		delete(d.values, "slot")
		d.left(plugin, "slot", "only a slot of pgoutput can be gone on with: another one is made, and the snapshot is read again", "drop the old one then, which holds WAL back")
	}
	if d.values["tables"].texts == nil && d.comments["tables"] == nil {
		d.put("tables", list("*.*"))
	}
	host, user := d.get("database.hostname"), d.get("database.user")
	if host != "" {
		b := "postgres://"
		if user != "" {
			b += d.part("database.user")
			if p := d.secret("database.password", "url"); p != "" {
				b += ":" + p
			}
			b += "@"
		} else if p := d.secret("database.password", "url"); p != "" {
			b += ":" + p + "@"
		}
		if strings.Contains(host, ":") && !external.MatchString(host) {
			b += "[" + escape(host) + "]"
		} else {
			b += d.part("database.hostname")
		}
		if d.get("database.port") != "" {
			b += ":" + d.part("database.port")
		}
		b += "/" + d.part("database.dbname")
		if d.get("database.sslmode") != "" {
			b += "?sslmode=" + d.part("database.sslmode")
		}
		for _, k := range certificates {
			if f, ok := d.find("database." + k); ok {
				d.left(f, "url", ownFiles, "add "+k+"=… to the url where the file is")
			}
		}
		d.put("url", text(b))
	}
	jsonSchemas(d)
	if _, ok := d.find("skipped.operations"); !ok {
		d.say(field{}, Remark, "", "a TRUNCATE is an event with op t, which Debezium leaves out unless it is told otherwise", "to leave it out: {type: filter, when: {op: [t]}}")
	}
	slot, publication := strings.Join(d.values["slot"].texts, ""), strings.Join(d.values["publication"].texts, "")
	if is(plugin, "pgoutput") {
		d.say(field{}, Remark, "snapshot", fmt.Sprintf("to go on where Debezium has stopped, stop it and write snapshot: never; the slot %s and the publication %s tell where that is", shown(slot), shown(publication)),
			"docs/migrate.md")
	}
}

// certificates are the options of a connection that name files, or belong to them. Who reads a url reads its files, so lint would refuse it elsewhere.
var certificates = []string{"sslrootcert", "sslcert", "sslkey", "sslpassword"}

const ownFiles = "the url's files are read on the machine that runs it"

// part is a field as a part of a URL.
func (d *draft) part(key string) string {
	f, _ := d.find(key)
	f.value = strings.TrimSpace(f.value)
	return d.urlText(f, "url")
}

// tables carries a list of expressions over schema.table.
func tables(d *draft, f field) { named(d, f, "tables", split(f.value)) }

// schemas does so with whole schemas, unless tables are named too.
func schemas(d *draft, f field) {
	if d.get("table.include.list") != "" || d.get("table.whitelist") != "" {
		d.say(f, Idle, "", "`tables` says which", "")
		return
	}
	names := split(f.value)
	for i := range names {
		names[i] += `\..*`
	}
	named(d, f, "tables", names)
}

// named carries a list of expressions as names with wildcards.
func named(d *draft, f field, name string, expressions []string) {
	names, rest := globs(expressions)
	if len(rest) > 0 {
		d.left(f, name, fmt.Sprintf("no wildcard says what %s does", shown(strings.Join(rest, " and "))), "name them, with * and ?")
	}
	for i := range names {
		names[i] = escape(names[i])
	}
	if len(names) > 0 {
		d.put(name, list(names...))
	}
}

// columns is the rule of a list of columns, schema.table.column, which become a transform for each table.
func columns(typ, with string) rule {
	return func(d *draft, f field) {
		for _, e := range split(f.value) {
			names, ok := glob(e)
			if !ok {
				d.left(f, "transforms", fmt.Sprintf("no field is named by %s", shown(e)), "a transform names fields, and `when: {topic: …}` the tables")
				continue
			}
			for _, n := range names {
				table, column := n[:max(strings.LastIndexByte(n, '.'), 0)], n[strings.LastIndexByte(n, '.')+1:]
				if table == "" || strings.Contains(column, "*") {
					d.left(f, "transforms", fmt.Sprintf("no field is named by %s", shown(e)), "a transform names fields, and `when: {topic: …}` the tables")
					continue
				}
				s := newStep(f, typ).with("fields", list(escape(column)))
				if with != "" {
					s.with("with", text(with))
				}
				d.add(s.with("when.topic", text(d.topic(table))))
			}
		}
	}
}

// topic is an expression for the topic of a table that may have wildcards.
func (d *draft) topic(table string) string {
	prefix := d.prefix
	if prefix == "" && !d.class.bare {
		prefix = d.name + "."
	}
	return escape(strings.ReplaceAll(regexp.QuoteMeta(prefix+table), `\*`, `.*`))
}

// maskColumns is column.mask.with.N.chars.
func maskColumns(d *draft, f field) {
	n, ok := strings.CutSuffix(strings.TrimPrefix(f.key, "column.mask.with."), ".chars")
	count := 0
	if _, err := fmt.Sscanf(n, "%d", &count); !ok || err != nil || count < 0 || count > 1000 || fmt.Sprint(count) != n {
		unknown(d, f)
		return
	}
	with := strings.Repeat("*", count)
	columns("mask", with)(d, f)
}

// keyColumns is message.key.columns: schema.table:column,column;…
func keyColumns(d *draft, f field) {
	for e := range strings.SplitSeq(f.value, ";") {
		if strings.TrimSpace(e) == "" {
			continue
		}
		i := strings.LastIndexByte(e, ':')
		var names []string
		ok := false
		if i > 0 {
			names, ok = glob(strings.TrimSpace(e[:i]))
		}
		if !ok {
			d.left(f, "transforms", fmt.Sprintf("no table is named by %s", shown(strings.TrimSpace(e))), "a transform `key` names fields, and `when: {topic: …}` the table")
			continue
		}
		fields := split(escape(e[i+1:]))
		for _, n := range names {
			d.add(newStep(f, "key").with("fields", list(fields...)).with("when.topic", text(d.topic(n))))
		}
	}
}

func snapshotMode(table map[string]string) rule {
	return choose("snapshot", table, "there is no such mode", "initial reads the rows that are there and then streams, never only streams")
}

func publication(d *draft, f field) {
	switch {
	case is(f, "filtered"):
	case is(f, "all_tables"):
		d.say(f, Idle, "", "a publication that is not there is made with the tables that are named", "")
	default:
		d.left(f, "publication", "a publication that is not there is made, and one that lacks tables gets them", "make it before, with all tables")
	}
}

func heartbeat(d *draft, f field) {
	if v, ok := milliseconds(f.value); ok && v != "0ms" {
		d.put("heartbeat", text(v))
	} else if !is(f, "0") {
		d.left(f, "heartbeat", "it is not a number of milliseconds", "")
	} else {
		d.say(f, Idle, "", "the position moves every 10 s while nothing happens, without a record", "")
	}
}

func debeziumMongo() *class {
	return &class{
		names: []string{"io.debezium.connector.mongodb.MongoDbConnector"}, title: "Debezium MongoDB", typ: "mongodb", topics: debeziumTopics,
		rules: debezium(map[string]rule{
			"mongodb.connection.string": handled, "mongodb.user": handled, "mongodb.password": handled, "mongodb.name": handled,
			"mongodb.authsource":      leave("it is part of the url", "?authSource=…"),
			"mongodb.connection.mode": idle("the replica set is found by the url"), "mongodb.connection.string.shard.params": leave("a sharded cluster is read through one url", ""),
			"mongodb.ssl.enabled":                  same("url", "TLS is part of the url", "?tls=true", "false"),
			"mongodb.ssl.invalid.hostname.allowed": same("url", "it is part of the url", "?tlsAllowInvalidHostnames=true", "false"),
			"collection.include.list":              func(d *draft, f field) { named(d, f, "collections", split(f.value)) }, "collection.whitelist": func(d *draft, f field) { named(d, f, "collections", split(f.value)) },
			"database.include.list": databases, "database.whitelist": databases,
			"collection.exclude.list": leave("collections are named, not left out", "name those that are wanted in `collections`"), "database.exclude.list": leave("collections are named, not left out", "name the databases that are wanted: [shop.*]"),
			"field.exclude.list": columnsOfDocuments, "field.blacklist": columnsOfDocuments,
			"field.renames":      leave("fields of documents keep their names", "a transform `rename`, behind `unwrap`"),
			"filters.match.mode": same("", "names are matched by wildcards", "", "regex", "literal"),
			"capture.mode":       images, "capture.mode.full.update.type": handled,
			"capture.scope": same("", "what is read is what `collections` says", "", "deployment", "database", "collection"), "capture.target": idle("`collections` says which"),
			"snapshot.mode":                        snapshotMode(map[string]string{"initial": "initial", "never": "never", "no_data": "never"}),
			"snapshot.collection.filter.overrides": leave("the snapshot reads whole collections", "a transform `filter` leaves documents out"),
			"cursor.max.await.time.ms":             idle("the stream waits by itself"), "cursor.pipeline": leave("the stream has no pipeline of its own", "a transform `filter` leaves events out"), "cursor.pipeline.order": idle("the stream has no pipeline of its own"),
			"cursor.oversize.handling.mode": leave("an event that is too large for MongoDB stops the source", "images: lookup makes events smaller"), "cursor.oversize.skip.threshold": idle("see cursor.oversize.handling.mode"),
			"heartbeat.interval.ms": idle("the position moves by itself while nothing happens"), "database.query.timeout.ms": idle("a query may take its time"),
			"invalidate.event.handling.mode": idle("a dropped collection does not end the stream"),
		}),
		prefixes: append([]prefixRule{{"mongodb.", leave("it is part of the url, or not known here", "options of the connection are part of `url`")}}, debeziumPrefixes...),
		finish: func(d *draft) {
			d.mongoURL("mongodb.connection.string", "mongodb.user", "mongodb.password")
			if d.values["collections"].texts == nil && d.comments["collections"] == nil {
				d.put("collections", list("*.*"))
			}
			jsonSchemas(d)
			d.say(field{}, Remark, "snapshot", "Debezium's resume token stays with Connect: start this with snapshot: never before Debezium is stopped, and what both bring comes twice; or let initial read the documents again", "docs/migrate.md")
		},
	}
}

func databases(d *draft, f field) {
	if d.get("collection.include.list") != "" || d.get("collection.whitelist") != "" {
		d.say(f, Idle, "", "`collections` says which", "")
		return
	}
	names := split(f.value)
	for i := range names {
		names[i] += `\..*`
	}
	named(d, f, "collections", names)
}

// columnsOfDocuments leaves out fields of documents, which are database.collection.field: in a change event a document is one text.
var columnsOfDocuments = leave("a document is one text in a change event", "a transform `drop`, behind `unwrap`")

// images is capture.mode: what an update carries.
func images(d *draft, f field) {
	switch full := d.get("capture.mode.full.update.type"); {
	case is(f, "change_streams_update_full_with_pre_image", "change_streams_with_pre_image"):
		d.put("images", text("pre_post"))
	case is(f, "change_streams_update_full") && strings.EqualFold(full, "post_image"):
		d.put("images", text("post"))
	case !is(f, "change_streams_update_full"):
		d.left(f, "images", "an update carries the whole document", "images says of which time")
	}
}
