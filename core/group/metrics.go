package group

import (
	"cmp"
	"maps"
	"slices"

	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/internal/metrics"
)

var (
	groupsN    = metrics.Gauge("forebay_groups", "Groups that this node coordinates, by state.", "state")
	membersN   = metrics.Gauge("forebay_group_members", "Members of the groups that this node coordinates.")
	groupLag   = metrics.Gauge("forebay_group_lag_records", "Records between a group's committed offsets and the high watermarks, by topic, told by the node that coordinates the group. Partitions that have no replica there are left out; of all series a thousand are told.", "group", "topic")
	groupBlind = metrics.Gauge("forebay_group_lag_unknown_partitions", "Committed partitions whose lag is not told: no replica of them is on the group's coordinator, or nobody has used it since the start.")
	groupLeft  = metrics.Gauge("forebay_group_lag_series_left_out", "Series of forebay_group_lag_records beyond a thousand.")
)

// Families are the metrics of a Coordinator.
var Families = []*metrics.Family{groupsN, membersN, groupLag, groupBlind, groupLeft}

// mostLags bounds the series of lag.
const mostLags = 1000

type lagOf struct {
	group, topic string
	records      int64
}

// Metrics writes what is coordinated here. watermark tells how far a partition can be read, if that is known here.
func (c *Coordinator) Metrics(w *metrics.Writer, watermark func(topic string, number int32) (int64, bool)) {
	states := map[string]int64{}
	var members, blind int64
	var lags []lagOf
	c.keeper.Each(func(s *statelog.Shard) {
		for id, g := range s.State.(*state).groups {
			states[string(g.shown())]++
			members += int64(len(g.members))
			if g.consumer != nil {
				members += int64(len(g.consumer.members))
			}
			by := map[string]int64{}
			for tp, o := range g.offsets {
				end, ok := watermark(tp.topic, tp.partition)
				if !ok {
					blind++
					continue
				}
				by[tp.topic] += max(end-o.offset, 0)
			}
			for topic, n := range by {
				lags = append(lags, lagOf{id, topic, n})
			}
		}
	})
	for _, p := range []phase{empty, preparing, completing, stable} { // the others come and go
		states[string(p)] += 0
	}
	for _, name := range slices.Sorted(maps.Keys(states)) {
		w.Count(groupsN, states[name], name)
	}
	w.Count(membersN, members)
	slices.SortFunc(lags, func(a, b lagOf) int { return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.topic, b.topic)) })
	for _, l := range lags[:min(len(lags), mostLags)] {
		w.Count(groupLag, l.records, l.group, l.topic)
	}
	w.Count(groupBlind, blind)
	w.Count(groupLeft, int64(max(len(lags)-mostLags, 0)))
}
