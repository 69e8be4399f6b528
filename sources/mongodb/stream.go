package mongodb

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/forebayhub/forebay/connectors"
)

// stream is an open change stream.
type stream struct {
	cursor *mongo.ChangeStream
	byTime bool       // begun at a cluster time: what comes at first may be known
	parts  []bson.Raw // of an event that the server has split
	looks  int        // how often there was nothing
	moved  bool       // the position has moved since the last mark
	marked time.Time  // when the position was last marked
}

type watcher interface {
	Watch(ctx context.Context, pipeline any, opts ...options.Lister[options.ChangeStreamOptions]) (*mongo.ChangeStream, error)
}

// openStream begins the change stream.
func (t *task) openStream(ctx context.Context, byTime bool) error {
	byTime = byTime || len(t.resume) == 0
	cursor, err := t.watch(ctx, byTime)
	if err != nil {
		return err
	}
	t.stream = &stream{cursor: cursor, byTime: byTime, marked: time.Now()}
	return nil
}

// reaches says, once in a run of the snapshot, whether the oplog still has what the stream is to begin with. A snapshot may
// take longer than the oplog holds; what is read after that is of no use. The first look into the oplog tells, so it is given up
// where it goes on for longer.
func (t *task) reaches(ctx context.Context) error {
	if time.Since(t.reached) < t.cfg.runTime {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	cursor, err := t.watch(short, len(t.resume) == 0)
	if code(err) == codeHistoryLost {
		return err
	}
	t.reached = time.Now()
	if err == nil {
		_ = cursor.Close(ctx) // the server forgets it by itself in time
	}
	return nil // of anything else the stream hears
}

// watch makes a change stream behind the position. One stream serves all collections, so that
// they stay in the order of their changes; it watches the database, or the whole deployment.
func (t *task) watch(ctx context.Context, byTime bool) (*mongo.ChangeStream, error) {
	var w watcher = t.client
	if db := t.oneDatabase(); db != "" {
		w = t.client.Database(db)
	}
	o := options.ChangeStream().SetMaxAwaitTime(t.cfg.await)
	switch t.cfg.images {
	case imagesLookup:
		o.SetFullDocument(options.UpdateLookup)
	case imagesPrePost:
		o.SetFullDocumentBeforeChange(options.WhenAvailable)
		fallthrough
	case imagesPost:
		// Not "required": one image that has expired would end the stream for good, see imageOf.
		o.SetFullDocument(options.WhenAvailable)
	}
	if byTime {
		at := t.pos.At.bson()
		o.SetStartAtOperationTime(&at)
	} else {
		o.SetStartAfter(t.resume) // goes on behind an invalidate event too, where resumeAfter does not
	}
	pipeline := mongo.Pipeline{t.filter()}
	if t.server.splits() {
		pipeline = append(pipeline, bson.D{{Key: "$changeStreamSplitLargeEvent", Value: bson.D{}}})
	}
	return w.Watch(ctx, pipeline, o)
}

func (t *task) closeStream(ctx context.Context) {
	if t.stream != nil {
		_ = t.stream.cursor.Close(ctx) // the server forgets it by itself in time
		t.stream = nil
	}
}

// streamIs tells a change stream of another filter, or of another version of the server, from this one: tokens of the one may be of no use in the other.
func (t *task) streamIs() string {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, t.oneDatabase(), t.filter()) // a hash takes all
	return fmt.Sprintf("%x-%v", h.Sum64(), t.server.version)
}

// readStream fills b with changes. It waits while there are none, and lives through elections: the
// driver resumes a stream once only, and not after every error.
func (t *task) readStream(ctx context.Context, b *connectors.Batch) error {
	for !b.Full() && len(t.pending) == 0 {
		err := t.streamStep(ctx, b)
		if errors.Is(err, errNothing) {
			break
		}
		if err == nil {
			continue
		}
		byTime := t.stream != nil && t.stream.byTime
		t.closeStream(ctx)
		if !b.Empty() {
			break // what came before the error is good; the next Read sees it again
		}
		if (code(err) == codeFatalStream || code(err) == codeInvalidResumeToken) && !byTime && ctx.Err() == nil {
			if code(err) == codeFatalStream && t.pos.Of == t.is {
				return connectors.Fatal(fmt.Errorf("the server does not know the event at %s, where the log stands, and neither the config's collections nor the server's version has changed since: it was restored from an older state, it seems, and may have changed otherwise from there on (%w)", t.pos.At, err),
					"reset the source's positions for a new snapshot")
			}
			// The filter or the server has changed. The same place is found by its time.
			t.env.Logger.Warn("the resume token is of no use any more; going on by cluster time", "at", t.pos.At, "error", err)
			if err = t.openStream(ctx, true); err == nil {
				continue
			}
		}
		if err := t.wait(ctx, "the change stream", err); err != nil {
			return err
		}
	}
	return t.markStream(b)
}

// errNothing says that b holds something and nothing more is at hand.
var errNothing = errors.New("nothing more at hand")

func (t *task) streamStep(ctx context.Context, b *connectors.Batch) error {
	if t.stream == nil {
		if err := t.openStream(ctx, false); err != nil {
			return err
		}
	}
	s := t.stream
	if s.cursor.RemainingBatchLength() == 0 {
		due := s.moved && time.Since(s.marked) >= t.cfg.heartbeat
		if !b.Empty() || due {
			return errNothing
		}
	}
	if s.cursor.TryNext(ctx) {
		t.well("the change stream")
		return t.take(ctx, b, s.cursor.Current)
	}
	if err := s.cursor.Err(); err != nil {
		return err
	}
	if s.looks++; s.looks > 1 { // the first answer is that of the opening
		t.well("the change stream")
	}
	if s.cursor.ID() == 0 { // the server has ended it: after an invalidate event
		t.closeStream(ctx)
		return nil
	}
	t.idle(s.cursor.ResumeToken())
	return nil
}

// idle moves the position along a quiet stream: the server's post-batch token says how far it has looked.
func (t *task) idle(token bson.Raw) {
	data := tokenData(token)
	if data == "" || data == t.token || len(t.stream.parts) > 0 {
		return
	}
	at, ok := tokenStamp(token)
	if !ok {
		return
	}
	// A stream that was begun at a cluster time says first that it stands before that time's events, and they
	// may be in the log already: at the same time, only a later token is a step.
	if c := at.compare(t.pos.At); c > 0 || c == 0 && t.token != "" && data > t.token {
		t.advance(at, 0, token)
	}
}

// advance sets the position behind an event, or, with n 0, behind a look at nothing.
func (t *task) advance(at stamp, n int64, token bson.Raw) {
	if n == 0 && at == t.pos.At {
		n = t.pos.N
	}
	t.pos.At, t.pos.N, t.pos.Of = at, n, t.is
	t.latest = later(t.latest, at)
	t.resume, t.token = append(t.resume[:0], token...), tokenData(token)
	t.stream.moved = true
}

// markStream marks how far the stream is, when it has moved.
func (t *task) markStream(b *connectors.Batch) error {
	if t.stream == nil && b.Empty() || t.stream != nil && !t.stream.moved {
		return nil
	}
	if err := t.passed(b); err != nil {
		return err
	}
	if len(t.resume) > 0 {
		if err := t.pos.setToken(t.resume); err != nil {
			return err
		}
	}
	p, err := encode(t.pos)
	if err != nil {
		return err
	}
	b.Mark(streamKey, p, true)
	if t.stream != nil {
		t.stream.moved, t.stream.marked = false, time.Now()
	}
	return nil
}
