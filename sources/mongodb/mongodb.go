// Package mongodb is the source that streams collections of a MongoDB replica set: a
// snapshot at a cluster time that survives a kill, then every change from a change
// stream, with no gap and no repeat between them.
//
// DESIGN.md says how the hand-off works and why.
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

// Type is the source as it is listed in plugins/builtin.
func Type() connectors.SourceType {
	return connectors.SourceType{Name: "mongodb", Spec: Spec(), New: New}
}

// What images asks for.
const (
	imagesLookup  = "lookup"
	imagesPost    = "post"
	imagesPrePost = "pre_post"
)

// Spec lists the fields of the config.
func Spec() spec.Spec {
	return spec.Spec{
		Doc: "Streams collections of a MongoDB replica set (6.0 or later) as change events: first the documents that are there, then every insert, update, replace, delete, and drop, from a change stream.",
		Fields: []spec.Field{
			{Name: "url", Type: spec.Secret, Required: true, Check: checkURL, Example: "mongodb://forebay:${MONGO_PASSWORD}@db-1,db-2,db-3/?replicaSet=rs0",
				Doc: "Where the replica set is; the user needs the role read on the database, or readAnyDatabase when collections lie in several."},
			{Name: "collections", Type: spec.Strings, Required: true, Example: "[site.events, shop.*]", Check: checkCollections,
				Doc: "Collections as database.collection, with * and ? as wildcards; one that is added later gets its own snapshot at the next start."},
			{Name: "snapshot", Type: spec.Enum, Default: "initial", Enum: []string{"initial", "never"},
				Doc: "initial reads the documents that are there and then streams, never only streams."},
			{Name: "images", Type: spec.Enum, Default: imagesLookup, Enum: []string{imagesLookup, imagesPost, imagesPrePost},
				Doc: "What an update carries as after: lookup reads the document as it is when the event is read, post is the document right after the change, pre_post is that and the one before it. The last two need changeStreamPreAndPostImages on the collections, which Forebay enables if the user may."},
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

func checkCollections(v any) error {
	for _, text := range v.([]string) {
		if _, err := parsePattern(text); err != nil {
			return err
		}
	}
	return nil
}

// config is what New makes of the Values.
type config struct {
	url         string
	collections []pattern
	snapshot    string
	images      string

	// What tests make shorter.
	heartbeat time.Duration // how often the position moves while nothing is added
	runTime   time.Duration // how long documents are read at one cluster time
	await     time.Duration // how long the server waits for a change before it answers with none
	patience  time.Duration // how long the source tries by itself before the runtime hears of an error
}

// source is a configured source.
type source struct {
	cfg config
	env connectors.Env
}

// New makes the source; it does no I/O.
func New(v spec.Values, env connectors.Env) (connectors.Source, error) {
	s := &source{env: env, cfg: config{
		url: v.Secret("url").Reveal(), snapshot: v.String("snapshot"), images: v.String("images"),
		heartbeat: 10 * time.Second,
		// Well below minSnapshotHistoryWindowInSeconds, which is 300 unless somebody changed it.
		runTime:  2 * time.Minute,
		await:    time.Second,
		patience: 30 * time.Second,
	}}
	for _, text := range v.Strings("collections") {
		p, err := parsePattern(text)
		if err != nil {
			return nil, fmt.Errorf("collections: %w", err)
		}
		s.cfg.collections = append(s.cfg.collections, p)
	}
	return s, nil
}

// Capabilities: positions are exact. Any worker may run it.
func (s *source) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}
