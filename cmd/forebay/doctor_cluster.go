package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

// reachTime bounds a connection to a node.
const reachTime = 3 * time.Second

// clusterVerdicts looks at a running cluster: whether this machine reaches each node, and what is wrong with its partitions.
func clusterVerdicts(c *cobra.Command) ([]verdict, error) {
	admin, done, err := dialAdmin(c)
	if err != nil {
		return nil, err
	}
	defer done()
	rows, err := nodeRows(c, admin)
	if err != nil {
		return nil, err
	}
	topics, err := admin.ListTopicsWithInternal(c.Context())
	if err != nil {
		return nil, refused("", err)
	}
	var out []verdict
	for _, r := range rows {
		out = append(out, nodeVerdict(c.Context(), fmt.Sprintf("node %d", r.ID), r.Kafka, r.dead))
	}
	return append(out, partitionVerdict(topics)), nil
}

func nodeVerdict(ctx context.Context, name, kafka string, fenced bool) verdict {
	v := verdict{Check: name + " at " + kafka, State: "ok", Found: "reachable"}
	if fenced {
		v.State, v.Found, v.Advice = "bad", "fenced: the active controller does not hear it", "start it, or see why the other nodes do not reach its --peer"
		return v
	}
	d := net.Dialer{Timeout: reachTime}
	nc, err := d.DialContext(ctx, "tcp", kafka)
	if err != nil {
		v.State, v.Found, v.Advice = "bad", rootCause(err), "clients go to this address: it must be one that they reach (advertised.listeners)"
		return v
	}
	_ = nc.Close() // it was only a probe
	return v
}

func partitionVerdict(topics kadm.TopicDetails) verdict {
	v := verdict{Check: "partitions", State: "ok"}
	all, none, behind, first := 0, 0, 0, ""
	for _, t := range topics.Sorted() {
		for _, p := range t.Partitions.Sorted() {
			all++
			switch {
			case p.Leader < 0:
				none++
			case len(p.ISR) < len(p.Replicas):
				behind++
			default:
				continue
			}
			if first == "" {
				first = t.Topic
			}
		}
	}
	v.Found = fmt.Sprintf("%d, all replicas in sync", all)
	switch {
	case none > 0:
		v.State = "bad"
	case behind > 0:
		v.State = "warning"
	default:
		return v
	}
	v.Found = fmt.Sprintf("%d, %d without a leader, %d more with replicas that are not in sync", all, none, behind)
	v.Advice = "`forebay topics describe " + first + "` says why"
	return v
}
