// Package mongo streams collections of a real replica set through the embedded log while
// Forebay and the set's primaries are killed: what a topic gives when it is replayed, and what a sink makes
// of it in another database, are the collections.
package mongo

import (
	"context"
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	changes = flag.Int("changes", 10_000, "documents changed in the test of the source")
	images  = flag.String("images", "lookup", "images of the source: lookup, post or pre_post")
	kills   = flag.Int("kills", 5, "SIGKILLs of Forebay")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of changes and kill times")
)

const sourceConfig = `
sources:
  shop:
    type: mongodb
    url: ${SOURCE}
    collections: ["${DB}.*"]
    images: ${IMAGES}
`

// TestSource: random changes during snapshot and stream, SIGKILLs of Forebay and of primaries, dropped and renamed
// collections: replaying the topics gives the collections, and no event is there twice.
func TestSource(t *testing.T) {
	t.Logf("seed %d, images %s", *seed, *images)
	random := rand.New(rand.NewPCG(*seed, 1))
	set := testenv.NewMongo(t, 3)
	names := []string{"people", "orders.v2", "events", "odd name"}
	l := &load{url: set.URL, db: set.Database, names: names}
	db := set.DB()
	fill(t, db, l, names)
	if _, err := db.Collection("staging").InsertMany(t.Context(), []any{kv("_id", "s1"), kv("_id", "s2")}); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	file := node.WriteFile(t, dir, "job.yaml", sourceConfig)
	n := node.New(t, file, "--data", dir+"/data")
	n.Setenv("SOURCE="+set.URL, "DB="+set.Database, "IMAGES="+*images)
	n.Start()
	all := int64(*changes)
	l.start(*seed, all, writeconcern.Majority(), writeconcern.Majority(), writeconcern.W1())
	h := hostility{t: t, random: random, set: set, node: n}
	h.run(l, all, *kills, 2)
	if err := l.wait(); err != nil {
		t.Fatal(err)
	}
	h.restore()
	ddl(t, db)
	names = append(names, "renamed", "fresh")
	mark(t, db, names)

	topics := make([]string, len(names))
	for i, c := range names {
		topics[i] = topicOf("shop", set.Database, c)
	}
	rep := newReplica(t, *images == "pre_post")
	rep.read(n.Kafka, topics, func(r *kgo.Record) bool { return strings.Contains(string(r.Key), lastKey) })
	docs := 0
	for i, c := range names {
		docs += rep.matches(t.Context(), topics[i], db.Collection(c))
	}
	t.Logf("%d changes made; %d events %v; %d documents compared", l.made.Load(), rep.events, rep.ops, docs)
	if err := n.Stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// topicOf is a collection's topic: what a name of a topic cannot hold is an underscore.
func topicOf(source, db, coll string) string {
	return source + "." + db + "." + strings.ReplaceAll(coll, " ", "_")
}

// fill puts documents into the collections for the snapshot.
func fill(t *testing.T, db *mongo.Database, l *load, names []string) {
	t.Helper()
	r := rand.New(rand.NewPCG(*seed, 2))
	for _, c := range names {
		var docs []any
		for i := range firsts {
			docs = append(docs, append(l.document(r, firstID(i)), bson.E{Key: "ballast", Value: strings.Repeat("b", 500)}))
		}
		if _, err := db.Collection(c).InsertMany(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
	}
}

// ddl drops a collection and makes it again, renames one to a name that has a topic, and adds an index.
func ddl(t *testing.T, db *mongo.Database) {
	t.Helper()
	ctx := t.Context()
	steps := []func() error{
		func() error { return db.Collection("events").Drop(ctx) },
		func() error {
			_, err := db.Collection("events").InsertMany(ctx, []any{kv("_id", 1), kv("_id", "first 00001")})
			return err
		},
		func() error {
			_, err := db.Collection("people").Indexes().CreateOne(ctx, mongo.IndexModel{Keys: kv("n", 1)})
			return err
		},
		func() error {
			return db.Client().Database("admin").RunCommand(ctx, d{{Key: "renameCollection", Value: db.Name() + ".staging"}, {Key: "to", Value: db.Name() + ".renamed"}}).Err()
		},
		func() error {
			_, err := db.Collection("renamed").UpdateOne(ctx, kv("_id", "s1"), kv("$set", kv("x", 1)))
			return err
		},
		func() error {
			return db.CreateCollection(ctx, "fresh", options.CreateCollection().SetCollation(&options.Collation{Locale: "en", Strength: 1}))
		},
		func() error {
			_, err := db.Collection("fresh").InsertOne(ctx, kv("_id", "Ä"))
			return err
		},
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("DDL step %d: %v", i, err)
		}
	}
}

// lastKey is the _id of each collection's last change.
const lastKey = "the very last one"

func mark(t *testing.T, db *mongo.Database, names []string) {
	t.Helper()
	for _, c := range names {
		if _, err := db.Collection(c).InsertOne(t.Context(), kv("_id", lastKey)); err != nil {
			t.Fatal(err)
		}
	}
}

// hostility kills things while a load runs.
type hostility struct {
	t      *testing.T
	random *rand.Rand
	set    *testenv.MongoServer
	node   *node.Node
	dead   []int // members that are down
}

// run kills Forebay and primaries, spread at random over the load's changes; the first two SIGKILLs of Forebay come within its first second, in the snapshot.
func (h *hostility) run(l *load, changes int64, kills, primaries int) {
	h.t.Helper()
	for k := range kills {
		if k < 2 {
			h.after(time.Duration(50+h.random.IntN(500)) * time.Millisecond)
		} else {
			h.reached(l, changes*int64(k-1)/int64(kills)+h.random.Int64N(max(changes/int64(kills), 1)))
		}
		h.t.Logf("SIGKILL of Forebay after %d changes", l.made.Load())
		h.node.Kill()
		if k%2 == 1 && primaries > 0 { // the second while the set is without its primary, the fourth too
			primaries--
			h.killPrimary()
		}
		h.node.Start()
	}
	for ; primaries > 0; primaries-- {
		h.killPrimary()
	}
}

func (h *hostility) killPrimary() {
	h.t.Helper()
	h.restore()
	i := h.set.KillPrimary()
	h.t.Logf("SIGKILL of primary %d", i)
	h.dead = append(h.dead, i)
}

// restore starts what is down.
func (h *hostility) restore() {
	h.t.Helper()
	for _, i := range h.dead {
		h.set.Start(i)
	}
	h.dead = nil
	h.set.AwaitPrimary()
}

func (h *hostility) after(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.t.Context().Done():
	}
}

// reached waits until the load has made so many changes.
func (h *hostility) reached(l *load, changes int64) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.made.Load() < changes {
		select {
		case <-tick.C:
		case <-ctx.Done():
			h.t.Fatalf("the load has made %d changes, not %d: %v", l.made.Load(), changes, l.failed)
		}
	}
}
