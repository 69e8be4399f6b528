// Package postgres is the sink that keeps tables of a PostgreSQL database like the
// topics it reads: row for row (mode upsert), or event after event (mode append).
//
// It promises exactly once: the offsets that the target holds lie in a table
// beside the data, and every commit of data moves them in the same transaction
// (invariant 6), or writes nothing when another task has moved them (invariant 7).
//
// DESIGN.md says why it is built this way; docs/formats/postgres-sink.md is what it leaves in the database.
package postgres

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// Type is the sink as it is listed in plugins/builtin.
func Type() connectors.SinkType {
	return connectors.SinkType{Name: "postgres", Spec: Spec(), New: New}
}

// Spec lists the fields of the config.
func Spec() spec.Spec {
	return spec.Spec{
		Doc: "Writes topics into tables of a PostgreSQL database (12 or later), each record exactly once: offsets and rows are committed in one transaction.",
		Fields: []spec.Field{
			{Name: "url", Type: spec.Secret, Required: true, Check: checkURL, Example: "postgres://forebay:${PG_PASSWORD}@warehouse:5432/shop",
				Doc: "Where the database is; the user needs CREATE on the schema, or a table for offsets and rights on every table."},
			{Name: "topics", Type: spec.Strings, Required: true, Example: `["shop.public.*"]`, Check: checkTopics,
				Doc: "Names or globs of the topics to write; * crosses dots. New topics that match are found within 5 seconds."},
			{Name: "mode", Type: spec.Enum, Enum: []string{"upsert", "append"}, Default: "upsert",
				Doc: "upsert keeps one row for each key and follows deletes; append adds a row for each record, with _op, _ts, _partition and _offset."},
			{Name: "table", Type: spec.String, Example: "orders", Check: checkName,
				Doc: "Table to write; the default is the last part of the topic's name. Several topics may share one in mode append only."},
			{Name: "schema", Type: spec.String, Default: "public", Check: checkName,
				Doc: "Schema of the tables and of the table of offsets."},
			{Name: "create", Type: spec.Bool, Default: "true",
				Doc: "Creates a missing schema or table, with the types that the records have and the key as primary key."},
			{Name: "evolve", Type: spec.Bool, Default: "true",
				Doc: "Adds columns that the records gain, and widens types where each old value fits the new one; nothing is ever dropped."},
			{Name: "offsets", Type: spec.String, Default: "_forebay_offsets", Check: checkName,
				Doc: "Table in the schema that says up to which offset each topic was written; without it the sink begins anew."},
			{Name: "flush", Type: spec.Group, Doc: "When what was read is committed; whichever comes first.", Fields: []spec.Field{
				{Name: "size", Type: spec.Size, Default: "4MiB", Check: checkSize, Doc: "Commit a partition once this much of its rows is at hand; a larger one costs memory and makes snapshots faster."},
				{Name: "records", Type: spec.Int, Default: "0", Check: checkRecords, Doc: "Commit a partition after this many records; 0 means never by count."},
				{Name: "interval", Type: spec.Duration, Default: "1s", Check: checkInterval, Doc: "Commit this long after the first record arrived."},
			}},
		},
	}
}

// checkURL never repeats the text: it holds a password.
func checkURL(v any) error {
	text := v.(spec.SecretText).Reveal()
	if strings.Contains(text, "://") && !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return errors.New("it begins with postgres:// or postgresql://, as in postgres://user:password@host:5432/database")
	}
	if _, err := pgconn.ParseConfig(text); err != nil {
		return errors.New("not a PostgreSQL URL; write postgres://user:password@host:5432/database")
	}
	return nil
}

func checkTopics(v any) error {
	for _, t := range v.([]string) {
		if strings.TrimSpace(t) == "" {
			return errors.New("an empty name")
		}
	}
	return nil
}

// maxName is the longest identifier of PostgreSQL (NAMEDATALEN - 1), in bytes.
const maxName = 63

func checkName(v any) error {
	s := v.(string)
	if len(s) > maxName {
		return fmt.Errorf("%q is longer than the %d bytes that PostgreSQL takes", s, maxName)
	}
	if strings.ContainsRune(s, 0) {
		return errors.New("a name cannot hold a zero byte")
	}
	return nil
}

func checkSize(v any) error {
	if n := int64(v.(spec.ByteSize)); n < 1<<10 || n > 1<<30 {
		return fmt.Errorf("%v is not between 1KiB and 1GiB", v)
	}
	return nil
}

func checkRecords(v any) error {
	if n := v.(int64); n < 0 {
		return fmt.Errorf("%d is less than zero", n)
	}
	return nil
}

func checkInterval(v any) error {
	if d := v.(time.Duration); d <= 0 || d > time.Hour {
		return fmt.Errorf("%s is not between 1ms and 1h", d)
	}
	return nil
}

// config is what New makes of the Values.
type config struct {
	url      string
	topics   []string
	upsert   bool
	table    string // "": the last part of the topic
	schema   string
	create   bool
	evolve   bool
	offsets  string
	size     int
	records  int
	interval time.Duration

	lockWait time.Duration // how long a commit waits for another session's lock
}

type sink struct {
	cfg config
	env connectors.Env
}

// New makes the sink; it does no I/O.
func New(v spec.Values, env connectors.Env) (connectors.Sink, error) {
	s := &sink{env: env, cfg: config{
		url:      v.Secret("url").Reveal(),
		topics:   v.Strings("topics"),
		upsert:   v.String("mode") == "upsert",
		table:    v.String("table"),
		schema:   v.String("schema"),
		create:   v.Bool("create"),
		evolve:   v.Bool("evolve"),
		offsets:  v.String("offsets"),
		size:     int(v.Size("flush.size")),
		records:  int(v.Int("flush.records")),
		interval: v.Duration("flush.interval"),
		lockWait: time.Minute,
	}}
	if s.cfg.schema == "" || s.cfg.offsets == "" {
		return nil, errors.New("schema and offsets cannot be empty")
	}
	if s.cfg.table == s.cfg.offsets {
		return nil, fmt.Errorf("table: %q is the table of offsets", s.cfg.table)
	}
	if s.cfg.upsert && s.cfg.table != "" && (len(s.cfg.topics) != 1 || strings.ContainsAny(s.cfg.topics[0], "*?")) {
		return nil, fmt.Errorf("table: in mode upsert %q can hold one topic, and topics may match several: two topics' keys would overwrite each other; name one topic, leave table out, or use mode append", s.cfg.table)
	}
	if s.cfg.upsert {
		if a, b := sameTable(s.cfg.topics); a != "" {
			return nil, fmt.Errorf("topics: %s and %s would both be written to table %s: in mode upsert their keys would overwrite each other; use two sinks with a table or schema each, or mode append", a, b, lastPart(a))
		}
	}
	return s, nil
}

// sameTable finds two plain topic names that end alike.
func sameTable(topics []string) (string, string) {
	seen := map[string]string{}
	for _, t := range topics {
		if strings.ContainsAny(t, "*?") {
			continue
		}
		if other, ok := seen[lastPart(t)]; ok && other != t {
			return other, t
		}
		seen[lastPart(t)] = t
	}
	return "", ""
}

func lastPart(topic string) string { return topic[strings.LastIndexByte(topic, '.')+1:] }

// tableName is where a topic goes.
func (s *sink) tableName(topic string) string {
	if s.cfg.table != "" {
		return s.cfg.table
	}
	return lastPart(topic)
}

// id names the sink among all that may write to one database.
func (s *sink) id() string { return s.env.Group + "/" + s.env.Name }

// Capabilities: the offset is committed with the rows.
func (s *sink) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}

// Topics are the globs of what it reads.
func (s *sink) Topics() []string { return s.cfg.topics }

// Task makes a task.
func (s *sink) Task(env connectors.SinkEnv) connectors.SinkTask { return newTask(s, env) }
