package exactly

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/position"
)

// World is one seed's history: a log, databases, targets, the workers between them, and what befalls them. It lives in a synctest bubble.
type World struct {
	seed    uint64
	knobs   knobs
	log     *Log
	db      *database
	targets map[string]*target
	began   time.Time

	growing, faults sync.WaitGroup

	mu         sync.Mutex
	set        declared.Set
	processes  map[string]*process // the latest of each name
	all        []*process
	healed     bool
	over       bool // all has been waited for
	buried     int  // dead letters at the end
	losing     int  // connections of a thousand requests that are lost
	violations []string
	trace      []string
	count      map[string]int // faults by kind
}

// knobs are what kind of a world a seed has.
type knobs struct {
	latency     time.Duration // most of one request
	bump        bool          // a producer epoch for each transaction (KIP-890, TV2)
	bounces     bool          // a transaction too early is sent away, not kept until it may begin
	parts       int32
	splits      int
	sources     int
	sinks       int
	workers     int
	rows        int           // of a stream
	pace        time.Duration // mean time between two rows
	letters     bool          // targets do not take every row: sinks keep dead letters
	refuses     bool          // sources keep dead letters: at times a transform refuses all that comes to a topic
	rots        bool          // a batch of a topic cannot be read for a while
	keeps       bool          // a database keeps rows that are durable elsewhere, as a file does
	sourceFails int           // of a thousand Reads
	sinkFails   int           // of a thousand calls
	faults      int
}

const group1 = "g"

func newWorld(seed uint64) *World {
	r := rand.New(rand.NewPCG(seed, 0))
	k := knobs{
		latency: time.Duration(1+r.IntN(8)) * time.Millisecond, bump: r.IntN(3) > 0, bounces: r.IntN(2) == 0, parts: int32(1 + r.IntN(2)), splits: 1 + r.IntN(2),
		sources: 1 + r.IntN(2), sinks: 1 + r.IntN(2), keeps: r.IntN(2) == 0, letters: r.IntN(3) == 0, workers: 2 + r.IntN(2), rows: 60 + r.IntN(200), faults: 2 + r.IntN(5),
	}
	if r.IntN(2) == 0 {
		k.sourceFails = r.IntN(30)
	}
	if r.IntN(2) == 0 {
		k.sinkFails = r.IntN(30)
	}
	k.refuses, k.rots = seed%11 == 7, seed%13 == 4                                  // drawn they would change all other seeds
	k.pace = time.Duration(10+r.IntN(20)) * time.Second * 2 / time.Duration(k.rows) // two rows at a time, on the average, so that rows come for as long as faults do
	w := &World{seed: seed, knobs: k, targets: map[string]*target{}, processes: map[string]*process{}, began: time.Now(), count: map[string]int{}}
	w.log = newLog(w)
	w.db = &database{w: w, streams: map[string]*stream{}, changed: make(chan struct{})}
	return w
}

// draw is a number made of the seed and of what it is for: who asks first among goroutines changes nothing.
func (w *World) draw(what ...any) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, w.seed)
	for _, x := range what {
		fmt.Fprint(h, "/", x)
	}
	return rand.NewPCG(h.Sum64(), 1).Uint64()
}

// chance is true in so many of a thousand cases.
func (w *World) chance(thousandth int, what ...any) bool {
	return thousandth > 0 && int(w.draw(what...)%1000) < thousandth
}

func (w *World) delay(what ...any) time.Duration {
	return time.Duration(w.draw(what...) % uint64(w.knobs.latency))
}

// fails is chance for faults at any time: none when all is healed.
func (w *World) fails(thousandth int, what ...any) bool {
	w.mu.Lock()
	healed := w.healed
	w.mu.Unlock()
	return !healed && w.chance(thousandth, what...)
}

// loses says whether a connection is lost before its request arrives, or before its answer does.
func (w *World) loses(what ...any) bool {
	w.mu.Lock()
	losing := w.losing
	w.mu.Unlock()
	return w.fails(losing, what...)
}

func (w *World) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, fmt.Sprintf("%9.3f ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

// violated takes note of a broken promise.
func (w *World) violated(format string, args ...any) {
	w.note("VIOLATION: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// logger writes what a worker says into the trace.
func (w *World) logger(name string) slog.Handler { return &handler{w: w, name: name} }

type handler struct {
	w    *World
	name string
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (h *handler) WithGroup(string) slog.Handler                { return h }
func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	name := h.name
	for _, a := range as {
		name += " " + a.Value.String()
	}
	return &handler{h.w, name}
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	h.w.note("%s: %s", h.name, text)
	return nil
}

// declare makes a set of the same connectors, configured another way each time, and tells every worker, each a moment later than another.
func (w *World) declare(r *rand.Rand, state declared.State) {
	set := declared.Set{}
	w.mu.Lock()
	refused := w.knobs.refuses && !w.healed && (w.set.Version == 0 || w.draw("refused", w.set.Version)%2 == 0)
	w.mu.Unlock()
	for i := range w.knobs.sources {
		fields := map[string]declared.Value{"batch": {Text: fmt.Sprint(1 + r.IntN(40))}}
		if w.knobs.refuses {
			fields["on_error"], fields["dlq.limit"] = declared.Value{Text: "dlq"}, declared.Value{Text: "100000"}
		}
		if refused {
			fields["transforms.0.type"], fields["transforms.0.field"] = declared.Value{Text: "extract"}, declared.Value{Text: "none"}
			fields["transforms.0.when.topic"] = declared.Value{Text: `src1\.a`}
		}
		set.Connectors = append(set.Connectors, declared.Connector{Name: fmt.Sprintf("src%d", i+1), Kind: declared.Source, Type: "rows", State: state, Fields: fields})
	}
	for i := range w.knobs.sinks {
		topics := []string{"src*"}
		if i == 1 {
			topics = []string{"src1.*"}
		}
		fields := map[string]declared.Value{"topics": {List: topics}, "size": {Text: fmt.Sprint(1 + r.IntN(100))}, "interval": {Text: fmt.Sprintf("%dms", 100+r.IntN(1500))}}
		if w.knobs.letters {
			fields["on_error"], fields["dlq.limit"] = declared.Value{Text: "dlq"}, declared.Value{Text: "100000"}
		}
		set.Connectors = append(set.Connectors, declared.Connector{Name: fmt.Sprintf("store%d", i+1), Kind: declared.Sink, Type: "store", State: state, Fields: fields})
	}
	w.mu.Lock()
	set.Version = w.set.Version + 1
	w.set = set
	var tell []*process
	for _, p := range w.processes {
		tell = append(tell, p)
	}
	w.mu.Unlock()
	slices.SortFunc(tell, func(a, b *process) int { return strings.Compare(a.name, b.name) })
	for _, p := range tell {
		late := time.Duration(r.IntN(500)) * time.Millisecond
		w.faults.Go(func() {
			time.Sleep(late)
			if p.pass(context.Background()) == nil && p.alive() {
				p.hear(set)
			}
		})
	}
}

func (w *World) latest(name string) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.processes[name]
}

// back starts a worker again.
func (w *World) back(name string) {
	if p := w.latest(name); p == nil || !p.alive() {
		w.begin(name)
	}
}

func (w *World) begin(name string) {
	p := w.start(name)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, p)
}

// populate has everything begin.
func (w *World) populate(r *rand.Rand) {
	w.declare(r, declared.Running)
	for i, set := 0, w.set; i < len(set.Connectors); i++ {
		if c := set.Connectors[i]; c.Kind == declared.Sink {
			w.targets[c.Name] = newTarget(w, c.Name)
		}
	}
	for i := range w.knobs.sources {
		for s := range w.knobs.splits {
			for _, k := range kinds {
				w.db.grow(fmt.Sprintf("src%d/s%d/%s", i+1, s, k), w.knobs.rows, rand.New(rand.NewPCG(r.Uint64(), 2)))
			}
		}
	}
	for i := range w.knobs.workers {
		w.begin(workerName(i))
	}
}

// run is the whole history. It returns what was promised and is not so.
func (w *World) run() []string {
	r := rand.New(rand.NewPCG(w.seed, 1))
	w.populate(r)
	if w.knobs.rots {
		w.faults.Go(w.rot)
	}
	for range w.knobs.faults {
		time.Sleep(time.Duration(r.Int64N(int64(6 * time.Second))))
		w.befall(r)
	}
	w.faults.Wait()
	w.growing.Wait()
	w.mu.Lock()
	w.healed = true
	w.mu.Unlock()
	w.note("all is healed")
	if w.knobs.refuses {
		w.declare(r, declared.Running) // and nothing is refused any more
	}
	for i := range w.knobs.workers {
		w.back(workerName(i))
	}
	w.awaitAll()
	w.end()
	return w.violations
}

// rot has a batch be damaged, until its replica is repaired.
func (w *World) rot() {
	time.Sleep(5*time.Second + time.Duration(w.draw("rot at")%uint64(5*time.Second)))
	where := place{"src1." + kinds[w.draw("rot", "kind")%2], int32(w.draw("rot", "part") % uint64(w.knobs.parts))}
	d := time.Duration(w.draw("rot for") % uint64(80*time.Second))
	w.note("what comes next in %s-%d cannot be read for %v", where.topic, where.part, d)
	w.log.damage(where)
	time.Sleep(d)
	w.log.heal(where)
}

func workerName(i int) string { return fmt.Sprintf("w%d", i+1) }

// awaitAll waits until every target has every row.
func (w *World) awaitAll() {
	deadline := time.Now().Add(5 * time.Minute) // some transactions are given up after one minute, and backoff goes up to half a minute
	for n := 0; time.Now().Before(deadline) && len(w.missing()) > 0; n++ {
		time.Sleep(100 * time.Millisecond)
		if w.knobs.refuses && n%50 == 0 {
			w.replay()
		}
	}
	w.over = true
	for _, m := range w.missing() {
		w.violated("%s", m)
	}
}

// replay asks for all that sources keep and nobody has asked for, as somebody does who has mended its cause.
func (w *World) replay() {
	p := &process{w: w, name: "somebody", died: make(chan struct{}), done: make(chan struct{})}
	l, err := hublog.Open(hublog.Options{Dial: func(ctx context.Context) (net.Conn, error) { return w.log.dial(ctx, p) }})
	if err != nil {
		panic(err)
	}
	defer l.Close()
	for i := range w.knobs.sources {
		name := fmt.Sprintf("src%d", i+1)
		d, err := dlq.List(context.Background(), l, group1, name)
		if err != nil {
			w.note("list the dead letters of %s: %v", name, err)
			continue
		}
		var places []dlq.Place
		for _, e := range d.Waiting() {
			if e.Stage != dlq.Parked && d.Asked(e.Place) == "" {
				places = append(places, e.Place)
			}
		}
		if len(places) > 0 {
			w.note("%d dead letters of %s, %d are asked for: %v", d.Count(), name, len(places), d.Ask(context.Background(), group1, name, dlq.Replay, places))
		}
	}
}

// missing says what targets, and their dead letters, do not have.
func (w *World) missing() (out []string) {
	total := w.db.total()
	for _, g := range w.targets {
		g.mu.Lock()
		have := maps.Clone(g.keys)
		g.mu.Unlock()
		w.letters(g.name, have)
		for key, n := range total {
			if (g.name == "store1" || strings.HasPrefix(key, "src1/")) && have[key] != n {
				out = append(out, fmt.Sprintf("%s has %d of %d rows of %s", g.name, have[key], n, key))
			}
		}
	}
	slices.Sort(out)
	return out
}

// letters adds the rows of a sink's dead letters to those of its target: of each key they must be the next ones, for what comes behind
// a dead letter waits there.
func (w *World) letters(sink string, have map[string]int) {
	if !w.knobs.letters {
		return
	}
	var buried []dlq.Place
	latest := map[string]bool{}
	for _, e := range w.log.committed(place{dlq.Topic(group1, sink), 0}) {
		latest[string(e.key)] = e.value != nil
	}
	for key, is := range latest {
		if p := (dlq.Place{}); is && json.Unmarshal([]byte(key), &p) == nil && p.Topic != "" {
			buried = append(buried, p)
		}
	}
	slices.SortFunc(buried, func(a, b dlq.Place) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	if w.over {
		w.buried += len(buried)
	}
	rows := map[place]map[int64]entry{}
	for _, p := range buried {
		at := place{p.Topic, p.Partition}
		if rows[at] == nil {
			rows[at] = map[int64]entry{}
			for _, e := range w.log.committed(at) {
				rows[at][e.offset] = e
			}
		}
		e := rows[at][p.Offset]
		if string(e.value) == fmt.Sprint(have[string(e.key)]) {
			have[string(e.key)]++
		} else if w.over {
			w.violated("the dead letters of %s have row %s of %s (%s), where row %d belongs", sink, e.value, e.key, p, have[string(e.key)])
		}
	}
}

// end stops all in good order and looks at the log once more.
func (w *World) end() {
	w.mu.Lock()
	all := w.all
	w.mu.Unlock()
	for _, p := range all {
		p.stop()
	}
	for _, p := range all {
		<-p.done
	}
	w.checkLog()
	w.log.restart(0)
	time.Sleep(5 * time.Minute) // timers of clients and transactions run out
}

// checkLog holds the committed records of each topic against the rows.
func (w *World) checkLog() {
	total, have := w.db.total(), map[string]int{}
	for i := range w.knobs.sources {
		for _, k := range kinds {
			for p := range w.knobs.parts {
				where := place{fmt.Sprintf("src%d.%s", i+1, k), p}
				for _, e := range w.log.committed(where) {
					if strings.Contains(string(e.key), "strangers") {
						w.violated("an aborted record of a stranger is committed in %s-%d", where.topic, where.part)
					}
					if n := have[string(e.key)]; string(e.value) != fmt.Sprint(n) {
						w.violated("%s-%d has row %s of %s where row %d belongs", where.topic, where.part, e.value, e.key, n)
					}
					have[string(e.key)]++
				}
			}
		}
	}
	for key, n := range total {
		if have[key] != n {
			w.violated("the log has %d of %d rows of %s", have[key], n, key)
		}
	}
}

// befall has one fault begin.
func (w *World) befall(r *rand.Rand) {
	f := faults[r.IntN(len(faults))]
	w.mu.Lock()
	w.count[f.name]++
	w.mu.Unlock()
	w.note("fault: %s", f.name)
	f.do(w, r)
}

// faults each begin at once and heal by themselves; many overlap. What they draw they draw before they wait.
var faults = []struct {
	name string
	do   func(w *World, r *rand.Rand)
}{
	{"crash in a call", func(w *World, r *rand.Rand) {
		p := w.latest(workerName(r.IntN(w.knobs.workers)))
		n, after, away := 1+r.IntN(60), r.IntN(2) == 0, time.Duration(r.Int64N(int64(2*time.Second)))
		if r.IntN(3) == 0 { // its heirs are at work before it is back
			away = 3*time.Second + time.Duration(r.Int64N(int64(9*time.Second)))
		}
		p.crashIn(n, after)
		w.faults.Go(func() {
			late := time.NewTimer(10 * time.Second)
			defer late.Stop()
			select {
			case <-p.died:
			case <-p.done:
			case <-late.C:
				p.die("at last")
			}
			time.Sleep(away)
			w.back(p.name)
		})
	}},
	{"pause", func(w *World, r *rand.Rand) {
		p := w.latest(workerName(r.IntN(w.knobs.workers)))
		d := time.Duration(r.Int64N(int64(3 * time.Second)))
		switch r.IntN(4) {
		case 0, 1: // past its lease
			d += 6 * time.Second
		case 2: // past the log's patience with an open transaction
			d += 59 * time.Second
		}
		w.faults.Go(func() {
			goOn := p.stand()
			time.Sleep(d)
			goOn()
		})
	}},
	{"rebalance", func(w *World, r *rand.Rand) {
		n := r.IntN(1 << 20)
		stay, kill := time.Duration(r.Int64N(int64(5*time.Second))), r.IntN(2) == 0
		w.faults.Go(func() {
			name := fmt.Sprintf("guest%d", n)
			w.begin(name)
			time.Sleep(stay)
			p := w.latest(name)
			if kill {
				p.die("and stays away")
			}
			p.stop()
			<-p.done
		})
	}},
	{"stop in good order", func(w *World, r *rand.Rand) {
		p := w.latest(workerName(r.IntN(w.knobs.workers)))
		away := time.Duration(r.Int64N(int64(4 * time.Second)))
		w.faults.Go(func() {
			p.stop()
			<-p.done
			time.Sleep(away)
			w.back(p.name)
		})
	}},
	{"reload", func(w *World, r *rand.Rand) { w.declare(r, declared.Running) }},
	{"pause of the connectors", func(w *World, r *rand.Rand) {
		state := []declared.State{declared.Paused, declared.Stopped}[r.IntN(2)]
		d, then := time.Duration(r.Int64N(int64(4*time.Second))), rand.New(rand.NewPCG(r.Uint64(), 3))
		w.declare(r, state)
		w.faults.Go(func() {
			time.Sleep(d)
			w.declare(then, declared.Running)
		})
	}},
	{"restart of the log", func(w *World, r *rand.Rand) {
		d := time.Duration(r.Int64N(int64(5 * time.Second)))
		w.faults.Go(func() {
			w.note("the log is away for %v", d)
			w.log.restart(d)
		})
	}},
	{"hung neighbour", func(w *World, r *rand.Rand) {
		where := place{position.Topic, 0}
		if r.IntN(3) == 0 {
			where = place{fmt.Sprintf("src%d.%s", 1+r.IntN(w.knobs.sources), kinds[r.IntN(2)]), r.Int32N(w.knobs.parts)}
		} else if w.knobs.letters && r.IntN(2) == 0 {
			where = place{dlq.Topic(group1, "store1"), 0}
		}
		d := time.Duration(r.Int64N(int64(40 * time.Second)))
		w.note("a stranger's transaction hangs in %s for %v", where.topic, d)
		w.faults.Go(func() { w.log.hang(where, d) })
	}},
	{"lost connections", func(w *World, r *rand.Rand) {
		n, d := 5+r.IntN(100), time.Duration(r.Int64N(int64(8*time.Second)))
		w.faults.Go(func() {
			w.lose(n)
			time.Sleep(d)
			w.lose(-n)
		})
	}},
}

func (w *World) lose(more int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.losing += more
}
