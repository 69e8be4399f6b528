package testenv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"syscall"
	"testing"
	"time"
)

// up returns a service's state when it runs, else starts it; start is given what is known of the last run.
func (e *Env) up(name string, start func(old serviceState) (serviceState, error)) (serviceState, error) {
	unlock, err := e.lock(name)
	if err != nil {
		return serviceState{}, err
	}
	defer unlock()
	old, err := e.state(name)
	if err != nil {
		return old, err
	}
	if old.alive() {
		return old, nil
	}
	if err := stopAll(old.Processes); err != nil { // half of it may be alive
		return old, err
	}
	s, err := start(old)
	if err != nil {
		return s, errors.Join(err, stopAll(s.Processes))
	}
	return s, e.setState(name, &s)
}

// stopAll ends processes in the reverse order of their start.
func stopAll(ps []process) error {
	var errs []error
	for i := len(ps) - 1; i >= 0; i-- {
		sig := syscall.SIGTERM
		if ps[i].Name == "postgres" {
			sig = syscall.SIGINT // "fast": do not wait for clients
		}
		errs = append(errs, ps[i].stop(sig, 30*time.Second))
	}
	return errors.Join(errs...)
}

// Services are the names that Up knows, in the order in which it starts them.
var Services = []string{"postgres", "hdfs", "kafka", "mongo", "python", "tools"}

// Up installs and starts services; no names means all of them.
func (e *Env) Up(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		names = Services
	}
	e.sweep()
	for _, name := range names {
		var err error
		switch name {
		case "postgres":
			_, err = e.upPostgres(ctx)
		case "hdfs":
			_, err = e.upHDFS(ctx)
		case "kafka":
			_, err = e.upKafka(ctx)
		case "mongo":
			_, err = e.upMongo(ctx)
		case "python":
			_, err = e.python(ctx)
		case "tools":
			if _, err = e.mavenJars(ctx, "kafka-tools"); err == nil {
				_, err = e.Tool(ctx, "kcat", "kcat")
			}
			if err == nil {
				_, _, err = e.npm(ctx)
			}
		default:
			err = fmt.Errorf("there is no service %q; there are %v", name, Services)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// Down ends services that Up, or a test, started, by their process ids; no names means all.
func (e *Env) Down(names ...string) error {
	states, err := e.readStates()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		for name := range states {
			names = append(names, name)
		}
		sort.Strings(names)
		e.sweep()
	}
	var errs []error
	for _, name := range names {
		unlock, err := e.lock(name)
		if err != nil {
			return err
		}
		s, err := e.state(name)
		if err == nil && len(s.Processes) > 0 {
			e.logf("stopping %s", name)
			err = stopAll(s.Processes)
			if err == nil {
				s.Processes = nil // the ports stay known for the next start
				err = e.setState(name, &s)
			}
		}
		errs = append(errs, err)
		unlock()
	}
	return errors.Join(errs...)
}

// Status is one service as people see it.
type Status struct {
	Name      string
	Running   bool
	Version   string
	Addresses map[string]string
	PIDs      []int
}

// Status lists what was ever started here.
func (e *Env) Status() ([]Status, error) {
	states, err := e.readStates()
	if err != nil {
		return nil, err
	}
	var list []Status
	for name, s := range states {
		st := Status{Name: name, Running: s.alive(), Version: s.Version, Addresses: s.Addresses}
		for _, p := range s.Processes {
			st.PIDs = append(st.PIDs, p.PID)
		}
		list = append(list, st)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

// private makes a folder for servers that belong to one test. It goes when the test
// ends; when the test process is killed, the next sweep ends its servers and removes it.
func (e *Env) private(tb testing.TB, base, kind string) string {
	tb.Helper()
	e.sweep()
	dir := filepath.Join(base, "private", kind+"-"+randomName())
	must(tb, "private folder", os.MkdirAll(dir, 0o755))
	owner, err := json.Marshal(process{Name: "owner", PID: os.Getpid(), Started: startTime(os.Getpid())})
	must(tb, "private folder", err)
	must(tb, "private folder", os.WriteFile(filepath.Join(dir, "owner.json"), owner, 0o644))
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("the server's files are kept until the next run: %s", dir)
			return
		}
		_ = os.RemoveAll(dir) // what stays is swept next time
	})
	return dir
}

// recordPrivate writes down a process of a private folder, for the sweep.
func recordPrivate(dir string, p process) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("pid-%s.json", p.Name)), b, 0o644)
}

// sweep ends private servers whose test process has died, and removes their folders.
func (e *Env) sweep() {
	bases := []string{e.Dir}
	if open, err := e.openFolder(); err == nil && open != e.Dir {
		bases = append(bases, open)
	}
	for _, base := range bases {
		owners, _ := filepath.Glob(filepath.Join(base, "private", "*", "owner.json")) // only a bad pattern is an error
		for _, file := range owners {
			if owner, ok := readProcess(file); ok && owner.alive() {
				continue
			}
			dir := filepath.Dir(file)
			pids, _ := filepath.Glob(filepath.Join(dir, "pid-*.json"))
			ofClusters, _ := filepath.Glob(filepath.Join(dir, "*", "pid-*.json"))
			for _, pid := range append(pids, ofClusters...) {
				if p, ok := readProcess(pid); ok && p.alive() {
					e.logf("ending %s (pid %d), which a dead test left", p.Name, p.PID)
					_ = p.stop(syscall.SIGKILL, 10*time.Second) // the next sweep tries again
				}
			}
			_ = os.RemoveAll(dir)
		}
	}
}

func readProcess(file string) (process, bool) {
	var p process
	b, err := os.ReadFile(file)
	return p, err == nil && json.Unmarshal(b, &p) == nil
}
