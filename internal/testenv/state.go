package testenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// serviceState is what state.json knows of one service.
type serviceState struct {
	Version   string            `json:"version"`
	Addresses map[string]string `json:"addresses"`
	Processes []process         `json:"processes,omitempty"` // in the order of their start
	Ports     []int             `json:"ports,omitempty"`
}

func (s serviceState) alive() bool {
	for _, p := range s.Processes {
		if !p.alive() {
			return false
		}
	}
	return len(s.Processes) > 0
}

// lock takes a file lock in the services folder; it waits for other processes.
func (e *Env) lock(name string) (unlock func(), err error) {
	if err := os.MkdirAll(e.path("locks"), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(e.path("locks", name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { _ = f.Close() }, nil // closing gives the lock up
}

func (e *Env) readStates() (map[string]serviceState, error) {
	states := map[string]serviceState{}
	b, err := os.ReadFile(e.path("state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return states, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &states); err != nil {
		return nil, fmt.Errorf("read %s: %w", e.path("state.json"), err)
	}
	return states, nil
}

func (e *Env) state(name string) (serviceState, error) {
	states, err := e.readStates()
	return states[name], err
}

// setState replaces one service's state; nil forgets it.
func (e *Env) setState(name string, s *serviceState) error {
	unlock, err := e.lock("state")
	if err != nil {
		return err
	}
	defer unlock()
	states, err := e.readStates()
	if err != nil {
		return err
	}
	if s == nil {
		delete(states, name)
	} else {
		states[name] = *s
	}
	b, err := json.MarshalIndent(states, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(e.path("state.json"), append(b, '\n'))
}

// writeFile replaces a file in one step, so that a reader never sees half of it.
func writeFile(name string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(b)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		_ = os.Remove(tmp.Name())
		return err
	}
	return os.Rename(tmp.Name(), name)
}
