package statelog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/statelog"
)

// turn is a Turns in which each wait lets one thing happen.
type turn struct {
	happens []func()
	limit   chan time.Time
	waits   int
}

func (t *turn) Go(fn func())                         { fn() }
func (t *turn) After(time.Duration) <-chan time.Time { return t.limit }
func (t *turn) Wait(ready func() bool) {
	for !ready() {
		t.waits++
		t.happens[0]()
		t.happens = t.happens[1:]
	}
}

// Who waits in turn takes what comes, and of several things that have come always the same one.
func TestAwaitInTurn(t *testing.T) {
	ch := make(chan int, 1)
	limit := make(chan time.Time, 1)
	ctx, cancel := context.WithCancel(context.Background())
	nothing := func() {}
	value := func() { ch <- 7 }
	late := func() { limit <- time.Time{} }
	for _, c := range []struct {
		name    string
		happens []func()
		want    int
		err     error
	}{
		{"a value", []func(){nothing, value}, 7, nil},
		{"too late", []func(){nothing, nothing, late}, 0, statelog.ErrLate},
		{"both", []func(){func() { late(); value() }}, 7, nil},
		{"the end", []func(){cancel}, 0, context.Canceled},
	} {
		turns := &turn{happens: c.happens, limit: limit}
		waits := len(c.happens)
		got, err := statelog.Await(ctx, turns, ch, statelog.After(turns, time.Second))
		if got != c.want || !errors.Is(err, c.err) || turns.waits != waits {
			t.Errorf("%s: %d, %v after %d waits; want %d, %v after %d", c.name, got, err, turns.waits, c.want, c.err, waits)
		}
		select {
		case <-limit:
		default:
		}
	}
	if got, err := statelog.Await(ctx, nil, make(chan int), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("without turns: %d, %v", got, err)
	}
}

// Without turns a limit is a timer, and what comes before it counts.
func TestAwaitWithoutTurns(t *testing.T) {
	ch := make(chan int, 1)
	ch <- 7
	if got, err := statelog.Await(context.Background(), nil, ch, statelog.After(nil, time.Hour)); got != 7 || err != nil {
		t.Errorf("a value: %d, %v", got, err)
	}
	if statelog.Pause(context.Background(), nil, time.Microsecond) != true {
		t.Error("a pause did not end with its time")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if statelog.Pause(ended, nil, time.Hour) {
		t.Error("a pause did not end with its context")
	}
}
