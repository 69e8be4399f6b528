// Package rates tries that producers and consumers run at different rates: neither waits for the other.
package rates

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/figures"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	stopped = flag.Duration("stopped", 3*time.Second, "how long the sink stands still; from a minute on its figures are judged")
	rate    = flag.Int("rate", 5000, "lines per second")
)

const (
	// judged is from when on a run says more than that everything arrives.
	judged = time.Minute
	// settled is when a node's heap no longer grows by its work having begun: at 5,000 lines/s some three minutes, for the collector's cycles become rare as the heap grows.
	settled = 4 * time.Minute
)

// TestStoppedSink: lines come all the time, and the sink that writes them to files is stopped over REST for a while. The
// source's latency (a line is written to the log file, until a read_committed consumer has it) and the node's resident
// memory stay as they are; when the sink goes on it catches up at five times the rate or more; each line arrives once, in order.
func TestStoppedSink(t *testing.T) {
	dir := t.TempDir()
	lines := filepath.Join(dir, "lines.log")
	w := begin(t, lines)
	n := node.New(t, "--data", filepath.Join(dir, "data"), node.WriteFile(t, dir, "job.yaml", fmt.Sprintf(`sources:
  lines: {type: tail, paths: [%s]}
sinks:
  files: {type: file, url: %s, topics: [lines], format: text, rotate: {interval: 1s}}
`, lines, filepath.Join(dir, "files"))))
	n.Start()
	var ends sync.WaitGroup
	r := read(t, n.Kafka)
	defer ends.Wait()
	defer r.stop()
	defer w.end()
	ends.Go(w.write)
	ends.Go(r.follow)

	before := r.watch(n, min(*stopped, settled))
	order(t, n, "stop")
	still := r.watch(n, *stopped)
	backlog := committed(t, n)
	from, to := backlog, end(t, n)
	began := time.Now()
	order(t, n, "resume")
	reach := func(to int64) {
		for began := time.Now(); from < to; from = committed(t, n) {
			if time.Since(began) > time.Minute+*stopped/2 {
				t.Fatalf("the sink has come from offset %d to %d of %d in %v", backlog, from, to, time.Since(began))
			}
			pass(t, 20*time.Millisecond)
		}
	}
	reach(to)
	catching := float64(to-backlog) / time.Since(began).Seconds()

	t.Logf("soak: %d lines/s, the sink stopped for %v: p99 of a second (median of the seconds) %.1f ms before, %.1f ms while it stood still; resident memory %.0f MiB at its begin, %.0f at its end; then %.0f lines/s, %.1f times the rate",
		*rate, *stopped, before.p99, still.p99, still.first, still.last, catching, catching/float64(*rate))
	if *stopped >= judged {
		if still.p99 > 1.1*before.p99 {
			t.Errorf("the source's p99 was %.2f ms, and %.2f ms while the sink stood still", before.p99, still.p99)
		}
		if still.last > 1.05*still.first {
			t.Errorf("resident memory grew from %.0f to %.0f MiB while the sink stood still", still.first, still.last)
		}
		if catching < 5*float64(*rate) {
			t.Errorf("the sink caught up at %.0f lines/s", catching)
		}
	}
	w.end()
	r.stop()
	ends.Wait()
	for began = time.Now(); r.count() < w.lines && time.Since(began) < time.Minute; {
		r.once(100 * time.Millisecond)
	}
	if got := r.count(); got != w.lines {
		t.Errorf("%d of %d lines are in the log", got, w.lines)
	}
	reach(end(t, n))
	if err := n.Stop(); err != nil {
		t.Error("SIGTERM:", err)
	}
	held(t, filepath.Join(dir, "files", "lines"), w.lines)
}

// writer appends numbered lines with the time at which each was written.
type writer struct {
	t     *testing.T
	file  *os.File
	ctx   context.Context
	end   func()
	lines int // once it has ended
}

func begin(t *testing.T, name string) *writer {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{t: t, file: f}
	w.ctx, w.end = context.WithCancel(context.Background())
	return w
}

func (w *writer) write() {
	defer w.file.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	var b []byte
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-tick.C:
		}
		due := int(time.Since(began).Seconds() * float64(*rate))
		for b = b[:0]; w.lines < due; w.lines++ {
			b = fmt.Appendf(b, "%d %d %s\n", w.lines, time.Now().UnixNano(), strings.Repeat("x", 70))
		}
		if _, err := w.file.Write(b); err != nil {
			w.t.Error(err)
			return
		}
	}
}

// reader follows the topic and notes how old each line is when it comes.
type reader struct {
	t  *testing.T
	cl *kgo.Client

	mu   sync.Mutex
	ages []float64 // milliseconds, since the last look
	next int       // the line that comes next
	done bool
}

func read(t *testing.T, addr string) *reader {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("lines"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &reader{t: t, cl: cl}
}

// follow reads until the test's own goroutine takes over.
func (r *reader) follow() {
	for !r.over() {
		r.once(200 * time.Millisecond)
	}
}

func (r *reader) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = true
}

func (r *reader) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done
}

func (r *reader) once(wait time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	fetches := r.cl.PollFetches(ctx)
	now := time.Now().UnixNano()
	r.mu.Lock()
	defer r.mu.Unlock()
	fetches.EachRecord(func(k *kgo.Record) {
		number, rest, _ := strings.Cut(string(k.Value), " ")
		at, _, _ := strings.Cut(rest, " ")
		if number != strconv.Itoa(r.next) {
			r.t.Errorf("offset %d has line %q, want line %d", k.Offset, number, r.next)
		}
		r.next++
		written, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			r.t.Errorf("offset %d: %v", k.Offset, err)
		}
		r.ages = append(r.ages, float64(now-written)/1e6)
	})
}

func (r *reader) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// figure is what a stretch of time looked like.
type figure struct {
	p99         float64 // milliseconds: of each second, and the median of these
	first, last float64 // MiB resident: means of the first and of the last quarter of the seconds
}

// watch looks at each second of a stretch.
func (r *reader) watch(n *node.Node, length time.Duration) figure {
	var f figure
	var tails, resident []float64
	r.take()
	for end := time.Now().Add(length); time.Now().Before(end); {
		pass(r.t, time.Second)
		if ages := r.take(); len(ages) > 0 {
			slices.Sort(ages)
			tails = append(tails, ages[len(ages)*99/100])
		}
		now, _ := figures.RSS(n.PID())
		resident = append(resident, now)
	}
	if len(tails) == 0 {
		r.t.Fatalf("no line came within %v", length)
	}
	slices.Sort(tails)
	f.p99 = tails[len(tails)/2]
	quarter := max(1, len(resident)/4)
	f.first, f.last = mean(resident[:quarter]), mean(resident[len(resident)-quarter:])
	return f
}

func (r *reader) take() []float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	ages := r.ages
	r.ages = nil
	return ages
}

// pass lets time pass, in which lines come.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	if err := pause.For(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// order tells the sink to stop or to go on, by Kafka Connect's REST API.
func order(t *testing.T, n *node.Node, what string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+n.HTTP+"/connectors/files/"+what, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode/100 != 2 {
		t.Fatalf("%s: %s %s", what, res.Status, text)
	}
}

// committed is the offset up to which the sink's files are whole.
func committed(t *testing.T, n *node.Node) int64 {
	t.Helper()
	cl := admin(t, n)
	defer cl.Close()
	offsets, err := cl.FetchOffsets(t.Context(), "forebay-files")
	if err != nil {
		t.Fatal(err)
	}
	o, _ := offsets.Lookup("lines", 0)
	return max(0, o.At)
}

func end(t *testing.T, n *node.Node) int64 {
	t.Helper()
	cl := admin(t, n)
	defer cl.Close()
	offsets, err := cl.ListCommittedOffsets(t.Context(), "lines")
	if err != nil {
		t.Fatal(err)
	}
	o, _ := offsets.Lookup("lines", 0)
	return o.Offset
}

func admin(t *testing.T, n *node.Node) *kadm.Client {
	t.Helper()
	cl, err := kadm.NewOptClient(kgo.SeedBrokers(n.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// held finds each of the lines once, in order, in the sink's files.
func held(t *testing.T, dir string, lines int) {
	t.Helper()
	next := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error { // in the order of names, which is that of offsets
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); next++ {
			if number, _, _ := strings.Cut(s.Text(), " "); number != strconv.Itoa(next) {
				return fmt.Errorf("%s has line %q, want line %d", path, number, next)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if next != lines {
		t.Errorf("%d of %d lines are in files", next, lines)
	}
}
