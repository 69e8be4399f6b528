package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/position"
	"github.com/forebayhub/forebay/runtime/worker"
)

// options configure a worker with one source and one sink.
func options(log hublog.Options, src connectors.Source, dst connectors.Sink) worker.Options {
	o := worker.Options{Log: log, Group: unique("g"), Host: "h", DrainTimeout: 10 * time.Second}
	if src != nil {
		o.Registry.Sources = []connectors.SourceType{{Name: "numbers", New: func(spec.Values, connectors.Env) (connectors.Source, error) { return src, nil }}}
		o.Connectors = append(o.Connectors, worker.Config{Name: "src", Type: "numbers", Values: worker.SourceFields.Defaults()})
	}
	if dst != nil {
		o.Registry.Sinks = []connectors.SinkType{{Name: "memory", New: func(spec.Values, connectors.Env) (connectors.Sink, error) { return dst, nil }}}
		o.Connectors = append(o.Connectors, worker.Config{Name: "dst" + o.Group, Type: "memory", Sink: true, Values: worker.SinkFields.Defaults()})
	}
	return o
}

// start runs a worker until the test ends, or stop is called.
func start(t *testing.T, o worker.Options) (w *worker.Worker, stop func()) {
	t.Helper()
	w, err := worker.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error("worker:", err)
		}
	}
	t.Cleanup(stop)
	return w, stop
}

func state(w *worker.Worker, i int) worker.State { return w.Status()[i].State }

func TestPipelineDrainsWhenTheWorkerStops(t *testing.T) {
	log := openLog(t)
	src := &numbers{topic: unique("n"), n: 1000}
	dst := newMemory(src.topic)
	o := options(log, src, dst)
	w, stop := start(t, o)
	eventually(t, 30*time.Second, "written", func() bool {
		_, err := w.Flush(t.Context(), o.Connectors[1].Name)
		return err == nil && dst.count() == 1000
	})
	src.more(50) // too few to be committed by themselves
	eventually(t, 30*time.Second, "the open rest", func() bool {
		s := w.Status()
		return s[1].Behind > 0 && s[1].Lag >= 0 && s[1].Records == 1050 && s[0].State == worker.Running && s[1].State == worker.Running
	})
	if s := w.Status(); s[0].Records != 1050 {
		t.Errorf("status %+v", s)
	}
	if n := dst.count(); n != 1000 {
		t.Errorf("%d of 1050 are committed before the end", n)
	}
	stop()
	exactly(t, dst.all(), 1050) // the last 50 were committed at the end
}

func TestFlushCommitsAndSaysUpToWhere(t *testing.T) {
	log := openLog(t)
	src := &numbers{topic: unique("n"), n: 10}
	dst := newMemory(src.topic)
	o := options(log, src, dst)
	w, _ := start(t, o)
	eventually(t, 30*time.Second, "written", func() bool { return w.Status()[1].Records == 10 })
	if dst.count() != 0 {
		t.Fatal("committed too early")
	}
	l, err := hublog.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tp := connectors.TopicPartition{Topic: src.topic}
	// Flush passes the transaction's marker too: audit waits for that. The marker may come after the answer that the source had.
	var ends map[connectors.TopicPartition]hublog.Offsets
	eventually(t, 10*time.Second, "flushed to the end", func() bool {
		if ends, err = l.Offsets(t.Context(), tp); err != nil {
			t.Fatal(err)
		}
		at, err := w.Flush(t.Context(), o.Connectors[1].Name)
		return err == nil && at[tp] == ends[tp].End
	})
	exactly(t, dst.all(), 10)
	group, err := l.GroupOffsets(t.Context(), "forebay-"+o.Connectors[1].Name)
	if err != nil || group[tp] != ends[tp].End {
		t.Errorf("lag group %v, %v; want %d", group, err, ends[tp].End)
	}
}

func TestPauseResumeRestart(t *testing.T) {
	src := &numbers{topic: unique("n"), n: 100}
	w, _ := start(t, options(openLog(t), src, nil))
	eventually(t, 30*time.Second, "running", func() bool { return state(w, 0) == worker.Running })
	to := func(s worker.State) func(string) error {
		return func(name string) error { return w.Want(name, s) }
	}
	for _, step := range []struct {
		do   func(string) error
		want worker.State
	}{{to(worker.Paused), worker.Paused}, {w.Restart, worker.Paused}, {to(worker.Running), worker.Running}, {to(worker.Stopped), worker.Stopped}, {w.Restart, worker.Stopped},
		{to(worker.Running), worker.Running}, {w.Restart, worker.Running}} {
		was := src.opened()
		if err := step.do("src"); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, string(step.want), func() bool {
			return state(w, 0) == step.want && (step.want != worker.Running || src.opened() > was)
		})
	}
	if err := w.Want("nobody", worker.Paused); !errors.Is(err, worker.ErrUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestNewTopicIsFoundWithinFiveSeconds(t *testing.T) {
	log := openLog(t)
	prefix := unique("late")
	dst := newMemory(prefix + ".*")
	w, _ := start(t, options(log, nil, dst))
	eventually(t, 30*time.Second, "running", func() bool { return state(w, 0) == worker.Running })
	src := &numbers{topic: prefix + ".a.b", n: 200}
	_, _ = start(t, options(log, src, nil))
	eventually(t, 30*time.Second, "appended", func() bool { return src.acknowledged() == 200 })
	eventually(t, 5*time.Second, "found", func() bool { return dst.count() >= 100 })
}

// failing is a source whose task fails as told.
type failing struct {
	numbers
	err   error
	from  int // the first of its tasks that fails
	times int // the last one; 0: all
}

func (s *failing) Task(connectors.Split) connectors.SourceTask { return failingTask{s} }

type failingTask struct{ s *failing }

func (t failingTask) Open(context.Context, map[connectors.PositionKey]connectors.Position) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.s.opens++
	return nil
}
func (t failingTask) Read(ctx context.Context, _ *connectors.Batch) error {
	if n := t.s.opened(); n < t.s.from || t.s.times > 0 && n > t.s.times {
		<-ctx.Done()
		return ctx.Err()
	}
	if t.s.err == nil {
		panic("oops")
	}
	return t.s.err
}
func (t failingTask) Committed(context.Context, map[connectors.PositionKey]connectors.Position) error {
	return nil
}
func (t failingTask) Close() error { return nil }

func TestErrorsAreRetriedOrFinal(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		times int
		want  worker.State
	}{
		"passing": {errors.New("connection refused"), 2, worker.Restarting},
		"fatal":   {connectors.Fatal(errors.New("slot is lost"), "make another"), 0, worker.Failed},
		"panic":   {nil, 0, worker.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			src := &failing{numbers: numbers{topic: unique("n")}, err: c.err, times: c.times}
			w, _ := start(t, options(openLog(t), src, nil))
			eventually(t, 30*time.Second, string(c.want), func() bool { return state(w, 0) == c.want })
			if c.want == worker.Restarting {
				eventually(t, 30*time.Second, "it runs at the third try", func() bool { return src.opened() == 3 && state(w, 0) == worker.Running })
				return
			}
			was := src.opened()
			if s := w.Status()[0]; s.Error == "" {
				t.Error("a failed connector must say why")
			}
			if err := w.Restart("src"); err != nil {
				t.Fatal(err)
			}
			eventually(t, 30*time.Second, "restarted", func() bool { return src.opened() > was && state(w, 0) == c.want })
		})
	}
}

// anotherRuns returns when a source of its own has come from nothing to RUNNING: what began before that has long been seen.
func anotherRuns(t *testing.T, log hublog.Options) {
	t.Helper()
	w, stop := start(t, options(log, &numbers{topic: unique("n")}, nil))
	defer stop()
	eventually(t, 30*time.Second, "another source runs", func() bool { return state(w, 0) == worker.Running })
}

// A restart is over with the tasks that it begins: when these fail, nobody has asked for others.
func TestARestartIsUsedUp(t *testing.T) {
	log := openLog(t)
	src := &failing{numbers: numbers{topic: unique("n")}, err: connectors.Fatal(errors.New("slot is lost"), ""), from: 2}
	w, _ := start(t, options(log, src, nil))
	eventually(t, 30*time.Second, "running", func() bool { return state(w, 0) == worker.Running })
	if err := w.Restart("src"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "failed", func() bool { return state(w, 0) == worker.Failed })
	anotherRuns(t, log)
	if n := src.opened(); n != 2 || state(w, 0) != worker.Failed {
		t.Errorf("it was opened %d times and is %s", n, state(w, 0))
	}
}

// A record that a sink cannot take ends it by name. What it was behind while it ran says nothing of what comes then.
func TestRejectNamesTheRecord(t *testing.T) {
	src := &numbers{topic: unique("n"), n: 200, full: true}
	dst := newMemory(src.topic)
	dst.reject = func(r *connectors.Record) bool { return string(r.RawValue) == "207" }
	w, _ := start(t, options(openLog(t), src, dst))
	eventually(t, 30*time.Second, "it has all", func() bool { s := w.Status()[1]; return dst.count() == 200 && s.Lag == 0 && s.Timely() })
	src.more(10)
	eventually(t, 30*time.Second, "failed", func() bool { return state(w, 1) == worker.Failed })
	s := w.Status()[1]
	if !strings.Contains(s.Error, src.topic+"-0 at offset") || !strings.Contains(s.Error, "too odd") {
		t.Errorf("error %q", s.Error)
	}
	if s.Lag != -1 || s.Behind <= 0 || !s.Timely() {
		t.Errorf("a lag of %d records, of %v, told: %v", s.Lag, s.Behind, s.Timely())
	}
}

// untellable is a source whose tasks panic when they are told what is durable.
type untellable struct {
	numbers
	closed atomic.Int32
}

func (s *untellable) Task(split connectors.Split) connectors.SourceTask {
	return untellableTask{s.numbers.Task(split), s}
}

type untellableTask struct {
	connectors.SourceTask
	s *untellable
}

func (t untellableTask) Committed(context.Context, map[connectors.PositionKey]connectors.Position) error {
	panic("oops")
}

func (t untellableTask) Close() error {
	t.s.closed.Add(1)
	return t.SourceTask.Close()
}

// closing counts how often a sink's tasks are closed.
type closing struct {
	*memory
	closed atomic.Int32
}

func (s *closing) Task(env connectors.SinkEnv) connectors.SinkTask {
	return closingTask{s.memory.Task(env), s}
}

type closingTask struct {
	connectors.SinkTask
	s *closing
}

func (t closingTask) Close() error {
	t.s.closed.Add(1)
	return t.SinkTask.Close()
}

// A panic in the half of a task that writes ends it as an error does: it is closed, and lets go of what it holds.
func TestAPanicClosesTheTask(t *testing.T) {
	src := &untellable{numbers: numbers{topic: unique("n"), n: 10}}
	dst := &closing{memory: newMemory(src.topic)}
	dst.step = func(string, connectors.TopicPartition) error { panic("oops") }
	w, _ := start(t, options(openLog(t), src, dst))
	eventually(t, 30*time.Second, "both have failed", func() bool { return state(w, 0) == worker.Failed && state(w, 1) == worker.Failed })
	for i, closed := range []int32{src.closed.Load(), dst.closed.Load()} {
		if s := w.Status()[i]; closed != 1 || !strings.Contains(s.Error, "panicked: oops") {
			t.Errorf("%s was closed %d times: %s", s.Name, closed, s.Error)
		}
	}
}

// Invariant 7: a second worker of the same group fences the first, which says so.
func TestASecondWorkerFencesTheFirst(t *testing.T) {
	log := openLog(t)
	src := &numbers{topic: unique("n"), n: 1 << 40}
	o := options(log, src, nil)
	first, _ := start(t, o)
	eventually(t, 30*time.Second, "the first appends", func() bool { return first.Status()[0].Records > 100 && state(first, 0) == worker.Running })
	if err := first.Restart("src"); err != nil { // long over when it is fenced
		t.Fatal(err)
	}
	before := first.Status()[0].Records
	eventually(t, 30*time.Second, "the first appends again", func() bool { return src.opened() == 2 && first.Status()[0].Records > before+100 })
	o.Registry = options(log, &numbers{topic: src.topic, n: 1 << 40}, nil).Registry
	second, _ := start(t, o)
	eventually(t, 30*time.Second, "the first has failed", func() bool { return state(first, 0) == worker.Failed })
	if e := first.Status()[0].Error; !strings.Contains(e, "another worker of group") {
		t.Errorf("error %q", e)
	}
	anotherRuns(t, log)
	was := second.Status()[0].Records
	eventually(t, 30*time.Second, "the second appends", func() bool { return second.Status()[0].Records > was })
	if a, b := state(first, 0), state(second, 0); a != worker.Failed || b != worker.Running {
		t.Errorf("the first is %s, the second %s", a, b)
	}
}

func TestDeliveryThatCannotBeKept(t *testing.T) {
	src := &weak{numbers{topic: "t"}}
	_, err := worker.New(options(hublog.Options{Bootstrap: []string{"127.0.0.1:1"}}, src, nil))
	var p *problem.Error
	if !errors.As(err, &p) || p.Class != problem.Input || !strings.Contains(p.Hint, "at_least_once") {
		t.Errorf("got %v", err)
	}
}

type weak struct{ numbers }

func (*weak) Capabilities() connectors.Capabilities { return connectors.Capabilities{} }

// A foreign open transaction on the positions topic must not hide my committed position.
func TestPositionsLoadPastAnothersOpenTransaction(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mine := position.Scope{Group: b.group, Source: "mine", Split: "0"}
	other := position.Scope{Group: b.group, Source: "other", Split: "0"}
	open := func(s position.Scope) *hublog.Appender {
		a, err := b.log.NewAppender(ctx, s.TransactionalID(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	put := func(a *hublog.Appender, s position.Scope, p string) {
		if err := a.Begin(); err != nil {
			t.Fatal(err)
		}
		a.AppendTracked(position.Topic, 0, s.Key("k"), []byte(p))
	}
	blocker := open(other)
	defer blocker.Close()
	put(blocker, other, `{"n":1}`) // and leave it open
	if err := blocker.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	a := open(mine)
	put(a, mine, `{"n":42}`)
	if _, err := a.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	put(a, mine, `{"n":43}`) // not committed: the next start aborts it
	if err := a.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	a.Drop()
	var epoch int64
	for range 2 {
		next := open(mine)
		got, err := position.Load(ctx, b.log, next, mine, "h")
		if err != nil {
			t.Fatal(err)
		}
		next.Drop()
		if len(got.Positions) != 1 || string(got.Positions["k"]) != `{"n":42}` {
			t.Fatalf("loaded %v", got.Positions)
		}
		if got.Epoch <= epoch {
			t.Fatalf("epoch %d after %d", got.Epoch, epoch)
		}
		epoch = got.Epoch
	}
}

func TestREST(t *testing.T) {
	src := &numbers{topic: unique("n"), n: 10}
	dst := newMemory(src.topic)
	o := options(openLog(t), src, dst)
	w, _ := start(t, o)
	sink := o.Connectors[1].Name
	h := api.New(api.Options{Worker: w, Version: "test", Ready: func() error { return errors.New("not yet") }})
	eventually(t, 30*time.Second, "written", func() bool { return w.Status()[1].Records == 10 && state(w, 0) == worker.Running })
	call := func(method, path string) (int, string) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		return rec.Code, rec.Body.String()
	}
	for _, c := range []struct {
		method, path string
		code         int
		want         string
	}{
		{"GET", "/connectors", 200, fmt.Sprintf(`["src",%q]`, sink)},
		{"GET", "/connectors/src", 200, `"connector.class":"numbers"`},
		{"GET", "/connectors/src/status", 200, `"state":"RUNNING"`},
		{"GET", "/connectors/src/offsets", 200, `"offset":{"next":10}`},
		{"POST", "/connectors/" + sink + "/flush", 200, `"kafka_topic":"` + src.topic},
		{"GET", "/connectors/" + sink + "/offsets", 200, `"kafka_offset":`},
		{"GET", "/connectors?expand=status", 200, `"worker_id":"h"`},
		{"GET", "/connectors/nobody/status", 404, `"error_code":404`},
		{"POST", "/connectors/src/flush", 400, "only a sink"},
		{"PUT", "/connectors/src/pause", 202, ""},
		{"PUT", "/connectors/src/resume", 202, ""},
		{"POST", "/connectors/src/restart", 204, ""},
		{"GET", "/connector-plugins", 200, `"class":"memory"`},
		{"GET", "/livez", 200, "ok"},
		{"GET", "/readyz", 503, "not yet"},
		{"DELETE", "/connectors/src", http.StatusConflict, "come from its files"},
	} {
		if code, body := call(c.method, c.path); code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %s; want %d %s", c.method, c.path, code, body, c.code, c.want)
		}
	}
}
