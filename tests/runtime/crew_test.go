package runtime_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/crew"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/position"
	"github.com/forebayhub/forebay/runtime/worker"
)

// startCrew runs one worker of the group that o names, and its REST API.
func startCrew(t *testing.T, o worker.Options, set declared.Set) (c *crew.Crew, stop func()) {
	t.Helper()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err = crew.New(crew.Options{Worker: o, HTTP: web.Addr().String(), Ask: api.Ask(nil, ""),
		Types: declared.Types{Registry: o.Registry, SourceCommon: worker.SourceFields, SinkCommon: worker.SinkFields}})
	if err != nil {
		t.Fatal(err)
	}
	rest := &http.Server{Handler: api.New(api.Options{Worker: c, Name: c.Answer}), ReadHeaderTimeout: time.Second}
	go func() { _ = rest.Serve(web) }() // until it is closed
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	c.Declare(set)
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error("crew:", err)
		}
		_ = rest.Close()
	}
	t.Cleanup(stop)
	return c, stop
}

// A source that is fenced by a worker which has it no more is started again by the one that has it. When the worker ends in good order, another has the source at once.
func TestCrewTakesBackWhatIsItsOwn(t *testing.T) {
	src := &numbers{topic: unique("n"), n: 100}
	o := options(openLog(t), src, nil)
	o.Group = unique("g")
	set := declared.Set{Version: 1, Connectors: []declared.Connector{{Name: "src", Kind: declared.Source, Type: "numbers", Fields: map[string]declared.Value{}}}}
	runs := func(c *crew.Crew) bool { s := c.Status(); return len(s) == 1 && s[0].State == worker.Running }
	c, stop := startCrew(t, o, set)
	eventually(t, 30*time.Second, "it runs", func() bool { return runs(c) && src.acknowledged() == 100 })

	l, err := hublog.Open(o.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	zombie, err := l.NewAppender(t.Context(), position.Scope{Group: o.Group, Source: "src", Split: "0"}.TransactionalID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	zombie.Close()
	src.more(100) // the task hears of it when it appends
	eventually(t, 30*time.Second, "it is fenced", func() bool {
		s := c.Status()
		return len(s) == 1 && s[0].State == worker.Failed && strings.Contains(s[0].Error, "fenced")
	})
	eventually(t, 30*time.Second, "it runs again", func() bool { return runs(c) && src.acknowledged() == 200 })

	heir, stopHeir := startCrew(t, o, set)
	places, others, err := heir.Places(t.Context())
	if err != nil || len(places) != 1 {
		t.Fatalf("%v %v %v", places, others, err)
	}
	stop()
	eventually(t, 5*time.Second, "the other has it, sooner than a session lasts", func() bool { return runs(heir) })
	src.more(100)
	eventually(t, 5*time.Second, "it goes on", func() bool { return src.acknowledged() == 300 })
	stopHeir()
}
