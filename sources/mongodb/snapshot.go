package mongodb

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

// snapshotRun reads documents of one collection at one cluster time, in the order of _id.
type snapshotRun struct {
	c       *collection
	at      stamp
	begun   time.Time
	session *mongo.Session
	cursor  *mongo.Cursor
	skip    bson.RawValue // the last document of the run before; the range's start is inclusive
	started bool          // the run stands in the collection's position
	last    bson.RawValue // the last document that was handed over, in the run's own memory
	rows    int64         // handed over since the last mark
}

// endRun gives cursor and session back. Safe without a run.
func (t *task) endRun(ctx context.Context) {
	if t.run == nil {
		return
	}
	if t.run.cursor != nil {
		_ = t.run.cursor.Close(ctx) // the server forgets it by itself in time
	}
	if t.run.session != nil {
		t.run.session.EndSession(ctx)
	}
	t.run = nil
}

// readSnapshot fills b with documents of the pending collections. What was added is marked, whatever ends it.
func (t *task) readSnapshot(ctx context.Context, b *connectors.Batch) error {
	for len(t.pending) > 0 && !b.Full() {
		if err := t.snapshotStep(ctx, b); err != nil {
			t.endRun(ctx)
			if err := t.wait(ctx, "the snapshot", err); err != nil || !b.Empty() {
				return err
			}
		}
	}
	return nil
}

// snapshotStep reads one run until it ends or b is full, and marks what it has added.
func (t *task) snapshotStep(ctx context.Context, b *connectors.Batch) error {
	c := t.pending[0]
	if t.run == nil {
		if done, err := t.beginRun(ctx, b, c); done || err != nil {
			return err
		}
	}
	r := t.run
	ended, err := t.readRun(ctx, b, r)
	if merr := t.markCopying(b, r); merr != nil {
		return merr
	}
	switch {
	case err != nil:
		return err
	case ended:
		return t.finish(ctx, b, r)
	case time.Since(r.begun) > t.cfg.runTime && !c.collated:
		t.endRun(ctx) // the next one reads at a newer time, before the server forgets this one
	}
	return nil
}

// beginRun opens a cursor behind the last document that was read; done says that there was nothing to read.
func (t *task) beginRun(ctx context.Context, b *connectors.Batch, c *collection) (done bool, err error) {
	// At or after everything that was used before: the stream begins at the first of these
	// times, so what lies between two of them comes by the stream. The time first: a collection that is not there
	// after it, and made then, comes by the stream.
	if err := t.reaches(ctx); err != nil {
		return false, err
	}
	at, err := now(ctx, t.client)
	if err != nil {
		return false, err
	}
	at = later(at, t.latest)
	t.latest = at
	info, err := describe(ctx, t.client, c.name)
	if err != nil {
		return false, err
	}
	uuid := ""
	if info != nil {
		uuid, c.collated = info.uuid, info.collation != nil
	}
	if len(c.pos.Runs) > 0 && c.pos.UUID != uuid {
		c.anew() // dropped, or another one by now: the documents read so far are not its
	}
	if c.pos.Stale {
		if err := t.takeBack(b, c, at); err != nil {
			return false, err
		}
	}
	c.pos.UUID = uuid
	if info == nil {
		c.pos.Runs = append(c.pos.Runs, run{At: at})
		return true, t.copied(b, c)
	}
	return false, t.openRun(ctx, c, at)
}

func (t *task) openRun(ctx context.Context, c *collection, at stamp) error {
	session, err := t.client.StartSession(options.Session().SetSnapshot(true).SetSnapshotTime(at.bson()))
	if err != nil {
		return err
	}
	r := &snapshotRun{c: c, at: at, begun: time.Now(), session: session}
	t.run = r
	// min and hint are bounds in the index: $gt would leave out every _id of another type.
	o := options.Find().SetHint(bson.D{{Key: "_id", Value: 1}}).SetSort(bson.D{{Key: "_id", Value: 1}})
	if n := len(c.pos.Runs); n > 0 && c.pos.Runs[n-1].Upto != nil {
		r.skip = c.pos.Runs[n-1].Upto.value
		o.SetMin(bson.D{{Key: "_id", Value: r.skip}})
	}
	coll := t.client.Database(c.name.db).Collection(c.name.coll)
	r.cursor, err = coll.Find(mongo.NewSessionContext(ctx, session), bson.D{}, o)
	return err
}

// takeBack says in the topic that the collection is empty, and forgets what was read of it.
func (t *task) takeBack(b *connectors.Batch, c *collection, at stamp) error {
	truncated(b, c.shape, t.block.source(b, c.shape, at, time.Time{}, cdc.SnapshotTrue))
	c.pos.Stale = false
	return t.markCollection(b, c)
}

// readRun adds documents until b is full or the run has none left.
func (t *task) readRun(ctx context.Context, b *connectors.Batch, r *snapshotRun) (ended bool, err error) {
	sctx := mongo.NewSessionContext(ctx, r.session)
	for !b.Full() {
		if !r.cursor.Next(sctx) {
			return r.cursor.Err() == nil, r.cursor.Err()
		}
		t.well("the snapshot")
		id, err := r.cursor.Current.LookupErr("_id")
		if err != nil {
			return false, connectors.Fatal(err, "a document of "+r.c.name.String()+" has no _id")
		}
		if !r.skip.IsZero() && id.Equal(r.skip) {
			continue
		}
		if err := t.addDocument(b, r.c, id, r.cursor.Current, r.at); err != nil {
			return false, err
		}
		r.last = bson.RawValue{Type: id.Type, Value: append(r.last.Value[:0], id.Value...)}
		r.rows++
	}
	return false, nil
}

func (t *task) addDocument(b *connectors.Batch, c *collection, id bson.RawValue, doc bson.Raw, at stamp) error {
	key, err := t.texts.id(b, id)
	if err != nil {
		return unreadable(c.name, err)
	}
	content, err := t.texts.document(b, documentStyle, doc)
	if err != nil {
		return unreadable(c.name, err)
	}
	emit(b, c.shape, connectors.OpRead, c.shape.keyOf(b, key), schema.Value{}, row(b, key, content), schema.Value{},
		t.block.source(b, c.shape, at, time.Time{}, cdc.SnapshotTrue))
	return nil
}

// markCopying sets the collection's position behind the last document in b.
func (t *task) markCopying(b *connectors.Batch, r *snapshotRun) error {
	if r.rows == 0 {
		return nil
	}
	pos := &r.c.pos
	if !r.started {
		pos.Runs = append(pos.Runs, run{At: r.at})
		r.started = true
	}
	upto := &docID{bson.RawValue{Type: r.last.Type, Value: append([]byte(nil), r.last.Value...)}}
	pos.Runs[len(pos.Runs)-1].Upto = upto
	pos.Rows += r.rows
	r.rows = 0
	return t.markCollection(b, r.c)
}

func (t *task) markCollection(b *connectors.Batch, c *collection) error {
	p, err := encode(c.pos)
	if err == nil {
		b.Mark(collectionKey(c.name), p, true)
	}
	return err
}

// finish ends a collection's snapshot, if what was read is still the collection of that name: a find on one
// that is gone yields nothing, which looks like an end.
func (t *task) finish(ctx context.Context, b *connectors.Batch, r *snapshotRun) error {
	info, err := describe(ctx, t.client, r.c.name)
	if err != nil {
		return err
	}
	c := r.c
	t.endRun(ctx)
	if info == nil || info.uuid != c.pos.UUID {
		c.anew()
		return t.markCollection(b, c)
	}
	if r.started {
		c.pos.Runs[len(c.pos.Runs)-1].Upto = nil
	} else {
		c.pos.Runs = append(c.pos.Runs, run{At: r.at})
	}
	return t.copied(b, c)
}

// copied says that all documents are there, and goes on to the next collection.
func (t *task) copied(b *connectors.Batch, c *collection) error {
	c.pos.State = stateCopied
	t.pending = t.pending[1:]
	t.covering++
	t.well("the snapshot")
	return t.markCollection(b, c)
}
