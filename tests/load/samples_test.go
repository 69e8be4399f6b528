package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/figures"
)

// samples are resident memory and descriptors over time.
type samples struct {
	began    time.Time
	at       []float64 // seconds
	rss, fds []float64
	parts    map[string][]float64 // what the two are made of, for the reader of a report
}

func (s *samples) take(pid int) {
	if s.began.IsZero() {
		s.began = time.Now()
	}
	now, _ := figures.RSS(pid)
	s.at = append(s.at, time.Since(s.began).Seconds())
	s.rss = append(s.rss, now)
	files := descriptors(pid)
	s.fds = append(s.fds, float64(len(files)))
	kinds := map[string]float64{"anonymous memory": figures.Memory(pid, "RssAnon"), "file-backed memory": figures.Memory(pid, "RssFile"), "sockets": 0, "segments": 0, "indexes": 0, "other files": 0}
	for _, name := range files {
		switch {
		case strings.HasPrefix(name, "socket:"):
			kinds["sockets"]++
		case strings.HasSuffix(name, ".log"):
			kinds["segments"]++
		case strings.HasSuffix(name, "index"):
			kinds["indexes"]++
		default:
			kinds["other files"]++
		}
	}
	if s.parts == nil {
		s.parts = map[string][]float64{}
	}
	for kind, n := range kinds {
		s.parts[kind] = append(s.parts[kind], n)
	}
}

// judge holds the last three quarters against a flat line. They are cut into nine stretches, whose means have lost the
// garbage collector's saw teeth; a line is laid through the nine by least squares. Growth is nothing if the slope's 95 %
// interval contains zero, or if the line rises by less than 2 % of the mean from its begin to its end.
func (s *samples) judge(t *testing.T) {
	t.Helper()
	for _, f := range []struct {
		name, unit string
		values     []float64
	}{{"resident memory", "MiB", s.rss}, {"descriptors", "", s.fds}} {
		first := len(f.values) / 4
		if len(f.values)-first < 9*12 { // less than a minute in a stretch: too short to say anything
			t.Logf("soak: %s at the end: %.0f %s", f.name, f.values[len(f.values)-1], f.unit)
			continue
		}
		at, means := stretches(s.at[first:], f.values[first:], 9)
		slope, interval, mean := line(at, means)
		window := at[len(at)-1] - at[0]
		t.Logf("soak: %s: mean %.1f %s in the last three quarters, slope %+.2f ± %.2f per hour (95 %%), means of nine stretches %.1f", f.name, mean, f.unit, slope*3600, interval*3600, means)
		if slope > interval && slope*window > mean*0.02 {
			t.Errorf("%s grows by %.2f %s per hour", f.name, slope*3600, f.unit)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(s.parts)) {
		if first := len(s.at) / 4; len(s.at)-first >= 9 {
			_, means := stretches(s.at[first:], s.parts[kind][first:], 9)
			t.Logf("soak: of that %s: means %.1f", kind, means)
		}
	}
}

// stretches are the mean time and mean value of n equal runs.
func stretches(at, values []float64, n int) (times, means []float64) {
	for i := range n {
		from, to := i*len(at)/n, (i+1)*len(at)/n
		times = append(times, mean(at[from:to]))
		means = append(means, mean(values[from:to]))
	}
	return times, means
}

func mean(values []float64) (m float64) {
	for _, v := range values {
		m += v / float64(len(values))
	}
	return m
}

// line is the least-squares slope with half its 95 % interval: Student's t for seven degrees of freedom, which are nine points less two.
func line(x, y []float64) (slope, interval, my float64) {
	const t7 = 2.365
	mx, my := mean(x), mean(y)
	var xx, xy, rest float64
	for i := range x {
		xx += (x[i] - mx) * (x[i] - mx)
		xy += (x[i] - mx) * (y[i] - my)
	}
	slope = xy / xx
	for i := range x {
		r := y[i] - my - slope*(x[i]-mx)
		rest += r * r
	}
	return slope, t7 * math.Sqrt(rest/float64(len(x)-2)/xx), my
}

// A verdict must be able to fail: a leak of 3 % in the window is found under noise of twice that, a flat line is not one.
func TestLineFindsALeak(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, leak := range []float64{0, 3} {
		var at, values []float64
		for i := range 540 { // 45 minutes
			at = append(at, float64(i)*5)
			values = append(values, 100+leak*float64(i)/540+random.Float64()*6)
		}
		x, y := stretches(at, values, 9)
		slope, interval, m := line(x, y)
		grows := slope > interval && slope*(x[8]-x[0]) > m*0.02
		if grows != (leak > 0) {
			t.Errorf("leak of %v: slope %v ± %v, found %v", leak, slope, interval, grows)
		}
	}
}

// descriptors are what the links in /proc/PID/fd name.
func descriptors(pid int) (names []string) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir) // ended: none
	for _, e := range entries {
		name, err := os.Readlink(dir + "/" + e.Name())
		if err == nil {
			names = append(names, name)
		}
	}
	return names
}

// connections are the sockets of a process beyond its two listeners.
func connections(pid int) (n int) {
	for _, name := range descriptors(pid) {
		if strings.HasPrefix(name, "socket:") {
			n++
		}
	}
	return n - 2
}

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// connections that come and go: with a request, with half a frame, with nothing.
func (l *life) connections(random *rand.Rand) {
	apiVersions := binary.BigEndian.AppendUint32(nil, 10)
	apiVersions = append(apiVersions, 0, 18, 0, 0, 0, 0, 0, 1, 0xFF, 0xFF) // v0, no client id
	l.each(100*time.Millisecond, func(int) {
		conn, err := net.Dial("tcp", l.addr)
		if err != nil {
			l.fail("dial", err)
			return
		}
		defer conn.Close()
		l.conns.Add(1)
		switch random.IntN(4) {
		case 0:
			return
		case 1:
			_, _ = conn.Write(apiVersions[:random.IntN(len(apiVersions))]) // the node may not mind
			return
		}
		_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := conn.Write(apiVersions); err != nil {
			l.fail("write", err)
			return
		}
		if _, err := conn.Read(make([]byte, 4096)); err != nil {
			l.fail("ApiVersions", err)
		}
	})
}
