package exactly

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/position"
)

// database is the model of what a source reads: streams of rows that grow, and forget what their reader says is durable elsewhere,
// as a replication slot's log does.
type database struct {
	w       *World
	mu      sync.Mutex
	streams map[string]*stream // by source/split/key
	changed chan struct{}
	tasks   int
}

// stream is one sequence of rows; row n is made of n alone.
type stream struct {
	rows, freed int
}

// row is the n-th of a stream: one of four keys, with a number that counts that key's rows.
func row(name string, n int) (key, value string) {
	return fmt.Sprintf("%s/k%d", name, n%4), fmt.Sprint(n / 4)
}

// place is the position of a stream as a connector's.
func at(n int) connectors.Position { return fmt.Appendf(nil, `{"n":%d}`, n) }

func number(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	var v struct{ N int }
	if err := json.Unmarshal(p, &v); err != nil {
		return -1
	}
	return v.N
}

// grow adds rows to a stream until it has as many as the seed says.
func (d *database) grow(name string, rows int, r *rand.Rand) {
	s := &stream{}
	d.mu.Lock()
	d.streams[name] = s
	d.mu.Unlock()
	d.w.growing.Go(func() {
		for left := rows; left > 0; {
			time.Sleep(time.Duration(r.Int64N(int64(2 * d.w.knobs.pace))))
			n := 1
			if r.IntN(10) == 0 {
				n = 1 + r.IntN(20) // a burst
			}
			n = min(n, left)
			left -= n
			d.add(s, n)
		}
	})
}

// add is what writes to the database.
func (d *database) add(s *stream, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.rows += n
	close(d.changed)
	d.changed = make(chan struct{})
}

// total is how many rows sources have that a sink of these globs reads, by key.
func (d *database) total() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string]int{}
	for name, s := range d.streams {
		for n := range s.rows {
			key, _ := row(name, n)
			out[key]++
		}
	}
	return out
}

var sourceSpec = spec.Spec{Doc: "rows of the model", Fields: []spec.Field{{Name: "batch", Type: spec.Int, Default: "20", Doc: "rows of one Read"}}}

type source struct {
	p     *process
	env   connectors.Env
	batch int
}

// kinds of rows: each is a stream of every split, and a topic of its source.
var kinds = []string{"a", "b"}

func (s *source) Validate(context.Context) []spec.Finding { return nil }

func (s *source) Plan(_ context.Context, most int) ([]connectors.Split, error) {
	var out []connectors.Split
	for i := range min(s.p.w.knobs.splits, most) {
		out = append(out, connectors.Split{ID: fmt.Sprintf("s%d", i)})
	}
	return out, nil
}

func (s *source) Topics(context.Context) (out []connectors.TopicSpec, err error) {
	for _, k := range kinds {
		out = append(out, connectors.TopicSpec{Name: s.env.Name + "." + k, Partitions: s.p.w.knobs.parts})
	}
	return out, nil
}

func (s *source) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}

func (s *source) Compare(_ connectors.PositionKey, a, b connectors.Position) int {
	return number(a) - number(b)
}

func (s *source) Task(split connectors.Split) connectors.SourceTask {
	d := s.p.w.db
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tasks++
	return &sourceTask{s: s, split: split, d: d, id: d.tasks, read: map[string]int{}, marked: map[string]int{}}
}

// sourceTask reads a split: its streams in turn, with a position after some of the rows.
type sourceTask struct {
	s      *source
	split  connectors.Split
	d      *database
	id     int
	reads  int
	read   map[string]int // rows handed over of each kind
	marked map[string]int

	mu     sync.Mutex
	closed bool
}

func (t *sourceTask) stream(kind string) string { return t.s.env.Name + "/" + t.split.ID + "/" + kind }

// durable is where the log says that a kind's rows stand.
func (t *sourceTask) durable(kind string) int {
	scope := position.Scope{Group: t.s.env.Group, Source: t.s.env.Name, Split: t.split.ID}
	return number(t.d.w.log.position(scope.Key(connectors.PositionKey(kind))))
}

func (t *sourceTask) Open(_ context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	return t.s.p.call("source's Open", func() error {
		for _, k := range kinds {
			n := number(positions[connectors.PositionKey(k)])
			if have := t.durable(k); n > have {
				t.d.w.violated("%s is opened at row %d, and the log says %d", t.stream(k), n, have)
			}
			t.d.mu.Lock()
			freed := t.d.streams[t.stream(k)].freed
			t.d.mu.Unlock()
			if n < freed && !t.d.w.knobs.keeps {
				return fmt.Errorf("rows %d to %d of %s are gone", n, freed, t.stream(k))
			}
			t.read[k], t.marked[k] = n, n
		}
		return nil
	})
}

func (t *sourceTask) Read(ctx context.Context, b *connectors.Batch) error {
	t.reads++
	w := t.d.w
	// Rows without a position wait for one, as those of a transaction that is long do.
	patience := time.NewTimer(time.Duration(w.draw("patience", t.id, t.reads)%200) * time.Millisecond)
	defer patience.Stop()
	for late := false; ; {
		changed, some := t.fill(b, late)
		if some {
			break
		}
		select {
		case <-patience.C:
			late = true
		case <-ctx.Done():
			return ctx.Err()
		case <-t.s.p.died:
			return errDead
		case <-changed:
		}
	}
	if err := t.s.p.pass(context.Background()); err != nil {
		return err
	}
	if w.fails(w.knobs.sourceFails, "read", t.id, t.reads) {
		return errors.New("the database is away")
	}
	return nil
}

// fill takes rows in turn from the streams.
func (t *sourceTask) fill(b *connectors.Batch, late bool) (changed chan struct{}, some bool) {
	t.d.mu.Lock()
	defer t.d.mu.Unlock()
	for len(b.Records) < t.s.batch {
		more := false
		for _, k := range kinds {
			s := t.stream(k)
			if n := t.read[k]; n < t.d.streams[s].rows {
				key, value := row(s, n)
				b.Add(connectors.Record{Topic: t.s.env.Name + "." + k, Partition: -1, RawKey: []byte(key), RawValue: []byte(value)}, len(key)+len(value))
				t.read[k]++
				more = true
			}
		}
		if !more {
			break
		}
		if t.d.w.chance(300, "mark", t.id, t.read["a"], t.read["b"]) {
			t.mark(b)
		}
	}
	// What is not marked is marked with what comes next, or when nothing does.
	if len(b.Records) > 0 && len(b.Records) < t.s.batch && !t.d.w.chance(300, "tail", t.id, t.reads) || len(b.Records) == 0 && late && t.unmarked() {
		t.mark(b)
	}
	return t.d.changed, !b.Empty()
}

func (t *sourceTask) unmarked() bool {
	for _, k := range kinds {
		if t.read[k] != t.marked[k] {
			return true
		}
	}
	return false
}

func (t *sourceTask) mark(b *connectors.Batch) {
	for _, k := range kinds {
		if t.read[k] != t.marked[k] {
			b.Mark(connectors.PositionKey(k), at(t.read[k]), true)
			t.marked[k] = t.read[k]
		}
	}
}

// Committed frees rows. That they are durable elsewhere is invariant 5.
func (t *sourceTask) Committed(_ context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	return t.s.p.call("source's Committed", func() error {
		t.mu.Lock()
		if t.closed {
			t.d.w.violated("Committed after Close of %s/%s", t.s.env.Name, t.split.ID)
		}
		t.mu.Unlock()
		for k, p := range positions {
			n, have := number(p), t.durable(string(k))
			if n > have {
				t.d.w.violated("%s is told that row %d is durable, and the log says %d", t.stream(string(k)), n, have)
			}
			t.d.mu.Lock()
			s := t.d.streams[t.stream(string(k))]
			s.freed = max(s.freed, n)
			t.d.mu.Unlock()
		}
		return nil
	})
}

func (t *sourceTask) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return nil
}
