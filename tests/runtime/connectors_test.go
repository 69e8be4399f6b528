package runtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

// numbers is a source of n numbered records. It panics the test when it is told
// Committed for what it has not handed over.
type numbers struct {
	topic string
	n     int64
	typed bool
	full  bool  // every Read fills the batch
	keys  int64 // of typed records; 0: each has its own

	mu        sync.Mutex
	grown     chan struct{}
	committed int64 // the highest position ever acknowledged
	opens     int
	doubted   error // a promise of the runtime that was not kept
}

type numberPosition struct {
	Next int64 `json:"next"`
}

func positionOf(next int64) connectors.Position {
	b, _ := json.Marshal(numberPosition{next}) // two ints cannot fail
	return b
}

func nextOf(p connectors.Position) int64 {
	var n numberPosition
	if p == nil || json.Unmarshal(p, &n) != nil {
		return 0
	}
	return n.Next
}

func (s *numbers) Validate(context.Context) []spec.Finding { return nil }
func (s *numbers) Plan(context.Context, int) ([]connectors.Split, error) {
	return []connectors.Split{{ID: "0"}}, nil
}
func (s *numbers) Topics(context.Context) ([]connectors.TopicSpec, error) {
	return []connectors.TopicSpec{{Name: s.topic}}, nil
}
func (s *numbers) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}
func (s *numbers) Compare(_ connectors.PositionKey, a, b connectors.Position) int {
	return int(nextOf(a) - nextOf(b))
}
func (s *numbers) Task(connectors.Split) connectors.SourceTask { return &numbersTask{s: s} }

// more lets the source hold n more records; its task reads them after a wake-up.
func (s *numbers) more(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += n
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
}

// size is n, and a channel that is closed when it has grown.
func (s *numbers) size() (int64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grown == nil {
		s.grown = make(chan struct{})
	}
	return s.n, s.grown
}

func (s *numbers) acknowledged() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed
}

func (s *numbers) opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opens
}

type numbersTask struct {
	s    *numbers
	next int64
}

func (t *numbersTask) Open(_ context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	t.next = nextOf(positions["n"])
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.opens++
	// Invariant 5: what was acknowledged was durable. So no start is behind it.
	if t.next < t.s.committed {
		t.s.doubted = fmt.Errorf("opened at %d after %d had been acknowledged", t.next, t.s.committed)
	}
	return nil
}

var numberRow = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{
	{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}, {Name: "name", Schema: &schema.Schema{Kind: schema.String, Optional: true}},
}}
var numberKey = &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "id", Schema: &schema.Schema{Kind: schema.Int64}}}}

func (t *numbersTask) Read(ctx context.Context, b *connectors.Batch) error {
	n, grown := t.s.size()
	for t.next == n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-grown:
			n, grown = t.s.size()
		}
	}
	for i, most := 0, 1+rand.IntN(50); i < most || t.s.full; i++ {
		if t.next == n || b.Full() {
			break
		}
		r := connectors.Record{Topic: t.s.topic, Partition: -1}
		if t.s.typed {
			key := t.next
			if t.s.keys > 0 {
				key %= t.s.keys
			}
			r.Key = connectors.Datum{Schema: numberKey, Value: schema.StructOf(schema.Int64Of(key))}
			r.Change = &connectors.Change{Op: connectors.OpCreate, Row: numberRow, After: schema.StructOf(schema.Int64Of(t.next), schema.StringOf("n")), At: time.Now()}
		} else {
			r.RawValue = b.Copy(strconv.AppendInt(nil, t.next, 10))
		}
		b.Add(r, 100)
		t.next++
		if !t.s.full && rand.IntN(3) == 0 {
			b.Mark("n", positionOf(t.next), true)
		}
	}
	b.Mark("n", positionOf(t.next), true)
	return ctx.Err()
}

func (t *numbersTask) Committed(_ context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	n := nextOf(positions["n"])
	if n < t.s.committed {
		t.s.doubted = fmt.Errorf("acknowledged %d after %d", n, t.s.committed)
	}
	t.s.committed = n
	return nil
}
func (t *numbersTask) Close() error { return nil }

// memory is a sink whose target lives through every kill of its tasks: what was
// committed, by partition, with compare-and-set on the start offset.
type memory struct {
	topics []string

	mu      sync.Mutex
	next    map[connectors.TopicPartition]int64
	values  map[connectors.TopicPartition][]int64
	ids     map[connectors.TopicPartition][16]byte
	newest  int64 // the highest number that the running task was given; -1: none, or no task runs
	decoded int   // records whose types came back
	reject  func(*connectors.Record) bool
	order   []int64                                       // the numbers in the order in which they were committed
	places  map[int64]connectors.Place                    // where they say that they lie
	step    func(string, connectors.TopicPartition) error // "write", "commit", "committed": an error there is a death there
}

func newMemory(topics ...string) *memory {
	return &memory{topics: topics, places: map[int64]connectors.Place{}, step: func(string, connectors.TopicPartition) error { return nil }, next: map[connectors.TopicPartition]int64{}, values: map[connectors.TopicPartition][]int64{}, ids: map[connectors.TopicPartition][16]byte{}, newest: -1}
}

func (m *memory) Validate(context.Context) []spec.Finding { return nil }
func (m *memory) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}
func (m *memory) Topics() []string { return m.topics }
func (m *memory) Task(env connectors.SinkEnv) connectors.SinkTask {
	return &memoryTask{m: m, env: env, open: map[connectors.TopicPartition]*pending{}}
}

func (m *memory) all() []int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []int64
	for _, v := range m.values {
		out = append(out, v...)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, v := range m.values {
		n += len(v)
	}
	return n
}

// given tells whether the running task has every number up to n: what it has not committed yet it commits when it ends.
func (m *memory) given(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.newest >= n
}

type pending struct {
	from, next int64
	values     []int64
}

type memoryTask struct {
	m    *memory
	env  connectors.SinkEnv
	open map[connectors.TopicPartition]*pending
}

func (t *memoryTask) Open(context.Context) error { return nil }

func (t *memoryTask) Recover(_ context.Context, as []connectors.Assignment) (map[connectors.TopicPartition]int64, error) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	t.m.newest = -1
	out := map[connectors.TopicPartition]int64{}
	for _, a := range as {
		at, ok := t.m.next[a.TopicPartition]
		if ok && t.m.ids[a.TopicPartition] != a.TopicID {
			return nil, connectors.Fatal(fmt.Errorf("topic %s was created again", a.Topic), "")
		}
		if !ok {
			at = a.First()
		}
		t.m.ids[a.TopicPartition] = a.TopicID
		out[a.TopicPartition] = at
		t.open[a.TopicPartition] = &pending{from: at, next: at}
	}
	return out, nil
}

func (t *memoryTask) Write(_ context.Context, records []connectors.Record) ([]connectors.Reject, error) {
	var rejects []connectors.Reject
	if err := t.m.step("write", connectors.TopicPartition{Topic: records[0].Topic, Partition: records[0].Partition}); err != nil {
		return nil, err
	}
	for i := range records {
		r := &records[i]
		p := t.open[connectors.TopicPartition{Topic: r.Topic, Partition: r.Partition}]
		if r.Offset < p.next {
			return nil, fmt.Errorf("offset %d after %d", r.Offset, p.next)
		}
		if t.m.reject != nil && t.m.reject(r) {
			rejects = append(rejects, connectors.Reject{Index: i, Reason: errors.New("too odd")})
			continue
		}
		if err := t.env.Decode(r); err != nil {
			return nil, err
		}
		n, err := number(r)
		if err != nil {
			return nil, err
		}
		t.m.mu.Lock()
		t.m.newest = max(t.m.newest, n)
		t.m.places[n] = r.Place()
		if r.Change != nil {
			t.m.decoded++
		}
		t.m.mu.Unlock()
		p.values = append(p.values, n)
		p.next = r.Offset + 1
	}
	return rejects, nil
}

func number(r *connectors.Record) (int64, error) {
	if r.Change != nil && r.Change.Op == connectors.OpTruncate {
		return r.Place().Offset, nil
	}
	if r.Change != nil {
		return r.Change.After.List[0].Int(), nil
	}
	return strconv.ParseInt(string(r.RawValue), 10, 64)
}

func (t *memoryTask) Tick(time.Time) []connectors.TopicPartition {
	var due []connectors.TopicPartition
	for tp, p := range t.open {
		if len(p.values) >= 100 {
			due = append(due, tp)
		}
	}
	return due
}

func (t *memoryTask) Prepare(_ context.Context, tps []connectors.TopicPartition, _ connectors.Cause) ([]connectors.Token, error) {
	var out []connectors.Token
	for _, tp := range tps {
		if p := t.open[tp]; len(p.values) > 0 {
			out = append(out, connectors.Token{TopicPartition: tp, Next: p.next, Data: *p})
			t.open[tp] = &pending{from: p.next, next: p.next}
		}
	}
	return out, nil
}

func (t *memoryTask) Commit(_ context.Context, token connectors.Token) error {
	if err := t.m.step("commit", token.TopicPartition); err != nil {
		return err
	}
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	p := token.Data.(pending)
	if at, ok := t.m.next[token.TopicPartition]; ok && at != p.from {
		return fmt.Errorf("lost the race: the target is at %d, not %d", at, p.from)
	}
	if err := t.env.Alive(); err != nil {
		return err
	}
	t.m.next[token.TopicPartition] = p.next
	t.m.values[token.TopicPartition] = append(t.m.values[token.TopicPartition], p.values...)
	t.m.order = append(t.m.order, p.values...)
	return t.m.step("committed", token.TopicPartition)
}

func (t *memoryTask) Revoke(_ context.Context, tps []connectors.TopicPartition) error {
	for _, tp := range tps {
		delete(t.open, tp)
	}
	return nil
}

func (t *memoryTask) Close() error {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	t.m.newest = -1
	return nil
}
