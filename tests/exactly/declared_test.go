//go:build synctests

package exactly

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// sets is a log and what opens stores of one group on it: each connection takes as long as slow says of its number.
func sets(t *testing.T, play func(t *testing.T, w *World, open func(slow func(n int) time.Duration) *declared.Store)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		p := &process{w: w, name: "somebody", died: make(chan struct{}), done: make(chan struct{})}
		rows := connectors.SourceType{Name: "rows", Spec: sourceSpec, New: func(spec.Values, connectors.Env) (connectors.Source, error) { return nil, nil }}
		play(t, w, func(slow func(int) time.Duration) *declared.Store {
			n := 0
			s, err := declared.Open(declared.Options{Group: group1, Host: "here", Types: declared.Types{Registry: connectors.Registry{Sources: []connectors.SourceType{rows}}},
				Log: hublog.Options{Dial: func(ctx context.Context) (net.Conn, error) {
					w.mu.Lock()
					n++
					d := slow(n)
					w.mu.Unlock()
					if err := pause.For(ctx, d); err != nil {
						return nil, err
					}
					return w.log.dial(ctx, p)
				}}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
		w.log.restart(0)
		time.Sleep(5 * time.Minute)
	})
}

func quick(int) time.Duration { return 0 }

// put declares one connector more.
func put(t *testing.T, s *declared.Store, n int) {
	t.Helper()
	if _, err := s.Apply(t.Context(), declared.Put(declared.Connector{Name: fmt.Sprint("c", n), Kind: declared.Source, Type: "rows"}), declared.Any); err != nil {
		t.Fatal(err)
	}
}

// A set that lies before damage is not the one that is declared: nobody is given it, and nobody plans from it.
func TestDeclaredBehindDamage(t *testing.T) {
	sets(t, func(t *testing.T, w *World, open func(func(int) time.Duration) *declared.Store) {
		s := open(quick)
		defer s.Close()
		where := place{declared.Topic, 0}
		put(t, s, 1)
		put(t, s, 2)
		time.Sleep(time.Second)
		w.log.damage(where)
		if set, err := s.Load(t.Context()); err != nil || set.Version != 2 { // nothing lies there yet
			t.Errorf("version %d, %v", set.Version, err)
		}
		_, err := s.Apply(t.Context(), declared.Delete("c1"), declared.Any) // which cannot read its own barrier
		if err == nil || !strings.Contains(err.Error(), kerr.CorruptMessage.Message) {
			t.Error("a writer:", err)
		}
		if set, err := s.Load(t.Context()); err == nil || !strings.Contains(err.Error(), kerr.CorruptMessage.Message) {
			t.Errorf("version %d is loaded, %v", set.Version, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		seen, over := make(chan int64, 10), make(chan struct{})
		go func() {
			defer close(over)
			s.Watch(ctx, func(set declared.Set) { seen <- set.Version })
		}()
		time.Sleep(time.Minute)
		if len(seen) > 0 {
			t.Errorf("version %d is taken for what is declared", <-seen)
		}
		w.log.heal(where)
		put(t, s, 3)
		time.Sleep(10 * time.Second)
		if len(seen) != 1 || <-seen != 3 {
			t.Error("and when it can be read again")
		}
		cancel()
		<-over
	})
}

// A node that is slow to reach is not one that has nothing to say.
func TestDeclaredOverASlowConnection(t *testing.T) {
	sets(t, func(t *testing.T, w *World, open func(func(int) time.Duration) *declared.Store) {
		s := open(quick)
		put(t, s, 1)
		s.Close()
		s = open(func(n int) time.Duration {
			if n > 2 { // those of the reader
				return 2900 * time.Millisecond
			}
			return 0
		})
		defer s.Close()
		if set, err := s.Load(t.Context()); err != nil || set.Version != 1 {
			t.Errorf("version %d, %v", set.Version, err)
		}
	})
}
