package mongodb

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

var (
	randomChanges = flag.Int("mongo.changes", 5000, "how many changes the random test makes")
	randomSeed    = flag.Uint64("mongo.seed", 0, "seed of the random test; 0: a new one")
)

// replica replays change events and refuses what cannot follow: a create of a document
// that is there, an update or delete of one that is not, the same event twice.
type replica struct {
	t      testing.TB
	strict bool // images: each update's before is the document that is there
	docs   map[string]map[string]string
	seen   map[string]bool
	trace  map[string][]string
	bad    int
	events int
	ops    map[connectors.Op]int
}

func newReplica(t testing.TB, strict bool) *replica {
	return &replica{t: t, strict: strict, docs: map[string]map[string]string{}, seen: map[string]bool{}, trace: map[string][]string{}, ops: map[connectors.Op]int{}}
}

func (p *replica) fail(r connectors.Record, why string) {
	if p.bad++; p.bad < 6 {
		p.t.Errorf("%s %s: %s %s\nbefore it:\n%s", r.Topic, why, short(describeRecord(r)), r.Change.Source.Value.List[cdc.FieldSequence].Text(), strings.Join(p.trace[p.key(r)], "\n"))
	}
}

func short(text string) string { return text[:min(len(text), 700)] }

func (p *replica) key(r connectors.Record) string {
	if r.Key.Schema == nil {
		return r.Topic
	}
	return r.Topic + "\x00" + r.Key.Value.List[0].Text()
}

func (p *replica) apply(r connectors.Record) {
	if r.Change == nil {
		return
	}
	c := r.Change
	p.events++
	p.ops[c.Op]++
	if c.Op == connectors.OpTruncate {
		p.docs[r.Topic] = map[string]string{}
		return
	}
	k := p.key(r)
	if n := c.Source.Value.List[cdc.FieldSequence].Text(); n != "" {
		if p.seen[k+n] {
			p.fail(r, "came twice")
		}
		p.seen[k+n] = true
	}
	defer func() { p.trace[k] = append(p.trace[k], short(describeRecord(r))) }()
	docs := p.docs[r.Topic]
	if docs == nil {
		docs = map[string]string{}
		p.docs[r.Topic] = docs
	}
	id := r.Key.Value.List[0].Text()
	old, there := docs[id]
	if p.strict && !c.Before.IsNull() && content(c.Before) != old {
		p.fail(r, "changes another document than "+old)
	}
	switch c.Op {
	case connectors.OpRead, connectors.OpCreate:
		if there {
			p.fail(r, "document is there already")
		}
		docs[id] = content(c.After)
	case connectors.OpUpdate:
		if !there {
			p.fail(r, "no such document")
		}
		if c.After.List[schema.DocumentContent].Kind != schema.Unavailable {
			docs[id] = content(c.After)
		}
	case connectors.OpDelete:
		if !there {
			p.fail(r, "no such document")
		}
		delete(docs, id)
	}
}

// matches compares a topic's replay with the collection, document by document, as BSON.
func (p *replica) matches(ctx context.Context, topic string, c *mongo.Collection) int {
	p.t.Helper()
	cur, err := c.Find(ctx, d{})
	check(p.t, err)
	left := map[string]string{}
	for id, doc := range p.docs[topic] {
		left[id] = doc
	}
	n, bad := 0, 0
	for cur.Next(ctx) {
		n++
		id, err := keyStyle.value(nil, cur.Current.Lookup("_id"))
		check(p.t, err)
		var back bson.Raw
		text, there := left[string(id)]
		if there {
			check(p.t, bson.UnmarshalExtJSON([]byte(text), false, &back))
		}
		if string(back) != string(cur.Current) {
			if bad++; bad < 5 {
				p.t.Errorf("%s: document %s: the topic has %s, the collection %s\n%s", topic, id, short(text), short(cur.Current.String()), strings.Join(p.trace[topic+"\x00"+string(id)], "\n"))
			}
		}
		delete(left, string(id))
	}
	check(p.t, cur.Err())
	for id, doc := range left {
		if bad++; bad < 5 {
			p.t.Errorf("%s: the topic has %s %s, the collection does not\n%s", topic, id, short(doc), strings.Join(p.trace[topic+"\x00"+id], "\n"))
		}
	}
	return n
}

// load changes the collections at random.
type load struct {
	t     testing.TB
	url   string
	db    string
	names []string
	made  atomic.Int64
	limit atomic.Int64 // changes that may have been made by now
	stop  atomic.Bool
	wg    sync.WaitGroup
	grown chan struct{}
}

func newLoad(t testing.TB, s *testenv.MongoServer, names []string) *load {
	return &load{t: t, url: s.URL, db: s.Database, names: names, grown: make(chan struct{}, 64)}
}

// id is one of a few hundred ids of all kinds, which compare across types.
func randomID(r *rand.Rand) any {
	n := r.IntN(300)
	switch n % 8 {
	case 0:
		return n
	case 1:
		return int64(n)
	case 2:
		return float64(n) + 0.5
	case 3:
		return fmt.Sprintf("key %03d", n)
	case 4:
		return bson.ObjectID{1, 2, byte(n >> 8), byte(n), 11: 5}
	case 5:
		return d{{Key: "a", Value: n % 5}, {Key: "b", Value: fmt.Sprint(n)}}
	case 6:
		return bson.DateTime(1700000000000 + int64(n))
	}
	return bson.Binary{Subtype: 4, Data: []byte(fmt.Sprintf("%016d", n))}
}

// randomValue is a value of any type that a document can hold.
func randomValue(r *rand.Rand, depth int) any {
	switch n := r.IntN(18); n {
	case 0:
		return int32(r.Uint32())
	case 1:
		return int64(r.Uint64())
	case 2:
		return math.Float64frombits(r.Uint64()&^(1<<62) | 1<<55)
	case 3:
		return float64(r.IntN(1000))
	case 4:
		return "text \"with\" \\ \n\t\x01 é 世界 🎈 \u2028" + fmt.Sprint(r.IntN(100))
	case 5:
		return r.IntN(2) == 0
	case 6:
		return nil
	case 7:
		return bson.NewObjectID()
	case 8:
		return bson.DateTime(r.Int64N(1<<45) - 1<<43)
	case 9:
		return bson.Binary{Subtype: byte(r.IntN(2) * 0x80), Data: []byte{byte(n), 0xff, 0}[:r.IntN(4)]}
	case 10:
		x, _ := bson.ParseDecimal128(fmt.Sprintf("%d.%dE%d", r.IntN(1000), r.IntN(1000), r.IntN(60)-30))
		return x
	case 11:
		return bson.Timestamp{T: r.Uint32(), I: r.Uint32()}
	case 12:
		return bson.Symbol("s") // no regular expression: the driver reads v1's as a document, see TestExtendedJSON
	case 13:
		return bson.JavaScript("function() { return \"x\"; }")
	case 14:
		return []any{bson.MinKey{}, bson.MaxKey{}}[r.IntN(2)]
	case 15, 16:
		if depth > 2 {
			return "deep"
		}
		list := bson.A{}
		for range r.IntN(5) {
			list = append(list, randomValue(r, depth+1))
		}
		return list
	}
	if depth > 2 {
		return "deep"
	}
	doc := d{}
	for i := range r.IntN(4) {
		doc = append(doc, bson.E{Key: fmt.Sprintf("m%d \"x\"", i), Value: randomValue(r, depth+1)})
	}
	return doc
}

func randomDocument(r *rand.Rand, id any) d {
	doc := d{{Key: "_id", Value: id}, {Key: "list", Value: bson.A{1, 2, 3}}, {Key: "n", Value: r.IntN(10)}, {Key: "pad", Value: strings.Repeat("p", r.IntN(400))}}
	for i := range r.IntN(6) {
		doc = append(doc, bson.E{Key: fmt.Sprintf("f%d", i), Value: randomValue(r, 0)})
	}
	return doc
}

// change makes one change.
func (l *load) change(ctx context.Context, c *mongo.Collection, r *rand.Rand) error {
	id := randomID(r)
	var err error
	switch r.IntN(12) {
	case 0, 1, 2:
		_, err = c.InsertOne(ctx, randomDocument(r, id))
	case 3:
		_, err = c.ReplaceOne(ctx, kv("_id", id), randomDocument(r, id), options.Replace().SetUpsert(r.IntN(2) == 0))
	case 4, 5:
		_, err = c.DeleteOne(ctx, kv("_id", id))
	case 6:
		_, err = c.UpdateOne(ctx, kv("_id", id), d{{Key: "$set", Value: d{{Key: "f1", Value: randomValue(r, 0)}, {Key: "sub.deep", Value: r.IntN(100)}}}, {Key: "$inc", Value: kv("n", 1)}})
	case 7:
		_, err = c.UpdateOne(ctx, kv("_id", id), d{{Key: "$unset", Value: d{{Key: "f0", Value: 1}, {Key: "sub", Value: 1}}}, {Key: "$push", Value: kv("list", r.IntN(9))}})
	case 8:
		_, err = c.UpdateOne(ctx, kv("_id", id), bson.A{kv("$set", kv("list", kv("$slice", bson.A{"$list", 1})))})
	case 9:
		_, err = c.UpdateMany(ctx, kv("n", r.IntN(10)), kv("$set", kv("many", r.IntN(1000))))
	case 10:
		err = c.FindOneAndUpdate(ctx, kv("_id", id), kv("$currentDate", kv("at", true)), options.FindOneAndUpdate().SetUpsert(true)).Err()
		if errors.Is(err, mongo.ErrNoDocuments) {
			err = nil
		}
	default:
		_, err = c.BulkWrite(ctx, []mongo.WriteModel{
			mongo.NewUpdateOneModel().SetFilter(kv("_id", id)).SetUpdate(kv("$inc", kv("bulk", 1))).SetUpsert(true),
			mongo.NewDeleteOneModel().SetFilter(kv("_id", randomID(r))),
			mongo.NewInsertOneModel().SetDocument(randomDocument(r, randomID(r))),
		}, options.BulkWrite().SetOrdered(false))
	}
	return err
}

// write is one client. What fails in an election may have been done or not: the collections count in the end.
func (l *load) write(seed uint64, concern *writeconcern.WriteConcern) {
	defer l.wg.Done()
	r := rand.New(rand.NewPCG(seed, 7))
	client, err := mongo.Connect(options.Client().ApplyURI(l.url).SetWriteConcern(concern).SetServerSelectionTimeout(30 * time.Second))
	if err != nil {
		l.t.Error(err)
		return
	}
	ctx := context.Background()
	defer func() { _ = client.Disconnect(ctx) }()
	for !l.stop.Load() {
		if l.made.Load() >= l.limit.Load() {
			<-l.grown
			continue
		}
		c := client.Database(l.db).Collection(l.names[r.IntN(len(l.names))])
		if r.IntN(20) == 0 {
			l.transaction(ctx, client, r)
			continue
		}
		if err := l.change(ctx, c, r); err == nil || code(err) == 0 && mongo.IsDuplicateKeyError(err) {
			l.made.Add(1)
		}
	}
}

// transaction changes several documents in several collections, one of them more than once.
func (l *load) transaction(ctx context.Context, client *mongo.Client, r *rand.Rand) {
	session, err := client.StartSession()
	if err != nil {
		return
	}
	defer session.EndSession(ctx)
	abort := r.IntN(6) == 0
	n := 2 + r.IntN(8)
	if r.IntN(30) == 0 {
		n = 60
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if session.StartTransaction(options.Transaction().SetWriteConcern(writeconcern.Majority())) != nil {
		return
	}
	sctx := mongo.NewSessionContext(ctx, session)
	id := randomID(r)
	for range n {
		c := client.Database(l.db).Collection(l.names[r.IntN(len(l.names))])
		switch r.IntN(3) {
		case 0:
			_, err = c.UpdateOne(sctx, kv("_id", id), kv("$inc", kv("n", 1)), options.UpdateOne().SetUpsert(true))
		case 1:
			x := randomID(r)
			_, err = c.ReplaceOne(sctx, kv("_id", x), randomDocument(r, x), options.Replace().SetUpsert(true))
		default:
			_, err = c.DeleteOne(sctx, kv("_id", randomID(r)))
		}
		if err != nil {
			_ = session.AbortTransaction(ctx) // a conflict, or an election
			return
		}
	}
	if abort {
		_ = session.AbortTransaction(ctx)
		return
	}
	if session.CommitTransaction(ctx) == nil {
		l.made.Add(int64(n))
	}
}

func (l *load) start(seed uint64) {
	for i, wc := range []*writeconcern.WriteConcern{writeconcern.Majority(), writeconcern.W1()} {
		l.wg.Add(1)
		go l.write(seed+uint64(i), wc)
	}
}

// allow lets n more changes be made.
func (l *load) allow(n int) {
	l.limit.Add(int64(n))
	for range 2 {
		select {
		case l.grown <- struct{}{}:
		default:
		}
	}
}

func (l *load) end() {
	l.stop.Store(true)
	close(l.grown)
	l.wg.Wait()
}

// Random changes during snapshot and streaming, while the task is dropped at any moment and primaries are
// killed: replaying the topics gives the collections exactly.
func TestRandomChangesAndKills(t *testing.T) {
	for _, images := range []string{imagesLookup, imagesPrePost} {
		changes := *randomChanges
		if images == imagesPrePost {
			changes = max(changes/4, 1000)
		}
		t.Run(images, func(t *testing.T) { randomChangesAndKills(t, images, changes) })
	}
}

func randomChangesAndKills(t *testing.T, images string, changes int) {
	seed := *randomSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	s := testenv.NewMongo(t, 3)
	ctx := t.Context()
	names := []string{"people", "orders.v2", "events"}
	db := s.DB()
	for _, n := range names {
		if images == imagesPrePost {
			check(t, db.CreateCollection(ctx, n, options.CreateCollection().SetChangeStreamPreAndPostImages(kv("enabled", true))))
		}
		var docs []any
		for i := range 400 {
			docs = append(docs, randomDocument(r, fmt.Sprintf("first %04d", i)))
		}
		insert(t, db.Collection(n), docs...)
	}
	src := configure(t, s.URL, []string{s.Database + ".people", s.Database + ".orders*", s.Database + ".events"}, map[string]any{"images": images})
	src.cfg.runTime = 30 * time.Millisecond // many runs, each at its own time
	rep := newReplica(t, images == imagesPrePost)
	l := newLogbook(t, src, rep.apply)
	l.batch = 6 << 10
	w := newLoad(t, s, names)
	w.start(seed)

	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	const drops = 5
	primaries, snapshotReads, runs, snapshotEnd := 0, 0, 0, 0
	dead := -1
	b := connectors.NewBatch(l.batch)
	kill := func() {
		if dead >= 0 {
			s.Start(dead)
			s.AwaitMember(dead) // a change stream tells what a majority has
			s.AwaitPrimary()
		}
		dead = s.KillPrimary()
		primaries++
	}
	for w.made.Load() < int64(changes) {
		if l.task == nil {
			if err := l.open(ctx); err != nil {
				if connectors.IsFatal(err) {
					t.Fatal(err)
				}
				continue // in an election: the runtime would try again too
			}
		}
		streaming := len(l.task.pending) == 0
		if !streaming {
			snapshotReads++
			w.allow(3)
			if snapshotReads == 60 {
				kill()
			}
		} else {
			if snapshotEnd == 0 {
				snapshotEnd = int(w.made.Load())
				for _, c := range l.task.collections {
					runs = max(runs, len(c.pos.Runs))
				}
				l.batch = 64 << 10
				b = connectors.NewBatch(l.batch)
			}
			w.allow(200)
			if primaries < 2 && w.made.Load() > int64(changes)*2/3 {
				kill()
			}
		}
		due := l.kills < drops && (!streaming && snapshotReads%40 == 39 && l.kills < 2 || streaming && int(w.made.Load()) > changes*(l.kills+1)/(drops+2))
		var marks func(int) int
		if due {
			marks = func(n int) int { return r.IntN(n + 1) } // some of it is in the log, some is not
		}
		rctx, done := context.WithTimeout(ctx, 60*time.Second)
		err := l.read(rctx, b, marks)
		done()
		if connectors.IsFatal(err) || errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if due || err != nil {
			l.kill()
		}
	}
	w.end()
	if primaries < 2 || l.kills < drops {
		t.Errorf("%d primaries and %d tasks were killed", primaries, l.kills)
	}
	s.Start(dead)
	s.AwaitPrimary()
	final := s.Client()
	l.catchUp(ctx, final)
	docs := 0
	for _, n := range names {
		docs += rep.matches(ctx, "shop."+s.Database+"."+n, final.Database(s.Database).Collection(n))
	}
	t.Logf("%d changes made, %d of them in the snapshot; %d events %v; %d runs in a collection, %d drops, %d primaries killed; %d documents compared",
		w.made.Load(), snapshotEnd, rep.events, rep.ops, runs, l.kills, primaries, docs)
}
