package mongodb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/testenv"
)

const first = `{"_id":1,"id":1,"name":"heir","note":null,"at":null}`

// A task that was replaced changes nothing, whenever it wakes (invariant 7).
func TestZombie(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	zombie := start(t, s)
	zombie.write(upsert(1, "zombie", nil))
	tokens := zombie.prepare()
	heir := start(t, s)
	fatalWith(t, zombie.task.Commit(t.Context(), tokens[0]), "was taken over by", "another worker", "deleteOne")
	heir.write(upsert(1, "heir", nil))
	heir.flush()
	holds(t, m, "orders", first)
	_, err := tryStart(t, s, assigned(0), 1) // an epoch of long ago
	fatalWith(t, err, "was taken over by")
}

// A task that was killed inside its transaction leaves it open in the server: its heir ends it, and does not wait for
// the minute after which the server would.
func TestKilledInItsTransaction(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	zombie := start(t, s)
	zombie.write(upsert(1, "zombie", nil))
	b := zombie.prepare()[0].Data.(*batch)
	var heir *life
	began := time.Now()
	_, err := zombie.task.transaction(t.Context(), b, b.next, func(ctx context.Context) error {
		if err := zombie.task.upsert(ctx, zombie.task.db.Collection("orders"), b.buf); err != nil {
			return err
		}
		heir = start(t, s)
		return nil
	})
	if err == nil || !mends(err) {
		t.Fatalf("the zombie's commit gives %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the heir has waited %v", took)
	}
	if heir.next != 0 {
		t.Fatalf("the heir resumes at %d", heir.next)
	}
	heir.write(upsert(1, "heir", nil))
	heir.flush()
	fatalWith(t, zombie.task.Commit(t.Context(), connectors.Token{TopicPartition: zombie.tp, Next: b.next, Data: b}), "was taken over by")
	holds(t, m, "orders", first)
}

// Where it cannot be ended, the claim waits for it, and sees what it has done.
func TestClaimWaitsForATransaction(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	zombie := start(t, s)
	if _, err := zombie.task.offsets.UpdateMany(t.Context(), bson.D{}, bson.D{{Key: "$unset", Value: bson.D{{Key: "session", Value: 1}}}}); err != nil {
		t.Fatal(err)
	}
	zombie.write(upsert(1, "zombie", nil))
	b := zombie.prepare()[0].Data.(*batch)
	claimed := make(chan *life, 1)
	moved, err := zombie.task.transaction(t.Context(), b, b.next, func(ctx context.Context) error {
		go func() {
			l, err := tryStart(t, s, assigned(0), epochs.Add(1))
			if err != nil {
				t.Error(err)
			}
			claimed <- l
		}()
		select {
		case <-claimed:
			t.Error("the claim did not wait")
		case <-time.After(300 * time.Millisecond):
		}
		return zombie.task.upsert(ctx, zombie.task.db.Collection("orders"), b.buf)
	})
	if err != nil || !moved {
		t.Fatal(moved, err)
	}
	heir := <-claimed
	if heir.next != 1 {
		t.Fatalf("the heir resumes at %d", heir.next)
	}
}

// A zombie whose transaction has begun, but not written, when its heir claims.
func TestZombieBeforeItsFence(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	zombie := start(t, s)
	zombie.write(upsert(1, "zombie", nil))
	b := zombie.prepare()[0].Data.(*batch)
	session, err := zombie.task.client.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.EndSession(t.Context())
	if err := session.StartTransaction(options.Transaction().SetReadConcern(readconcern.Snapshot())); err != nil {
		t.Fatal(err)
	}
	sctx := mongo.NewSessionContext(t.Context(), session)
	if err := zombie.task.db.Collection("orders").FindOne(sctx, bson.D{}).Err(); !errors.Is(err, mongo.ErrNoDocuments) {
		t.Fatal(err) // the transaction's view is fixed from here on
	}
	start(t, s)
	if moved, err := zombie.task.fence(sctx, b, b.next); err == nil && moved {
		t.Fatal("a zombie's view from before the claim lets it move the offset")
	}
}

// Many tasks race for the same offsets: each record is there once.
func TestRace(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, map[string]string{"mode": "append"})
	var wg sync.WaitGroup
	for range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 10 {
				l, err := tryStart(t, s, assigned(0), epochs.Add(1))
				if err != nil {
					continue // fenced already
				}
				for range 3 {
					from := l.next
					l.write(connectors.Record{RawValue: fmt.Appendf(nil, "%d", from)}, connectors.Record{RawValue: fmt.Appendf(nil, "%d", from+1)})
					if l.tryFlush() != nil {
						break
					}
				}
			}
		}()
	}
	wg.Wait()
	end := start(t, s).next
	n, err := m.DB().Collection("orders").CountDocuments(t.Context(), bson.D{})
	if err != nil || n != end || end == 0 {
		t.Fatalf("%d documents, the offset is %d (%v)", n, end, err)
	}
	// _id makes doubles impossible; that each stands where it says is left to check.
	cur, err := m.DB().Collection("orders").Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for cur.Next(t.Context()) {
		if got, want := cur.Current.Lookup("value").StringValue(), fmt.Sprint(cur.Current.Lookup("_id", "offset").AsInt64()); got != want {
			t.Errorf("at %s stands %s", want, got)
		}
	}
}

// fail makes the server fail commands of a kind.
func fail(t *testing.T, m *testenv.MongoServer, times int, command string, more bson.D) {
	t.Helper()
	data := append(bson.D{{Key: "failCommands", Value: bson.A{command}}, {Key: "appName", Value: "forebay target"}}, more...)
	off := bson.D{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: "off"}}
	admin := m.Client().Database("admin")
	if err := admin.RunCommand(t.Context(), bson.D{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: bson.D{{Key: "times", Value: times}}}, {Key: "data", Value: data}}).Err(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.RunCommand(context.Background(), off).Err() })
}

// What a commit can meet on its way: each record is there once in the end.
func TestErrorsOfACommit(t *testing.T) {
	const labels = "errorLabels"
	for name, c := range map[string]struct {
		command string
		times   int
		more    bson.D
	}{
		"conflict at the fence":              {"update", 1, bson.D{{Key: "errorCode", Value: 112}, {Key: labels, Value: bson.A{transient}}}},
		"connection lost at the fence":       {"update", 1, bson.D{{Key: "closeConnection", Value: true}}},
		"connection lost at the rows":        {"insert", 2, bson.D{{Key: "closeConnection", Value: true}}},
		"connection lost before the commit":  {"commitTransaction", 3, bson.D{{Key: "closeConnection", Value: true}}},
		"answer lost behind the commit":      {"commitTransaction", 2, bson.D{{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: 91}, {Key: "errmsg", Value: "going down"}}}}},
		"no majority in time":                {"commitTransaction", 6, bson.D{{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: 64}, {Key: "errmsg", Value: "waiting"}}}}},
		"the transaction is gone":            {"commitTransaction", 1, bson.D{{Key: "errorCode", Value: 251}, {Key: labels, Value: bson.A{transient}}}},
		"the primary steps down at commit":   {"commitTransaction", 2, bson.D{{Key: "errorCode", Value: 10107}}},
		"an answer that takes too long":      {"commitTransaction", 1, bson.D{{Key: "blockConnection", Value: true}, {Key: "blockTimeMS", Value: 1500}}},
		"a statement that takes too long":    {"insert", 1, bson.D{{Key: "blockConnection", Value: true}, {Key: "blockTimeMS", Value: 1500}}},
		"an error that nobody knows, at end": {"commitTransaction", 1, bson.D{{Key: "errorCode", Value: 8000}}},
	} {
		t.Run(name, func(t *testing.T) {
			m := testenv.Mongo(t)
			s := newSink(t, m, map[string]string{"mode": "append"})
			s.cfg.attempt = time.Second
			l := start(t, s)
			l.write(connectors.Record{RawValue: []byte("a")}, connectors.Record{RawValue: []byte("b")})
			fail(t, m, c.times, c.command, c.more)
			if err := l.tryFlush(); err != nil {
				if connectors.IsFatal(err) {
					t.Fatal(err)
				}
				t.Log("left to the runtime:", err)
				l = start(t, s) // as the runtime does
				for l.next < 2 {
					l.write(connectors.Record{RawValue: []byte{'a' + byte(l.next)}})
				}
				l.flush()
			}
			l.write(connectors.Record{RawValue: []byte("c")})
			l.flush()
			if n, err := m.DB().Collection("orders").CountDocuments(t.Context(), bson.D{}); err != nil || n != 3 {
				t.Errorf("%d documents, %v", n, err)
			}
			if again := start(t, s); again.next != 3 {
				t.Errorf("resumes at %d", again.next)
			}
		})
	}
}

func TestStandaloneIsRefused(t *testing.T) {
	m := testenv.NewMongoStandalone(t)
	s := newSink(t, m, nil)
	_, err := tryStart(t, s, assigned(0), 1)
	fatalWith(t, err, "standalone", "rs.initiate")
	if f := s.Validate(t.Context()); len(f) != 1 || f[0].Path != "url" || f[0].Hint != standaloneHint {
		t.Errorf("%+v", f)
	}
}

func TestValidate(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	if f := s.Validate(t.Context()); len(f) != 0 {
		t.Errorf("%+v", f)
	}
	start(t, s)
	other := newSink(t, m, map[string]string{"topics": "other.orders"})
	if f := other.Validate(t.Context()); len(f) != 1 || f[0].Path != "topics" {
		t.Errorf("%+v", f)
	}
	_, err := tryStart(t, other, connectors.Assignment{TopicPartition: connectors.TopicPartition{Topic: "other.orders"}, TopicID: [16]byte{1}, EndOffset: 9}, 1)
	fatalWith(t, err, "already holds topic shop.public.orders")
}

// Somebody restores a backup: offset and documents go back together, and the next task writes what is missing.
func TestTargetGoesBack(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	l := start(t, s)
	l.write(upsert(1, "heir", nil))
	l.flush()
	l.write(upsert(2, "b", nil))
	l.flush()
	if _, err := m.DB().Collection("orders").DeleteOne(t.Context(), bson.D{{Key: "_id", Value: 2}}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.DB().Collection("_forebay_offsets").UpdateMany(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "next", Value: 1}}}}); err != nil {
		t.Fatal(err)
	}
	l.write(upsert(3, "c", nil))
	if err := l.tryFlush(); err == nil || connectors.IsFatal(err) {
		t.Fatalf("the commit gives %v", err)
	}
	holds(t, m, "orders", first)
	if l = start(t, s); l.next != 1 {
		t.Fatalf("resumes at %d", l.next)
	}
}
