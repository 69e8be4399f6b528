package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/forebayhub/forebay/internal/figures"
)

// results are the figures of all rounds, by name, and the names in the order in which they came.
type results struct {
	names  []string
	series map[string]figures.Series
}

func newResults() *results { return &results{series: map[string]figures.Series{}} }

func (r *results) put(name string, v float64) {
	if _, known := r.series[name]; !known {
		r.names = append(r.names, name)
	}
	r.series[name] = append(r.series[name], v)
}

// add puts a rate and what it cost; rate only the rate; quantiles the latencies.
func (r *results) add(name string, m measure) {
	r.put(name+" | MB/s", m.mbs)
	r.put(name+" | CPU-s/GB", m.cpu)
}

func (r *results) rate(name string, mbs float64) { r.put(name+" | MB/s", mbs) }

func (r *results) quantiles(name string, ms []float64) {
	r.put(name+" | p50 ms", quantile(ms, 0.50))
	r.put(name+" | p99 ms", quantile(ms, 0.99))
}

func (r *results) median(name string) float64 { return r.series[name].Median() }

// verdict is a threshold and whether it is met.
type verdict struct {
	Promise string `json:"promise"`
	Met     bool   `json:"met"`
	Figure  string `json:"figure"`
}

// ratio is a to b, of medians; 0 without one of them.
func (r *results) ratio(a, b string) float64 {
	if r.median(b) == 0 {
		return 0
	}
	return r.median(a) / r.median(b)
}

func (r *results) has(names ...string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return len(r.series[n]) == 0 })
}

// verdicts compares with the promises; those whose figures were not measured are left out.
func (r *results) verdicts() (list []verdict) {
	note := func(met bool, promise, figure string, args ...any) {
		list = append(list, verdict{promise, met, fmt.Sprintf(figure, args...)})
	}
	for _, s := range steps {
		f, k, dd := "Forebay, produce "+s.name, "Kafka, produce "+s.name, "dd, page cache | MB/s"
		if r.has(f+" | MB/s", k+" | MB/s") {
			rate, disk := r.ratio(f+" | MB/s", k+" | MB/s"), r.ratio(f+" | MB/s", dd)
			note(rate >= 1.5 || disk >= 0.9, "produce "+s.name+": MB/s ≥ 1.5 × Kafka's or ≥ 0.9 × dd", "%.2f × Kafka's, %.2f × dd", rate, disk)
			cpu, floor := r.ratio(f+" | CPU-s/GB", k+" | CPU-s/GB"), r.ratio(f+" | CPU-s/GB", "floor, receive + CRC-32C + write | CPU-s/GB")
			note(cpu <= 0.4 || floor > 0 && floor <= 1.3, "produce "+s.name+": CPU ≤ 0.4 × Kafka's or ≤ 1.3 × the floor", "%.2f × Kafka's, %.2f × the floor", cpu, floor)
		}
		f, k = "Forebay, consume "+s.name, "Kafka, consume "+s.name
		if r.has(f+" | MB/s", k+" | MB/s") {
			cpu, floor := r.ratio(f+" | CPU-s/GB", k+" | CPU-s/GB"), r.ratio(f+" | CPU-s/GB", "floor, sendfile | CPU-s/GB")
			note(cpu <= 0.6 || floor > 0 && floor <= 1.3, "consume "+s.name+": CPU ≤ 0.6 × Kafka's or ≤ 1.3 × the floor", "%.2f × Kafka's, %.2f × the floor", cpu, floor)
		}
	}
	for _, rate := range rates {
		f, k := fmt.Sprintf("Forebay, end to end %d/s", rate), fmt.Sprintf("Kafka, end to end %d/s", rate)
		for _, q := range []string{" | p50 ms", " | p99 ms"} {
			if x := r.ratio(f+q, k+q); r.has(f+q, k+q) {
				note(x <= 0.5, fmt.Sprintf("end to end %d/s,%s ≤ 0.5 × Kafka's", rate, q[2:]), "%.2f × Kafka's", x)
			}
		}
	}
	for _, s := range replicatedSteps {
		f, k, dd := "Forebay, 3 nodes, produce "+s.name, "Kafka, 3 nodes, produce "+s.name, "dd, page cache | MB/s"
		if r.has(f+" | MB/s", k+" | MB/s") {
			rate, disk := r.ratio(f+" | MB/s", k+" | MB/s"), 3*r.ratio(f+" | MB/s", dd)
			note(rate >= 2.5 || disk >= 0.9, "3 nodes, produce "+s.name+": MB/s ≥ 2.5 × Kafka's or ≥ 0.9 × a third of dd", "%.2f × Kafka's, %.2f × a third of dd", rate, disk)
			cpu := r.ratio(f+" | CPU-s/GB", k+" | CPU-s/GB")
			note(cpu <= 0.25, "3 nodes, produce "+s.name+": CPU ≤ 0.25 × Kafka's", "%.2f", cpu)
		}
	}
	if f, k := "Forebay, 3 nodes, end to end 1000/s | p99 ms", "Kafka, 3 nodes, end to end 1000/s | p99 ms"; r.has(f, k) {
		note(r.ratio(f, k) <= 0.25, "3 nodes, end to end 1,000/s: p99 ≤ 0.25 × Kafka's", "%.2f", r.ratio(f, k))
	}
	if f, k := "Forebay, 3 nodes | resident MiB at the end", "Kafka, 3 nodes | resident MiB at the end"; r.has(f, k) {
		note(r.ratio(f, k) <= 0.2, "3 nodes, all resident memory ≤ 0.2 × Kafka's", "%.2f", r.ratio(f, k))
	}
	if safe, relaxed, dd := "Forebay power-safe, 16 producers | MB/s", "Forebay relaxed, 16 producers | MB/s", "dd, oflag=dsync | MB/s"; r.has(safe, relaxed, dd) {
		x := r.median(safe) / min(r.median(relaxed), r.median(dd))
		note(x >= 0.7, "power-safe, 16 producers: MB/s ≥ 0.7 × min(relaxed, dd with dsync)", "%.2f", x)
	}
	if safe, sync := "Forebay power-safe, end to end 1000/s | p99 ms", "fdatasync of 4 KiB | p99 ms"; r.has(safe, sync) {
		limit := 2*r.median(sync) + 2
		note(r.median(safe) <= limit, "power-safe, 1,000/s: p99 ≤ 2 × fdatasync's p99 + 2 ms", "%.2f ms of %.2f ms", r.median(safe), limit)
	}
	safe := "Forebay power-safe, end to end 10000/s | p99 ms"
	for _, peer := range []string{"Kafka flush.messages=1", "RabbitMQ quorum queue"} {
		if other := peer + ", end to end 10000/s | p99 ms"; r.has(safe, other) {
			x := r.ratio(safe, other)
			note(x <= 0.5, "power-safe, 10,000/s: p99 ≤ 0.5 × "+peer, "%.2f", x)
		}
	}
	return list
}

// print writes everything as a table, or as JSON.
func (r *results) print(w io.Writer, asJSON bool) error {
	verdicts := r.verdicts()
	if asJSON {
		figures := map[string]any{}
		for _, n := range r.names {
			s := r.series[n]
			figures[n] = map[string]any{"median": s.Median(), "min": slices.Min(s), "max": slices.Max(s), "values": s}
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"figures": figures, "verdicts": verdicts})
	}
	fmt.Fprintf(w, "| what | unit | median (range) |\n|---|---|---|\n")
	for _, n := range r.names {
		fmt.Fprintf(w, "| %s | %v |\n", n, r.series[n])
	}
	fmt.Fprintln(w)
	for _, v := range verdicts {
		word := "met"
		if !v.Met {
			word = "NOT met"
		}
		fmt.Fprintf(w, "%-7s  %s: %s\n", word, v.Promise, v.Figure)
	}
	return nil
}
