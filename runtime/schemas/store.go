// Package schemas keeps the types of typed records in the compacted topic
// _forebay.schemas: key = fingerprint, value = converter.Entry as JSON. An entry
// is acknowledged by the log before the first record that names it.
package schemas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// Topic is where the entries are.
const Topic = "_forebay.schemas"

// TopicSpec is how it is made.
func TopicSpec() connectors.TopicSpec {
	return connectors.TopicSpec{Name: Topic, Partitions: 1, Configs: map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "8388608",
	}}
}

// ErrUnknown says that the topic does not have an entry: no retry will mend it.
var ErrUnknown = errors.New("the schema is not in " + Topic)

// Store caches the topic for one process. It may be used concurrently.
type Store struct {
	log *hublog.Log

	// mu also serializes reading the topic and appending to it: both are rare.
	mu    sync.Mutex
	known map[string][]byte
	next  int64 // the offset up to which the topic has been read
}

// New makes a Store; it reads the topic when it is first asked.
func New(l *hublog.Log) *Store { return &Store{log: l, known: map[string][]byte{}} }

// Register makes an entry durable, if it is not yet.
func (s *Store) Register(ctx context.Context, e converter.Entry) error {
	id, text := e.ID(), e.JSON()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[id] == nil {
		if err := s.refresh(ctx); err != nil {
			return err
		}
	}
	if have := s.known[id]; have != nil {
		if !bytes.Equal(have, text) {
			return connectors.Fatal(fmt.Errorf("schema %s in %s is another one than the one to register", id, Topic), "two schemas share a fingerprint, or the topic was written by something else")
		}
		return nil
	}
	if err := s.log.Put(ctx, Topic, 0, []byte(id), text); err != nil {
		return fmt.Errorf("register schema %s: %w", id, err)
	}
	s.known[id] = text
	return nil
}

// Lookup finds an entry by its id.
func (s *Store) Lookup(ctx context.Context, id string) (converter.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.known[id]
	if text == nil {
		if err := s.refresh(ctx); err != nil {
			return converter.Entry{}, err
		}
		if text = s.known[id]; text == nil {
			return converter.Entry{}, fmt.Errorf("%w: %s", ErrUnknown, id)
		}
	}
	return converter.ParseEntry(text)
}

// refresh reads what has been appended since the last time.
func (s *Store) refresh(ctx context.Context) error {
	tp := connectors.TopicPartition{Topic: Topic}
	ends, err := s.log.Offsets(ctx, tp)
	if err != nil {
		return fmt.Errorf("read schemas: %w", err)
	}
	at, ok := ends[tp]
	if !ok {
		if _, err := s.log.EnsureTopic(ctx, TopicSpec()); err != nil {
			return fmt.Errorf("read schemas: %w", err)
		}
		return nil
	}
	next, err := s.log.Scan(ctx, Topic, 0, max(s.next, at.Start), at.End, func(e hublog.Entry) error {
		if !e.Control && e.Value != nil {
			s.known[string(e.Key)] = e.Value
		}
		return nil
	})
	s.next = next
	return err
}
