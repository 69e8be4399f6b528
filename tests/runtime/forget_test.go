package runtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

// forgetful reads one file, as it were, and forgets it.
type forgetful struct {
	numbers
	told chan connectors.Position
}

func (s *forgetful) Task(connectors.Split) connectors.SourceTask { return &forgetfulTask{s: s} }

type forgetfulTask struct {
	s    *forgetful
	read int
}

func (t *forgetfulTask) Open(context.Context, map[connectors.PositionKey]connectors.Position) error {
	return nil
}

func (t *forgetfulTask) Read(ctx context.Context, b *connectors.Batch) error {
	switch t.read++; t.read {
	case 1:
		b.Add(connectors.Record{Topic: t.s.topic, Partition: -1, RawValue: b.Copy([]byte("a line"))}, 10)
		b.Mark("file", positionOf(1), true)
	case 2:
		b.Mark("file", nil, true)
	default:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (t *forgetfulTask) Committed(_ context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	if p, ok := positions["file"]; ok {
		t.s.told <- p
	}
	return nil
}

func (t *forgetfulTask) Close() error { return nil }

// A source that keeps something until a key is forgotten, a deleted file's descriptor, hears of that too.
// Otherwise a task that starts again has the file, but no position of it: its lines were doubled.
func TestForgottenKeysAreAcknowledged(t *testing.T) {
	b := newBench(t)
	s := &forgetful{numbers: numbers{topic: unique("t")}, told: make(chan connectors.Position, 8)}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- b.run(ctx, s, time.Second) }()
	for {
		select {
		case p := <-s.told:
			if p == nil {
				cancel()
				<-done
				return
			}
		case err := <-done:
			t.Fatalf("the task ended, and nothing said that the key is forgotten: %v", err)
		}
	}
}
