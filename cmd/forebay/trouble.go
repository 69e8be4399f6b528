package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

// nodeState is how a registered node is.
type nodeState struct {
	fenced bool
	since  string // when it became so; "": that is not told
}

// nodeStates are those of all registered nodes.
func nodeStates(c *cobra.Command) (map[int32]nodeState, error) {
	client, err := dial(c)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	resp, err := registered(c, client)
	if err != nil {
		return nil, err
	}
	nodes := map[int32]nodeState{}
	for _, b := range resp.Brokers {
		nodes[b.NodeID] = nodeState{b.IsFenced, told(b.UnknownTags, wire.SinceTag)}
	}
	return nodes, nil
}

// logDirs asks a node for its log directories, without their partitions, and for what it has found damaged: by TOPIC-PARTITION.
func logDirs(ctx context.Context, client *kgo.Client, node int32) (dirs []kmsg.DescribeLogDirsResponseDir, damaged map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	req := kmsg.NewPtrDescribeLogDirsRequest()
	req.Topics = []kmsg.DescribeLogDirsRequestTopic{} // none: only the directories
	resp, err := req.RequestWith(ctx, client.Broker(int(node)))
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, nil, err
	}
	resp.UnknownTags.Each(func(tag uint32, b []byte) {
		if tag == wire.DamagedTag {
			err = json.Unmarshal(b, &damaged)
		}
	})
	return resp.Dirs, damaged, err
}

// damages are what the nodes of the topics' replicas have found damaged, by node and TOPIC-PARTITION. Who does not answer, or does not tell everybody, is left out.
func damages(c *cobra.Command, topics kadm.TopicDetails, nodes map[int32]nodeState) (map[int32]map[string]string, error) {
	client, err := dial(c)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	found := map[int32]map[string]string{}
	topics.EachPartition(func(p kadm.PartitionDetail) {
		for _, n := range p.Replicas {
			if _, asked := found[n]; !asked && !nodes[n].fenced {
				_, found[n], _ = logDirs(c.Context(), client, n)
			}
		}
	})
	return found, nil
}

// trouble says in words what is wrong with a partition, and with which node; "" if nothing is.
func trouble(p kadm.PartitionDetail, nodes map[int32]nodeState, damaged map[int32]map[string]string, minISR string) string {
	var out []string
	if p.Leader < 0 {
		out = append(out, fmt.Sprintf("nobody leads it, so it is neither read nor written; it waits for one of the nodes in sync: %s", ids(p.ISR)))
	}
	name := fmt.Sprintf("%s-%d", p.Topic, p.Partition)
	for _, n := range p.Replicas {
		state, registered := nodes[n]
		switch in := slices.Contains(p.ISR, n); {
		case !registered:
			out = append(out, fmt.Sprintf("node %d is not registered", n))
		case state.fenced:
			out = append(out, fmt.Sprintf("node %d is fenced: the active controller does not hear it%s", n, sinceThen(state.since)))
		case damaged[n][name] != "":
			out = append(out, fmt.Sprintf("node %d has found the log of its replica damaged: %s", n, damaged[n][name]))
		case slices.Contains(p.OfflineReplicas, n):
			out = append(out, fmt.Sprintf("node %d cannot use the log of its replica: its /readyz says why", n))
		case !in:
			out = append(out, fmt.Sprintf("node %d is not in sync: it is copying what it lacks", n))
		}
	}
	if least, err := strconv.Atoi(minISR); err == nil && p.Leader >= 0 && len(p.ISR) < min(least, len(p.Replicas)) {
		out = append(out, fmt.Sprintf("%d in sync are fewer than min.insync.replicas=%d: producers with acks=all are refused", len(p.ISR), least))
	}
	return strings.Join(out, "; ")
}

// sinceThen is the end of a sentence.
func sinceThen(at string) string {
	if at == "" {
		return ""
	}
	return " since " + at
}

func ids(list []int32) string {
	if len(list) == 0 {
		return "none"
	}
	var text []string
	for _, n := range list {
		text = append(text, strconv.Itoa(int(n)))
	}
	return strings.Join(text, ", ")
}

// config is a topic's config by its name.
func (t *topicRow) config(name string) string {
	for _, c := range t.Configs {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}
