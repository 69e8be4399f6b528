package metrics

import (
	"strings"
	"testing"
	"time"
)

func TestPage(t *testing.T) {
	jobs, open, took := Counter("jobs_total", "Jobs\nby \\name.", "name"), Gauge("open", "Open."), Histogram("took_seconds", "Time.", "api")
	var l Latency
	l.Observe(100 * time.Microsecond) // a bound belongs to its bucket
	l.Observe(3 * time.Millisecond)
	l.Observe(time.Minute)
	var w Writer
	w.Count(jobs, 7, `a"b\c`+"\n\xff")
	w.Value(open, 0.5)
	w.Count(jobs, 1, "z")
	w.Latency(took, &l, "Fetch")
	want := `# HELP jobs_total Jobs\nby \\name.
# TYPE jobs_total counter
jobs_total{name="a\"b\\c\n` + "\uFFFD" + `"} 7
jobs_total{name="z"} 1
# HELP open Open.
# TYPE open gauge
open 0.5
# HELP took_seconds Time.
# TYPE took_seconds histogram
took_seconds_bucket{api="Fetch",le="0.0001"} 1
took_seconds_bucket{api="Fetch",le="0.00025"} 1
took_seconds_bucket{api="Fetch",le="0.0005"} 1
took_seconds_bucket{api="Fetch",le="0.001"} 1
took_seconds_bucket{api="Fetch",le="0.0025"} 1
took_seconds_bucket{api="Fetch",le="0.005"} 2
`
	got := w.String()
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if end := "took_seconds_bucket{api=\"Fetch\",le=\"+Inf\"} 3\ntook_seconds_sum{api=\"Fetch\"} 60.0031\ntook_seconds_count{api=\"Fetch\"} 3\n"; !strings.HasSuffix(got, end) {
		t.Errorf("got\n%s\nwant at its end\n%s", got, end)
	}
	if names := strings.Join(w.Names(), " "); names != "jobs_total open took_seconds" {
		t.Error(names)
	}
}

func BenchmarkObserve(b *testing.B) {
	var l Latency
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Observe(700 * time.Microsecond)
		}
	})
}
