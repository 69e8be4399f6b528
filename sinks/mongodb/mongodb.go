// Package mongodb is the sink that keeps collections of a MongoDB replica set like the topics
// it reads: document for document (mode upsert), or event after event (mode append).
//
// It promises exactly once: the offsets that the target holds lie in a collection beside the
// data, and every commit of data moves them in the same transaction (invariant 6), or writes nothing
// when another task has moved them (invariant 7).
//
// DESIGN.md says why it is built this way; docs/formats/mongodb-sink.md is what it leaves in the database.
package mongodb

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// Type is the sink as it is listed in plugins/builtin.
func Type() connectors.SinkType {
	return connectors.SinkType{Name: "mongodb", Spec: Spec(), New: New}
}

// Spec lists the fields of the config.
func Spec() spec.Spec {
	return spec.Spec{
		Doc: "Writes topics into collections of a MongoDB replica set (6.0 or later), each record exactly once: offsets and documents are committed in one transaction.",
		Fields: []spec.Field{
			{Name: "url", Type: spec.Secret, Required: true, Check: checkURL, Example: "mongodb://forebay:${MONGO_PASSWORD}@db-1,db-2,db-3/?replicaSet=rs0",
				Doc: "Where the replica set is; the user needs the role readWrite on the database."},
			{Name: "topics", Type: spec.Strings, Required: true, Example: `["shop.public.*"]`, Check: checkTopics,
				Doc: "Names or globs of the topics to write; * crosses dots. New topics that match are found within 5 seconds."},
			{Name: "mode", Type: spec.Enum, Enum: []string{"upsert", "append"}, Default: "upsert",
				Doc: "upsert keeps one document for each key and follows deletes; append adds a document for each record, whose _id is topic, partition and offset."},
			{Name: "database", Type: spec.String, Required: true, Example: "shop", Check: checkDatabase,
				Doc: "Database of the collections and of the offsets."},
			{Name: "collection", Type: spec.String, Example: "orders", Check: checkCollection,
				Doc: "Collection to write; the default is the last part of the topic's name. Several topics may share one in mode append only."},
			{Name: "offsets", Type: spec.String, Default: "_forebay_offsets", Check: checkCollection,
				Doc: "Collection in the database that says up to which offset each topic was written; without it the sink begins anew."},
			{Name: "flush", Type: spec.Group, Doc: "When what was read is committed; whichever comes first.", Fields: []spec.Field{
				{Name: "size", Type: spec.Size, Default: "4MiB", Check: checkSize, Doc: "Commit a partition once this much of its documents is at hand; a larger one makes longer transactions."},
				{Name: "records", Type: spec.Int, Default: "0", Check: checkRecords, Doc: "Commit a partition after this many records; 0 means never by count."},
				{Name: "interval", Type: spec.Duration, Default: "1s", Check: checkInterval, Doc: "Commit this long after the first record arrived."},
			}},
		},
	}
}

// checkURL never repeats the text: it holds a password.
func checkURL(v any) error {
	text := v.(spec.SecretText).Reveal()
	if !strings.HasPrefix(text, "mongodb://") && !strings.HasPrefix(text, "mongodb+srv://") {
		return errors.New("it begins with mongodb:// or mongodb+srv://, as in mongodb://user:password@host:27017/?replicaSet=rs0")
	}
	if strings.HasPrefix(text, "mongodb+srv://") {
		return nil // to read it is to ask the DNS
	}
	if options.Client().ApplyURI(text).Validate() != nil {
		return errors.New("not a MongoDB URL; write mongodb://user:password@host:27017/?replicaSet=rs0, with %XX for odd characters in the password")
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

// checkDatabase knows what MongoDB takes on every system ("Naming Restrictions").
func checkDatabase(v any) error {
	s := v.(string)
	switch {
	case s == "" || len(s) > 63:
		return fmt.Errorf("%q is not between 1 and 63 bytes long", s)
	case strings.ContainsAny(s, "/\\. \"$*<>:|?\x00"):
		return fmt.Errorf("%q holds a character that the name of a database cannot have", s)
	case s == "admin" || s == "local" || s == "config":
		return fmt.Errorf("%q is MongoDB's own", s)
	}
	return nil
}

func checkCollection(v any) error {
	s := v.(string)
	switch {
	case s == "":
		return nil // the default
	case len(s) > 180:
		return fmt.Errorf("%q is longer than 180 bytes", s)
	case strings.ContainsAny(s, "$\x00") || strings.HasPrefix(s, "system.") || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, ".."):
		return fmt.Errorf("%q cannot be the name of a collection", s)
	}
	return nil
}

func checkSize(v any) error {
	if n := int64(v.(spec.ByteSize)); n < 1<<10 || n > 32<<20 {
		return fmt.Errorf("%v is not between 1KiB and 32MiB", v)
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
	url        string
	topics     []string
	upsert     bool
	database   string
	collection string // "": the last part of the topic
	offsets    string
	size       int
	records    int
	interval   time.Duration

	// What tests make shorter.
	patience time.Duration // how long a commit is tried before the runtime hears of it
	attempt  time.Duration // how long one try may take
	chunk    int           // how many documents one transaction empties a collection by
}

type sink struct {
	cfg config
	env connectors.Env
}

// New makes the sink; it does no I/O.
func New(v spec.Values, env connectors.Env) (connectors.Sink, error) {
	s := &sink{env: env, cfg: config{
		url:        v.Secret("url").Reveal(),
		topics:     v.Strings("topics"),
		upsert:     v.String("mode") == "upsert",
		database:   v.String("database"),
		collection: v.String("collection"),
		offsets:    v.String("offsets"),
		size:       int(v.Size("flush.size")),
		records:    int(v.Int("flush.records")),
		interval:   v.Duration("flush.interval"),
		patience:   time.Minute,
		attempt:    50 * time.Second, // the server ends a transaction after 60 s (transactionLifetimeLimitSeconds)
		chunk:      10_000,
	}}
	if s.cfg.offsets == "" {
		return nil, errors.New("offsets cannot be empty")
	}
	if s.cfg.collection == s.cfg.offsets {
		return nil, fmt.Errorf("collection: %q is the collection of offsets", s.cfg.collection)
	}
	if !s.cfg.upsert {
		return s, nil
	}
	if s.cfg.collection != "" && (len(s.cfg.topics) != 1 || strings.ContainsAny(s.cfg.topics[0], "*?")) {
		return nil, fmt.Errorf("collection: in mode upsert %q can hold one topic, and topics may match several: two topics' keys would overwrite each other; name one topic, leave collection out, or use mode append", s.cfg.collection)
	}
	if a, b := sameCollection(s.cfg.topics); a != "" {
		return nil, fmt.Errorf("topics: %s and %s would both be written to collection %s: in mode upsert their keys would overwrite each other; use two sinks with a collection or database each, or mode append", a, b, lastPart(a))
	}
	return s, nil
}

// sameCollection finds two plain topic names that end alike.
func sameCollection(topics []string) (string, string) {
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

// collectionName is where a topic goes.
func (s *sink) collectionName(topic string) string {
	if s.cfg.collection != "" {
		return s.cfg.collection
	}
	return lastPart(topic)
}

// id names the sink among all that may write to one database.
func (s *sink) id() string { return s.env.Group + "/" + s.env.Name }

// Capabilities: the offset is committed with the documents.
func (s *sink) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}

// Topics are the globs of what it reads.
func (s *sink) Topics() []string { return s.cfg.topics }

// Task makes a task.
func (s *sink) Task(env connectors.SinkEnv) connectors.SinkTask { return newTask(s, env) }
