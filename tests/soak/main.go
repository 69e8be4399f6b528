// Command soak runs what is too long for CI, part by part, and writes a report of each run into docs/soak:
// what ran, at which commit, with which seed, for how long, and what came out. A run that passed and whose
// code has not changed since is not run again, so an interrupted soak goes on where it was.
//
//	go run ./tests/soak                      everything
//	go run ./tests/soak -parts kills,disk    some parts
//	go run ./tests/soak -list                what there is, and what is still to do
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// run is one command with one verdict.
type run struct {
	name    string   // unique in its part
	args    []string // of the go tool
	watches []string // what of the repository must not have changed for a verdict to stand
	seed    string   // empty where there is none
	figure  func(line string) (text string, last bool)
}

func main() {
	if err := soak(); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func soak() error {
	var o options
	names := flag.String("parts", "", "comma-separated parts; empty: all of "+strings.Join(partNames(), ", "))
	only := flag.String("run", "", "only runs whose name contains this")
	list := flag.Bool("list", false, "list the runs and what is still to do")
	again := flag.Bool("again", false, "run also what has passed")
	note := flag.String("note", "", "what else there is to say about the machine, for the report")
	flag.IntVar(&o.kills, "kills", 500, "SIGKILLs in each durability")
	flag.IntVar(&o.cuts, "cuts", 500, "simulated power cuts in each durability")
	flag.IntVar(&o.seeds, "seeds", 10000, "seeds of the simulator's histories, of all kinds together")
	flag.IntVar(&o.histories, "histories", 1000, "histories of the connector runtime")
	flag.DurationVar(&o.fuzz, "fuzztime", 10*time.Minute, "time for each fuzzer")
	flag.IntVar(&o.workers, "fuzzworkers", 2, "processes of a fuzzer")
	flag.DurationVar(&o.load, "load", time.Hour, "time of the mixed load")
	flag.IntVar(&o.rate, "rate", 2000, "records per second of the mixed load")
	flag.DurationVar(&o.chaos, "chaos", 30*time.Minute, "time of storms over a cluster, in all")
	flag.DurationVar(&o.storms, "storms", 5*time.Minute, "time of storms of one run")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	wanted := partNames()
	if *names != "" {
		wanted = strings.Split(*names, ",")
	}
	failed := 0
	for _, name := range wanted {
		p, ok := parts[name]
		if !ok {
			return fmt.Errorf("there is no part %q; there are %s", name, strings.Join(partNames(), ", "))
		}
		runs, err := p.runs(o)
		if err != nil {
			return err
		}
		for _, r := range runs {
			if !strings.Contains(r.name, *only) {
				continue
			}
			done, err := stands(name, r) // of a part that adds, every run is new
			if err != nil {
				return err
			}
			if *list {
				fmt.Printf("%-6s %-60s %s\n", name, r.name, map[bool]string{true: "passed", false: "to do"}[done])
				continue
			}
			if done && !*again {
				continue
			}
			row, err := perform(ctx, name, r)
			if err != nil {
				return err
			}
			if *note != "" {
				row.machine += ", " + *note
			}
			fmt.Printf("%s %s: %s\n", name, r.name, row.verdict)
			if row.verdict != passed {
				failed++
			}
			if err := write(name, p, row, runs); err != nil {
				return err
			}
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d runs failed", failed)
	}
	return nil
}

// perform runs it. Only what came to its own end gets a row: an interrupted run has no verdict.
func perform(ctx context.Context, part string, r run) (row, error) {
	commit, err := cleanCommit()
	if err != nil {
		return row{}, err
	}
	if err := os.MkdirAll("bin/soak", 0o755); err != nil {
		return row{}, err
	}
	log, err := os.Create(filepath.Join("bin/soak", part+"-"+strings.NewReplacer("/", "-", " ", "-").Replace(strings.ReplaceAll(r.name, ",", ""))+".log"))
	if err != nil {
		return row{}, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, "go", r.args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.StdoutPipe()
	if err != nil {
		return row{}, err
	}
	cmd.Stderr = log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return row{}, err
	}
	var figures []string
	replace := false
	lines := bufio.NewReader(io.TeeReader(out, log))
	for {
		line, err := lines.ReadString('\n')
		if text, last := r.figure(strings.TrimSpace(line)); text != "" {
			if replace {
				figures = figures[:len(figures)-1]
			}
			figures, replace = append(figures, text), last
		}
		if err != nil {
			break // the end of the command
		}
	}
	verdict := passed
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return row{}, errors.New("interrupted; the runs that are done are in docs/soak")
		}
		verdict = "FAILED, see " + log.Name()
	}
	return row{
		run: r.name, verdict: verdict, figures: strings.Join(figures, "; "), seed: r.seed, took: time.Since(began).Round(time.Second).String(),
		commit: commit, date: began.UTC().Format("2006-01-02"), machine: machine(),
	}, nil
}

// logged takes the lines that a test begins with "soak: ".
func logged(line string) (text string, last bool) {
	_, text, _ = strings.Cut(line, "soak: ")
	return text, false
}

// fuzzed takes the last count of a fuzzer.
func fuzzed(line string) (text string, last bool) {
	if !strings.HasPrefix(line, "fuzz: elapsed") {
		return "", true
	}
	_, text, _ = strings.Cut(line, ", ")
	return strings.NewReplacer("(", "", ")", "").Replace(text), true
}
