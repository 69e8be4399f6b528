// Package metrics counts and writes what it has counted in Prometheus' text format 0.0.4.
//
// It is a library of a hundred lines because the usual one keeps its numbers in maps by label, which a request would have to look up.
// Here a room keeps its counters in its own structs, and only who asks for them puts names and labels to them.
package metrics

import (
	"math"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Family is a metric by its name: what it counts, of what kind, and by which labels.
type Family struct {
	Name   string
	Kind   string // counter, gauge or histogram
	Help   string
	Labels []string
}

// Counter is a number that only rises, until the process ends.
func Counter(name, help string, labels ...string) *Family {
	return &Family{name, "counter", help, labels}
}

// Gauge is a number as it is now.
func Gauge(name, help string, labels ...string) *Family { return &Family{name, "gauge", help, labels} }

// Histogram counts durations in buckets, see Latency.
func Histogram(name, help string, labels ...string) *Family {
	return &Family{name, "histogram", help, labels}
}

// Bounds are the upper bounds of a Latency's buckets; one more takes what is above them.
var Bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 10 * time.Second,
	time.Minute, 10 * time.Minute, time.Hour,
}

// Latency counts durations. The zero value is empty; all methods may be called concurrently.
type Latency struct {
	buckets [len(Bounds) + 1]atomic.Int64
	nanos   atomic.Int64
}

// Observe counts one.
func (l *Latency) Observe(d time.Duration) {
	i := 0
	for i < len(Bounds) && d > Bounds[i] {
		i++
	}
	l.buckets[i].Add(1)
	l.nanos.Add(int64(d))
}

// Count is how many were observed.
func (l *Latency) Count() (n int64) {
	for i := range l.buckets {
		n += l.buckets[i].Load()
	}
	return n
}

// Writer gathers samples. Those of one family may come between those of others; they are written together, as the format asks.
type Writer struct {
	order    []*Family
	families map[*Family]*strings.Builder
}

// Value writes one sample. values go with the family's labels, in their order.
func (w *Writer) Value(f *Family, v float64, values ...string) {
	w.sample(w.of(f), f.Name, f.Labels, values, "", v)
}

// Count is Value of a whole number.
func (w *Writer) Count(f *Family, n int64, values ...string) { w.Value(f, float64(n), values...) }

// Latency writes a histogram, in seconds.
func (w *Writer) Latency(f *Family, l *Latency, values ...string) {
	b := w.of(f)
	sum := l.nanos.Load() // first: what is observed meanwhile is in the buckets at least
	var n int64
	for i := range l.buckets {
		n += l.buckets[i].Load()
		bound := "+Inf"
		if i < len(Bounds) {
			bound = strconv.FormatFloat(Bounds[i].Seconds(), 'g', -1, 64)
		}
		w.sample(b, f.Name+"_bucket", f.Labels, values, bound, float64(n))
	}
	w.sample(b, f.Name+"_sum", f.Labels, values, "", time.Duration(sum).Seconds())
	w.sample(b, f.Name+"_count", f.Labels, values, "", float64(n))
}

// Names are the families that have been written, in order.
func (w *Writer) Names() (names []string) {
	for _, f := range w.order {
		names = append(names, f.Name)
	}
	return names
}

// String is the page.
func (w *Writer) String() string {
	var b strings.Builder
	for _, f := range w.order {
		b.WriteString("# HELP " + f.Name + " " + escape(f.Help, false) + "\n# TYPE " + f.Name + " " + f.Kind + "\n")
		b.WriteString(w.families[f].String())
	}
	return b.String()
}

func (w *Writer) of(f *Family) *strings.Builder {
	b := w.families[f]
	if b == nil {
		if w.families == nil {
			w.families = map[*Family]*strings.Builder{}
		}
		b = &strings.Builder{}
		w.families[f] = b
		w.order = append(w.order, f)
	}
	return b
}

func (w *Writer) sample(b *strings.Builder, name string, labels, values []string, le string, v float64) {
	b.WriteString(name)
	sep := byte('{')
	label := func(name, value string) {
		b.WriteByte(sep)
		sep = ','
		b.WriteString(name + `="` + escape(value, true) + `"`)
	}
	for i, name := range labels {
		if i < len(values) {
			label(name, values[i])
		}
	}
	if le != "" {
		label("le", le)
	}
	if sep == ',' {
		b.WriteByte('}')
	}
	b.WriteByte(' ')
	b.WriteString(number(v))
	b.WriteByte('\n')
}

func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// escape makes text fit for a line, or for a label's quotes.
func escape(s string, quoted bool) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "\n", `\n`)
	if quoted {
		s = strings.ReplaceAll(s, `"`, `\"`)
	}
	return s
}
