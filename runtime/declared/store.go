package declared

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// transactionalID is one for all groups: so that nobody else's open transaction can hide a set from its writer.
const transactionalID = "forebay.configs"

var (
	// ErrChanged says that the set is not the one any more that a plan was made for.
	ErrChanged = errors.New("the declared connectors have changed meanwhile")
	// ErrUnknown says that no connector of that name is declared.
	ErrUnknown = errors.New("no such connector is declared")
)

// Options make a Store.
type Options struct {
	Log    hublog.Options
	Group  string
	Host   string // of this machine: written into what it declares
	Types  Types
	Logger *slog.Logger
}

// Store reads and changes a group's set. It may be used concurrently.
type Store struct {
	o   Options
	log *hublog.Log
	mu  sync.Mutex    // one edit of this process at a time; others are fenced or fence
	new chan struct{} // capacity 1: this process has changed the set
}

// Open makes a Store; it does no I/O.
func Open(o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := hublog.Open(o.Log)
	if err != nil {
		return nil, err
	}
	return &Store{o: o, log: l, new: make(chan struct{}, 1)}, nil
}

// Close ends the connection to the log.
func (s *Store) Close() { s.log.Close() }

// Types is what can be declared.
func (s *Store) Types() Types { return s.o.Types }

const (
	lookEvery = time.Second     // for the topic, while nobody has declared anything
	waitLong  = 5 * time.Second // for news; they end the waiting
	again     = time.Second     // after an error
)

// Watch calls fn with the group's set and again with every later one, until ctx ends. It does not call it as
// long as nothing was ever declared.
func (s *Store) Watch(ctx context.Context, fn func(Set)) {
	var seen int64
	for ctx.Err() == nil {
		err := s.follow(ctx, func(set Set) {
			if set.Version != seen {
				seen = set.Version
				fn(set)
			}
		})
		wait := lookEvery
		if err != nil && ctx.Err() == nil {
			s.o.Logger.Warn("cannot follow the declared connectors", "error", err, "again in", again)
			wait = again
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-s.new:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// follow reads the topic from its start until ctx ends or something fails; nil when there is no topic yet.
func (s *Store) follow(ctx context.Context, fn func(Set)) error {
	tp := connectors.TopicPartition{Topic: Topic}
	at, err := s.ends(ctx)
	if err != nil || at == nil {
		return err
	}
	p, err := s.log.NewWatcher(waitLong)
	if err != nil {
		return err
	}
	defer p.Close()
	p.Add(map[connectors.TopicPartition]int64{tp: at.Start})
	var last *Set
	for caught := false; ; {
		wait := waitLong
		if !caught {
			wait = silence
		}
		before := p.Next(tp)
		got, err := s.poll(ctx, p, wait)
		if err != nil {
			return err
		}
		if got != nil {
			last = got
		}
		// Nobody must see a set that a later one has replaced long ago: first to the end.
		if !caught {
			if caught = p.Next(tp) >= at.LSO; !caught && p.Next(tp) == before {
				if caught, err = s.void(ctx, before); err != nil {
					return err
				}
			}
		}
		if caught && last != nil {
			fn(*last)
			last = nil
		}
	}
}

// void says that the topic has nothing at an offset and behind it: compaction may remove the last record. Silence is not enough for that. A reader hears nothing of
// a damaged batch, nor of a node that it cannot reach, and whoever takes the sets before it for all there are runs what was removed long ago.
func (s *Store) void(ctx context.Context, offset int64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	n, err := s.log.Peek(ctx, connectors.TopicPartition{Topic: Topic}, offset)
	return err == nil && n == 0, err
}

// poll returns the last of the group's sets that a poll brought, nil for none.
func (s *Store) poll(ctx context.Context, p *hublog.Poller, wait time.Duration) (last *Set, err error) {
	runs, err := p.Poll(ctx, wait)
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		for _, r := range run.Records {
			k, err := parseKey(r.RawKey)
			if err != nil {
				return nil, fmt.Errorf("offset %d: %w", r.Offset, err)
			}
			if k.Group != s.o.Group || k.Open || r.RawValue == nil {
				continue
			}
			set, err := decodeSet(r.RawValue)
			if err != nil {
				return nil, fmt.Errorf("offset %d: %w", r.Offset, err)
			}
			last = &set
		}
	}
	return last, nil
}

// ends are the ends of the topic; nil when it is not there.
func (s *Store) ends(ctx context.Context) (*hublog.Offsets, error) {
	tp := connectors.TopicPartition{Topic: Topic}
	have, err := s.log.Topics(ctx, Topic)
	if err != nil || len(have) == 0 {
		return nil, err
	}
	ends, err := s.log.Offsets(ctx, tp)
	if err != nil {
		return nil, err
	}
	at, ok := ends[tp]
	if !ok {
		return nil, nil
	}
	return &at, nil
}

const (
	silence  = 2 * time.Second  // how long nothing may come before the topic's leader is asked whether there is anything
	patience = 20 * time.Second // how long nothing may come though there is something
)

// Load reads the group's set as it is now.
func (s *Store) Load(ctx context.Context) (Set, error) {
	for began := time.Now(); ; {
		at, err := s.ends(ctx)
		if err != nil {
			return Set{}, fmt.Errorf("read the declared connectors: %w", err)
		}
		if at == nil {
			return Set{}, nil
		}
		// A commit is acknowledged a moment before its marker is in the partition (KIP-98): what lies beyond the
		// last stable offset may count already. A writer that has died in the middle holds it down for longer.
		if at.LSO >= at.End || time.Since(began) > silence {
			return s.read(ctx, at.Start, at.LSO, true)
		}
		if err := pause.For(ctx, 5*time.Millisecond); err != nil {
			return Set{}, err
		}
	}
}

// read reads up to, not including, an offset.
func (s *Store) read(ctx context.Context, from, to int64, mayEnd bool) (Set, error) {
	var set Set
	if from >= to {
		return set, nil
	}
	tp := connectors.TopicPartition{Topic: Topic}
	p, err := s.log.NewPoller()
	if err != nil {
		return set, err
	}
	defer p.Close()
	p.Add(map[connectors.TopicPartition]int64{tp: from})
	heard := time.Now()
	for next := from; next < to; {
		last, err := s.poll(ctx, p, time.Second)
		if err != nil {
			return set, fmt.Errorf("read the declared connectors: %w", err)
		}
		if last != nil {
			set = *last
		}
		if p.Next(tp) > next {
			next, heard = p.Next(tp), time.Now()
			continue
		}
		if time.Since(heard) <= silence {
			continue
		}
		switch void, err := s.void(ctx, next); {
		case err != nil && (time.Since(heard) > patience || errors.Is(err, kerr.CorruptMessage)): // which does not pass
			return set, fmt.Errorf("read the declared connectors: %w", err)
		case err == nil && void && mayEnd:
			return set, nil
		case time.Since(heard) > patience:
			return set, fmt.Errorf("read the declared connectors: nothing came after offset %d of %s, though it goes up to %d", next, Topic, to)
		}
	}
	return set, nil
}

// Edit makes the new set of a group's connectors from the one that is declared. It may be called more than once.
type Edit func(have []Connector) (want []Connector, err error)

// Replace is the edit that declares exactly these. Those that were there stay in their state.
func Replace(want []Connector) Edit {
	return func(have []Connector) ([]Connector, error) {
		out := slices.Clone(want)
		for i := range out {
			if h, ok := (Set{Connectors: have}).find(out[i].Name); ok {
				out[i].State = h.State
			}
		}
		return out, nil
	}
}

// Put is the edit that declares one connector, new or changed. One that was there stays in its state.
func Put(c Connector) Edit {
	return func(have []Connector) ([]Connector, error) {
		out := slices.Clone(have)
		if i := slices.IndexFunc(out, func(h Connector) bool { return h.Name == c.Name }); i >= 0 {
			c.State = out[i].State
			out[i] = c
			return out, nil
		}
		return append(out, c), nil
	}
}

// SetState is the edit that changes what one connector shall be doing.
func SetState(name string, s State) Edit {
	return func(have []Connector) ([]Connector, error) {
		out := slices.Clone(have)
		i := slices.IndexFunc(out, func(h Connector) bool { return h.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%w: %s", ErrUnknown, name)
		}
		out[i].State = s
		return out, nil
	}
}

// Delete is the edit that removes one connector.
func Delete(name string) Edit {
	return func(have []Connector) ([]Connector, error) {
		out := slices.DeleteFunc(slices.Clone(have), func(h Connector) bool { return h.Name == name })
		if len(out) == len(have) {
			return nil, fmt.Errorf("%w: %s", ErrUnknown, name)
		}
		return out, nil
	}
}

// Plan says what an edit would do to the set as it is now.
func (s *Store) Plan(ctx context.Context, edit Edit) (Plan, error) {
	have, err := s.Load(ctx)
	if err != nil {
		return Plan{}, err
	}
	_, plan, err := s.edited(have, edit)
	return plan, err
}

// edited applies an edit in memory.
func (s *Store) edited(have Set, edit Edit) (Set, Plan, error) {
	want, err := edit(have.Connectors)
	if err != nil {
		return Set{}, Plan{}, err
	}
	names := map[string]bool{}
	for _, c := range want {
		if err := s.o.Types.Check(c); err != nil {
			// One that is declared already and stays as it is must not keep others from being mended.
			if h, ok := have.find(c.Name); !ok || !h.Same(c) {
				return Set{}, Plan{}, err
			}
		}
		if names[c.Name] {
			return Set{}, Plan{}, fmt.Errorf("%w: two connectors are called '%s'", ErrInvalid, c.Name)
		}
		names[c.Name] = true
	}
	plan := s.o.Types.Compare(have.Connectors, want)
	plan.Version = have.Version
	return Set{Version: have.Version + 1, Connectors: want, At: time.Now(), Host: s.o.Host}, plan, nil
}

// Any is the expected version of an edit that is right whatever is declared.
const Any int64 = -1

// attempts bound how often an edit begins anew because another one fenced it.
const attempts = 10

// Apply makes the edit the declared set, if the set's version is still expect; else it returns ErrChanged.
// The plan that comes back is what was done; its version is the new set's.
//
// Whoever edits fences all others first (invariant 7) and reads the set after that: what it read is the truth
// until it commits, or it is fenced itself and its commit fails. So one of two concurrent edits
// of the same version wins, and the other finds another version than it expects.
func (s *Store) Apply(ctx context.Context, edit Edit, expect int64) (Plan, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.log.EnsureTopic(ctx, TopicSpec()); err != nil {
		return Plan{}, err
	}
	for try := 1; ; try++ {
		plan, err := s.apply(ctx, edit, expect)
		if err == nil {
			select {
			case s.new <- struct{}{}:
			default:
			}
			return plan, nil
		}
		if !errors.Is(err, hublog.ErrFenced) || try == attempts {
			return plan, err
		}
		if err := pause.For(ctx, time.Duration(try)*50*time.Millisecond); err != nil {
			return plan, err
		}
	}
}

func (s *Store) apply(ctx context.Context, edit Edit, expect int64) (Plan, error) {
	a, err := s.log.NewAppender(ctx, transactionalID, maxSetBytes+32<<10)
	if err != nil {
		return Plan{}, err
	}
	defer a.Close()
	openKey, err := keyOf(s.o.Group, true)
	if err != nil {
		return Plan{}, err
	}
	if err := a.Begin(); err != nil {
		return Plan{}, err
	}
	a.AppendTracked(Topic, 0, openKey, []byte(s.o.Host))
	barrier, err := a.Commit(ctx)
	if err != nil {
		return Plan{}, err
	}
	at, err := s.ends(ctx)
	if err != nil {
		return Plan{}, err
	}
	if at == nil {
		return Plan{}, fmt.Errorf("topic %s is gone", Topic)
	}
	have, err := s.read(ctx, at.Start, barrier+1, false)
	if err != nil {
		return Plan{}, err
	}
	if expect != Any && have.Version != expect {
		return Plan{}, fmt.Errorf("%w: they are at version %d, made on %s at %s, and not at %d",
			ErrChanged, have.Version, have.Host, have.At.UTC().Format(time.RFC3339), expect)
	}
	want, plan, err := s.edited(have, edit)
	if err != nil || plan.Empty() {
		return plan, err
	}
	key, err := keyOf(s.o.Group, false)
	if err != nil {
		return Plan{}, err
	}
	value, err := want.encode()
	if err != nil {
		return Plan{}, err
	}
	if err := a.Begin(); err != nil {
		return Plan{}, err
	}
	a.Append(Topic, 0, key, value, nil, want.At)
	if _, err := a.Commit(ctx); err != nil {
		return Plan{}, fmt.Errorf("store the declared connectors: %w", err)
	}
	plan.Version = want.Version
	return plan, nil
}
