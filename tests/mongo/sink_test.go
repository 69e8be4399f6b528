package mongo

import (
	"crypto/md5"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

const sinkConfig = `
sources:
  shop:
    type: postgres
    url: ${PG}
    tables: [public.*]
    heartbeat: 1s
    slot: ${SLOT}
    publication: ${SLOT}
  site:
    type: mongodb
    url: ${MONGO}
    collections: ["${DB}.*"]
    images: post
sinks:
  rows:
    type: mongodb
    url: ${MONGO}
    topics: ["shop.public.*"]
    database: ${DB}_rows
    flush: {interval: 200ms, size: 256KiB}
  rowlog:
    type: mongodb
    url: ${MONGO}
    topics: ["shop.public.*"]
    mode: append
    database: ${DB}_rowlog
    flush: {interval: 300ms}
  docs:
    type: mongodb
    url: ${MONGO}
    topics: ["site.*"]
    database: ${DB}_docs
    flush: {interval: 200ms, size: 256KiB}
  doclog:
    type: mongodb
    url: ${MONGO}
    topics: ["site.*"]
    mode: append
    database: ${DB}_doclog
    collection: events
    flush: {interval: 300ms}
`

func md5Of(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }

// TestSink: PostgreSQL and MongoDB into collections of the same replica set, while Forebay and primaries are killed: the
// collections are what the tables and the collections of the sources are, and no event is missing or doubled.
func TestSink(t *testing.T) {
	t.Logf("seed %d", *seed)
	set, pg := testenv.NewMongo(t, 3), testenv.Postgres(t)
	names := []string{"people", "events"}
	l := &load{url: set.URL, db: set.Database, names: names, regexes: true}
	db := set.DB()
	fill(t, db, l, names)
	s := newShop(t, pg.URL, rand.New(rand.NewPCG(*seed, 3)))

	dir := t.TempDir()
	file := node.WriteFile(t, dir, "job.yaml", sinkConfig)
	n := node.New(t, file, "--data", dir+"/data")
	env := []string{"PG=" + pg.URL, "SLOT=mongo_" + pg.Database, "MONGO=" + set.URL, "DB=" + set.Database}
	n.Setenv(env...)
	n.Start()
	all := int64(*changes / 3)
	l.start(*seed, all, writeconcern.Majority(), writeconcern.Majority())
	h := hostility{t: t, random: rand.New(rand.NewPCG(*seed, 1)), set: set, node: n}
	changed := make(chan error, 1)
	go func() { // as fast as the other
		var err error
		for i := int64(0); i < 50 && err == nil; i++ {
			for l.made.Load() < all*i/50 && !l.ended.Load() {
				h.after(10 * time.Millisecond)
			}
			err = s.change(t.Context(), *changes/150)
		}
		changed <- err
	}()
	h.run(l, all, *kills, 1)
	if err := l.wait(); err != nil {
		t.Fatal(err)
	}
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	h.restore()
	t.Log("all changes are made")
	for _, sink := range []string{"rows", "rowlog", "docs", "doclog"} {
		out, code := node.Run(t, env, "audit", file, sink, "--bootstrap", n.Kafka, "--http", n.HTTP)
		t.Logf("forebay audit %s:\n%s", sink, out)
		if code != 0 {
			t.Errorf("audit of %s ended with %d", sink, code)
		}
	}
	client := set.Client()
	rows := client.Database(set.Database + "_rows")
	s.equals(t, "customers", rows.Collection("customers"), customerLine(t))
	s.equals(t, "keyed", rows.Collection("keyed"), keyedLine)
	for _, c := range names {
		sameCollections(t, db.Collection(c), client.Database(set.Database+"_docs").Collection(c))
	}
	if err := n.Stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// sameCollections compares two collections byte for byte: types and the order of fields included.
func sameCollections(t *testing.T, want, got *mongo.Collection) {
	t.Helper()
	read := func(c *mongo.Collection) map[string]string {
		cur, err := c.Find(t.Context(), d{})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for cur.Next(t.Context()) {
			out[identity(cur.Current)] = string(cur.Current)
		}
		if err := cur.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	source, target := read(want), read(got)
	bad := 0
	for id, doc := range source {
		if target[id] != doc {
			if bad++; bad < 5 {
				t.Errorf("%s: the source has %s, the target %s", want.Name(), short(bson.Raw(doc).String()), short(bson.Raw(target[id]).String()))
			}
		}
		delete(target, id)
	}
	for _, doc := range target {
		if bad++; bad < 10 {
			t.Errorf("%s: only the target has %s", want.Name(), short(bson.Raw(doc).String()))
		}
	}
	t.Logf("%s: %d documents", want.Name(), len(source))
}
