package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

func nodesDrain(s streams) *cobra.Command {
	c := &cobra.Command{
		Use: "drain NODE", Short: "Move all partitions of a node to others", Args: cobra.ExactArgs(1),
		Long: "Moves all partitions of a node to the others, first what it leads, and shows how far that is. The cluster does it: who stops\n" +
			"this command stops only to look. New partitions are not given to the node. `forebay nodes remove` takes it out of the cluster then.",
	}
	cancel := c.Flags().Bool("cancel", false, "let the node keep what it still has")
	noWait := c.Flags().Bool("no-wait", false, "return at once")
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := nodeID(args[0])
		if err != nil {
			return err
		}
		client, err := dial(c)
		if err != nil {
			return err
		}
		defer client.Close()
		if err := setDraining(c, client, id, !*cancel); err != nil {
			return err
		}
		admin := kadm.NewClient(client)
		if *cancel {
			n, err := stayOn(c, admin, id)
			if err != nil {
				return err
			}
			return leaveDone(c, s, id, "alive", fmt.Sprintf("node %d keeps what it has; %d partitions on their way from it stay", id, n))
		}
		if *noWait {
			return leaveDone(c, s, id, "draining", fmt.Sprintf("node %d is being drained; `forebay nodes list` shows how far", id))
		}
		if err := watchDrain(c, s, admin, id); err != nil {
			return err
		}
		return leaveDone(c, s, id, "drained", fmt.Sprintf("node %d is drained: `forebay nodes remove %d` takes it out of the cluster", id, id))
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

func nodesRemove(s streams) *cobra.Command {
	c := &cobra.Command{
		Use: "remove NODE", Short: "Remove a drained node, or a dead one without partitions", Args: cobra.ExactArgs(1),
		Long: "Removes a node for good. Its process ends. It cannot come back with its old data: with an empty data directory it is a new node.",
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := nodeID(args[0])
		if err != nil {
			return err
		}
		client, err := dial(c)
		if err != nil {
			return err
		}
		defer client.Close()
		req := kmsg.NewPtrUnregisterBrokerRequest()
		req.BrokerID = id
		resp, err := askAny(c, client, req)
		if err == nil {
			r := resp.(*kmsg.UnregisterBrokerResponse)
			err = explained(r.ErrorCode, r.ErrorMessage)
		}
		if err != nil {
			return refused(fmt.Sprintf("node %d", id), err)
		}
		return leaveDone(c, s, id, "removed", fmt.Sprintf("node %d is removed", id))
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

// askAny asks the first seed that answers: a request about a node that may be dead must not go to it.
func askAny(c *cobra.Command, client *kgo.Client, req kmsg.Request) (resp kmsg.Response, err error) {
	ctx, cancel := context.WithTimeout(c.Context(), clientTimeout)
	defer cancel()
	for _, b := range client.SeedBrokers() {
		if resp, err = b.Request(ctx, req); err == nil {
			return resp, nil
		}
	}
	return nil, err
}

func nodeID(arg string) (int32, error) {
	id, err := strconv.ParseInt(arg, 10, 32)
	if err != nil || id < 0 {
		return 0, badInput(arg, "not a node's id", "see `forebay nodes list`")
	}
	return int32(id), nil
}

// explained is an error of a response with what the node said about it.
func explained(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if err != nil && message != nil && *message != "" {
		return fmt.Errorf("%w: %s", err, *message)
	}
	return err
}

// leaveDone tells what has become of a node.
func leaveDone(c *cobra.Command, s streams, id int32, state, text string) error {
	if wantsJSON(c) {
		return writeJSON(s.out, map[string]any{"id": id, "state": state})
	}
	_, err := fmt.Fprintln(s.out, text)
	return err
}

// setDraining asks any node: the one that is drained may be dead.
func setDraining(c *cobra.Command, client *kgo.Client, id int32, on bool) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(id))
	op := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	op.Name, op.Op = metadata.DrainConfig, kmsg.IncrementalAlterConfigOpDelete
	if on {
		op.Op, op.Value = kmsg.IncrementalAlterConfigOpSet, kmsg.StringPtr("true")
	}
	res.Configs = append(res.Configs, op)
	req.Resources = append(req.Resources, res)
	resp, err := askAny(c, client, req)
	if err == nil {
		if r := resp.(*kmsg.IncrementalAlterConfigsResponse); len(r.Resources) == 1 {
			err = explained(r.Resources[0].ErrorCode, r.Resources[0].ErrorMessage)
		}
	}
	if err != nil {
		return refused(fmt.Sprintf("node %d", id), err)
	}
	return nil
}

// stayOn takes back the moves away from a node that are under way, and counts them.
func stayOn(c *cobra.Command, admin *kadm.Client, id int32) (n int, err error) {
	moving, err := admin.ListPartitionReassignments(c.Context(), nil)
	if err != nil {
		return 0, refused("", err)
	}
	var req kadm.AlterPartitionAssignmentsReq
	for _, r := range moving.Sorted() {
		if slices.Contains(r.RemovingReplicas, id) {
			req.CancelAssign(r.Topic, r.Partition)
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	done, err := admin.AlterPartitionAssignments(c.Context(), req)
	if err == nil {
		err = done.Error()
	}
	if err != nil && !errors.Is(err, kerr.NoReassignmentInProgress) { // one has ended meanwhile
		return 0, refused("", err)
	}
	return n, nil
}

// watchDrain shows how much a node still has until that is nothing.
func watchDrain(c *cobra.Command, s streams, admin *kadm.Client, id int32) error {
	last := ""
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		topics, err := admin.ListTopicsWithInternal(c.Context())
		if err != nil {
			return refused("", err)
		}
		by := map[int32]*nodeRow{id: {}}
		for _, t := range topics {
			for _, p := range t.Partitions {
				count(by, p)
			}
		}
		if by[id].Replicas == 0 {
			return nil
		}
		if now := fmt.Sprintf("node %d still has %d partitions, and leads %d of them", id, by[id].Replicas, by[id].Leads); now != last && !wantsJSON(c) {
			fmt.Fprintln(s.out, now)
			last = now
		}
		select {
		case <-c.Context().Done():
			return c.Context().Err()
		case <-tick.C:
		}
	}
}

// addVotes tells who votes on the metadata; while nobody leads there it cannot be told.
func addVotes(c *cobra.Command, client *kgo.Client, by map[int32]*nodeRow) error {
	req := kmsg.NewPtrDescribeQuorumRequest()
	topic := kmsg.NewDescribeQuorumRequestTopic()
	topic.Topic, topic.Partitions = "__cluster_metadata", []kmsg.DescribeQuorumRequestTopicPartition{kmsg.NewDescribeQuorumRequestTopicPartition()}
	req.Topics = append(req.Topics, topic)
	resp, err := askAny(c, client, req)
	if err != nil {
		return refused("", err)
	}
	r := resp.(*kmsg.DescribeQuorumResponse)
	if r.ErrorCode != 0 || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 || r.Topics[0].Partitions[0].ErrorCode != 0 {
		return nil
	}
	part := r.Topics[0].Partitions[0]
	for _, v := range part.CurrentVoters {
		if by[v.ReplicaID] != nil {
			by[v.ReplicaID].Vote = "voter"
		}
	}
	for _, o := range part.Observers {
		if by[o.ReplicaID] != nil {
			by[o.ReplicaID].Vote = "non-voter"
		}
	}
	if by[part.LeaderID] != nil {
		by[part.LeaderID].Vote = "leader"
	}
	return nil
}

// addDrains tells who is being drained, and who has nothing left.
func addDrains(c *cobra.Command, client *kgo.Client, by map[int32]*nodeRow) error {
	req := kmsg.NewPtrDescribeConfigsRequest()
	for id := range by {
		res := kmsg.NewDescribeConfigsRequestResource()
		res.ResourceType, res.ResourceName, res.ConfigNames = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(id)), []string{metadata.DrainConfig}
		req.Resources = append(req.Resources, res)
	}
	resp, err := askAny(c, client, req)
	if err != nil {
		return refused("", err)
	}
	for _, r := range resp.(*kmsg.DescribeConfigsResponse).Resources {
		id, err := strconv.ParseInt(r.ResourceName, 10, 32)
		row := by[int32(id)]
		if err != nil || row == nil || len(r.Configs) != 1 || r.Configs[0].Value == nil || !strings.EqualFold(*r.Configs[0].Value, "true") {
			continue
		}
		state := "draining"
		if row.Replicas == 0 {
			state = "drained"
		}
		if row.dead {
			state = "dead, " + state
		}
		row.State = state
	}
	return nil
}
