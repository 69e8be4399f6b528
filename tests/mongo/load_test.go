package mongo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

type d = bson.D

func kv(k string, v any) d { return d{{Key: k, Value: v}} }

// load are clients that change collections at random until as many changes were made as wanted.
type load struct {
	url, db string
	names   []string
	regexes bool // whether documents may hold regular expressions
	made    atomic.Int64
	ended   atomic.Bool // of one client at least
	wg      sync.WaitGroup
	mu      sync.Mutex // guards failed
	failed  error
}

// start runs a client for each write concern.
func (l *load) start(seed uint64, changes int64, concerns ...*writeconcern.WriteConcern) {
	for i, wc := range concerns {
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			defer l.ended.Store(true)
			if err := l.write(rand.New(rand.NewPCG(seed, 100+uint64(i))), wc, changes); err != nil {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.failed = errors.Join(l.failed, err)
			}
		}()
	}
}

// wait waits for the clients and says what went wrong with them.
func (l *load) wait() error {
	l.wg.Wait()
	return l.failed
}

func (l *load) write(r *rand.Rand, wc *writeconcern.WriteConcern, changes int64) error {
	client, err := mongo.Connect(options.Client().ApplyURI(l.url).SetWriteConcern(wc).SetServerSelectionTimeout(30 * time.Second))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	defer func() { _ = client.Disconnect(context.Background()) }() // the changes are made
	for l.made.Load() < changes {
		c := client.Database(l.db).Collection(l.names[r.IntN(len(l.names))])
		var n int64
		if r.IntN(15) == 0 {
			n, err = l.transaction(ctx, client, r)
		} else {
			n, err = l.change(ctx, c, r)
		}
		// What fails in an election may have been done or not: the collections count in the end.
		l.made.Add(n)
		if ctx.Err() != nil {
			return fmt.Errorf("the load does not get on: %w (last: %w)", ctx.Err(), err)
		}
	}
	return nil
}

// firsts is how many documents a collection has at first.
const firsts = 2500

func firstID(i int) string { return fmt.Sprintf("first %05d", i) }

// randomID is one of some hundred ids of all kinds. Those of two types never are equal for the server: a
// document that is replaced by one with an equal id of another type would keep its old id.
func randomID(r *rand.Rand) any {
	n := r.IntN(700)
	if r.IntN(4) == 0 {
		return firstID(r.IntN(firsts))
	}
	switch n % 9 {
	case 0:
		return int32(n)
	case 1:
		return int64(n)
	case 2:
		return float64(n) + 0.5
	case 3:
		return fmt.Sprintf("key \"%03d\" é", n)
	case 4:
		return bson.ObjectID{1, 2, byte(n >> 8), byte(n), 11: 5}
	case 5:
		return d{{Key: "region", Value: n % 5}, {Key: "number", Value: fmt.Sprint(n)}}
	case 6:
		return bson.DateTime(1700000000000 + int64(n))
	case 7:
		x, _ := bson.ParseDecimal128(fmt.Sprintf("%d.25", n)) // it is a number
		return x
	}
	return bson.Binary{Subtype: 4, Data: fmt.Appendf(nil, "%016d", n)}
}

// value is a value of any type that a document can hold.
func (l *load) value(r *rand.Rand, depth int) any {
	switch n := r.IntN(20); n {
	case 0:
		return int32(r.Uint32())
	case 1:
		return int64(r.Uint64())
	case 2:
		return math.Float64frombits(r.Uint64()&^(1<<62) | 1<<55)
	case 3:
		return []float64{float64(r.IntN(1000)), 1e22, -0.1, math.Inf(1), math.Inf(-1), math.NaN(), math.Copysign(0, -1), 5e-324}[r.IntN(8)]
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
		return bson.Binary{Subtype: []byte{0, 4, 5, 0x80}[r.IntN(4)], Data: fmt.Appendf(nil, "%016d", r.IntN(1e9))}
	case 10:
		x, _ := bson.ParseDecimal128(fmt.Sprintf("%d.%dE%d", r.IntN(1000), r.IntN(1000), r.IntN(60)-30)) // it is a number
		return x
	case 11:
		return bson.Timestamp{T: r.Uint32(), I: r.Uint32()}
	case 12:
		return []any{bson.Symbol("s"), bson.Undefined{}, bson.JavaScript(`function() { return "x"; }`), bson.CodeWithScope{Code: "f", Scope: kv("x", int64(r.IntN(9)))}}[r.IntN(4)]
	case 13:
		return []any{bson.MinKey{}, bson.MaxKey{}}[r.IntN(2)]
	case 14:
		if l.regexes {
			return bson.Regex{Pattern: "a/\"b", Options: "i"}
		}
		return "no pattern"
	case 15, 16:
		if depth > 2 {
			return "deep"
		}
		list := bson.A{}
		for range r.IntN(5) {
			list = append(list, l.value(r, depth+1))
		}
		return list
	}
	if depth > 2 {
		return "deep"
	}
	doc := d{}
	for i := range r.IntN(4) {
		doc = append(doc, bson.E{Key: fmt.Sprintf("m%d \"x\"", i), Value: l.value(r, depth+1)})
	}
	return doc
}

func (l *load) document(r *rand.Rand, id any) d {
	pad := r.IntN(400)
	if r.IntN(400) == 0 {
		pad = 1 << (10 + r.IntN(11)) // up to a megabyte
	}
	doc := d{{Key: "_id", Value: id}, {Key: "list", Value: bson.A{1, 2, 3}}, {Key: "n", Value: r.IntN(10)}, {Key: "pad", Value: strings.Repeat("p", pad)}}
	for i := range r.IntN(6) {
		doc = append(doc, bson.E{Key: fmt.Sprintf("f%d", i), Value: l.value(r, 0)})
	}
	r.Shuffle(len(doc)-1, func(i, j int) { doc[i+1], doc[j+1] = doc[j+1], doc[i+1] }) // the order of fields is part of a document
	return doc
}

// change makes one statement, and says how many documents it has changed.
func (l *load) change(ctx context.Context, c *mongo.Collection, r *rand.Rand) (int64, error) {
	id := randomID(r)
	updated := func(u *mongo.UpdateResult, err error) (int64, error) {
		if u == nil {
			return 0, err
		}
		return u.ModifiedCount + u.UpsertedCount, err
	}
	switch r.IntN(12) {
	case 0, 1, 2:
		_, err := c.InsertOne(ctx, l.document(r, id))
		if err == nil {
			return 1, nil
		}
		return 0, err
	case 3:
		return updated(c.ReplaceOne(ctx, kv("_id", id), l.document(r, id), options.Replace().SetUpsert(r.IntN(2) == 0)))
	case 4, 5:
		u, err := c.DeleteOne(ctx, kv("_id", id))
		if u == nil {
			return 0, err
		}
		return u.DeletedCount, err
	case 6:
		return updated(c.UpdateOne(ctx, kv("_id", id), d{{Key: "$set", Value: d{{Key: "f1", Value: l.value(r, 0)}, {Key: "sub.deep", Value: r.IntN(100)}}}, {Key: "$inc", Value: kv("n", 1)}}))
	case 7:
		return updated(c.UpdateOne(ctx, kv("_id", id), d{{Key: "$unset", Value: d{{Key: "f0", Value: 1}, {Key: "sub", Value: 1}}}, {Key: "$push", Value: kv("list", r.IntN(9))}}))
	case 8:
		return updated(c.UpdateOne(ctx, kv("_id", id), bson.A{kv("$set", kv("list", kv("$slice", bson.A{"$list", 1})))}))
	case 9:
		first := r.IntN(firsts)
		some := kv("_id", d{{Key: "$gte", Value: firstID(first)}, {Key: "$lt", Value: firstID(first + 5)}})
		return updated(c.UpdateMany(ctx, some, kv("$set", kv("many", r.IntN(1000)))))
	case 10:
		err := c.FindOneAndUpdate(ctx, kv("_id", id), kv("$currentDate", kv("at", true)), options.FindOneAndUpdate().SetUpsert(true)).Err()
		if err == nil || errors.Is(err, mongo.ErrNoDocuments) {
			return 1, nil
		}
		return 0, err
	}
	b, err := c.BulkWrite(ctx, []mongo.WriteModel{
		mongo.NewUpdateOneModel().SetFilter(kv("_id", id)).SetUpdate(kv("$inc", kv("bulk", 1))).SetUpsert(true),
		mongo.NewDeleteOneModel().SetFilter(kv("_id", randomID(r))),
		mongo.NewInsertOneModel().SetDocument(l.document(r, randomID(r))),
	}, options.BulkWrite().SetOrdered(false))
	if b == nil {
		return 0, err
	}
	return b.InsertedCount + b.ModifiedCount + b.UpsertedCount + b.DeletedCount, err
}

// transaction changes several documents of several collections, one of them more than once.
func (l *load) transaction(ctx context.Context, client *mongo.Client, r *rand.Rand) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	session, err := client.StartSession()
	if err != nil {
		return 0, err
	}
	defer session.EndSession(context.Background())
	abort := r.IntN(6) == 0
	n := 2 + r.IntN(8)
	if r.IntN(30) == 0 {
		n = 60
	}
	if err := session.StartTransaction(options.Transaction().SetWriteConcern(writeconcern.Majority())); err != nil {
		return 0, err
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
			_, err = c.ReplaceOne(sctx, kv("_id", x), l.document(r, x), options.Replace().SetUpsert(true))
		default:
			_, err = c.DeleteOne(sctx, kv("_id", randomID(r)))
		}
		if err != nil { // a conflict, or an election
			return 0, errors.Join(err, session.AbortTransaction(ctx))
		}
	}
	if abort {
		return 0, session.AbortTransaction(ctx)
	}
	if err := session.CommitTransaction(ctx); err != nil {
		return 0, err
	}
	return int64(n), nil
}
