package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// Options make a registry.
type Options struct {
	// Log is where Topic is. It must be Forebay's: appends go by an expected offset.
	Log    hublog.Options
	Logger *slog.Logger // nil: silent
}

// store is the topic and what it says. One request at a time has its turn: it reads on to the topic's end, looks or decides, and appends. Whoever waits
// for the turn waits as long as its context lets it.
type store struct {
	o    Options
	turn chan struct{} // capacity 1: full while somebody has it, and for ever once it was closed

	// What follows belongs to whoever has the turn.
	log    *hublog.Log // nil until the first request
	id     [16]byte    // of the topic that was read
	state  *state
	next   int64 // the offset to read next
	usable bool  // the topic's configs were looked at

	// The last append: whether what came at its offset is what it appended.
	try struct {
		at      int64
		records []hublog.KeyValue
		same    int
	}
}

func newStore(o Options) *store {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &store{o: o, turn: make(chan struct{}, 1), state: newState()}
}

func (s *store) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close takes the last turn, once: who still waits, or comes later, would open the log again.
func (s *store) close() {
	s.turn <- struct{}{}
	if s.log != nil {
		s.log.Close()
		s.log = nil
	}
}

// view calls fn with everything that was committed before.
func (s *store) view(ctx context.Context, fn func(*state) error) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer func() { <-s.turn }()
	if err := s.current(ctx); err != nil {
		return err
	}
	return fn(s.state)
}

// current is readOn, again and again while a leader is elected or a node is away.
func (s *store) current(ctx context.Context) error {
	for {
		err := s.readOn(ctx)
		if err == nil || lasting(err) {
			return err
		}
		if pause.For(ctx, again) != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// again is how soon a node that is away is asked once more.
const again = 50 * time.Millisecond

// lasting says that an error will not go away by itself.
func lasting(err error) bool {
	var of *kerr.Error
	return errors.Is(err, errTopic) || errors.As(err, &of) && !of.Retriable
}

// errTopic says that the topic is none for a registry.
var errTopic = errors.New("the topic of the schema registry cannot be used")

// change appends what decide wants and returns once that is committed. decide sees everything that was committed before, and nothing is committed between its decision
// and its records: if another node was faster it is asked anew. Without records nothing is appended.
func (s *store) change(ctx context.Context, decide func(*state) ([]hublog.KeyValue, error)) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer func() { <-s.turn }()
	s.try.records = nil
	for wait := time.Millisecond; ; wait = min(2*wait, 2*again) {
		if err := s.current(ctx); err != nil {
			return err
		}
		if s.try.records != nil && s.try.same == len(s.try.records) {
			return nil // what was refused, or had no answer, is there: it was a second try of one that was appended
		}
		records, err := decide(s.state)
		if err != nil || len(records) == 0 {
			return err
		}
		if err = s.ready(ctx); err == nil {
			s.try.at, s.try.records, s.try.same = s.next, records, 0
			err = s.log.AppendAt(ctx, Topic, 0, s.next, records)
		}
		if err == nil || lasting(err) {
			return err
		}
		// Another node's records may be appended and not committed yet: then there is nothing to read at once. Or nobody knows whether these are.
		if pause.For(ctx, wait) != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// ready makes the topic, if need be, and sees to it that conditions count there.
func (s *store) ready(ctx context.Context) error {
	if s.usable {
		return nil
	}
	if _, err := s.log.EnsureTopic(ctx, connectors.TopicSpec{Name: Topic, Partitions: 1, Configs: map[string]string{
		"cleanup.policy": "compact", hublog.AppendCondition: "true"}}); err != nil {
		return err
	}
	topics, err := s.log.Topics(ctx, Topic)
	if err != nil {
		return err
	}
	if n := topics[Topic].Partitions; n != 1 {
		return fmt.Errorf("%w: %s has %d partitions and not one", errTopic, Topic, n)
	}
	configs, err := s.log.TopicConfigs(ctx, Topic)
	if err != nil {
		return err
	}
	if configs["cleanup.policy"] != "compact" {
		return fmt.Errorf("%w: %s has cleanup.policy=%s, which forgets schemas, and not compact", errTopic, Topic, configs["cleanup.policy"])
	}
	if !strings.EqualFold(configs[hublog.AppendCondition], "true") { // made by Confluent's registry
		if err := s.log.SetTopicConfig(ctx, Topic, hublog.AppendCondition, "true"); err != nil {
			return err
		}
	}
	if s.id == ([16]byte{}) {
		s.id = topics[Topic].ID
	} else if s.id != topics[Topic].ID {
		return fmt.Errorf("%w: %s was deleted and created again at this moment", errTopic, Topic)
	}
	s.usable = true
	return nil
}

// readOn reads everything that is committed.
func (s *store) readOn(ctx context.Context) error {
	if s.log == nil {
		l, err := hublog.Open(s.o.Log)
		if err != nil {
			return err
		}
		s.log = l
	}
	topics, err := s.log.Topics(ctx, Topic)
	if err != nil {
		return err
	}
	topic, there := topics[Topic]
	if !there || topic.ID != s.id {
		s.forget()
		s.id = topic.ID
	}
	if !there {
		return nil
	}
	start, end, err := s.log.Ends(ctx, Topic, 0)
	if err != nil {
		return err
	}
	if end < s.next { // an unclean election has taken records back
		s.forget()
		s.id = topic.ID
	}
	s.next = max(s.next, start) // compaction moves no offsets; DeleteRecords does
	return s.readTo(ctx, end)
}

// forget begins anew: the topic is another one.
func (s *store) forget() {
	s.state, s.next, s.usable, s.id, s.try.records = newState(), 0, false, [16]byte{}, nil
}

// silence is how long nothing may come although the topic goes on. Then what lies there was compacted away.
const silence = 2 * time.Second

// readTo reads up to an offset. Where compaction has left nothing at the topic's end a reader cannot know that it has come there. Then a NOOP record is
// appended at exactly that end, as Confluent's registry does at its start, and read up to.
func (s *store) readTo(ctx context.Context, to int64) error {
	if s.next >= to {
		return nil
	}
	before := s.next
	scanned, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(silence, cancel)
	defer timer.Stop()
	next, err := s.log.Scan(scanned, Topic, 0, s.next, to, func(e hublog.Entry) error {
		timer.Reset(silence)
		s.takeIn(e)
		s.next = e.Offset + 1
		return nil
	})
	switch {
	case err == nil:
		s.next = next
		return nil
	case ctx.Err() != nil || scanned.Err() == nil:
		return err
	case s.next > before: // slow, but it goes on
		return s.readTo(ctx, to)
	}
	noop, err := record(key{Type: keyNoop}, nil)
	if err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := s.log.AppendAt(ctx, Topic, 0, to, []hublog.KeyValue{noop}); err != nil && !errors.Is(err, hublog.ErrMoved) {
		return err
	}
	_, end, err := s.log.Ends(ctx, Topic, 0)
	if err != nil {
		return err
	}
	if next, err = s.log.Scan(ctx, Topic, 0, s.next, end, func(e hublog.Entry) error {
		s.takeIn(e)
		s.next = e.Offset + 1
		return nil
	}); err == nil {
		s.next = next
	}
	return err
}

func (s *store) takeIn(e hublog.Entry) {
	if i := e.Offset - s.try.at; i >= 0 && i < int64(len(s.try.records)) && !e.Control {
		if r := s.try.records[i]; bytes.Equal(r.Key, e.Key) && bytes.Equal(r.Value, e.Value) && (r.Value == nil) == (e.Value == nil) {
			s.try.same++
		}
	}
	if e.Control || e.Key == nil {
		return
	}
	if err := s.state.apply(e.Key, e.Value); err != nil {
		s.o.Logger.Warn("a record of the schema registry's topic is left out", "topic", Topic, "offset", e.Offset, "error", err)
	}
}
