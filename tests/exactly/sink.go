package exactly

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// target is the model of what a sink writes to: a commit is a compare-and-set on the offset up to which a partition is there. What a
// commit brings is looked at when it comes.
type target struct {
	w     *World
	name  string
	mu    sync.Mutex
	parts map[connectors.TopicPartition]*held
	keys  map[string]int // the next number of each key
	rows  int
	task  string // that has recovered last
	epoch int64
	tasks int
}

type held struct {
	id   [16]byte
	next int64
}

var sinkSpec = spec.Spec{Doc: "a store of the model", Fields: []spec.Field{
	{Name: "topics", Type: spec.Strings, Required: true, Doc: "globs"},
	{Name: "size", Type: spec.Int, Default: "50", Doc: "records of a commit"},
	{Name: "interval", Type: spec.Duration, Default: "1s", Doc: "age of a commit"},
}}

type sink struct {
	p        *process
	env      connectors.Env
	topics   []string
	size     int
	interval time.Duration
}

func (s *sink) Validate(context.Context) []spec.Finding { return nil }
func (s *sink) Topics() []string                        { return s.topics }
func (s *sink) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}

func (s *sink) Task(env connectors.SinkEnv) connectors.SinkTask {
	g := s.p.w.targets[s.env.Name]
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tasks++
	return &sinkTask{s: s, g: g, env: env, number: g.tasks, parts: map[connectors.TopicPartition]*buffer{}}
}

// sinkTask buffers and commits in two phases.
type sinkTask struct {
	s      *sink
	g      *target
	env    connectors.SinkEnv
	number int
	calls  int
	parts  map[connectors.TopicPartition]*buffer
}

type buffer struct {
	id          [16]byte
	start, next int64
	rows        []entry
	since       time.Time
}

// batch is what a token holds.
type batch struct {
	id          [16]byte
	start, next int64
	rows        []entry
	late        bool // another task had recovered before this was prepared
}

// fails says whether a call fails, and whether it has an effect first.
func (t *sinkTask) fails() (before, after bool) {
	t.calls++
	w := t.g.w
	if !w.fails(w.knobs.sinkFails, t.g.name, t.number, t.calls) {
		return false, false
	}
	after = w.chance(500, t.g.name, t.number, t.calls, "after")
	return !after, after
}

var errStore = errors.New("the store is away")

// do is a call of the target.
func (t *sinkTask) do(what string, fn func() error) error {
	return t.s.p.call("sink's "+what, func() error {
		before, after := t.fails()
		if before {
			return errStore
		}
		if d := t.g.w.delay(t.g.name, t.number, t.calls); d > 0 {
			time.Sleep(d)
		}
		t.g.mu.Lock()
		err := fn()
		t.g.mu.Unlock()
		if after && err == nil {
			return errStore
		}
		return err
	})
}

func (t *sinkTask) Open(context.Context) error { return t.s.p.pass(context.Background()) }

func (t *sinkTask) Recover(_ context.Context, as []connectors.Assignment) (map[connectors.TopicPartition]int64, error) {
	out := map[connectors.TopicPartition]int64{}
	err := t.do("Recover", func() error {
		if t.env.Epoch < t.g.epoch || t.env.Epoch == t.g.epoch && t.env.TaskID != t.g.task {
			return connectors.Fenced(fmt.Errorf("a task of epoch %d has recovered %s, this one is of %d", t.g.epoch, t.g.name, t.env.Epoch), "")
		}
		t.g.epoch, t.g.task = t.env.Epoch, t.env.TaskID
		for _, a := range as {
			out[a.TopicPartition] = a.StartOffset
			if h := t.g.parts[a.TopicPartition]; h != nil {
				if h.id != a.TopicID {
					return connectors.Fatal(fmt.Errorf("%s-%d is another topic now", a.Topic, a.Partition), "")
				}
				out[a.TopicPartition] = h.next
			}
			t.parts[a.TopicPartition] = &buffer{id: a.TopicID, start: out[a.TopicPartition], next: out[a.TopicPartition]}
		}
		return nil
	})
	return out, err
}

func (t *sinkTask) Write(_ context.Context, records []connectors.Record) (rejects []connectors.Reject, err error) {
	if err := t.s.p.pass(context.Background()); err != nil {
		return nil, err
	}
	if before, after := t.fails(); before || after {
		return nil, errStore
	}
	for i := range records {
		r := &records[i]
		b := t.parts[connectors.TopicPartition{Topic: r.Topic, Partition: r.Partition}]
		if r.Offset < b.next {
			t.g.w.violated("%s is given offset %d of %s-%d after %d", t.g.name, r.Offset, r.Topic, r.Partition, b.next-1)
		}
		if len(b.rows) == 0 {
			b.since = time.Now()
		}
		b.next = r.Offset + 1
		if t.g.bad(r.RawKey, r.RawValue) == badRow {
			rejects = append(rejects, connectors.Reject{Index: i, Reason: errRow})
			continue
		}
		b.rows = append(b.rows, entry{bytes.Clone(r.RawKey), bytes.Clone(r.RawValue), r.Offset})
	}
	return rejects, nil
}

func (t *sinkTask) Advance(tp connectors.TopicPartition, next int64) {
	t.parts[tp].next = max(t.parts[tp].next, next)
}

func (t *sinkTask) Tick(now time.Time) (due []connectors.TopicPartition) {
	for tp, b := range t.parts {
		if len(b.rows) >= t.s.size || len(b.rows) > 0 && now.Sub(b.since) >= t.s.interval {
			due = append(due, tp)
		}
	}
	return due
}

func (t *sinkTask) Prepare(_ context.Context, tps []connectors.TopicPartition, _ connectors.Cause) (out []connectors.Token, err error) {
	err = t.do("Prepare", func() error {
		for _, tp := range tps {
			if b := t.parts[tp]; len(b.rows) > 0 {
				out = append(out, connectors.Token{TopicPartition: tp, Next: b.next,
					Data: batch{id: b.id, start: b.start, next: b.next, rows: b.rows, late: t.g.task != t.env.TaskID}})
				b.rows, b.start = nil, b.next
			}
		}
		return nil
	})
	return out, err
}

func (t *sinkTask) Commit(_ context.Context, token connectors.Token) error {
	return t.do("Commit", func() error {
		if err := t.env.Alive(); err != nil {
			t.g.w.violated("a commit of %s after its lease: %v", t.g.name, err)
		}
		if w := t.g.w; w.knobs.letters && t.g.task != t.env.TaskID {
			return connectors.Fenced(fmt.Errorf("another task has recovered %s, and removed what this one has prepared", t.g.name), "")
		}
		for _, r := range token.Data.(batch).rows {
			if t.g.bad(r.key, r.value) == badCommit {
				return &connectors.RecordError{TopicPartition: token.TopicPartition, Offset: r.offset, Err: errRow}
			}
		}
		return t.g.commit(token.TopicPartition, token.Data.(batch))
	})
}

// What a target finds wrong with a row: when it is handed over, or not before the commit.
type badness int

const (
	goodRow badness = iota
	badRow
	badCommit
)

var errRow = errors.New("the row does not fit")

// bad is the same whoever asks, and whenever.
func (g *target) bad(key, value []byte) badness {
	if !g.w.knobs.letters {
		return goodRow
	}
	switch g.w.draw("bad", g.name, string(key), string(value)) % 300 {
	case 0:
		return badRow
	case 1:
		return badCommit
	}
	return goodRow
}

// commit is atomic: g.mu is held.
func (g *target) commit(tp connectors.TopicPartition, b batch) error {
	if b.late {
		// Its heir had taken the lease before, and the lease is renewed between Prepare and Commit: invariant 7.
		g.w.violated("%s-%d from offset %d is committed to %s by a task that was replaced before it had prepared that", tp.Topic, tp.Partition, b.start, g.name)
	}
	h := g.parts[tp]
	if h == nil {
		h = &held{id: b.id}
		g.parts[tp] = h
	}
	if h.next != b.start {
		return connectors.Fenced(fmt.Errorf("%s has %s-%d up to offset %d, this commit begins at %d", g.name, tp.Topic, tp.Partition, h.next, b.start), "")
	}
	h.next = b.next
	for _, r := range b.rows {
		n, err := strconv.Atoi(string(r.value))
		if want := g.keys[string(r.key)]; err != nil || n != want {
			g.w.violated("%s is given row %s of %s where row %d belongs (%s-%d, offsets %d to %d)", g.name, r.value, r.key, want, tp.Topic, tp.Partition, b.start, b.next)
		}
		g.keys[string(r.key)] = n + 1
		g.rows++
	}
	return nil
}

func (t *sinkTask) Revoke(_ context.Context, tps []connectors.TopicPartition) error {
	for _, tp := range tps {
		delete(t.parts, tp)
	}
	return nil
}

func (t *sinkTask) Close() error { return nil }

func newTarget(w *World, name string) *target {
	return &target{w: w, name: name, parts: map[connectors.TopicPartition]*held{}, keys: map[string]int{}, epoch: -1}
}
