package main

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

func TestTroubleInWords(t *testing.T) {
	all := []int32{1, 2, 3}
	damaged := map[int32]map[string]string{1: {"t-0": "at byte 7"}, 2: {"t-1": "at byte 8", "u-0": "at byte 9"}}
	fine := map[int32]nodeState{1: {}, 2: {}, 3: {}}
	for _, c := range []struct {
		p     kadm.PartitionDetail
		nodes map[int32]nodeState
		min   string
		want  string
	}{
		{kadm.PartitionDetail{Leader: 1, Replicas: all, ISR: all}, fine, "2", ""},
		{kadm.PartitionDetail{Leader: 1, Replicas: all[:1], ISR: all[:1]}, fine, "2", ""}, // one replica is all that it can have
		{kadm.PartitionDetail{Leader: 1, Replicas: all, ISR: []int32{1, 3}}, fine, "2", "node 2 is not in sync: it is copying what it lacks"},
		{kadm.PartitionDetail{Leader: 1, Replicas: all, ISR: []int32{1}}, map[int32]nodeState{1: {}, 2: {fenced: true, since: "2026-11-30T08:00:00Z"}}, "2",
			"node 2 is fenced: the active controller does not hear it since 2026-11-30T08:00:00Z; node 3 is not registered; 1 in sync are fewer than min.insync.replicas=2: producers with acks=all are refused"},
		{kadm.PartitionDetail{Leader: -1, Replicas: all[:1], ISR: all[:1]}, map[int32]nodeState{1: {fenced: true}}, "1",
			"nobody leads it, so it is neither read nor written; it waits for one of the nodes in sync: 1; node 1 is fenced: the active controller does not hear it"},
		{kadm.PartitionDetail{Leader: 1, Replicas: all, ISR: []int32{1, 2}, OfflineReplicas: []int32{3}}, fine, "", "node 3 cannot use the log of its replica: its /readyz says why"},
		{kadm.PartitionDetail{Topic: "t", Partition: 1, Leader: 1, Replicas: all, ISR: []int32{1, 3}, OfflineReplicas: []int32{2}}, fine, "",
			"node 2 has found the log of its replica damaged: at byte 8"},
		{kadm.PartitionDetail{Topic: "t", Leader: 1, Replicas: all[:1], ISR: all[:1]}, fine, "", "node 1 has found the log of its replica damaged: at byte 7"},
		{kadm.PartitionDetail{Leader: -1, Replicas: all[:1]}, fine, "1",
			"nobody leads it, so it is neither read nor written; it waits for one of the nodes in sync: none; node 1 is not in sync: it is copying what it lacks"},
	} {
		if got := trouble(c.p, c.nodes, damaged, c.min); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.p, got, c.want)
		}
	}
}
