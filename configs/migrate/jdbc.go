package migrate

import (
	"net/url"
	"slices"
	"strings"
)

const postgresJDBC = "jdbc:postgresql:"

func jdbcSink() *class {
	return &class{
		names: []string{"io.confluent.connect.jdbc.JdbcSinkConnector", "io.aiven.connect.jdbc.JdbcSinkConnector"}, title: "JDBC sink (PostgreSQL)", typ: "postgres", sink: true,
		rules: map[string]rule{
			"connection.url": handled, "connection.user": handled, "connection.password": handled, "insert.mode": handled, "pk.mode": handled, "pk.fields": handled, "delete.enabled": handled,
			"table.name.format": handled, "auto.create": handled, "auto.evolve": handled, "batch.size": carryNumber("flush.records"),
			"dialect.name":        same("url", "PostgreSQL is what this sink writes to", "", "PostgreSqlDatabaseDialect", ""),
			"connection.attempts": idle(retried), "connection.backoff.ms": idle(retried), "max.retries": idle(retried), "retry.backoff.ms": idle(retried),
			"fields.whitelist":     func(d *draft, f field) { d.add(newStep(f, "keep").with("fields", list(d.texts(f, "transforms")...))) },
			"table.name.normalize": same("table", "names stay as they are", "", "false"), "topics.to.tables.mapping": leave("a sink has one `table`, or each topic its own", "a sink for each topic, with `table`"),
			"quote.sql.identifiers": same("", "names are quoted", "", "always"), "sql.quote.identifiers": same("", "names are quoted", "", "true"),
			"table.types": same("", "rows go into tables", "", "table"), "db.timezone": same("", "times without a zone are UTC's", "", "UTC"), "date.timezone": same("", "dates are UTC's", "", "UTC", "DB_TIMEZONE"),
			"date.calendar.system": same("", "the calendar is the Gregorian one", "", "PROLEPTIC_GREGORIAN"), "timestamp.precision.mode": idle("a column's type says its precision"), "timestamp.fields.list": leave("a field's type is the record's", "a transform `timestamp` or `cast`"),
			"mssql.use.merge.holdlock": idle("this is PostgreSQL"), "max.pool.size": idle("a task has one connection"), "trim.sensitive.log": idle("the log shows no values"), "replace.null.with.default": idle("a null is a null"),
			"key.converter": keyConverter(idle("keys are read as values are")),
		},
		refuse: func(c *connector) (field, string) {
			f, ok := c.find("connection.url")
			if u := strings.TrimSpace(f.value); ok && u != "" && !strings.HasPrefix(u, postgresJDBC) && !strings.HasPrefix(u, "${") {
				return f, "it is not jdbc:postgresql:…, and only PostgreSQL can be written to here"
			}
			return field{}, ""
		},
		prefixes: []prefixRule{{"connection.", leave("this option is not known here", "options of the connection are part of `url`")}},
		finish:   finishJDBC,
	}
}

func finishJDBC(d *draft) {
	jdbcURL(d)
	insert, _ := d.find("insert.mode")
	pk, _ := d.find("pk.mode")
	deletes, _ := d.find("delete.enabled")
	fields, _ := d.find("pk.fields")
	switch {
	case is(insert, "upsert"):
		d.put("mode", text("upsert"))
		switch {
		case is(pk, "record_key"):
			if fields.value != "" {
				d.say(fields, Remark, "mode", "the primary key is the whole key of the record", "")
			}
			if !is(deletes, "true") {
				tombstones(d, field{"delete.enabled", "false", d.line})
			}
		case is(pk, "record_value") && fields.value != "":
			d.add(newStep(fields, "key").with("fields", list(d.texts(fields, "transforms")...)))
			tombstones(d, field{"delete.enabled", "false", d.line})
		default:
			d.left(pk, "mode", "rows are told apart by the record's key", "pk.mode=record_key, or record_value with pk.fields")
		}
	case is(insert, "", "insert", "multi"):
		d.put("mode", text("append"))
		d.say(insert, Remark, "mode", "append adds _op, _ts, _partition and _offset to each row, which are its primary key", "a table that is there needs these columns; mode: upsert keeps one row for each key")
		if is(pk, "record_key", "record_value", "kafka") {
			d.left(pk, "mode", "the key of an appended row is its place in the log", "mode: upsert has the record's key for it")
		}
		if is(deletes, "true") {
			d.left(deletes, "mode", "append keeps all rows; _op says which is a delete", "mode: upsert follows deletes")
		}
	default:
		d.left(insert, "mode", "there is no such mode", "upsert or append")
	}
	for _, key := range []string{"create", "evolve"} {
		f, ok := d.find("auto." + key)
		switch {
		case !ok || is(f, "false"):
			d.put(key, text("false")) // Connect's default, and not ours
		case is(f, "true"):
		default:
			d.left(f, key, "it is neither true nor false", "")
		}
	}
	jdbcTable(d)
	afresh(d)
}

// jdbcTable is table.name.format.
func jdbcTable(d *draft) {
	f, ok := d.find("table.name.format")
	format := strings.TrimSpace(f.value)
	if !ok || format == "${topic}" {
		return // a topic's name is schema.table, its last part the table here
	}
	schema, table, dotted := strings.Cut(format, ".")
	if !dotted {
		schema, table = "", format
	}
	topics := d.values["topics"].texts
	if strings.Contains(table, "${topic}") && table != "${topic}" && len(topics) == 1 && !strings.ContainsAny(topics[0], "*?.") {
		table = strings.ReplaceAll(table, "${topic}", topics[0])
	}
	if strings.Contains(schema, "${") || strings.Contains(table, ".") || strings.Contains(table, "${") && table != "${topic}" {
		d.left(f, "table", "a table is called as the last part of its topic's name, or as `table` says", "a sink for each topic, with `table`")
		return
	}
	if schema != "" {
		d.put("schema", text(escape(schema)))
	}
	if table != "${topic}" {
		d.put("table", text(escape(table)))
	}
}

// jdbcURL makes a PostgreSQL URL of JDBC's.
func jdbcURL(d *draft) {
	f, ok := d.find("connection.url")
	if !ok {
		return
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(f.value), postgresJDBC)
	if !ok { // a reference
		d.hideAll(f, "url")
		return
	}
	rest, ok = strings.CutPrefix(rest, "//")
	if !ok {
		rest = "localhost/" + rest // jdbc:postgresql:database
	}
	address, query, _ := strings.Cut(rest, "?")
	params := url.Values{}
	for p := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(p, "=")
		if v, err := url.QueryUnescape(v); err == nil && k != "" {
			params.Set(k, v)
		}
	}
	if i := strings.LastIndexByte(address, '@'); i >= 0 { // JDBC has no such thing, and it may be a password
		d.hideAll(f, "url")
		return
	}
	// Fields of their own count for more than the URL's.
	user, password := d.part("connection.user"), d.secret("connection.password", "url")
	if user == "" {
		user = d.urlText(field{f.key, params.Get("user"), f.line}, "url")
	}
	if password == "" && params.Get("password") != "" {
		password = d.hide(f, "url", d.variable("password"))
	}
	b := "postgres://"
	switch {
	case password != "":
		b += user + ":" + password + "@"
	case user != "":
		b += user + "@"
	}
	b += d.text(field{f.key, address, f.line}, "url")
	sign := "?"
	var names []string
	for k := range params {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		v := params.Get(k)
		switch k {
		case "user", "password":
		case "currentSchema":
			d.put("schema", text(escape(v)))
		case "ssl":
			if v == "true" && params.Get("sslmode") == "" {
				b, sign = b+sign+"sslmode=require", "&"
			}
		case "sslmode":
			b, sign = b+sign+k+"="+url.QueryEscape(v), "&"
		case "sslrootcert", "sslcert", "sslkey", "sslpassword":
			d.left(field{f.key + "?" + k, "", f.line}, "url", ownFiles, "add "+k+"=… to the url where the file is")
		case "ApplicationName":
			b, sign = b+sign+"application_name="+url.QueryEscape(v), "&"
		case "reWriteBatchedInserts", "stringtype", "prepareThreshold", "tcpKeepAlive", "socketTimeout", "connectTimeout", "loginTimeout", "defaultRowFetchSize":
			d.say(field{f.key + "?" + k, "", f.line}, Idle, "", "the JDBC driver's alone", "")
		default:
			d.left(field{f.key + "?" + k, "", f.line}, "url", "this option of the JDBC driver is not known here", "")
		}
	}
	d.put("url", text(b))
}
