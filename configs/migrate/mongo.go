package migrate

import "strings"

func mongoSource() *class {
	return &class{
		names: []string{"com.mongodb.kafka.connect.MongoSourceConnector"}, title: "MongoDB source", typ: "mongodb", bare: true,
		topics: func(c *connector) (name, prefix string) {
			if p := strings.TrimSpace(c.get("topic.prefix")); p != "" && !external.MatchString(p) {
				return p, p + "."
			}
			return c.name, ""
		},
		rules: map[string]rule{
			"connection.uri": handled, "database": handled, "collection": handled, "topic.prefix": handled,
			"topic.suffix": handled, "topic.separator": same("", "the parts of a topic's name have dots between them", "a transform `route` calls them otherwise", "."),
			"topic.namespace.map":        leave("topics are called source.database.collection", "a transform `route` for each"),
			"topic.mapper":               same("", "topics are called source.database.collection", "a transform `route` calls them otherwise", "com.mongodb.kafka.connect.source.topic.mapping.DefaultTopicMapper"),
			"publish.full.document.only": fullDocument, "publish.full.document.only.tombstone.on.delete": handled,
			"change.stream.full.document": handled, "change.stream.full.document.before.change": handled,
			"change.stream.show.expanded.events": same("", "events of DDL are not written", "", "false"), "change.stream.document.key.as.key": same("", "the key is the document's _id", "", "true"),
			"pipeline": leave("the stream has no pipeline of its own", "a transform `filter` leaves events out"), "collation": leave("the stream has no collation", ""),
			"startup.mode": handled, "copy.existing": handled, "startup.mode.timestamp.start.at.operation.time": leave("a stream begins now, or behind a snapshot", ""),
			"output.format.value": same("", "change events are JSON", "", "json"), "output.format.key": same("", "keys are JSON", "", "json"), "output.json.formatter": handled,
			"output.schema.infer.value": same("", "a document is one text with a schema of its own", "", "false"), "output.schema.key": leave("keys are JSON", ""), "output.schema.value": leave("documents are JSON", ""),
			"poll.max.batch.size": idle(ownPace), "poll.await.time.ms": idle("changes are read as they come"), "batch.size": idle(ownPace),
			"heartbeat.interval.ms": idle("the position moves by itself while nothing happens"), "heartbeat.topic.name": idle("there is no topic of heartbeats"),
			"offset.partition.name": idle("positions are kept by the source's name"), "mongo.errors.tolerance": same("", "an event that cannot be handled stops the source", "", "none"),
			"errors.deadletterqueue.topic.name": leave("dead letters are no topic of copies here", ""), "change.stream.split.large.event": same("", "an event that is too large for MongoDB stops the source", "", "false"),
			"server.api.version": leave("the version of the API is the driver's", ""), "key.converter": idle("keys are JSON"),
		},
		prefixes: []prefixRule{
			{"copy.existing.", idle("the snapshot reads whole collections, and goes on after a stop")}, {"startup.mode.copy.existing.", idle("the snapshot reads whole collections, and goes on after a stop")},
			{"connection.ssl.", leave("TLS is part of the url", "?tls=true&tlsCAFile=…")}, {"server.api.", idle("the API is the driver's")},
		},
		finish: finishMongoSource,
	}
}

func fullDocument(d *draft, f field) {
	if is(f, "true") {
		d.put("envelope", text("plain"))
	}
}

func finishMongoSource(d *draft) {
	d.mongoURL("connection.uri", "", "")
	part := func(key string) string {
		f, _ := d.find(key)
		if t := d.text(f, "collections"); t != "" {
			return t
		}
		return "*"
	}
	d.put("collections", list(part("database")+"."+part("collection")))
	if d.get("database") == "" && d.get("collection") != "" {
		f, _ := d.find("collection")
		d.left(f, "collections", "a collection without its database", "")
	}
	if f, ok := d.find("topic.suffix"); ok && f.value != "" {
		d.add(newStep(f, "route").with("to", text("{topic}."+d.text(f, "transforms"))))
	}
	switch mode, _ := d.find("startup.mode"); {
	case is(mode, "copy_existing"), is(field{value: d.get("copy.existing")}, "true") && is(mode, ""):
		d.put("snapshot", text("initial"))
	case is(mode, "", "latest"):
		d.put("snapshot", text("never"))
	default:
		d.left(mode, "snapshot", "a stream begins now, or behind a snapshot", "initial or never")
		d.put("snapshot", text("never"))
	}
	full, _ := d.find("change.stream.full.document")
	before, _ := d.find("change.stream.full.document.before.change")
	switch {
	case is(before, "required", "whenAvailable"):
		d.put("images", text("pre_post"))
	case is(full, "required", "whenAvailable"):
		d.put("images", text("post"))
	case is(full, "", "default"):
		if d.get("publish.full.document.only") != "true" {
			d.say(full, Remark, "images", "an update carries the whole document", "")
		}
	}
	if d.values["envelope"].texts == nil {
		d.left(field{}, "envelope", "records are Debezium's change events, not MongoDB's change stream documents", "envelope: plain writes the document alone")
	} else if !is(field{value: d.get("publish.full.document.only.tombstone.on.delete")}, "true") {
		d.add(newStep(field{line: d.line}, "filter").with("when.tombstone", text("true")))
	}
	if f, ok := d.find("output.json.formatter"); ok && !strings.HasSuffix(strings.TrimSpace(f.value), "DefaultJson") && !strings.HasSuffix(strings.TrimSpace(f.value), "ExtendedJson") {
		d.left(f, "envelope", "documents are extended JSON", "")
	}
	jsonConverterOfMongo(d)
	d.say(field{}, Remark, "snapshot", "the resume token stays with Connect: start this before that one is stopped, and what both bring comes twice", "docs/migrate.md")
}

// jsonConverterOfMongo: the MongoDB source writes texts, which StringConverter leaves as they are.
func jsonConverterOfMongo(d *draft) {
	f, ok := d.find("value.converter")
	if ok && strings.HasSuffix(strings.TrimSpace(f.value), "JsonConverter") && !is(field{value: d.get("value.converter.schemas.enable")}, "false") {
		d.put("schemas", text("true"))
	}
}

func mongoSink() *class {
	return &class{
		names: []string{"com.mongodb.kafka.connect.MongoSinkConnector"}, title: "MongoDB sink", typ: "mongodb", sink: true,
		rules: map[string]rule{
			"connection.uri": handled, "database": carry("database"), "collection": carry("collection"), "document.id.strategy": handled, "writemodel.strategy": handled,
			"change.data.capture.handler": handled, "delete.on.null.values": handled, "delete.writemodel.strategy": handled, "max.batch.size": batch,
			"post.processor.chain": handled, "value.projection.type": handled, "value.projection.list": handled, "key.projection.type": handled, "key.projection.list": handled,
			"document.id.strategy.overwrite.existing": idle("the _id is the record's key"), "document.id.strategy.partial.key.projection.type": leave("the _id is the whole key", "a transform `key` makes it of fields"),
			"document.id.strategy.partial.key.projection.list":   leave("the _id is the whole key", "a transform `key` makes it of fields"),
			"document.id.strategy.partial.value.projection.type": handled, "document.id.strategy.partial.value.projection.list": handled, "document.id.strategy.uuid.format": idle("the _id is the record's key, or its place"),
			"field.renamer.mapping": leave("fields keep their names", "a transform `rename`"), "field.renamer.regexp": leave("fields keep their names", "a transform `rename`"),
			"namespace.mapper":   same("", "a collection is called as the last part of its topic's name, or as `collection` says", "", "com.mongodb.kafka.connect.sink.namespace.mapping.DefaultNamespaceMapper"),
			"bulk.write.ordered": idle("a partition's records are written in order"), "rate.limiting.timeout": leave("writing is not slowed down", ""), "rate.limiting.every.n": leave("writing is not slowed down", ""),
			"max.num.retries": idle(retried), "retries.defer.timeout": idle(retried), "mongo.errors.tolerance": same("", "a record that cannot be written stops the sink", "", "none"),
			"mongo.errors.log.enable": idle("errors are logged"), "server.api.version": leave("the version of the API is the driver's", ""), "key.converter": keyConverter(idle("keys are read as values are")),
		},
		prefixes: []prefixRule{
			{"topic.override.", leave("a sink has one way with all its topics", "a sink for each topic")}, {"timeseries.", leave("collections of time series are not written", "")},
			{"namespace.mapper.", leave("a collection is called as the last part of its topic's name, or as `collection` says", "")},
			{"connection.ssl.", leave("TLS is part of the url", "?tls=true&tlsCAFile=…")}, {"server.api.", idle("the API is the driver's")},
		},
		finish: finishMongoSink,
	}
}

func batch(d *draft, f field) {
	if !is(f, "0") {
		carryNumber("flush.records")(d, f)
	}
}

func finishMongoSink(d *draft) {
	d.mongoURL("connection.uri", "", "")
	last := func(key string) (field, string) {
		f, _ := d.find(key)
		v := strings.TrimSpace(f.value)
		return f, v[strings.LastIndexByte(v, '.')+1:]
	}
	id, strategy := last("document.id.strategy")
	handler, cdc := last("change.data.capture.handler")
	write, model := last("writemodel.strategy")
	switch {
	case cdc == "ChangeStreamHandler":
		d.left(handler, "mode", "change stream documents are not read", "a source here writes Debezium's change events, which are")
	case cdc == "PostgresHandler", cdc == "RdbmsHandler", cdc == "MongoDbHandler", cdc == "MysqlHandler": // Debezium's
		d.put("mode", text("upsert"))
	case cdc != "":
		d.left(handler, "mode", "no such events are read", "Debezium's are")
	case strategy == "FullKeyStrategy", strategy == "ProvidedInKeyStrategy":
		d.put("mode", text("upsert"))
		if !is(field{value: d.get("delete.on.null.values")}, "true") {
			d.add(newStep(field{line: d.line}, "filter").with("when.tombstone", text("true")))
		}
		if strategy == "ProvidedInKeyStrategy" {
			d.say(id, Remark, "mode", "the _id is the whole key", "a transform `extract` with `of: key` makes one field the key")
		}
	case strategy == "PartialValueStrategy":
		f, _ := d.find("document.id.strategy.partial.value.projection.list")
		d.put("mode", text("upsert"))
		if is(field{value: d.get("document.id.strategy.partial.value.projection.type")}, "allowlist", "whitelist") {
			d.add(newStep(f, "key").with("fields", list(d.texts(f, "transforms")...)))
		} else {
			d.left(f, "transforms", "a key is made of fields that are named", "a transform `key`")
		}
	case strategy == "ProvidedInValueStrategy":
		d.put("mode", text("upsert"))
		d.add(newStep(id, "key").with("fields", list("_id")))
	case strategy == "", strategy == "BsonOidStrategy", strategy == "KafkaMetaDataStrategy", strategy == "UuidStrategy":
		d.put("mode", text("append"))
		if strategy != "KafkaMetaDataStrategy" {
			d.say(id, Remark, "mode", "the _id of an appended document is its topic, partition and offset", "")
		}
	default:
		d.left(id, "mode", "the _id is the record's key (upsert) or its place in the log (append)", "a transform `key` makes a key of fields")
	}
	switch model {
	case "", "DefaultWriteModelStrategy", "ReplaceOneDefaultStrategy", "ReplaceOneBusinessKeyStrategy", "InsertOneDefaultStrategy", "DeleteOneDefaultStrategy":
	default:
		d.left(write, "mode", "a document is replaced as a whole", "upsert or append")
	}
	if f, name := last("delete.writemodel.strategy"); name != "" && name != "DeleteOneDefaultStrategy" {
		d.left(f, "mode", "a delete is by the key", "")
	}
	if f, ok := d.find("post.processor.chain"); ok {
		for _, p := range split(f.value) {
			switch name := p[strings.LastIndexByte(p, '.')+1:]; name {
			case "DocumentIdAdder", "BlockListValueProjector", "AllowListValueProjector", "BlacklistValueProjector", "WhitelistValueProjector":
			default:
				d.left(f, "transforms", shown(name)+" has nothing like it here", "transforms may do it")
			}
		}
	}
	for _, what := range []string{"value", "key"} {
		key := what + ".projection"
		kind, _ := d.find(key + ".type")
		f, ok := d.find(key + ".list")
		typ := ""
		switch {
		case is(kind, "blocklist", "blacklist"):
			typ = "drop"
		case is(kind, "allowlist", "whitelist"):
			typ = "keep"
		}
		if !ok || is(kind, "", "none") {
			continue
		}
		if typ == "" {
			d.left(kind, "transforms", "there is no such projection", "transforms `keep` and `drop`")
			continue
		}
		s := newStep(f, typ).with("fields", list(d.texts(f, "transforms")...))
		if what == "key" {
			s.with("of", text("key"))
		}
		d.add(s)
	}
	afresh(d)
}
