package files

import (
	"context"
	"errors"
	"io/fs"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// Open connects to a target.
type Open func(ctx context.Context) (Target, error)

// Sink is a connectors.Sink, and its auditor, over any Target and Format.
type Sink struct {
	cfg  Config
	env  connectors.Env
	open Open
}

// NewSink makes a sink; open is called by each task and by Validate and Audit.
func NewSink(cfg Config, env connectors.Env, open Open) *Sink {
	return &Sink{cfg: cfg, env: env, open: open}
}

// Prober is a Target that can check rights and reachability without leaving anything behind.
type Prober interface {
	Probe(ctx context.Context) error
}

// Validate opens the target and looks at it.
func (s *Sink) Validate(ctx context.Context) []spec.Finding {
	t, err := s.open(ctx)
	if err == nil {
		if p, ok := t.(Prober); ok {
			err = p.Probe(ctx)
		} else if _, err = t.Stat(ctx, "."); errors.Is(err, fs.ErrNotExist) {
			err = nil // the first file makes it
		}
		if cerr := t.Close(); err == nil {
			err = cerr
		}
	}
	if err == nil {
		return nil
	}
	f := spec.Finding{Path: "url", Message: err.Error()}
	var fatal *connectors.FatalError
	if errors.As(err, &fatal) {
		f.Hint = fatal.Hint
	}
	return []spec.Finding{f}
}

// Capabilities: offset range and files become visible by one rename.
func (s *Sink) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}

// Topics are the globs of what it reads.
func (s *Sink) Topics() []string { return s.cfg.Topics }

// Task makes a task.
func (s *Sink) Task(env connectors.SinkEnv) connectors.SinkTask {
	return newTask(s.cfg, env, s.open)
}
