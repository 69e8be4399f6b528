package mongodb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/pause"
)

// Commit writes a batch and moves its partition's offset in one transaction. What an election, a conflict or a
// broken connection leaves open is tried again from the start: the offset says whether an earlier try went through.
func (t *task) Commit(ctx context.Context, token connectors.Token) error {
	b, ok := token.Data.(*batch)
	if !ok {
		return fmt.Errorf("a token of another sink for %s-%d", token.Topic, token.Partition)
	}
	if b.done {
		return nil
	}
	if t.failed != nil {
		return t.failed
	}
	began := time.Now()
	for try := 0; ; try++ {
		err := t.attempt(ctx, b)
		if err == nil {
			b.done, b.buf = true, nil
			return nil
		}
		if ctx.Err() != nil || !mends(err) || time.Since(began) > t.s.cfg.patience {
			return t.fail(err)
		}
		if try == 0 {
			t.log.Warn("a commit was interrupted; trying again", "topic", token.Topic, "partition", token.Partition, "error", err)
		}
		if err := pause.For(ctx, min(10*time.Millisecond<<min(try, 7), time.Second)); err != nil {
			return t.fail(err)
		}
	}
}

// attempt is one try to commit a batch.
func (t *task) attempt(ctx context.Context, b *batch) error {
	ctx, cancel := context.WithTimeout(ctx, t.s.cfg.attempt)
	defer cancel()
	coll := t.db.Collection(b.part.collection)
	if b.buf.truncate {
		if err := t.shrink(ctx, b, coll); err != nil {
			return err
		}
	}
	moved, err := t.transaction(ctx, b, b.next, func(ctx context.Context) error {
		if t.s.cfg.upsert {
			return t.upsert(ctx, coll, b.buf)
		}
		return t.insert(ctx, coll, b.buf)
	})
	switch {
	case err == nil && !moved:
		return t.settled(ctx, b)
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("a commit of %d documents (%d bytes) has not ended within %s; if the server is only slow, make flush.size smaller: %w", len(b.buf.lines), b.buf.bytes, t.s.cfg.attempt, err)
	}
	return err
}

// transaction moves the offset to next, does the work under the protection of that, and commits. not moved: the
// offset is not at the batch's start, or not ours; nothing was done.
//
// One session serves all tries: the server aborts what is left of a session's last transaction when the next begins.
func (t *task) transaction(ctx context.Context, b *batch, next int64, work func(context.Context) error) (moved bool, err error) {
	if err := t.alive(); err != nil {
		return false, err
	}
	ended := false
	defer func() {
		if !ended {
			t.abort(ctx)
		}
	}()
	err = t.session.StartTransaction(options.Transaction().SetReadConcern(readconcern.Snapshot()).SetWriteConcern(writeconcern.Majority()).SetReadPreference(readpref.Primary()))
	if err != nil {
		return false, err
	}
	sctx := mongo.NewSessionContext(ctx, t.session)
	if moved, err = t.fence(sctx, b, next); err != nil || !moved {
		return false, err
	}
	if err := work(sctx); err != nil {
		return false, classify(err, "write "+t.s.cfg.database+"."+b.part.collection)
	}
	if err := t.alive(); err != nil { // nothing becomes visible before the commit
		return false, err
	}
	for try := 0; ; try++ {
		if err = t.session.CommitTransaction(sctx); err == nil {
			ended = true
			return true, nil
		}
		// The answer may be lost, or a majority was not there in time: the same commit is asked for again. What is
		// still open after that the next try finds out.
		var l mongo.LabeledError
		if try == 2 || ctx.Err() != nil || errors.As(err, &l) && l.HasErrorLabel(transient) {
			err = classify(err, "commit "+t.s.cfg.database+"."+b.part.collection)
			if connectors.IsFatal(err) {
				return false, err
			}
			return false, &again{err}
		}
	}
}

// abort ends a transaction that is open, as far as the server can be reached. After a commit that has failed the
// driver refuses: the session's next transaction ends it.
func (t *task) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	_ = t.session.AbortTransaction(ctx) // the server does it by itself in time
}

// shrink empties a collection but for its last documents, each transaction some of them: one that deletes
// millions would outlive what the server allows. The offset stays: when it is cut short, the next task reads the
// truncate again.
func (t *task) shrink(ctx context.Context, b *batch, coll *mongo.Collection) error {
	for {
		left := 0
		moved, err := t.transaction(ctx, b, b.start, func(ctx context.Context) error {
			cur, err := coll.Find(ctx, bson.D{}, options.Find().SetProjection(bson.D{{Key: "_id", Value: 1}}).SetLimit(int64(t.s.cfg.chunk)+1).SetBatchSize(int32(t.s.cfg.chunk)+1))
			if err != nil {
				return err
			}
			var ids bson.A
			for cur.Next(ctx) {
				ids = append(ids, cloneValue(cur.Current.Lookup("_id")))
			}
			if err := errors.Join(cur.Err(), cur.Close(ctx)); err != nil {
				return err
			}
			if left = len(ids); left <= t.s.cfg.chunk {
				return nil
			}
			return deleteIDs(ctx, coll, ids)
		})
		if err != nil || !moved || left <= t.s.cfg.chunk { // not moved: attempt finds out why
			return err
		}
	}
}

func cloneValue(v bson.RawValue) bson.RawValue {
	return bson.RawValue{Type: v.Type, Value: append([]byte(nil), v.Value...)}
}

// deleteBytes bounds the ids of one statement, well below the 16 MiB of a command.
const deleteBytes = 4 << 20

func deleteIDs(ctx context.Context, coll *mongo.Collection, ids bson.A) error {
	for len(ids) > 0 {
		n, size := 0, 0
		for n < len(ids) && (n == 0 || size < deleteBytes) && n < 50_000 {
			size += len(ids[n].(bson.RawValue).Value) + 16
			n++
		}
		if _, err := coll.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids[:n]}}}}); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// upsert brings the collection to the buffer's state:
//
//  1. Documents that have moved get what was not sent from where they were.
//  2. Everything goes at a truncate, and then deleted documents, and those that come anew.
//  3. The others are replaced, or changed where columns were not sent.
//
// Each key occurs once, so the order within a step does not matter.
func (t *task) upsert(ctx context.Context, coll *mongo.Collection, b *buffer) error {
	if err := complete(ctx, coll, b); err != nil {
		return err
	}
	if b.truncate {
		if _, err := coll.DeleteMany(ctx, bson.D{}); err != nil {
			return err
		}
	}
	var gone bson.A
	var models []mongo.WriteModel
	for i := range b.lines {
		l := &b.lines[i]
		if l.del && !b.truncate {
			gone = append(gone, l.id)
		}
		if !l.live {
			continue
		}
		m, err := l.model()
		if err != nil {
			return err
		}
		models = append(models, m)
	}
	if err := deleteIDs(ctx, coll, gone); err != nil {
		return err
	}
	if len(models) == 0 {
		return nil
	}
	_, err := coll.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	return err
}

// model is the statement that writes a line.
func (l *line) model() (mongo.WriteModel, error) {
	doc := l.doc
	if l.full != nil {
		doc = l.full
	}
	// The document's own _id: the key's may have the other width of an integer.
	v, err := doc.LookupErr("_id")
	if err != nil {
		return nil, err
	}
	filter := bson.D{{Key: "_id", Value: bson.RawValue{Type: bson.Type(v.Type), Value: v.Data}}}
	literal := bson.D{{Key: "$literal", Value: bson.Raw(doc)}}
	switch {
	case l.partly && l.full == nil:
		// Not $set: it takes a column's name for a path, or an operator, and sorts what it adds.
		change := bson.A{bson.D{{Key: "$replaceWith", Value: bson.D{{Key: "$mergeObjects", Value: bson.A{"$$ROOT", literal}}}}}}
		for _, u := range l.unset {
			if _, err := doc.LookupErr(u); err != nil { // else it has another value now
				change = append(change, bson.D{{Key: "$replaceWith", Value: bson.D{{Key: "$unsetField", Value: bson.D{{Key: "field", Value: bson.D{{Key: "$literal", Value: u}}}, {Key: "input", Value: "$$ROOT"}}}}}})
			}
		}
		return mongo.NewUpdateOneModel().SetFilter(filter).SetUpdate(change).SetUpsert(true), nil
	case !replaces(doc):
		return mongo.NewUpdateOneModel().SetFilter(filter).SetUpdate(bson.A{bson.D{{Key: "$replaceWith", Value: literal}}}).SetUpsert(true), nil
	}
	return mongo.NewReplaceOneModel().SetFilter(filter).SetReplacement(bson.Raw(doc)).SetUpsert(true), nil
}

// replaces says that a replacement, or an insert, writes a document as it is. A replacement refuses a field whose name begins with a dollar sign; for an empty
// timestamp in a field (not in _id, and not further down) both write the server's clock.
func replaces(doc bsoncore.Document) bool {
	elements, _ := doc.Elements() // made here
	for _, e := range elements {
		if k := e.KeyBytes(); len(k) > 0 && k[0] == '$' {
			return false
		}
		if at, i, ok := e.Value().TimestampOK(); ok && at == 0 && i == 0 {
			return false
		}
	}
	return true
}

// needs is the _id of the document that a line takes columns from; zero: none is to be read.
func (l *line) needs() bson.RawValue {
	if !l.live || !l.partly {
		return bson.RawValue{}
	}
	return l.from
}

// readIDs is how many documents are read at once to complete others.
const readIDs = 1000

// complete reads the documents that others take columns from, before anything is deleted; a next try reads them again.
func complete(ctx context.Context, coll *mongo.Collection, b *buffer) error {
	wanted := map[string][]int{}
	var ids bson.A
	for i := range b.lines {
		if id := b.lines[i].needs(); !id.IsZero() {
			b.lines[i].full = b.lines[i].doc // unless there is one
			c := canonical(id)
			if wanted[c] == nil {
				ids = append(ids, id)
			}
			wanted[c] = append(wanted[c], i)
		}
	}
	for len(ids) > 0 {
		n := min(readIDs, len(ids))
		cur, err := coll.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids[:n]}}}})
		if err != nil {
			return err
		}
		for cur.Next(ctx) {
			c := canonical(cur.Current.Lookup("_id"))
			for _, i := range wanted[c] {
				l := &b.lines[i]
				if l.full, err = merge(bsoncore.Document(cur.Current), l.doc, l.unset); err != nil {
					return err
				}
			}
		}
		if err := errors.Join(cur.Err(), cur.Close(ctx)); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// insert adds the buffer's documents.
func (t *task) insert(ctx context.Context, coll *mongo.Collection, b *buffer) error {
	if len(b.lines) == 0 {
		return nil
	}
	models := make([]mongo.WriteModel, len(b.lines))
	for i := range b.lines {
		l := &b.lines[i]
		models[i] = mongo.NewInsertOneModel().SetDocument(bson.Raw(l.doc))
		if !replaces(l.doc) {
			var err error
			if models[i], err = l.model(); err != nil {
				return err
			}
		}
	}
	_, err := coll.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	return err
}
