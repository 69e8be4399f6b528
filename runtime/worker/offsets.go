package worker

import (
	"context"
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
