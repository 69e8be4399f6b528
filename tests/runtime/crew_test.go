package runtime_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/crew"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/position"
	"github.com/forebayhub/forebay/runtime/worker"
)

// startCrew runs one worker of the group that o names, and its REST API.
func startCrew(t *testing.T, o worker.Options, set declared.Set) (*crew.Crew, func()) {
	t.Helper()
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, stop := startMember(t, crew.Options{Worker: o, HTTP: web.Addr().String(), Ask: api.Ask(nil)}, set)
	rest := &http.Server{Handler: api.New(api.Options{Worker: c, Name: c.Answer}), ReadHeaderTimeout: time.Second}
	go func() { _ = rest.Serve(web) }() // until it is closed
	t.Cleanup(func() { _ = rest.Close() })
	return c, func() { stop(); _ = rest.Close() }
}

// startMember runs one worker that nobody can ask anything.
func startMember(t *testing.T, o crew.Options, set declared.Set) (c *crew.Crew, stop func()) {
	t.Helper()
	o.Types = declared.Types{Registry: o.Worker.Registry, SourceCommon: worker.SourceFields, SinkCommon: worker.SinkFields}
	c, err := crew.New(o)
	if err != nil {
		t.Fatal(err)
	}
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

// hosted is a source of which each host has a part.
type hosted struct {
	*numbers
	host string
}

func (s hosted) Plan(context.Context, int) ([]connectors.Split, error) {
	return []connectors.Split{{ID: "host-" + s.host, Host: s.host}}, nil
}

// A source that is bound to its host runs its part on each, whether or not the worker that shares out can make it: a variable is missing there, or a plugin.
func TestCrewSharesOutWhatItCannotMakeItself(t *testing.T) {
	log := openLog(t)
	for name, known := range map[string]bool{"no variable": true, "no plugin": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := &numbers{topic: unique("n"), n: 100}
			group := unique("g")
			member := func(host string, knows bool, env map[string]string) (*crew.Crew, func()) {
				o := worker.Options{Log: log, Group: group, Host: host, DrainTimeout: 10 * time.Second}
				if knows {
					o.Registry.Sources = []connectors.SourceType{{Name: "hosted", Spec: spec.Spec{Fields: []spec.Field{{Name: "paths", Type: spec.Strings, Required: true}}}, HostBound: true,
						New: func(_ spec.Values, env connectors.Env) (connectors.Source, error) { return hosted{src, env.Host}, nil }}}
				}
				return startMember(t, crew.Options{Worker: o, HTTP: "none", Getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }},
					declared.Set{Version: 1, Connectors: []declared.Connector{{Name: "logs", Kind: declared.Source, Type: "hosted", Fields: map[string]declared.Value{"paths": {List: []string{"${V}/*.log"}}}}}})
			}
			failed := func(c *crew.Crew) func() bool {
				return func() bool {
					s := c.Status()
					return len(s) == 1 && s[0].State == worker.Failed && strings.Contains(s[0].Error, map[bool]string{true: "V is not set", false: "hosted"}[known])
				}
			}
			a, stop := member("a", known, nil)
			eventually(t, 20*time.Second, "the first worker's part has failed", failed(a))
			b, _ := member("b", true, map[string]string{"V": "/var/log"})
			eventually(t, 20*time.Second, "the other host's part runs", func() bool {
				s := b.Status()
				return len(s) == 1 && s[0].State == worker.Running && src.acknowledged() == 100
			})
			if !failed(a)() {
				t.Errorf("the first worker has %+v", a.Status())
			}
			stop() // now the other one shares out
			a, _ = member("a", known, nil)
			eventually(t, 20*time.Second, "the first worker's part has failed again", failed(a))
			src.more(100)
			eventually(t, 20*time.Second, "the other's goes on", func() bool { return src.acknowledged() == 200 })
			if n := src.opened(); n != 1 {
				t.Errorf("the task was opened %d times", n)
			}
		})
	}
}

// A worker that the log had not heard of for a while is taken out of its group. What is bound to its host goes on: nobody else has it.
func TestCrewKeepsWhatIsBoundToItsHost(t *testing.T) {
	src := &numbers{topic: unique("n"), n: 100}
	o := options(openLog(t), nil, nil)
	o.Host = "a"
	o.Registry.Sources = []connectors.SourceType{{Name: "hosted", HostBound: true,
		New: func(_ spec.Values, env connectors.Env) (connectors.Source, error) { return hosted{src, env.Host}, nil }}}
	set := declared.Set{Version: 1, Connectors: []declared.Connector{{Name: "logs", Kind: declared.Source, Type: "hosted", Fields: map[string]declared.Value{}}}}
	c, _ := startCrew(t, o, set)
	eventually(t, 30*time.Second, "it runs", func() bool { return src.acknowledged() == 100 })
	l, err := hublog.Open(o.Log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	group := "forebay-workers-" + o.Group
	if err := l.Remove(t.Context(), group, c.Answer()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "it is a member again", func() bool {
		m, err := l.Members(t.Context(), group)
		return err == nil && len(m) == 1 && m[0].Told != nil
	})
	src.more(100)
	eventually(t, 30*time.Second, "it goes on", func() bool { return src.acknowledged() == 200 })
	if n := src.opened(); n != 1 {
		t.Errorf("the task was opened %d times", n)
	}
}

// A connector whose type is changed is another one under its name: what each host had a part of runs once, and the other way round.
func TestCrewSharesOutAnewWhatBecomesAnother(t *testing.T) {
	log, group := openLog(t), unique("g")
	whole := &numbers{topic: unique("n"), n: 100}
	set := func(version int64, kind string) declared.Set {
		return declared.Set{Version: version, Connectors: []declared.Connector{{Name: "logs", Kind: declared.Source, Type: kind, Fields: map[string]declared.Value{}}}}
	}
	var crews []*crew.Crew
	for _, host := range []string{"a", "b"} {
		part := &numbers{topic: unique("n"), n: 100}
		o := worker.Options{Log: log, Group: group, Host: host, DrainTimeout: 10 * time.Second}
		o.Registry.Sources = []connectors.SourceType{
			{Name: "hosted", HostBound: true, New: func(_ spec.Values, env connectors.Env) (connectors.Source, error) { return hosted{part, env.Host}, nil }},
			{Name: "numbers", New: func(spec.Values, connectors.Env) (connectors.Source, error) { return whole, nil }},
		}
		c, _ := startMember(t, crew.Options{Worker: o, HTTP: "none"}, set(1, "hosted"))
		crews = append(crews, c)
	}
	runs := func(kind string, want int) func() bool {
		return func() bool {
			n, all := 0, 0
			for _, c := range crews {
				for _, s := range c.Status() {
					all++
					if s.Type == kind && s.State == worker.Running {
						n++
					}
				}
			}
			return n == want && all == want
		}
	}
	eventually(t, 30*time.Second, "each host runs its part", runs("hosted", 2))
	for _, c := range crews {
		c.Declare(set(2, "numbers"))
	}
	eventually(t, 30*time.Second, "one of them runs it", runs("numbers", 1))
	eventually(t, 30*time.Second, "all of it", func() bool { return whole.acknowledged() == 100 })
	if n := whole.opened(); n != 1 {
		t.Errorf("it was opened %d times", n)
	}
	for _, c := range crews {
		c.Declare(set(3, "hosted"))
	}
	eventually(t, 30*time.Second, "each host runs its part again", runs("hosted", 2))
}
