package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/forebayhub/forebay/runtime/task"
)

func groupsCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "groups", Short: "List, describe, reset and delete consumer groups"}
	c.AddCommand(groupsList(s), groupsDescribe(s), groupsAlter(s), groupsDelete(s))
	return c
}

type groupRow struct {
	Group    string        `json:"group"`
	State    string        `json:"state"`
	Protocol string        `json:"protocol,omitempty"`
	Members  int           `json:"members"`
	Lag      int64         `json:"lag"`
	Offsets  []groupOffset `json:"offsets,omitempty"`
}

type groupOffset struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"` // -1: none
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"`
	Member    string `json:"member,omitempty"`
}

func groupsList(s streams) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List groups", Args: cobra.NoArgs}
	c.RunE = func(c *cobra.Command, _ []string) error {
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		groups, err := admin.ListGroups(c.Context())
		if err != nil {
			return refused("", err)
		}
		rows := []groupRow{}
		var text [][]string
		for _, g := range groups.Sorted() {
			rows = append(rows, groupRow{Group: g.Group, State: g.State, Protocol: g.ProtocolType})
			text = append(text, []string{g.Group, g.State})
		}
		if wantsJSON(c) {
			return writeJSON(s.out, rows)
		}
		return table(s.out, "GROUP STATE", text)
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

func groupsDescribe(s streams) *cobra.Command {
	c := &cobra.Command{Use: "describe GROUP…", Short: "Show members, committed offsets and lag", Args: cobra.MinimumNArgs(1)}
	c.RunE = func(c *cobra.Command, names []string) error {
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		lags, err := admin.Lag(c.Context(), names...)
		if err != nil {
			return refused("", err)
		}
		var rows []groupRow
		for _, g := range lags.Sorted() {
			if err := g.Error(); err != nil {
				return refused(g.Group, err)
			}
			row := groupRow{Group: g.Group, State: g.State, Protocol: g.Protocol, Members: len(g.Members), Lag: g.Lag.Total()}
			for _, l := range g.Lag.Sorted() {
				o := groupOffset{Topic: l.Topic, Partition: l.Partition, Committed: l.Commit.At, End: l.End.Offset, Lag: l.Lag}
				if l.Member != nil {
					o.Member = l.Member.MemberID
				}
				row.Offsets = append(row.Offsets, o)
			}
			rows = append(rows, row)
		}
		if wantsJSON(c) {
			return writeJSON(s.out, rows)
		}
		for _, g := range rows {
			fmt.Fprintf(s.out, "%s  %s  members %d  lag %d\n", g.Group, g.State, g.Members, g.Lag)
			var text [][]string
			for _, o := range g.Offsets {
				text = append(text, []string{"  " + o.Topic, fmt.Sprint(o.Partition), fmt.Sprint(o.Committed), fmt.Sprint(o.End), fmt.Sprint(o.Lag), o.Member})
			}
			if err := table(s.out, "  TOPIC PARTITION COMMITTED END LAG MEMBER", text); err != nil {
				return err
			}
		}
		return nil
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

// groupsAlter sets committed offsets of a group that has no members.
func groupsAlter(s streams) *cobra.Command {
	c := &cobra.Command{Use: "alter GROUP", Aliases: []string{"reset"}, Short: "Set committed offsets (the group must be empty)", Args: cobra.ExactArgs(1)}
	to := c.Flags().StringArray("offset", nil, "`TOPIC:PARTITION=OFFSET`, or earliest or latest in OFFSET's place; without :PARTITION all of the topic; repeatable")
	c.RunE = func(c *cobra.Command, names []string) error {
		if len(*to) == 0 {
			return badInput("", "nothing to alter", "give --offset TOPIC:PARTITION=OFFSET, or --offset TOPIC=earliest")
		}
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		var offsets kadm.Offsets
		for _, t := range *to {
			if err := addOffsets(c, admin, t, &offsets); err != nil {
				return err
			}
		}
		answers, err := admin.CommitOffsets(c.Context(), names[0], offsets)
		if err != nil {
			return refused(names[0], err)
		}
		if err := answers.Error(); err != nil {
			return refused(names[0], err)
		}
		if sink, ok := strings.CutPrefix(names[0], task.LagGroup("")); ok {
			fmt.Fprintf(s.err, "warning: if %s is a sink, it does not move: its place is in its target, and it only reports it to this group; see docs/rewind.md\n", sink)
		}
		return say(c, s, "altered", names)
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

// addOffsets takes one --offset. An offset must be one that the partition has, or its end: a typing error would be found by nobody.
func addOffsets(c *cobra.Command, admin *kadm.Client, flag string, offsets *kadm.Offsets) error {
	topic, value, ok := strings.Cut(flag, "=")
	if !ok || topic == "" {
		return badInput("--offset "+flag, "not TOPIC:PARTITION=OFFSET", "or TOPIC=OFFSET for all partitions")
	}
	only := int64(-1)
	if i := strings.LastIndexByte(topic, ':'); i > 0 {
		var err error
		if only, err = strconv.ParseInt(topic[i+1:], 10, 32); err != nil || only < 0 {
			return badInput("--offset "+flag, "the partition is no number", "write TOPIC:PARTITION=OFFSET")
		}
		topic = topic[:i]
	}
	number, err := strconv.ParseInt(value, 10, 64)
	if value != "earliest" && value != "latest" && (err != nil || number < 0) {
		return badInput("--offset "+flag, "'"+value+"' is no offset", "a number, earliest or latest")
	}
	starts, err := admin.ListStartOffsets(c.Context(), topic)
	if err != nil {
		return refused(topic, err)
	}
	ends, err := admin.ListEndOffsets(c.Context(), topic)
	if err != nil {
		return refused(topic, err)
	}
	found := false
	for _, end := range ends[topic] {
		start := starts[topic][end.Partition]
		if err := cmp.Or(end.Err, start.Err); err != nil {
			return refused(topic, err)
		}
		if only >= 0 && int64(end.Partition) != only {
			continue
		}
		found = true
		at := number
		switch value {
		case "earliest":
			at = start.Offset
		case "latest":
			at = end.Offset
		default:
			if at < start.Offset || at > end.Offset {
				return badInput("--offset "+flag, fmt.Sprintf("%s-%d has offsets %d to %d", topic, end.Partition, start.Offset, end.Offset), "a number within, earliest or latest")
			}
		}
		offsets.AddOffset(topic, end.Partition, at, -1)
	}
	if !found {
		return badInput("--offset "+flag, fmt.Sprintf("topic %s has no partition %d", topic, only), "`forebay topics describe "+topic+"` shows them")
	}
	return nil
}

func groupsDelete(s streams) *cobra.Command {
	c := &cobra.Command{Use: "delete GROUP…", Short: "Delete empty groups", Args: cobra.MinimumNArgs(1)}
	c.RunE = func(c *cobra.Command, names []string) error {
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		answers, err := admin.DeleteGroups(c.Context(), names...)
		if err != nil {
			return refused("", err)
		}
		var did []string
		var failed []error
		for _, a := range answers.Sorted() {
			if a.Err != nil {
				failed = append(failed, refused(a.Group, a.Err))
			} else {
				did = append(did, a.Group)
			}
		}
		return report(c, s, "deleted", did, failed)
	}
	addJSON(c)
	addBootstrap(c)
	return c
}
