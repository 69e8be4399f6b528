package migrate

import (
	"regexp"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/connectors/spec"
)

func fileSource() *class {
	return &class{
		names: []string{"org.apache.kafka.connect.file.FileStreamSourceConnector"}, title: "FileStream source", typ: "tail",
		rules: map[string]rule{
			"file": carryList("paths"), "topic": carry("topic"), "batch.size": idle("how much is read at a time is bounded in bytes"), "value.converter": converter,
		},
		finish: func(d *draft) {
			if d.get("file") == "" {
				d.left(field{}, "paths", "without `file` Connect reads its standard input", "forebay produce TOPIC reads lines from standard input")
			}
			if c := d.get("value.converter"); c == "" {
				d.say(field{}, Remark, "", "how records are written is not in this config but in the worker's: here a line is the record's value, as it is", "")
			}
			d.say(field{}, Remark, "start", "Connect's place in the file stays with Connect: this reads it from the beginning", "start: end reads what is written from now on")
		},
	}
}

func fileSink() *class {
	return &class{
		names: []string{"org.apache.kafka.connect.file.FileStreamSinkConnector"}, title: "FileStream sink", typ: "file", sink: true,
		rules: map[string]rule{"file": func(d *draft, f field) {
			if strings.TrimSpace(f.value) == "" {
				return
			}
			d.put("url", text(d.text(f, "url")+".d"))
			d.say(f, Remark, "url", "one file that grows is here a folder, with files that appear when they are complete", "forebay consume follows a topic")
		}},
		finish: func(d *draft) {
			d.put("format", text("text"))
			if d.get("file") == "" {
				d.left(field{}, "url", "without `file` Connect writes to its standard output", "forebay consume TOPIC does")
			}
			afresh(d)
		},
	}
}

// afresh tells where a sink begins that keeps its place in its target.
func afresh(d *draft) {
	d.say(field{}, Remark, "", "it begins with the first records of its topics: where Connect's group stands does not count, as the target knows nothing of it", "docs/migrate.md")
}

// has says whether a field of ours, an enum, has a value.
func (d *draft) has(name, value string) bool {
	return slices.ContainsFunc(d.spec.Docs(), func(f spec.FieldDoc) bool { return f.Name == name && slices.Contains(f.Allowed, value) })
}

func hdfsSink() *class {
	const noHive = "there is no Hive metastore here"
	return &class{
		names: []string{"io.confluent.connect.hdfs.HdfsSinkConnector", "io.confluent.connect.hdfs3.Hdfs3SinkConnector"}, title: "Confluent HDFS sink", typ: "hdfs", sink: true,
		rules: map[string]rule{
			"hdfs.url": handled, "store.url": handled, "topics.dir": handled, "logs.dir": idle("there is no log beside the files"),
			"format.class": fileFormat, "storage.class": same("", "HDFS is what this sink writes to", "", "io.confluent.connect.hdfs.storage.HdfsStorage", "io.confluent.connect.hdfs3.storage.HdfsStorage"),
			"flush.size": carryNumber("rotate.records"), "rotate.interval.ms": rotate("an interval counts from the arrival of the first record, not by the records' own time"), "rotate.schedule.interval.ms": rotate(""),
			"partitioner.class": handled, "path.format": handled, "partition.duration.ms": idle("`partition` says which folders there are"), "locale": idle("names of folders are numbers"), "timezone": handled,
			"timestamp.extractor": handled, "timestamp.field": handled, "partition.field.name": handled,
			"filename.offset.zero.pad.width": same("", "offsets in file names have 10 digits", "", "10"), "directory.delim": same("", "folders have slashes between them", "", "/"),
			"file.delim": same("", "the parts of a file's name have + between them", "", "+"),
			"avro.codec": codec, "parquet.codec": codec, "connect.meta.data": idle("types are Avro's and Parquet's own"), "enhanced.avro.schema.support": idle("types are Avro's own"), "allow.optional.map.keys": idle("keys are texts"),
			"schema.compatibility": same("", "a record of another schema begins another file", "schemas are never changed to fit each other", "none"),
			"schema.cache.size":    idle("schemas are kept as long as they are needed"), "schema.generator.class": idle("types are the records' own"),
			"hdfs.authentication.kerberos": same("url", "there is no Kerberos here yet", "", "false"), "connect.hdfs.principal": leave("there is no Kerberos here yet", ""), "connect.hdfs.keytab": leave("there is no Kerberos here yet", ""),
			"hdfs.namenode.principal": leave("there is no Kerberos here yet", ""), "kerberos.ticket.renew.period.ms": idle("there is no Kerberos here yet"),
			"hadoop.conf.dir": leave("Hadoop's files are not read", "the url names the namenodes: hdfs://first:8020,second:8020/folder"), "hadoop.home": idle("no Hadoop is needed"),
			"hive.integration": same("", noHive, "make a table over the folder: CREATE EXTERNAL TABLE", "false"), "hive.metastore.uris": idle(noHive), "hive.home": idle(noHive), "hive.conf.dir": idle(noHive), "hive.database": idle(noHive), "hive.table.name": idle(noHive),
			"shutdown.timeout.ms": idle("a stop drains"), "retry.backoff.ms": idle(retried), "max.retries": idle(retried), "enable.wal": idle("a file appears when it is complete, once"),
			"behavior.on.null.values": same("", "a value that is null has no line", "", "ignore"), "confluent.topic.replication.factor": idle("there is no licence"),
			"string.as.json": unknown,
		},
		prefixes: []prefixRule{{"confluent.", idle("there is no licence")}},
		finish:   finishHDFS,
	}
}

func finishHDFS(d *draft) {
	f, ok := d.find("hdfs.url")
	if !ok {
		f, ok = d.find("store.url")
	}
	dir, has := d.find("topics.dir")
	if !has {
		dir.value = "topics" // Confluent's default
	}
	if ok {
		d.put("url", text(strings.TrimSuffix(d.text(f, "url"), "/")+"/"+strings.Trim(d.text(dir, "url"), "/")))
	}
	if _, ok := d.find("format.class"); !ok {
		fileFormat(d, field{value: "AvroFormat", line: d.line}) // Confluent's default
	}
	folders(d)
	afresh(d)
}

// fileFormat is format.class. What is not known here becomes the nearest: columns.
func fileFormat(d *draft, f field) {
	class := strings.TrimSpace(f.value)
	want := map[string]string{"AvroFormat": "avro", "ParquetFormat": "parquet", "JsonFormat": "json", "StringFormat": "text"}[class[strings.LastIndexByte(class, '.')+1:]]
	if !d.has("format", want) {
		d.left(f, "format", "there is no such format; parquet has columns too", "")
		want = "parquet"
	}
	d.put("format", text(want))
}

func codec(d *draft, f field) {
	table := map[string]string{"null": "none", "none": "none", "uncompressed": "none", "snappy": "snappy", "deflate": "gzip", "gzip": "gzip", "zstd": "zstd"}
	choose("compression", table, "there is no such compression", "auto, none, gzip, zstd or snappy")(d, f)
}

func rotate(differs string) rule {
	return func(d *draft, f field) {
		v, ok := milliseconds(f.value)
		switch {
		case ok && v != "0ms":
			d.put("rotate.interval", text(v))
			if differs != "" {
				d.say(f, Remark, "rotate.interval", differs, "")
			}
		case is(f, "-1", "0"):
			d.put("rotate.interval", text("0s"))
		default:
			d.left(f, "rotate.interval", "it is not a number of milliseconds", "")
		}
	}
}

// folders is partitioner.class with what belongs to it.
func folders(d *draft) {
	f, ok := d.find("partitioner.class")
	class := strings.TrimSpace(f.value)
	timed := true
	switch class[strings.LastIndexByte(class, '.')+1:] {
	case "HourlyPartitioner":
		d.put("partition", text("year=%Y/month=%m/day=%d/hour=%H"))
	case "DailyPartitioner":
		d.put("partition", text("year=%Y/month=%m/day=%d"))
	case "TimeBasedPartitioner":
		p, _ := d.find("path.format")
		if pattern, ok := timePattern(p.value); ok {
			d.put("partition", text(escape(pattern)))
		} else {
			d.left(p, "partition", "no pattern here says this", "%Y %m %d %H %M %S %j %y are what there is")
		}
	case "", "DefaultPartitioner":
		if ok {
			d.say(f, Remark, "partition", "there are no folders for Kafka's partitions: the partition is in a file's name", "")
		}
		timed = false
	default:
		d.left(f, "partition", "folders are made of the records' time alone", "coordinates: true adds topic, partition and offset to each record")
		timed = false
	}
	for _, key := range []string{"timestamp.extractor", "timestamp.field", "timezone", "path.format", "partition.field.name"} {
		f, ok := d.find(key)
		switch {
		case !ok:
		case key == "partition.field.name":
			d.left(f, "partition", "folders are made of the records' time alone", "")
		case !timed:
			d.say(f, Idle, "", "the folders are not made of the time", "")
		case key == "timezone" && !is(f, "UTC", "Etc/UTC", "GMT", "Z", "Etc/GMT"):
			d.left(f, "partition", "folders are in UTC", "")
		case key == "timestamp.extractor" && !is(f, "Record"):
			d.left(f, "partition", "folders are made of the records' timestamp in the log", "")
		case key == "timestamp.field" && is(field{value: d.get("timestamp.extractor")}, "RecordField"):
			d.left(f, "partition", "folders are made of the records' timestamp in the log", "")
		}
	}
	if _, ok := d.find("timestamp.extractor"); timed && !ok {
		d.say(field{}, Remark, "partition", "folders are made of the records' timestamp in the log, Confluent's of the time when it writes", "")
	}
}

var timeLetters = regexp.MustCompile(`'[^']*'|[A-Za-z]+|[^A-Za-z']+`)

// timePattern makes a pattern with % of one of Java's: 'dt'=yyyy-MM-dd. false: it says what none here does.
func timePattern(java string) (string, bool) {
	verbs := map[string]string{"YYYY": "%Y", "yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S", "DDD": "%j"}
	var b strings.Builder
	read := 0
	for _, part := range timeLetters.FindAllString(java, -1) {
		read += len(part)
		switch {
		case part[0] == '\'' && len(part) == 2:
			b.WriteByte('\'')
		case part[0] == '\'':
			b.WriteString(strings.ReplaceAll(part[1:len(part)-1], "%", "%%"))
		case part[0]|0x20 >= 'a' && part[0]|0x20 <= 'z':
			for part != "" {
				n := 1
				for n < len(part) && part[n] == part[0] {
					n++
				}
				verb := verbs[part[:n]]
				if verb == "" {
					return "", false
				}
				b.WriteString(verb)
				part = part[n:]
			}
		default:
			b.WriteString(strings.ReplaceAll(part, "%", "%%"))
		}
	}
	return b.String(), read == len(java) && java != ""
}
