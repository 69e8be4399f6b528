package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// defaultGroup is the worker group of `up` and of the commands that look at it.
const defaultGroup = "default"

func quietLogger() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// validate makes a connector and lets it check live what it reaches.
func validate(ctx context.Context, registry connectors.Registry, c configs.Connector) ([]spec.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if c.Sink {
		for _, t := range registry.Sinks {
			if t.Name == c.Type {
				sink, err := t.New(c.Values, connectorEnv(c.Name))
				if err != nil {
					return []spec.Finding{{Message: err.Error()}}, nil
				}
				return sink.Validate(ctx), nil
			}
		}
	}
	for _, t := range registry.Sources {
		if t.Name == c.Type {
			source, err := t.New(c.Values, connectorEnv(c.Name))
			if err != nil {
				return []spec.Finding{{Message: err.Error()}}, nil
			}
			return source.Validate(ctx), nil
		}
	}
	return nil, badInput(c.Name, "no such connector type "+c.Type, "")
}

func findingVerdicts(name string, findings []spec.Finding) []verdict {
	var out []verdict
	for _, f := range findings {
		state := "bad"
		if f.Warning {
			state = "warning"
		}
		message, advice := inOneLine(f.Message), f.Hint
		if advice == "" && f.Path == "url" { // a driver's text
			advice = "see whether the server runs, and whether the url's host, user and database are right"
		}
		if f.Path != "" {
			message = f.Path + ": " + message
		}
		out = append(out, verdict{Check: name, State: state, Found: message, Advice: advice})
	}
	return out
}
