package main

import (
	"encoding/binary"
	"fmt"
	"sort"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

func nodesCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "nodes", Short: "List, describe, drain and remove the nodes of the cluster"}
	c.AddCommand(nodesList(s), nodesDescribe(s), nodesDrain(s), nodesRemove(s))
	return c
}

// nodeRow is a node as the cluster has agreed on it.
type nodeRow struct {
	ID    int32  `json:"id"`
	Kafka string `json:"kafka"`
	Rack  string `json:"rack,omitempty"`
	State string `json:"state"` // alive, draining, drained, or dead: it keeps no lease
	// Since is when it became alive or dead, DrainingSince when its drain began, by the controller's clock; "": not told, or not so.
	Since         string `json:"since,omitempty"`
	DrainingSince string `json:"draining_since,omitempty"`
	Vote          string `json:"vote"`        // leader, voter or non-voter of the metadata quorum; "-": it cannot be told now
	Leads         int    `json:"leads"`       // partitions
	Replicas      int    `json:"replicas"`    // partitions that it hosts
	OutOfSync     int    `json:"out_of_sync"` // of them
	LeadsFirst    int    `json:"preferred"`   // partitions that it should lead
	ClusterID     string `json:"cluster_id"`
	LogBytes      int64  `json:"log_bytes,omitempty"` // describe only

	dead bool // fenced, whatever else State says
}

func nodesList(s streams) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List nodes", Args: cobra.NoArgs}
	c.RunE = func(c *cobra.Command, _ []string) error {
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		rows, err := nodeRows(c, admin)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return writeJSON(s.out, rows)
		}
		var text [][]string
		for _, r := range rows {
			text = append(text, []string{
				strconv.Itoa(int(r.ID)), r.State, orDash(r.since()), r.Vote, r.Kafka, orDash(r.Rack), strconv.Itoa(r.Leads), strconv.Itoa(r.Replicas), strconv.Itoa(r.OutOfSync),
			})
		}
		return table(s.out, "NODE STATE SINCE VOTE KAFKA RACK LEADS REPLICAS OUT-OF-SYNC", text)
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

func nodesDescribe(s streams) *cobra.Command {
	c := &cobra.Command{Use: "describe NODE…", Short: "Show what nodes hold", Args: cobra.MinimumNArgs(1)}
	c.RunE = func(c *cobra.Command, args []string) error {
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		all, err := nodeRows(c, admin)
		if err != nil {
			return err
		}
		var rows []nodeRow
		for _, a := range args {
			id, err := strconv.ParseInt(a, 10, 32)
			at := sort.Search(len(all), func(i int) bool { return int64(all[i].ID) >= id })
			if err != nil || at == len(all) || int64(all[at].ID) != id {
				return badInput(a, "there is no such node", "see `forebay nodes list`")
			}
			row := all[at]
			if !row.dead {
				dirs, err := admin.DescribeBrokerLogDirs(c.Context(), row.ID, nil)
				if err == nil {
					err = dirs.Error()
				}
				if err != nil {
					return refused("node "+a, err)
				}
				row.LogBytes = dirs.Size()
			}
			rows = append(rows, row)
		}
		if wantsJSON(c) {
			return writeJSON(s.out, rows)
		}
		for _, r := range rows {
			fmt.Fprintf(s.out, "node %d  %s since %s  %s  kafka %s  rack %s  cluster %s\n  leads %d partitions (preferred for %d), hosts %d, %d of them out of sync, %d bytes of logs\n",
				r.ID, r.State, orDash(r.since()), r.Vote, r.Kafka, orDash(r.Rack), r.ClusterID, r.Leads, r.LeadsFirst, r.Replicas, r.OutOfSync, r.LogBytes)
		}
		return nil
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

// since is when State began.
func (r nodeRow) since() string {
	if r.dead || r.DrainingSince == "" {
		return r.Since
	}
	return r.DrainingSince
}

// told is a time that a node tells in a tagged field of ours, or "".
func told(tags kmsg.Tags, tag uint32) (at string) {
	tags.Each(func(t uint32, b []byte) {
		if t == tag && len(b) == 8 {
			at = time.UnixMilli(int64(binary.BigEndian.Uint64(b))).UTC().Format(time.RFC3339)
		}
	})
	return at
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// registered asks for all nodes, fenced ones too (KIP-1073).
func registered(c *cobra.Command, client *kgo.Client) (*kmsg.DescribeClusterResponse, error) {
	req := kmsg.NewPtrDescribeClusterRequest()
	req.EndpointType, req.IncludeFencedBrokers = 1, true
	resp, err := req.RequestWith(c.Context(), client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, refused("", err)
	}
	return resp, nil
}

// nodeRows gives all nodes by id, and counts what they hold.
func nodeRows(c *cobra.Command, admin *kadm.Client) ([]nodeRow, error) {
	client, err := dial(c)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	resp, err := registered(c, client)
	if err != nil {
		return nil, err
	}
	topics, err := admin.ListTopicsWithInternal(c.Context())
	if err != nil {
		return nil, refused("", err)
	}
	by := map[int32]*nodeRow{}
	for _, b := range resp.Brokers {
		r := &nodeRow{ID: b.NodeID, Kafka: fmt.Sprintf("%s:%d", b.Host, b.Port), State: "alive", Vote: "-", ClusterID: resp.ClusterID,
			Since: told(b.UnknownTags, wire.SinceTag), DrainingSince: told(b.UnknownTags, wire.DrainingTag)}
		if b.Rack != nil {
			r.Rack = *b.Rack
		}
		if b.IsFenced {
			r.State, r.dead = "dead", true
		}
		by[b.NodeID] = r
	}
	for _, t := range topics {
		for _, p := range t.Partitions {
			count(by, p)
		}
	}
	if err := addVotes(c, client, by); err != nil {
		return nil, err
	}
	if err := addDrains(c, client, by); err != nil {
		return nil, err
	}
	rows := []nodeRow{}
	for _, r := range by {
		rows = append(rows, *r)
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].ID < rows[j].ID })
	return rows, nil
}

func count(by map[int32]*nodeRow, p kadm.PartitionDetail) {
	in := map[int32]bool{}
	for _, n := range p.ISR {
		in[n] = true
	}
	for i, n := range p.Replicas {
		r := by[n]
		if r == nil {
			continue
		}
		r.Replicas++
		if i == 0 {
			r.LeadsFirst++
		}
		if !in[n] {
			r.OutOfSync++
		}
		if p.Leader == n {
			r.Leads++
		}
	}
}
