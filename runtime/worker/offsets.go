package worker

import (
	"context"
	"fmt"
	"sort"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/position"
	"github.com/forebayhub/forebay/runtime/task"
)

// PositionOf is where one key of a source's split stands.
type PositionOf struct {
	Split    string
	Key      connectors.PositionKey
	Position connectors.Position
}

// Positions are a source's durable positions, in the order of split and key.
func (w *Worker) Positions(ctx context.Context, name string) ([]PositionOf, error) {
	if _, err := w.find(name); err != nil {
		return nil, err
	}
	all, err := position.ReadAll(ctx, w.log, w.o.Group, name)
	if err != nil {
		return nil, err
	}
	var out []PositionOf
	for scope, m := range all {
		for key, p := range m {
			out = append(out, PositionOf{Split: scope.Split, Key: key, Position: p})
		}
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Split < out[j].Split || out[i].Split == out[j].Split && out[i].Key < out[j].Key
	})
	return out, nil
}

// SetPositions puts where keys of a source stand, while it is stopped; a nil Position is forgotten, as if the source had never begun with it. Keys that are not named stay.
// Each split's keys change in one step.
func (w *Worker) SetPositions(ctx context.Context, name string, positions []PositionOf) error {
	c, err := w.find(name)
	if err != nil {
		return err
	}
	if c.cfg.Sink {
		return fmt.Errorf("%w: %s: a sink goes on where its target says, for the offset lies in the target with the data; "+
			"give the sink another name or url to write from the start", ErrTarget, name)
	}
	if s := c.status().State; s != Stopped {
		return fmt.Errorf("%w: %s is %s", ErrNotStopped, name, s)
	}
	splits := map[string]map[connectors.PositionKey]connectors.Position{}
	for _, p := range positions {
		if splits[p.Split] == nil {
			splits[p.Split] = map[connectors.PositionKey]connectors.Position{}
		}
		splits[p.Split][p.Key] = p.Position
	}
	for split, keys := range splits {
		if err := position.Write(ctx, w.log, position.Scope{Group: w.o.Group, Source: name, Split: split}, keys); err != nil {
			return fmt.Errorf("write the positions of split '%s': %w", split, err)
		}
	}
	return nil
}

// Topics are those through which records have gone here, since ForgetTopics.
func (w *Worker) Topics(name string) ([]string, error) {
	c, err := w.find(name)
	if err != nil {
		return nil, err
	}
	return c.stats.Topics(), nil
}

// ForgetTopics begins anew with Topics.
func (w *Worker) ForgetTopics(name string) error {
	c, err := w.find(name)
	if err != nil {
		return err
	}
	c.stats.ForgetTopics()
	return nil
}

// OffsetOf is up to where a sink's target holds a partition.
type OffsetOf struct {
	connectors.TopicPartition
	Offset int64
}

// Offsets are the offsets that a sink has reported to its lag group.
func (w *Worker) Offsets(ctx context.Context, name string) ([]OffsetOf, error) {
	if _, err := w.find(name); err != nil {
		return nil, err
	}
	m, err := w.log.GroupOffsets(ctx, task.LagGroup(name))
	if err != nil {
		return nil, err
	}
	out := make([]OffsetOf, 0, len(m))
	for tp, at := range m {
		out = append(out, OffsetOf{tp, at})
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Topic < out[j].Topic || out[i].Topic == out[j].Topic && out[i].Partition < out[j].Partition
	})
	return out, nil
}

// Registry is what can be configured; Host is this worker's name.
func (w *Worker) Registry() connectors.Registry { return w.o.Registry }
func (w *Worker) Host() string                  { return w.o.Host }

// ClusterID is the log's name for itself.
func (w *Worker) ClusterID(ctx context.Context) (string, error) { return w.log.ClusterID(ctx) }
