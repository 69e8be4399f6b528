package workers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/tests/node"
)

// run is one life of a connector: from its start on a worker until it stops there. A connector that fails and begins anew begins another one.
type run struct {
	name, worker string
	since        time.Time // as its worker says
}

// sight is what was seen of a connector's latest run that works.
type sight struct {
	run
	first, last time.Time
}

// watcher looks at all nodes, many times a second, for what runs where. A run counts from when it has moved records.
type watcher struct {
	t     *testing.T
	names []string
	nodes []*node.Node
	end   context.CancelFunc
	done  sync.WaitGroup

	mu   sync.Mutex
	seen map[string]sight
	last map[run]time.Time // when a run was last seen at work
}

const lookEvery = 50 * time.Millisecond

func look(t *testing.T, names []string, nodes []*node.Node) *watcher {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{t: t, names: names, nodes: nodes, end: cancel, seen: map[string]sight{}, last: map[run]time.Time{}}
	for _, n := range nodes {
		addr := n.Flag("--http")
		w.done.Go(func() {
			tick := time.NewTicker(lookEvery)
			defer tick.Stop()
			for ctx.Err() == nil {
				asked := time.Now()
				w.take(asked, local(ctx, addr))
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		})
	}
	return w
}

func (w *watcher) stop() {
	w.end()
	w.done.Wait()
}

// status is what a node says of a connector that runs on it.
type status struct {
	Connector struct {
		State  string
		Worker string `json:"worker_id"`
		Trace  string
	}
	Records int64
	Since   time.Time
}

// local is what runs on one node; nothing when it does not answer.
func local(ctx context.Context, addr string) map[string]status {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/connectors?expand=status", nil)
	if err != nil {
		return nil
	}
	req.Header.Set("Forebay-Handed-On", "1") // ask nobody else
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var said map[string]struct{ Status status }
	if json.NewDecoder(resp.Body).Decode(&said) != nil {
		return nil
	}
	out := map[string]status{}
	for name, s := range said {
		out[name] = s.Status
	}
	return out
}

func (w *watcher) take(at time.Time, said map[string]status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, s := range said {
		r := run{name, s.Connector.Worker, s.Since}
		if s.Connector.State != "RUNNING" || s.Records == 0 {
			continue
		}
		w.last[r] = at
		old := w.seen[name]
		switch {
		case old.run == r:
			old.last = at
			w.seen[name] = old
		case !r.since.Before(old.since):
			w.seen[name] = sight{r, at, at}
		}
	}
}

// runs are the latest of connectors that were seen at work.
func (w *watcher) runs(names ...string) (out []run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range names {
		out = append(out, w.seen[n].run)
	}
	return out
}

// say is what the nodes say of connectors now.
func (w *watcher) say(names []string) (out []string) {
	for _, n := range w.nodes {
		said := local(w.t.Context(), n.Flag("--http"))
		for _, name := range names {
			if s, ok := said[name]; ok {
				out = append(out, fmt.Sprintf("%s: %+v", name, s))
			}
		}
	}
	return out
}

// settled waits until all connectors, but those of but, work and were seen to a moment ago, on count workers, with no two differing by more than
// one.
func (w *watcher) settled(count int, but ...string) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	began := time.Now()
	for {
		w.mu.Lock()
		shares := map[string]int{}
		missing := []string{}
		for _, name := range w.names {
			if s, ok := w.seen[name]; ok && s.last.After(began) && time.Since(s.last) < time.Second {
				shares[s.worker]++
			} else if !slices.Contains(but, name) {
				missing = append(missing, name)
			}
		}
		w.mu.Unlock()
		sizes := []int{}
		for _, n := range shares {
			sizes = append(sizes, n)
		}
		if len(missing) == 0 && len(sizes) == count && slices.Max(sizes)-slices.Min(sizes) <= 1+len(but) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not within a minute: everything at work on %d workers; shares %v, not at work %v", count, shares, w.say(missing))
		}
		<-tick.C
	}
}
