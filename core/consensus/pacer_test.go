package consensus

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPacer: what a follower knows is told again after paceIdle, what it does not know at once, and what comes up ends the wait.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer()
		took := func(x told) time.Duration {
			began := time.Now()
			p.wait("2", x)
			return time.Since(began)
		}
		want := func(what string, got, want time.Duration) {
			t.Helper()
			if got != want {
				t.Errorf("%s waited %v, want %v", what, got, want)
			}
		}
		x := told{term: 3, prevTerm: 3, prev: 10, committed: 9}
		want("what was never told", took(x), 0)
		p.acknowledged("2", x)
		want("a repetition", took(x), paceIdle)
		want("a repetition that nobody acknowledged since", took(x), 0)
		p.acknowledged("2", x)
		y := x
		y.committed = 10
		want("a new watermark", took(y), 0)
		p.acknowledged("2", y)

		done := make(chan time.Duration)
		go func() { done <- took(y) }()
		<-time.After(paceIdle / 4) // of the bubble's clock, as all here
		synctest.Wait()
		p.wake()
		want("a repetition that is overtaken by an entry", <-done, paceIdle/4)
		want("a repetition right after an entry", took(y), 0)
		<-time.After(paceAwake + 1)
		p.acknowledged("2", y)
		want("a repetition a while after an entry", took(y), paceIdle)

		go func() { done <- took(y) }()
		p.acknowledged("2", y)
		go func() { done <- took(y) }()
		synctest.Wait()
		p.end()
		<-done
		<-done
		<-time.After(paceAwake + 1)
		p.acknowledged("2", y)
		want("a repetition at the end", took(y), 0)
	})
}
