//go:build synctests

package exactly

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/worker"
)

// TestTheLaterOfTwoRunsHoweverQuiet: two workers of one name, which no group has made, do not take the id from each other because one of them had nothing to do
// for longer than the log keeps a transaction (invariant 7). The earlier one fails, and says why.
func TestTheLaterOfTwoRunsHoweverQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		w.knobs, w.healed = knobs{latency: time.Millisecond, parts: 1, splits: 1, sources: 1, sinks: 1}, true
		w.targets["store1"] = newTarget(w, "store1")
		for _, k := range kinds {
			w.db.streams["src1/s0/"+k] = &stream{}
		}
		values := func(s spec.Spec, fields map[string]string) spec.Values {
			v, findings := s.Parse(spec.FlatNode(fields))
			if len(findings) > 0 {
				t.Fatal(findings)
			}
			return v
		}
		begin := func(name string) (*worker.Worker, func()) {
			p := &process{w: w, name: name, died: make(chan struct{}), done: make(chan struct{})}
			o := p.worker()
			o.Connectors = []worker.Config{
				{Name: "src1", Type: "rows", Values: values(sourceSpec.Join(worker.SourceFields), nil)},
				{Name: "store1", Type: "store", Sink: true, Values: values(sinkSpec.Join(worker.SinkFields), map[string]string{"topics": "src1.*", "interval": "2m"})},
			}
			c, err := worker.New(o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				defer close(p.done)
				if err := c.Run(ctx); err != nil {
					t.Error(err)
				}
			}()
			return c, func() { cancel(); <-p.done }
		}
		earlier, stopEarlier := begin("earlier")
		time.Sleep(70 * time.Second)
		later, stopLater := begin("later")
		time.Sleep(70 * time.Second)
		for _, s := range w.db.streams {
			w.db.add(s, 1)
		}
		time.Sleep(5 * time.Minute) // two of the sinks' commits
		for _, s := range earlier.Status() {
			if s.State != worker.Failed || !strings.Contains(s.Error, "another worker of group") {
				t.Errorf("%s of the earlier one is %s: %s", s.Name, s.State, s.Error)
			}
		}
		for _, s := range later.Status() {
			if s.State != worker.Running || s.Restarts != 0 {
				t.Errorf("%s of the later one is %s after %d restarts: %s", s.Name, s.State, s.Restarts, s.Error)
			}
		}
		if n := w.targets["store1"].rows; n != 2 {
			t.Errorf("the target has %d rows of 2", n)
		}
		stopLater()
		stopEarlier()
		w.log.restart(0)
		time.Sleep(5 * time.Minute) // timers of clients and transactions run out
		for _, v := range w.violations {
			t.Error(v)
		}
		if t.Failed() {
			t.Log(strings.Join(w.trace, "\n"))
		}
	})
}
