package mongodb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/pause"
)

const splitID = "stream"

// Plan: a change stream has one reader.
func (s *source) Plan(context.Context, int) ([]connectors.Split, error) {
	return []connectors.Split{{ID: splitID}}, nil
}

// Topics lists the collections that are there now.
func (s *source) Topics(ctx context.Context) ([]connectors.TopicSpec, error) {
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	defer func() { _ = disconnect(c) }() // the list is what counts
	all, err := s.find(ctx, c)
	if err != nil {
		return nil, s.orFinal(err)
	}
	// A collection that is named outright gets its topic before its first document.
	var out []connectors.TopicSpec
	seen := map[string]bool{}
	add := func(n namespace) {
		if t := s.topic(n); !seen[t] {
			seen[t] = true
			out = append(out, connectors.TopicSpec{Name: t})
		}
	}
	for i := range s.cfg.collections {
		if n := s.cfg.collections[i].literal; n != nil {
			add(*n)
		}
	}
	for _, info := range all {
		add(info.name)
	}
	return out, nil
}

func (s *source) orFinal(err error) error {
	if f := s.final(err); f != nil {
		return f
	}
	return err
}

// Task makes the reader.
func (s *source) Task(connectors.Split) connectors.SourceTask {
	return &task{source: s}
}

// task reads the collections' documents and then the change stream. Its state belongs to
// the goroutine of Open and Read.
type task struct {
	*source

	client *mongo.Client
	server server
	block  *block
	texts  texter

	collections map[namespace]*collection
	pending     []*collection // to be snapshotted, in order
	covering    int           // collections whose snapshot the stream has not passed yet
	run         *snapshotRun  // at hand
	marks       []pendingMark // to be made by the next Read
	reached     time.Time     // when the oplog was last seen to have the stream's beginning
	latest      stamp         // the latest cluster time that was used

	is     string // which change stream it is, see streamIs
	stream *stream
	pos    streamPosition // everything up to it has been handed over; its Token is set when it is marked
	resume bson.Raw       // the token of pos; empty before the first event
	token  string         // what resume says
	outage outage
}

// pendingMark is a position that stands without a record.
type pendingMark struct {
	key connectors.PositionKey
	pos connectors.Position
}

// collection is a collection of the config.
type collection struct {
	name     namespace
	shape    *shape
	pos      collectionPosition
	collated bool // _id is not ordered by its bytes
	warned   bool // that an image was missing
}

// Open checks the server and finds out which collections still need a snapshot.
func (t *task) Open(ctx context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	t.collections, t.block = map[namespace]*collection{}, newBlock(t.env.Name)
	var err error
	if t.client, err = t.connect(); err != nil {
		return err
	}
	if err := t.open(ctx, positions); err != nil {
		return orContext(ctx, t.orFinal(err))
	}
	return nil
}

func (t *task) open(ctx context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	var err error
	if t.server, err = identify(ctx, t.client); err != nil {
		return err
	}
	t.is = t.streamIs()
	// The time first, the list second: a collection that is made between the two is in the list, and
	// one that is made after it comes by the stream.
	at, err := now(ctx, t.client)
	if err != nil {
		return err
	}
	all, err := t.find(ctx, t.client)
	if err != nil {
		return err
	}
	for i := range all {
		if err := t.keepImages(ctx, &all[i], true); err != nil {
			return err
		}
	}
	id := setID(ctx, t.client)
	if positions[streamKey] != nil {
		err = t.restore(positions, id)
	} else {
		err = t.start(at, id)
	}
	if err != nil {
		return err
	}
	return t.track(all, positions)
}

// start begins a source without positions: the stream will begin at a cluster time, and snapshots are
// read at that time or later.
func (t *task) start(at stamp, id string) error {
	t.pos, t.latest = streamPosition{V: 1, At: at}, at
	if err := t.mark(setKey, setPosition{V: 1, Set: t.server.set, ID: id}); err != nil {
		return err
	}
	return t.mark(streamKey, t.pos)
}

// restore takes the stream's position up.
func (t *task) restore(positions map[connectors.PositionKey]connectors.Position, id string) error {
	if err := parsePosition(streamKey, positions[streamKey], &t.pos, &t.pos.V); err != nil {
		return err
	}
	token, err := t.pos.token()
	if err != nil {
		return err
	}
	t.resume, t.token, t.latest = token, tokenData(token), t.pos.At
	if p := positions[setKey]; p != nil {
		var set setPosition
		if err := parsePosition(setKey, p, &set, &set.V); err != nil {
			return err
		}
		if set.ID != "" && id != "" && set.ID != id {
			return connectors.Fatal(fmt.Errorf("the positions are of another replica set (id %s, this one has %s)", set.ID, id),
				"a set that was made anew needs a new snapshot: reset the source's positions")
		}
	}
	return nil
}

func (t *task) mark(key connectors.PositionKey, pos any) error {
	p, err := encode(pos)
	if err == nil {
		t.marks = append(t.marks, pendingMark{key, p})
	}
	return err
}

// track decides for every collection whether it is done, under way or new.
func (t *task) track(all []collectionInfo, positions map[connectors.PositionKey]connectors.Position) error {
	for i := range all {
		c := t.follow(all[i].name)
		c.collated = all[i].collation != nil
		if positions[collectionKey(c.name)] == nil {
			if t.cfg.snapshot == "never" {
				c.pos.State = stateDone
			} else {
				t.pending = append(t.pending, c)
			}
			// With the stream's first position, so that no look at the two takes the collection for one that is there.
			if err := t.mark(collectionKey(c.name), c.pos); err != nil {
				return err
			}
		}
	}
	for key, p := range positions {
		name, ok := strings.CutPrefix(string(key), collectionPrefix)
		if !ok {
			continue
		}
		var pos collectionPosition
		if err := parsePosition(key, p, &pos, &pos.V); err != nil {
			return err
		}
		for i := range pos.Runs {
			t.latest = later(t.latest, pos.Runs[i].At)
		}
		n := parseNamespace(name)
		if !t.matches(n) {
			if pos.State != stateLeft { // its changes pass by unread from now on
				if err := t.mark(key, collectionPosition{V: 1, State: stateLeft, Gen: pos.Gen}); err != nil {
					return err
				}
			}
			continue
		}
		c := t.follow(n)
		c.pos = pos
		switch pos.State {
		case stateCopied:
			t.covering++
		case stateLeft:
			t.again(c)
			if err := t.mark(key, c.pos); err != nil { // it is being copied from now on
				return err
			}
		case stateCopying:
			t.pending = append(t.pending, c)
		}
	}
	return nil
}

// follow returns what is kept of a collection, and begins to.
func (t *task) follow(n namespace) *collection {
	c := t.collections[n]
	if c == nil {
		c = &collection{name: n, shape: t.source.shape(n), pos: collectionPosition{V: 1, State: stateCopying}}
		t.collections[n] = c
	}
	return c
}

// again plans a new snapshot of a collection. What the topic has of it is taken back when it begins.
func (t *task) again(c *collection) {
	if c.pos.State == stateCopied {
		t.covering--
	}
	c.anew()
	for _, p := range t.pending {
		if p == c {
			return
		}
	}
	t.pending = append(t.pending, c)
}

// anew forgets the snapshot of a collection; the topic has an older state of it.
func (c *collection) anew() {
	c.pos = collectionPosition{V: 1, State: stateCopying, Gen: c.pos.Gen + 1, Stale: true}
}

// Read hands over documents until there are none left, and then changes.
func (t *task) Read(ctx context.Context, b *connectors.Batch) error {
	if len(t.marks) > 0 {
		for _, m := range t.marks {
			b.Mark(m.key, m.pos, true)
		}
		t.marks = t.marks[:0]
		return nil
	}
	var err error
	if len(t.pending) > 0 {
		err = t.readSnapshot(ctx, b)
	} else {
		err = t.readStream(ctx, b)
	}
	return orContext(ctx, err)
}

// Committed has nobody to tell: the oplog is kept by time and size, whoever reads it.
func (t *task) Committed(context.Context, map[connectors.PositionKey]connectors.Position) error {
	return nil
}

// Close ends cursors and connections.
func (t *task) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	t.endRun(ctx)
	t.closeStream(ctx)
	err := disconnect(t.client)
	t.client = nil
	if errors.Is(err, mongo.ErrClientDisconnected) {
		return nil
	}
	return err
}

// outage is a time in which the server does not do what it should.
type outage struct {
	since time.Time // zero: none
	tries int
}

// wait lets some time pass after an error that may mend itself, such as an election. It returns the
// error when it is final, or when it has lasted so long that the runtime should show it.
func (t *task) wait(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if final := t.final(err); final != nil {
		return final
	}
	o := &t.outage
	if o.since.IsZero() {
		o.since = time.Now()
		t.env.Logger.Warn(what+" was interrupted; trying again", "error", err)
	}
	if time.Since(o.since) > t.cfg.patience {
		*o = outage{}
		return fmt.Errorf("%s: %w", what, err)
	}
	wait := min(20*time.Millisecond<<min(o.tries, 6), time.Second)
	o.tries++
	return pause.For(ctx, wait)
}

// well ends an outage.
func (t *task) well(what string) {
	if !t.outage.since.IsZero() {
		t.env.Logger.Info(what+" goes on", "after", time.Since(t.outage.since).Round(time.Millisecond))
		t.outage = outage{}
	}
}
