package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/vfs"
)

// stopper is a Target that dies at its n-th operation: that one happens or not,
// and nothing after it does.
type stopper struct {
	Target
	mu    sync.Mutex
	left  int
	after bool // the operation happens, but its answer is an error
	dead  bool
}

var errDead = errors.New("the process was killed")

func (s *stopper) step() (now, later error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errDead, nil
	}
	if s.left--; s.left > 0 {
		return nil, nil
	}
	s.dead = true
	if s.after {
		return nil, errDead
	}
	return errDead, nil
}

func (s *stopper) do(fn func() error) error {
	now, later := s.step()
	if now != nil {
		return now
	}
	if err := fn(); err != nil {
		return err
	}
	return later
}

func (s *stopper) Create(ctx context.Context, name string) (w Writer, err error) {
	err = s.do(func() error { w, err = s.Target.Create(ctx, name); return err })
	if err != nil {
		return nil, err
	}
	return &stopWriter{s, w}, nil
}

type stopWriter struct {
	s *stopper
	Writer
}

func (w *stopWriter) Write(p []byte) (n int, err error) {
	err = w.s.do(func() error { n, err = w.Writer.Write(p); return err })
	return n, err
}
func (w *stopWriter) Close() error { return w.s.do(w.Writer.Close) }
func (w *stopWriter) Abort() {
	w.s.mu.Lock()
	dead := w.s.dead
	w.s.mu.Unlock()
	if !dead {
		w.Writer.Abort()
	}
}

func (s *stopper) MkdirAll(ctx context.Context, dir string) error {
	return s.do(func() error { return s.Target.MkdirAll(ctx, dir) })
}
func (s *stopper) RenameDir(ctx context.Context, from, to string) error {
	return s.do(func() error { return s.Target.RenameDir(ctx, from, to) })
}
func (s *stopper) RenameFile(ctx context.Context, from, to string) error {
	return s.do(func() error { return s.Target.RenameFile(ctx, from, to) })
}
func (s *stopper) Remove(ctx context.Context, name string) error {
	return s.do(func() error { return s.Target.Remove(ctx, name) })
}
func (s *stopper) ReadDir(ctx context.Context, dir string) (e []Entry, err error) {
	err = s.do(func() error { e, err = s.Target.ReadDir(ctx, dir); return err })
	return e, err
}
func (s *stopper) Stat(ctx context.Context, name string) (e Entry, err error) {
	err = s.do(func() error { e, err = s.Target.Stat(ctx, name); return err })
	return e, err
}

const topic = "shop.orders"

func textFormat(t testing.TB) Format {
	f, err := NewText(FormatOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// at gives record n of the log; three of four hours in turn, so that a commit spans folders.
func at(n int64) connectors.Record {
	hour := time.Date(2026, 11, 22, int(n)%3, 0, 0, 0, time.UTC)
	return connectors.Record{Topic: topic, Offset: n, Timestamp: hour, RawValue: fmt.Appendf(nil, "line %d", n)}
}

func logRange(from, to int64) []connectors.Record {
	var out []connectors.Record
	for n := from; n < to; n++ {
		out = append(out, at(n))
	}
	return out
}

var topicID = [16]byte{1, 2, 3}

func assignment(end int64) connectors.Assignment {
	return connectors.Assignment{TopicPartition: connectors.TopicPartition{Topic: topic}, TopicID: topicID, EndOffset: end}
}

var tp = assignment(0).TopicPartition

type life struct {
	*Task
	cfg  Config
	dead bool
}

var lives int

func newLife(t testing.TB, target Target, cfg Config) *life {
	lives++
	l := &life{cfg: cfg}
	env := connectors.SinkEnv{Env: connectors.Env{Name: "lake", Group: "g"}, TaskID: fmt.Sprintf("task-%d", lives), Epoch: int64(lives),
		Alive: func() error {
			if l.dead {
				return errors.New("the lease is over")
			}
			return nil
		}}
	l.Task = newTask(cfg, env, func(context.Context) (Target, error) { return target, nil })
	if err := l.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	return l
}

// run writes the log from where the target stands up to end, in commits of ten records.
func (l *life) run(end int64) error {
	ctx := context.Background()
	at, err := l.Recover(ctx, []connectors.Assignment{assignment(end)})
	if err != nil {
		return err
	}
	for n := at[tp]; n < end; {
		to := min(n+10, end)
		if rejects, err := l.Write(ctx, logRange(n, to)); err != nil || len(rejects) > 0 {
			return errors.Join(err, fmt.Errorf("%d rejects", len(rejects)))
		}
		if err := l.flush(); err != nil {
			return err
		}
		n = to
	}
	return l.Close()
}

func (l *life) flush() error {
	tokens, err := l.Prepare(context.Background(), []connectors.TopicPartition{tp}, connectors.CauseFlush)
	if err != nil {
		return err
	}
	for _, tk := range tokens {
		if err := l.Commit(context.Background(), tk); err != nil {
			return err
		}
	}
	return nil
}

// check reads everything back: each line once, in order within its folder, and no temp file.
func check(t testing.TB, target Target, end int64) {
	t.Helper()
	ctx := context.Background()
	got := map[string]int{}
	var walk func(dir string)
	walk = func(dir string) {
		es, err := target.ReadDir(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			name := dir + "/" + e.Name
			if e.Dir {
				walk(name)
				continue
			}
			last := int64(-1)
			for _, line := range strings.Split(strings.TrimSuffix(string(slurp(t, target, name)), "\n"), "\n") {
				var n int64
				if _, err := fmt.Sscanf(line, "line %d", &n); err != nil || n <= last {
					t.Fatalf("%s: %q after %d", name, line, last)
				}
				last = n
				got[line]++
			}
		}
	}
	if end > 0 {
		walk(topic)
	}
	for n := range end {
		if c := got[fmt.Sprintf("line %d", n)]; c != 1 {
			t.Fatalf("line %d is there %d times", n, c)
		}
	}
	if int64(len(got)) != end {
		t.Fatalf("%d lines, want %d", len(got), end)
	}
	if es, err := target.ReadDir(ctx, tmpDir); err != nil && !errors.Is(err, fs.ErrNotExist) || len(es) > 0 {
		t.Fatalf("temp files remain: %v %v", es, err)
	}
}

func slurp(t testing.TB, target Target, name string) []byte {
	t.Helper()
	r, err := target.Open(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, r.Size())
	if _, err := r.ReadAt(b, 0); err != nil && len(b) > 0 && err.Error() != "EOF" {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func hourly(t testing.TB) Config {
	return Config{Format: textFormat(t), Pattern: "dt=%Y-%m-%d/hour=%H", Rotate: Rotate{Interval: time.Hour}}
}

// A kill at every step, before and after it took effect; and the recovery is killed at every step too.
func TestKillAtEveryStep(t *testing.T) {
	const end = 25
	cfg := hourly(t)
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			disk := vfs.NewMemory()
			local := NewLocal(disk, "/lake")
			s := &stopper{Target: local, left: n, after: after}
			err := newLife(t, s, cfg).run(end)
			if err == nil {
				if n < 40 {
					t.Fatalf("only %d steps", n)
				}
				check(t, local, end)
				t.Logf("%d steps", n)
				break
			}
			if !s.dead {
				t.Fatalf("step %d: %v", n, err)
			}
			for m := 1 + n%3; ; m += 4 {
				s := &stopper{Target: local, left: m, after: after}
				if err := newLife(t, s, cfg).run(end); err == nil {
					break
				} else if !s.dead {
					t.Fatalf("step %d, then %d: %v", n, m, err)
				}
			}
			check(t, local, end)
		}
	}
}

// A power cut at every step: what was not synced is lost, or half of it.
func TestPowerCutAtEveryStep(t *testing.T) {
	const end = 25
	cfg := hourly(t)
	for _, torn := range []bool{false, true} {
		for n := 1; ; n++ {
			disk := vfs.NewCrash()
			s := &stopper{Target: NewLocal(disk, "/lake"), left: n, after: n%2 == 0}
			err := newLife(t, s, cfg).run(end)
			if err != nil && !s.dead {
				t.Fatalf("step %d: %v", n, err)
			}
			var rnd *rand.Rand
			if torn {
				rnd = rand.New(rand.NewPCG(uint64(n), 7))
			}
			local := NewLocal(disk.Crashed(rnd), "/lake")
			if rerr := newLife(t, local, cfg).run(end); rerr != nil {
				t.Fatalf("step %d: after the power cut: %v", n, rerr)
			}
			check(t, local, end)
			if err == nil {
				break
			}
		}
	}
}

func TestTwoTasksOneWinner(t *testing.T) {
	ctx := context.Background()
	local := NewLocal(vfs.NewMemory(), "/lake")
	var tasks []*life
	for range 2 {
		l := newLife(t, local, hourly(t))
		if _, err := l.Recover(ctx, []connectors.Assignment{assignment(5)}); err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, l)
	}
	var tokens [][]connectors.Token
	for _, l := range tasks {
		if _, err := l.Write(ctx, logRange(0, 5)); err != nil {
			t.Fatal(err)
		}
		tk, err := l.Prepare(ctx, []connectors.TopicPartition{tp}, connectors.CauseDue)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, tk)
	}
	if err := tasks[1].Commit(ctx, tokens[1][0]); err != nil {
		t.Fatal(err)
	}
	if err := tasks[1].Commit(ctx, tokens[1][0]); err != nil {
		t.Fatalf("a commit is idempotent: %v", err)
	}
	err := tasks[0].Commit(ctx, tokens[0][0])
	if !connectors.IsFatal(err) || !strings.Contains(err.Error(), "fenced") {
		t.Fatalf("the loser got %v", err)
	}
	for _, l := range tasks {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := newLife(t, local, hourly(t)).run(5); err != nil {
		t.Fatal(err)
	}
	check(t, local, 5)
}

// A task sleeps between its last look at the lease and the rename, and wakes
// when its successor has recovered: the rename finds nothing to rename.
func TestZombieWakesAfterRecovery(t *testing.T) {
	ctx := context.Background()
	disk := vfs.NewMemory()
	local := NewLocal(disk, "/lake")
	z := newLife(t, local, hourly(t))
	if _, err := z.Recover(ctx, []connectors.Assignment{assignment(20)}); err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(ctx, logRange(0, 5)); err != nil {
		t.Fatal(err)
	}
	tk, err := z.Prepare(ctx, []connectors.TopicPartition{tp}, connectors.CauseDue)
	if err != nil {
		t.Fatal(err)
	}
	s := newLife(t, local, hourly(t))
	at, err := s.Recover(ctx, []connectors.Assignment{assignment(20)})
	if err != nil || at[tp] != 0 {
		t.Fatal(at, err)
	}
	if err := z.Commit(ctx, tk[0]); err == nil { // its Alive still says yes: the worst case
		t.Fatal("the zombie has committed")
	}
	z.dead = true
	if err := z.Commit(ctx, tk[0]); err == nil {
		t.Fatal("the zombie has committed after its lease")
	}
	if _, err := s.Write(ctx, logRange(0, 20)); err != nil {
		t.Fatal(err)
	}
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	if err := z.Commit(ctx, tk[0]); err == nil {
		t.Fatal("the zombie has committed a range that was written")
	}
	if err := errors.Join(z.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	check(t, local, 20)
}

// A zombie whose own start offset was pruned meanwhile finds its predecessor's manifest gone.
func TestZombieBehindPruning(t *testing.T) {
	ctx := context.Background()
	local := NewLocal(vfs.NewMemory(), "/lake")
	if err := newLife(t, local, hourly(t)).run(10); err != nil {
		t.Fatal(err)
	}
	z := newLife(t, local, hourly(t))
	if _, err := z.Recover(ctx, []connectors.Assignment{assignment(2000)}); err != nil {
		t.Fatal(err)
	}
	s := newLife(t, local, hourly(t))
	if err := s.run(2000); err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(ctx, logRange(10, 20)); err != nil { // it wakes
		t.Fatal(err)
	}
	id := partitionID(topicID, 0)
	starts, err := listCommits(ctx, local, id)
	if err != nil || len(starts) != 200 {
		t.Fatal(len(starts), err)
	}
	for _, st := range starts[:150] { // as a day of pruning would
		if err := local.Remove(ctx, commitName(id, st)); err != nil {
			t.Fatal(err)
		}
	}
	tk, err := z.Prepare(ctx, []connectors.TopicPartition{tp}, connectors.CauseDue)
	if err != nil {
		t.Fatal(err)
	}
	if err := z.Commit(ctx, tk[0]); !connectors.IsFatal(err) {
		t.Fatalf("the zombie got %v", err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, local, 2000)
}

func TestPruneKeepsTheYoungAndTheNewest(t *testing.T) {
	ctx := context.Background()
	local := NewLocal(vfs.NewMemory(), "/lake")
	l := newLife(t, local, hourly(t))
	if _, err := l.Recover(ctx, []connectors.Assignment{assignment(2000)}); err != nil {
		t.Fatal(err)
	}
	p := l.parts[tp]
	for n := int64(0); n < 2000; n += 10 {
		if _, err := l.Write(ctx, logRange(n, n+10)); err != nil {
			t.Fatal(err)
		}
		if err := l.flush(); err != nil {
			t.Fatal(err)
		}
		if n < 1500 {
			p.commits[len(p.commits)-1].created = time.Now().Add(-25 * time.Hour)
		}
	}
	starts, err := listCommits(ctx, local, p.id)
	if err != nil || len(starts) != keepManifests || starts[len(starts)-1] != 1990 {
		t.Fatal(starts, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, local, 2000)
}

func TestRecoverNamesWhatIsWrong(t *testing.T) {
	ctx := context.Background()
	fresh := func() *Local {
		local := NewLocal(vfs.NewMemory(), "/lake")
		if err := newLife(t, local, hourly(t)).run(20); err != nil {
			t.Fatal(err)
		}
		return local
	}
	id := partitionID(topicID, 0)
	fail := func(local *Local, a connectors.Assignment, says ...string) {
		t.Helper()
		_, err := newLife(t, local, hourly(t)).Recover(ctx, []connectors.Assignment{a})
		if !connectors.IsFatal(err) {
			t.Fatalf("got %v", err)
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Fatalf("%q lacks %q", err, s)
			}
		}
	}
	a := assignment(40)
	a.StartOffset = 30
	fail(fresh(), a, "offsets 20 to 29 are lost")

	fail(fresh(), assignment(15), "log ends at 15")

	a = assignment(40)
	a.TopicID[0] = 99
	fail(fresh(), a, "deleted and created again", "up to offset 19")

	// A name that its files could not have is told before there is a commit that can never be put in place.
	a = assignment(40)
	a.Topic = strings.Repeat("t", 240)
	fail(fresh(), a, a.Topic+" cannot be written", "file systems take 255")

	local := fresh()
	m, err := readManifest(ctx, local, commitName(id, 10))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(local.Remove(ctx, m.Files[1].Name), local.Remove(ctx, commitName(id, 10)+"/"+doneFile)); err != nil {
		t.Fatal(err)
	}
	fail(local, assignment(40), m.Files[1].Name, m.Files[1].Temp)

	// Once it is noted as done, files are their readers' business.
	local = fresh()
	if err := local.Remove(ctx, m.Files[1].Name); err != nil {
		t.Fatal(err)
	}
	if at, err := newLife(t, local, hourly(t)).Recover(ctx, []connectors.Assignment{assignment(40)}); err != nil || at[tp] != 20 {
		t.Fatal(at, err)
	}
}

func TestRotation(t *testing.T) {
	ctx := context.Background()
	t0 := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	names := func(l *Local) []string {
		var out []string
		es, err := l.ReadDir(ctx, topic)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range es {
			out = append(out, e.Name)
		}
		sort.Strings(out)
		return out
	}
	start := func(r Rotate) (*Local, *life) {
		local := NewLocal(vfs.NewMemory(), "/lake")
		l := newLife(t, local, Config{Format: textFormat(t), Rotate: r})
		if _, err := l.Recover(ctx, []connectors.Assignment{assignment(100)}); err != nil {
			t.Fatal(err)
		}
		return local, l
	}
	for name, r := range map[string]Rotate{"records": {Records: 3}, "size": {Size: 21}} {
		local, l := start(r)
		if _, err := l.Write(ctx, logRange(0, 8)); err != nil {
			t.Fatal(err)
		}
		if due := l.Tick(t0); len(due) != 1 {
			t.Fatalf("%s: due %v", name, due)
		}
		if err := l.flush(); err != nil {
			t.Fatal(err)
		}
		want := "[shop.orders+0+0000000000+0000000002.txt shop.orders+0+0000000003+0000000005.txt shop.orders+0+0000000006+0000000007.txt]"
		if got := fmt.Sprint(names(local)); got != want {
			t.Fatalf("%s: %s", name, got)
		}
		if due := l.Tick(t0.Add(time.Hour)); len(due) != 0 {
			t.Fatalf("%s: due without records", name)
		}
	}

	local, l := start(Rotate{Interval: time.Minute})
	if due := l.Tick(t0); len(due) != 0 {
		t.Fatal("due without records")
	}
	if _, err := l.Write(ctx, logRange(0, 1)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		due   int
	}{{0, 0}, {59 * time.Second, 0}, {time.Minute, 1}} { // nothing more arrives: the topic is quiet
		if due := l.Tick(t0.Add(c.after)); len(due) != c.due {
			t.Fatalf("after %v: due %v", c.after, due)
		}
	}
	if err := l.flush(); err != nil {
		t.Fatal(err)
	}
	if got := names(local); len(got) != 1 {
		t.Fatal(got)
	}
}

func TestMaxOpen(t *testing.T) {
	ctx := context.Background()
	local := NewLocal(vfs.NewMemory(), "/lake")
	cfg := hourly(t)
	cfg.MaxOpen = 2
	l := newLife(t, local, cfg)
	if _, err := l.Recover(ctx, []connectors.Assignment{assignment(60)}); err != nil {
		t.Fatal(err)
	}
	for n := int64(0); n < 60; n += 5 {
		if _, err := l.Write(ctx, logRange(n, n+5)); err != nil {
			t.Fatal(err)
		}
		if len(l.files) > 2 {
			t.Fatalf("%d files are open", len(l.files))
		}
	}
	if err := errors.Join(l.flush(), l.Close()); err != nil {
		t.Fatal(err)
	}
	check(t, local, 60)
}

// Markers and tombstones move the resume point although no file holds them.
func TestOffsetsWithoutRecords(t *testing.T) {
	ctx := context.Background()
	local := NewLocal(vfs.NewMemory(), "/lake")
	l := newLife(t, local, hourly(t))
	if _, err := l.Recover(ctx, []connectors.Assignment{assignment(10)}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Write(ctx, []connectors.Record{at(0), {Topic: topic, Offset: 4}}); err != nil {
		t.Fatal(err)
	}
	l.Advance(tp, 8)
	if err := errors.Join(l.flush(), l.Close()); err != nil {
		t.Fatal(err)
	}
	next, err := newLife(t, local, hourly(t)).Recover(ctx, []connectors.Assignment{assignment(10)})
	if err != nil || next[tp] != 8 {
		t.Fatal(next, err)
	}
	check(t, local, 1)
}

// The id says which topic it is; where two share one nevertheless, none resumes at the other's commit.
func TestAnotherTopicOfTheSameID(t *testing.T) {
	local := NewLocal(vfs.NewMemory(), "/lake")
	if err := newLife(t, local, hourly(t)).run(10); err != nil {
		t.Fatal(err)
	}
	other := assignment(20)
	other.Topic = "shop.customers"
	at, err := newLife(t, local, hourly(t)).Recover(t.Context(), []connectors.Assignment{other})
	if err == nil || !connectors.IsFatal(err) {
		t.Fatalf("it resumes at %v: %v", at, err)
	}
	t.Log(err)
}
