package mongodb

import (
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/forebayhub/forebay/connectors"
)

// whileAsking runs fn while the source waits for the answer to its next question for the cluster time.
func whileAsking(t *testing.T, c *mongo.Client, ask func() error, fn func()) {
	t.Helper()
	failCommand(t, c, 1, d{{Key: "failCommands", Value: bson.A{"ping"}}, {Key: "blockConnection", Value: true}, {Key: "blockTimeMS", Value: 800}})
	done := make(chan error, 1)
	go func() { done <- ask() }()
	select {
	case err := <-done:
		t.Fatalf("the server did not wait: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	fn()
	check(t, <-done)
}

// A collection that is made while the source starts is in the list that it snapshots, or comes by the stream.
func TestCollectionMadeAtTheBeginning(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	insert(t, db.Collection("a"), kv("_id", 1))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".*"}, nil), got.add)
	whileAsking(t, db.Client(), func() error { return l.open(ctx) }, func() { insert(t, db.Collection("b"), kv("_id", "made meanwhile")) })
	l.catchUp(ctx, db.Client())
	slices.Sort(got.lines)
	got.expect(t, `r "made meanwhile" null -> {"_id": "made meanwhile"}`, `r 1 null -> {"_id": 1}`)
}

// An oplog that no longer has the stream's beginning ends the snapshot at its next run, not at its end.
func TestOplogIsShorterThanTheSnapshot(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	for i := range 20 {
		insert(t, db.Collection("a"), d{{Key: "_id", Value: i}, {Key: "pad", Value: string(make([]byte, 500))}})
	}
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), got.add)
	l.src.cfg.runTime, l.batch = 0, 4<<10
	check(t, l.open(ctx))
	b := connectors.NewBatch(l.batch)
	for len(got.lines) == 0 {
		check(t, l.read(ctx, b, nil))
	}
	failCommand(t, db.Client(), 1, d{{Key: "failCommands", Value: bson.A{"aggregate"}}, {Key: "errorCode", Value: codeHistoryLost}})
	n := len(got.lines)
	if err := l.fails(ctx); !connectors.IsFatal(err) || code(err) != codeHistoryLost || len(got.lines) != n {
		t.Errorf("%d documents more, then %v", len(got.lines)-n, err)
	}
}

// A collection that was gone when its snapshot began, and is made while it does.
func TestCollectionMadeAtItsSnapshot(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	insert(t, db.Collection("a"), kv("_id", 1))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".*"}, nil), got.add)
	check(t, l.open(ctx))
	b := connectors.NewBatch(l.batch)
	check(t, l.read(ctx, b, nil)) // the marks of the beginning
	check(t, db.Collection("a").Drop(ctx))
	whileAsking(t, db.Client(), func() error { return l.read(ctx, b, nil) }, func() { insert(t, db.Collection("a"), kv("_id", "new")) })
	l.catchUp(ctx, db.Client())
	if len(got.lines) == 0 || got.lines[len(got.lines)-1] != `r "new" null -> {"_id": "new"}` && got.lines[len(got.lines)-1] != `c "new" null -> {"_id": "new"}` {
		t.Errorf("the topic has %q", got.lines)
	}
}

// A clustered collection has no index on _id of its own; its snapshot goes on all the same.
func TestClusteredCollection(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	check(t, db.CreateCollection(ctx, "a", options.CreateCollection().SetClusteredIndex(d{{Key: "key", Value: kv("_id", 1)}, {Key: "unique", Value: true}})))
	for i := range 50 {
		insert(t, db.Collection("a"), d{{Key: "_id", Value: i}, {Key: "pad", Value: string(make([]byte, 500))}})
	}
	rep := newReplica(t, false)
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), rep.apply)
	l.batch = 4 << 10
	check(t, l.open(ctx))
	b := connectors.NewBatch(l.batch)
	for range 4 {
		check(t, l.read(ctx, b, nil))
	}
	l.kill()
	l.src.cfg.patience = 2 * time.Second
	l.catchUp(ctx, db.Client())
	if n := rep.matches(ctx, "shop."+s.Database+".a", db.Collection("a")); n != 50 {
		t.Errorf("%d documents", n)
	}
}

// A database that is not there yet can be waited for.
func TestDatabaseMadeLater(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".*"}, nil), got.add)
	l.catchUp(ctx, db.Client())
	insert(t, db.Collection("first"), kv("_id", 1))
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 1 null -> {"_id": 1}`)
}

// An image that is looked up is not older than the change, whichever member is asked.
func TestLookupIsNotOlderThanTheChange(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, map[string]any{"images": "post"}), got.add)
	l.catchUp(ctx, db.Client())
	insert(t, db.Collection("a"), kv("_id", 1))
	must[*mongo.UpdateResult](t)(db.Collection("a").UpdateOne(ctx, kv("_id", 1), kv("$set", kv("n", 1)))) // before images are kept
	check(t, db.RunCommand(ctx, kv("profile", 2)).Err())
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 1 null -> {"_id": 1}`, `u 1 null -> {"_id": 1,"n": 1}`)
	n, err := db.Collection("system.profile").CountDocuments(ctx, d{{Key: "command.find", Value: "a"}, {Key: "command.readConcern.level", Value: "majority"}, {Key: "command.readConcern.afterClusterTime", Value: kv("$exists", true)}})
	check(t, err)
	if n == 0 {
		t.Error("the lookup does not say after which time")
	}
}
