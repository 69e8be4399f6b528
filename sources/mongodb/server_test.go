package mongodb

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotThenStream(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, d{{Key: "_id", Value: 1}, {Key: "n", Value: 1}}, d{{Key: "_id", Value: "x"}, {Key: "n", Value: int64(2)}})
	insert(t, db.Collection("other"), kv("_id", 1))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a", s.Database + ".later*"}, nil), got.add)
	l.catchUp(ctx, db.Client())
	got.expect(t, `r 1 null -> {"_id": 1,"n": 1}`, `r "x" null -> {"_id": "x","n": {"$numberLong": "2"}}`)

	insert(t, a, d{{Key: "_id", Value: 3}})
	must[*mongo.UpdateResult](t)(a.ReplaceOne(ctx, kv("_id", 1), kv("z", 9.0)))
	must[*mongo.DeleteResult](t)(a.DeleteOne(ctx, kv("_id", "x")))
	insert(t, db.Collection("later1"), kv("_id", true))
	insert(t, db.Collection("other"), kv("_id", 2))
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 3 null -> {"_id": 3}`, `u 1 null -> {"_id": 1,"z": 9.0}`, `d "x" null -> null`, `tombstone "x"`, `c true null -> {"_id": true}`)

	// A restart goes on where it was; the collection that the stream brought needs no snapshot.
	l.kill()
	insert(t, a, kv("_id", 4))
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 4 null -> {"_id": 4}`)
}

func TestUpdateDescription(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, d{{Key: "_id", Value: 1}, {Key: "gone", Value: 1}, {Key: "list", Value: bson.A{1, 2, 3, 4}}, {Key: "pad", Value: strings.Repeat("x", 500)}})
	var records []connectors.Record
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), func(r connectors.Record) {
		if r.Change != nil {
			c := *r.Change
			c.Update.Value, c.Source.Value, c.After = c.Update.Value.Clone(), c.Source.Value.Clone(), c.After.Clone()
			r.Change = &c
		}
		records = append(records, r)
	})
	l.catchUp(ctx, db.Client())
	records = nil
	must[*mongo.UpdateResult](t)(a.UpdateOne(ctx, kv("_id", 1), bson.A{
		kv("$set", d{{Key: "b", Value: d{{Key: "c", Value: int64(5)}}}, {Key: "list", Value: kv("$slice", bson.A{"$list", 2})}}), kv("$unset", "gone")}))
	l.catchUp(ctx, db.Client())
	if len(records) != 1 {
		t.Fatalf("%d records", len(records))
	}
	r := records[0]
	u := r.Change.Update.Value.List
	if u[0].List[0].Text() != "gone" || u[1].Text() != `{"b": {"c": 5}}` || u[2].List[0].List[0].Text() != "list" || u[2].List[0].List[1].Int() != 2 {
		t.Errorf("update %+v", u)
	}
	src := r.Change.Source.Value.List
	if src[cdc.FieldConnector].Text() != "mongodb" || src[cdc.FieldDB].Text() != s.Database || src[fieldCollection].Text() != "a" ||
		src[fieldWallTime].Int() == 0 || src[fieldOrd].Int() == 0 || src[cdc.FieldSnapshot].Text() != "false" || !strings.HasSuffix(src[cdc.FieldSequence].Text(), `,"1"]`) {
		t.Errorf("source %+v", src)
	}
	if r.Topic != "shop."+s.Database+".a" {
		t.Errorf("topic %s", r.Topic)
	}
}

// lookup gives the document as it is when the event is read; what is gone by then is missing, not deleted.
func TestLookupOfAGoneDocument(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, kv("_id", 1))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), got.add)
	l.catchUp(ctx, db.Client())
	l.kill()
	must[*mongo.UpdateResult](t)(a.UpdateOne(ctx, kv("_id", 1), kv("$set", kv("n", 1))))
	must[*mongo.DeleteResult](t)(a.DeleteOne(ctx, kv("_id", 1)))
	l.catchUp(ctx, db.Client())
	got.expect(t, `r 1 null -> {"_id": 1}`, `u 1 null -> missing`, `d 1 null -> null`, `tombstone 1`)
}

func TestImages(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, d{{Key: "_id", Value: 1}, {Key: "n", Value: 0}})
	src := configure(t, s.URL, []string{s.Database + ".*"}, map[string]any{"images": "pre_post"})
	warned := false
	for _, f := range src.Validate(ctx) {
		warned = warned || f.Path == "images" && f.Warning && strings.Contains(f.Hint, "collMod")
		if !f.Warning {
			t.Errorf("%+v", f)
		}
	}
	if !warned {
		t.Error("Validate says nothing of a collection without images")
	}
	var got collect
	l := newLogbook(t, src, got.add)
	l.catchUp(ctx, db.Client())
	l.kill()
	for n := 1; n <= 2; n++ {
		must[*mongo.UpdateResult](t)(a.UpdateOne(ctx, kv("_id", 1), kv("$set", kv("n", n))))
	}
	must[*mongo.DeleteResult](t)(a.DeleteOne(ctx, kv("_id", 1)))
	// A collection that comes later keeps no images for its first changes.
	b := db.Collection("b")
	insert(t, b, kv("_id", 1))
	must[*mongo.UpdateResult](t)(b.UpdateOne(ctx, kv("_id", 1), kv("$set", kv("n", 1))))
	l.catchUp(ctx, db.Client())
	got.expect(t, `r 1 null -> {"_id": 1,"n": 0}`, `r 1 null -> {"_id": 1,"n": 1}`,
		`u 1 {"_id": 1,"n": 0} -> {"_id": 1,"n": 1}`, `u 1 {"_id": 1,"n": 1} -> {"_id": 1,"n": 2}`, `d 1 {"_id": 1,"n": 2} -> null`, `tombstone 1`)
	if info := must[*collectionInfo](t)(describe(ctx, db.Client(), namespace{s.Database, "b"})); !info.images {
		t.Error("the new collection does not keep images yet")
	}
}

// An image that nobody has is looked up, so that the topic stays right.
func TestMissingImageIsLookedUp(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".*"}, map[string]any{"images": "post"}), got.add)
	l.catchUp(ctx, db.Client())
	b := db.Collection("b")
	insert(t, b, kv("_id", 1))
	must[*mongo.UpdateResult](t)(b.UpdateOne(ctx, kv("_id", 1), kv("$set", kv("n", 1))))
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 1 null -> {"_id": 1}`, `u 1 null -> {"_id": 1,"n": 1}`)
}

func TestDropRenameInvalidate(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, kv("_id", 1))
	insert(t, db.Collection("outside"), kv("_id", 7), kv("_id", 8))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a", s.Database + ".b"}, nil), got.add)
	l.catchUp(ctx, db.Client())
	got.expect(t, `r 1 null -> {"_id": 1}`)

	check(t, a.Drop(ctx))
	insert(t, a, kv("_id", 2))
	l.catchUp(ctx, db.Client())
	got.expect(t, `t - null -> null`, `c 2 null -> {"_id": 2}`)

	rename := func(from, to string) {
		t.Helper()
		check(t, db.Client().Database("admin").RunCommand(ctx, d{{Key: "renameCollection", Value: s.Database + "." + from}, {Key: "to", Value: s.Database + "." + to}, {Key: "dropTarget", Value: true}}).Err())
	}
	rename("a", "b")
	insert(t, db.Collection("b"), kv("_id", 3))
	l.catchUp(ctx, db.Client())
	if got.lines[0] != "t - null -> null" || got.lines[1] != "t - null -> null" {
		t.Errorf("%q", got.lines)
	}
	got.lines = got.lines[2:]
	got.expect(t, `r 2 null -> {"_id": 2}`, `r 3 null -> {"_id": 3}`)

	// Documents that come from a collection that is not streamed.
	l.kill()
	rename("outside", "a")
	l.catchUp(ctx, db.Client())
	got.expect(t, `t - null -> null`, `r 7 null -> {"_id": 7}`, `r 8 null -> {"_id": 8}`)

	// The end of the database ends the stream; the next one goes on behind it, also after a restart.
	check(t, db.Drop(ctx))
	insert(t, a, kv("_id", 5))
	l.catchUp(ctx, db.Client())
	want := []string{`t - null -> null`, `t - null -> null`, `c 5 null -> {"_id": 5}`}
	got.expect(t, want...)
	check(t, db.Drop(ctx))
	l.catchUp(ctx, db.Client())
	l.kill()
	insert(t, a, kv("_id", 6))
	l.catchUp(ctx, db.Client())
	got.expect(t, `t - null -> null`, `c 6 null -> {"_id": 6}`)
}

// A collection that the server makes for a moment leaves nothing; what takes its place comes whole.
func TestCollectionsOfAMoment(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	insert(t, db.Collection("a"), kv("_id", 1))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".*"}, nil), got.add)
	l.catchUp(ctx, db.Client())
	check(t, must[*mongo.Cursor](t)(db.Collection("a").Aggregate(ctx, mongo.Pipeline{kv("$out", "b")})).Close(ctx))
	l.catchUp(ctx, db.Client())
	if n := strings.Count(strings.Join(got.lines, "\n"), `r 1 null -> {"_id": 1}`); n != 2 {
		t.Errorf("%q", got.lines)
	}
	if len(l.positions) != 4 { // set, stream, a, b
		t.Errorf("positions %s", l.positions)
	}
	for text, ours := range map[string]bool{"tmp.agg_out.1c2d": false, "tmp.mr.a_1": false, "tmpaZ09x.renameCollection": false, "tmp0kLmN.convertToCapped.a": false, "tmp.a": true, "tmps": true} {
		if (namespace{"shop", text}).internal() == ours {
			t.Errorf("%s is taken for the other kind", text)
		}
	}
}

// A collection that comes while the stream runs, and would share another's topic, is refused, made or renamed; one that takes the other's place is not.
func TestSharedTopicInTheStream(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a_b")
	insert(t, a, kv("_id", 1))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a*"}, nil), got.add)
	l.catchUp(ctx, db.Client())
	check(t, a.Drop(ctx))
	insert(t, db.Collection("a b"), kv("_id", 2))
	l.catchUp(ctx, db.Client())
	got.expect(t, `r 1 null -> {"_id": 1}`, `t - null -> null`, `c 2 null -> {"_id": 2}`)
	insert(t, db.Collection("a:b"), kv("_id", 3))
	if err := l.fails(ctx); !connectors.IsFatal(err) || !strings.Contains(err.Error(), "would share the topic") {
		t.Errorf("%v", err)
	}
}

// A collection that is dropped and made again between two runs is read anew.
func TestDroppedInTheSnapshot(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	for i := range 50 {
		insert(t, a, d{{Key: "_id", Value: i}, {Key: "pad", Value: strings.Repeat("x", 1000)}})
	}
	rows := map[string]int{}
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), func(r connectors.Record) {
		if r.Change.Op == connectors.OpTruncate {
			clear(rows)
			return
		}
		rows[r.Key.Value.List[0].Text()]++
	})
	l.batch = 10 << 10
	l.runUntil(ctx, func() bool { return len(rows) > 5 })
	if len(rows) >= 50 {
		t.Fatal("the snapshot is over already")
	}
	l.kill()
	check(t, a.Drop(ctx))
	insert(t, a, kv("_id", "new"))
	l.catchUp(ctx, db.Client())
	if len(rows) != 1 || rows[`"new"`] != 1 {
		t.Errorf("%v", rows)
	}
}

func TestTransactionsShareATimeAndNotASequence(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, kv("_id", 0))
	seen := map[string]int{}
	var texts []string
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), func(r connectors.Record) {
		src := r.Change.Source.Value.List
		if r.Change.Op == connectors.OpUpdate {
			seen[src[cdc.FieldSequence].Text()]++
			texts = append(texts, fmt.Sprint(src[fieldTxnNumber].Int() > 0, strings.HasPrefix(src[fieldLsid].Text(), `{"id": {"$binary": "`), src[fieldOrd].Int()))
		}
	})
	l.catchUp(ctx, db.Client())
	session := must[*mongo.Session](t)(db.Client().StartSession())
	defer session.EndSession(ctx)
	must[any](t)(session.WithTransaction(ctx, func(ctx context.Context) (any, error) {
		for i := range 5 {
			if _, err := a.UpdateOne(ctx, kv("_id", 0), kv("$set", kv("n", i))); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}))
	// One event at a time, with a kill after each: the transaction is taken up in its middle.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for len(texts) < 5 {
		if l.task == nil {
			check(t, l.open(ctx))
		}
		b := connectors.NewBatch(1)
		check(t, l.read(ctx, b, nil))
		if len(b.Records) > 0 {
			l.kill()
		}
	}
	l.catchUp(ctx, db.Client())
	if len(seen) != 5 || len(texts) != 5 {
		t.Errorf("%v %v", seen, texts)
	}
	for _, x := range texts {
		if x != texts[0] || !strings.HasPrefix(x, "true true") {
			t.Errorf("%v", texts)
		}
	}
}

func TestIdleStreamMovesThePosition(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	insert(t, db.Collection("a"), kv("_id", 1))
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), func(connectors.Record) {})
	l.catchUp(ctx, db.Client())
	before := l.at()
	l.catchUp(ctx, db.Client())
	if after := l.at(); after.compare(before) <= 0 {
		t.Errorf("%s after %s", after, before)
	}
	if p := string(l.positions[collectionKey(namespace{s.Database, "a"})]); !strings.Contains(p, `"state":"done"`) {
		t.Errorf("position %s", p)
	}
	// And the idle position is one to resume from.
	l.kill()
	insert(t, db.Collection("a"), kv("_id", 2))
	var got collect
	l.sink = got.add
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 2 null -> {"_id": 2}`)
}

// A stream that is begun again at a cluster time stands before the events of that time, which are in the log.
func TestIdleStreamBegunByTimeIsNoStepBack(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, kv("_id", 1))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), got.add)
	l.catchUp(ctx, db.Client())
	got.lines = nil
	insert(t, a, kv("_id", 2))
	l.runUntil(ctx, func() bool { return len(got.lines) > 0 })
	task := l.task
	at, token := task.pos.At, task.token
	highWater := bson.Raw(must[[]byte](t)(bson.Marshal(kv("_data", fmt.Sprintf("82%08X%08X2B0229296E04", at.T, at.I)))))
	if tokenData(highWater) >= token {
		t.Fatalf("token %s of an event sorts before %s", token, tokenData(highWater))
	}
	task.closeStream(ctx)
	check(t, task.openStream(ctx, true))
	task.idle(highWater) // what the server says when it has not found the event yet
	if task.token != token {
		t.Errorf("the position went from %s to %s", token, task.token)
	}
	insert(t, a, kv("_id", 3))
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 2 null -> {"_id": 2}`, `c 3 null -> {"_id": 3}`)
}

func TestCollectionsOfTheConfigChange(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	insert(t, db.Collection("a"), kv("_id", 1))
	insert(t, db.Collection("b"), kv("_id", 1))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), got.add)
	l.catchUp(ctx, db.Client())
	l.close()
	l.src = configure(t, s.URL, []string{s.Database + ".b"}, nil)
	insert(t, db.Collection("a"), kv("_id", 2))
	l.catchUp(ctx, db.Client())
	got.expect(t, `r 1 null -> {"_id": 1}`, `r 1 null -> {"_id": 1}`)
	l.close()
	must[*mongo.DeleteResult](t)(db.Collection("a").DeleteOne(ctx, kv("_id", 1)))
	// The whole deployment is watched now, and goes on from a database's token.
	l.src = configure(t, s.URL, []string{s.Database + ".*", "t_none?.x"}, nil)
	// What returns is being copied from the first mark on, whatever a kill cuts off, and taken back once.
	copying := func(want string) {
		t.Helper()
		if got := l.src.Copying(l.positions); got != want {
			t.Errorf("%q is being copied, not %q; positions %s", got, want, l.positions)
		}
	}
	copying("")
	batch := connectors.NewBatch(l.batch)
	for _, until := range []int{0, 1} { // killed behind the marks of the start, and behind the truncate
		check(t, l.open(ctx))
		for again := true; again; again = len(got.lines) < until {
			check(t, l.read(ctx, batch, func(n int) int { return min(n, 1) }))
		}
		copying(s.Database + ".a")
		l.kill()
	}
	l.catchUp(ctx, db.Client())
	copying("")
	got.expect(t, `t - null -> null`, `r 2 null -> {"_id": 2}`)
	insert(t, db.Collection("b"), kv("_id", 2))
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 2 null -> {"_id": 2}`)
}

func TestNeverASnapshot(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	insert(t, db.Collection("a"), kv("_id", 1))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, map[string]any{"snapshot": "never"}), got.add)
	l.catchUp(ctx, db.Client())
	insert(t, db.Collection("a"), kv("_id", 2))
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 2 null -> {"_id": 2}`)
}

// Under a collation the server compares ids, and the runs adjoin in its order.
func TestCollationOfIDs(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	check(t, db.CreateCollection(ctx, "a", options.CreateCollection().SetCollation(&options.Collation{Locale: "en", Strength: 2})))
	a := db.Collection("a")
	insert(t, a, kv("_id", "b"), kv("_id", "A"), kv("_id", "C"))
	src := configure(t, s.URL, []string{s.Database + ".a"}, nil)
	tk := &task{source: src, client: db.Client()}
	c := &collection{name: namespace{s.Database, "a"}, collated: true}
	id := func(v any) bson.RawValue {
		raw, err := bson.Marshal(kv("_", v))
		check(t, err)
		return bson.Raw(raw).Lookup("_")
	}
	for _, x := range []struct {
		a, b any
		want int
	}{{"A", "b", -1}, {"b", "C", -1}, {"a", "A", 0}, {1, "a", -1}} {
		got, err := tk.order(ctx, c, id(x.a), id(x.b))
		if err != nil || got != x.want {
			t.Errorf("%v and %v: %d, %v; want %d", x.a, x.b, got, err, x.want)
		}
	}
	var got collect
	l := newLogbook(t, src, got.add)
	l.catchUp(ctx, db.Client())
	got.expect(t, `r "A" null -> {"_id": "A"}`, `r "b" null -> {"_id": "b"}`, `r "C" null -> {"_id": "C"}`)
}

// failCommand makes the server fail.
func failCommand(t testing.TB, c *mongo.Client, times int, data d) {
	t.Helper()
	data = append(data, bson.E{Key: "appName", Value: "forebay shop"})
	check(t, c.Database("admin").RunCommand(t.Context(), d{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: kv("times", times)}, {Key: "data", Value: data}}).Err())
	t.Cleanup(func() {
		_ = c.Database("admin").RunCommand(context.Background(), d{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: "off"}}).Err()
	})
}

func TestErrorsOfTheStream(t *testing.T) {
	s := testenv.NewMongo(t, 1) // fail points are the server's, not a database's
	db := s.DB()
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, kv("_id", 0))
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), got.add)
	l.catchUp(ctx, db.Client())
	got.lines = nil
	// Neither labelled as resumable nor once only: the driver gives up, the source does not.
	failCommand(t, db.Client(), 3, d{{Key: "failCommands", Value: bson.A{"getMore", "aggregate"}}, {Key: "errorCode", Value: 11601}})
	insert(t, a, kv("_id", 1))
	l.catchUp(ctx, db.Client())
	failCommand(t, db.Client(), 2, d{{Key: "failCommands", Value: bson.A{"getMore", "aggregate"}}, {Key: "closeConnection", Value: true}})
	insert(t, a, kv("_id", 2))
	l.catchUp(ctx, db.Client())
	// A token that the server does not find, after another filter or another version: the same place by its time.
	l.kill()
	l.positions[streamKey] = bytes.Replace(l.positions[streamKey], []byte(`"of":"`), []byte(`"of":"x`), 1)
	failCommand(t, db.Client(), 1, d{{Key: "failCommands", Value: bson.A{"aggregate"}}, {Key: "errorCode", Value: codeFatalStream}})
	insert(t, a, kv("_id", 3))
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 1 null -> {"_id": 1}`, `c 2 null -> {"_id": 2}`, `c 3 null -> {"_id": 3}`)
	for want, codes := range map[string]int{"restored from an older state": codeFatalStream, "changes are gone": codeHistoryLost, "16 MB": codeTooLarge, "may not": codeUnauthorized} {
		failCommand(t, db.Client(), 1, d{{Key: "failCommands", Value: bson.A{"getMore"}}, {Key: "errorCode", Value: codes}})
		if err := l.fails(ctx); !connectors.IsFatal(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: %v", codes, err)
		}
		l.close()
	}
	// What does not mend is told in the end.
	l.src.cfg.patience = 300 * time.Millisecond
	failCommand(t, db.Client(), 100000, d{{Key: "failCommands", Value: bson.A{"getMore"}}, {Key: "errorCode", Value: 11601}})
	if err := l.fails(ctx); err == nil || connectors.IsFatal(err) || !strings.HasPrefix(err.Error(), "the change stream: ") {
		t.Errorf("%v", err)
	}
}

// The server does not know a part's token any more when the event, read again, is cut otherwise, or not at all: a document
// that is looked up is a smaller one by then. It says 280 for this too, which tells nothing of the set.
func TestPartOfAnEventIsNotFound(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	var got collect
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), got.add)
	l.catchUp(ctx, db.Client())
	insert(t, a, kv("_id", 0))
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 0 null -> {"_id": 0}`)
	events := must[*mongo.ChangeStream](t)(db.Watch(ctx, mongo.Pipeline{}))
	defer func() { check(t, events.Close(ctx)) }()
	insert(t, a, kv("_id", 1))
	if !events.Next(ctx) {
		t.Fatal(events.Err())
	}
	// The event in two parts, as servers from 6.0.9 on send a large one.
	var whole d
	check(t, bson.Unmarshal(events.Current, &whole))
	parts := []d{{{Key: "splitEvent", Value: d{{Key: "fragment", Value: 1}, {Key: "of", Value: 2}}}}, {{Key: "splitEvent", Value: d{{Key: "fragment", Value: 2}, {Key: "of", Value: 2}}}}}
	for _, el := range whole {
		if el.Key != "fullDocument" {
			parts[0] = append(parts[0], el)
		}
		if el.Key == "fullDocument" || el.Key == "_id" {
			parts[1] = append(parts[1], el)
		}
	}
	b := connectors.NewBatch(l.batch)
	for _, p := range parts {
		check(t, l.task.take(ctx, b, must[[]byte](t)(bson.Marshal(p))))
	}
	check(t, l.task.markStream(b))
	l.sink(b.Records[0])
	for _, m := range b.Marks {
		l.positions[m.Key] = m.Position
	}
	l.kill()
	failCommand(t, db.Client(), 1, d{{Key: "failCommands", Value: bson.A{"aggregate"}}, {Key: "errorCode", Value: codeFatalStream}})
	insert(t, a, kv("_id", 2))
	l.catchUp(ctx, db.Client())
	got.expect(t, `c 1 null -> {"_id": 1}`, `c 2 null -> {"_id": 2}`)
}

func TestHistoryLostIsNamed(t *testing.T) {
	s := testenv.NewMongo(t, 1, "--oplogSize", "1", "--syncdelay", "1")
	db := s.DB()
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, kv("_id", 0))
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, nil), func(connectors.Record) {})
	l.catchUp(ctx, db.Client())
	l.close()
	pad := strings.Repeat("x", 100_000)
	var err error
	for i := 1; i < 3000 && err == nil; i++ {
		insert(t, db.Collection("pad"), d{{Key: "_id", Value: i}, {Key: "pad", Value: pad}})
		if i%200 == 0 {
			// The oplog is cut in the background: look whether it has happened.
			tk := l.src.Task(connectors.Split{ID: splitID})
			if err = tk.Open(ctx, l.positions); err == nil {
				b := connectors.NewBatch(1 << 10)
				for range 3 {
					rctx, cancel := context.WithTimeout(ctx, 2*time.Second)
					if err = tk.Read(rctx, b); err != nil && rctx.Err() != nil && !connectors.IsFatal(err) {
						err = nil
					}
					cancel()
				}
			}
			_ = tk.Close()
		}
	}
	if !connectors.IsFatal(err) || !strings.Contains(err.Error(), "changes are gone") {
		t.Errorf("%v", err)
	}
	short := false
	for _, f := range l.src.Validate(ctx) {
		short = short || f.Warning && strings.Contains(f.Message, "oplog reaches back")
	}
	if !short {
		t.Error("Validate says nothing of the short oplog")
	}
}

func TestStandaloneIsAFinding(t *testing.T) {
	s := testenv.NewMongoStandalone(t)
	src := configure(t, s.URL, []string{s.Database + ".a"}, nil)
	f := src.Validate(t.Context())
	if len(f) != 1 || f[0].Warning || !strings.Contains(f[0].Message, "standalone") || !strings.Contains(f[0].Hint, "rs.initiate()") {
		t.Errorf("%+v", f)
	}
	err := src.Task(connectors.Split{}).Open(t.Context(), nil)
	if !connectors.IsFatal(err) {
		t.Errorf("%v", err)
	}
}

func TestValidate(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	insert(t, db.Collection("a"), kv("_id", 1))
	check(t, db.CreateView(ctx, "v", "a", mongo.Pipeline{}))
	if f := configure(t, s.URL, []string{s.Database + ".a"}, nil).Validate(ctx); len(f) > 0 {
		t.Errorf("findings on a system that works: %+v", f)
	}
	f := configure(t, s.URL, []string{s.Database + ".v", s.Database + ".nothing", s.Database + ".glob*"}, nil).Validate(ctx)
	if len(f) != 3 || f[0].Warning || !strings.Contains(f[0].Message, "is a view") || !f[1].Warning || !f[2].Warning {
		t.Errorf("%+v", f)
	}
	src := configure(t, "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200", []string{"a.b"}, nil)
	if f := src.Validate(ctx); len(f) != 1 || f[0].Path != "url" {
		t.Errorf("%+v", f)
	}
}

func TestSpec(t *testing.T) {
	check(t, Spec().Check())
	for text, ok := range map[string]bool{"a.b": true, "a.b.c": true, "*.x*": true, "a": false, ".b": false, "a.": false, "admin.x": false, "a.system.users": false} {
		if _, err := parsePattern(text); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
	p, _ := parsePattern("shop.ord*")
	for n, want := range map[namespace]bool{{"shop", "orders"}: true, {"shop", "ord.x.y"}: true, {"shop", "border"}: false, {"Shop", "orders"}: false} {
		if p.matches(n) != want {
			t.Errorf("%s: %v", n, !want)
		}
	}
}

func TestAuditPoint(t *testing.T) {
	s, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, kv("_id", 1), kv("_id", 2))
	src := configure(t, s.URL, []string{s.Database + ".a"}, nil)
	p, err := src.AuditPoint(ctx)
	check(t, err)
	insert(t, a, kv("_id", 3)) // after the point
	var rows []string
	check(t, p.Rows(ctx, p.Topics()[0], func(r connectors.Record) error { rows = append(rows, describeRecord(r)); return nil }))
	if strings.Join(rows, "|") != `r 1 null -> {"_id": 1}|r 2 null -> {"_id": 2}` {
		t.Errorf("%q", rows)
	}
	l := newLogbook(t, src, func(connectors.Record) {})
	l.catchUp(ctx, db.Client())
	if src.Compare(streamKey, l.positions[streamKey], p.Positions()[streamKey]) < 0 {
		t.Errorf("%s is before %s", l.positions[streamKey], p.Positions()[streamKey])
	}
	check(t, p.Close())
}

// An event above 16 MB: servers from 6.0.9 on send it in parts, older ones end the stream, and that has a name.
// Run it with FOREBAY_MONGOD for another server than testenv's.
func TestLargeEvents(t *testing.T) {
	s := testenv.NewMongo(t, 1, "--wiredTigerCacheSizeGB", "1") // with less, the server is busy evicting for minutes
	db := s.DB()
	ctx := t.Context()
	a := db.Collection("a")
	insert(t, a, d{{Key: "_id", Value: 1}, {Key: "pad", Value: strings.Repeat("a", 6<<20)}})
	sizes := []string{}
	l := newLogbook(t, configure(t, s.URL, []string{s.Database + ".a"}, map[string]any{"images": "pre_post"}), func(r connectors.Record) {
		sizes = append(sizes, fmt.Sprint(string(r.Change.Op), len(content(r.Change.Before))>>20, len(content(r.Change.After))>>20, weight(r.Change.Update.Value)>>20))
	})
	l.catchUp(ctx, db.Client())
	must[*mongo.UpdateResult](t)(a.UpdateOne(ctx, kv("_id", 1), kv("$set", kv("pad", strings.Repeat("b", 6<<20)))))
	must[*mongo.UpdateResult](t)(a.UpdateOne(ctx, kv("_id", 1), kv("$set", kv("pad", "small"))))
	v, err := identify(ctx, db.Client())
	check(t, err)
	if !v.splits() {
		if err := l.fails(ctx); !connectors.IsFatal(err) || !strings.Contains(err.Error(), "larger than the 16 MB") {
			t.Errorf("%v", err)
		}
		return
	}
	l.catchUp(ctx, db.Client())
	if got := strings.Join(sizes, "|"); got != "r0 6 0|u6 6 6|u6 0 0" {
		t.Errorf("sizes in MiB: %s", got)
	}
	if !strings.Contains(string(l.positions[streamKey]), "_data") {
		t.Errorf("position %s", l.positions[streamKey])
	}
}
