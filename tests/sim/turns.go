package sim

import (
	"errors"
	"iter"
	"time"
)

// turns is work that waits: of a node's coordinators, or of clients. Each piece is a coroutine that goes on when it is given its turn, at the end of a step:
// nothing ever runs beside something else. It is statelog.Turns.
type turns struct {
	after func(d time.Duration, fn func())
	list  []*turn
	at    *turn // which has its turn
}

type turn struct {
	ready func() bool // nil: it has not begun
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
}

// errEnded ends a piece of work whose process is gone: it only unwinds.
var errEnded = errors.New("its process is gone")

func (t *turns) Go(fn func()) {
	x := &turn{}
	x.next, x.stop = iter.Pull(func(yield func(struct{}) bool) {
		x.yield = yield
		defer func() {
			if r := recover(); r != nil && r != errEnded { //nolint:errorlint // it is that very value
				panic(r)
			}
		}()
		fn()
	})
	t.list = append(t.list, x)
}

func (t *turns) Wait(ready func() bool) {
	x := t.at
	x.ready = ready
	if !x.yield(struct{}{}) {
		panic(errEnded)
	}
}

func (t *turns) After(d time.Duration) <-chan time.Time {
	c := make(chan time.Time, 1)
	t.after(d, func() { c <- time.Time{} })
	return c
}

// run gives everybody who can go on a turn, until nobody can, or halt says so.
func (t *turns) run(halt func() bool) {
	for again := true; again; {
		again = false
		for i := 0; i < len(t.list); i++ {
			if halt != nil && halt() {
				return
			}
			x := t.list[i]
			if x.ready != nil && !x.ready() {
				continue
			}
			again = true
			t.at = x
			if _, waits := x.next(); !waits {
				t.list = append(t.list[:i], t.list[i+1:]...)
				i--
			}
			t.at = nil
		}
	}
}

// end ends them all where they wait.
func (t *turns) end() {
	for _, x := range t.list {
		x.stop()
	}
	t.list = nil
}
