package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
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
	c := &cobra.Command{Use: "alter GROUP", Short: "Set committed offsets (the group must be empty)", Args: cobra.ExactArgs(1)}
	to := c.Flags().StringArray("offset", nil, "`TOPIC:PARTITION=OFFSET`, or earliest or latest in OFFSET's place; repeatable")
	c.RunE = func(c *cobra.Command, names []string) error {
		if len(*to) == 0 {
			return badInput("", "nothing to alter", "give --offset TOPIC:PARTITION=OFFSET")
		}
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		var offsets kadm.Offsets
		for _, t := range *to {
			where, value, ok := strings.Cut(t, "=")
			i := strings.LastIndexByte(where, ':')
			if !ok || i <= 0 {
				return badInput("--offset "+t, "not TOPIC:PARTITION=OFFSET", "")
			}
			topic := where[:i]
			partition, err := strconv.ParseInt(where[i+1:], 10, 32)
			if err != nil {
				return badInput("--offset "+t, "the partition is no number", "")
			}
			at, err := resolveOffset(c, admin, topic, int32(partition), value)
			if err != nil {
				return err
			}
			offsets.AddOffset(topic, int32(partition), at, -1)
		}
		answers, err := admin.CommitOffsets(c.Context(), names[0], offsets)
		if err != nil {
			return refused(names[0], err)
		}
		if err := answers.Error(); err != nil {
			return refused(names[0], err)
		}
		return say(c, s, "altered", names)
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

func resolveOffset(c *cobra.Command, admin *kadm.Client, topic string, partition int32, value string) (int64, error) {
	list := admin.ListEndOffsets
	switch value {
	case "earliest":
		list = admin.ListStartOffsets
	case "latest":
	default:
		at, err := strconv.ParseInt(value, 10, 64)
		if err != nil || at < 0 {
			return 0, badInput("--offset", "'"+value+"' is no offset", "a number, earliest or latest")
		}
		return at, nil
	}
	listed, err := list(c.Context(), topic)
	if err != nil {
		return 0, refused(topic, err)
	}
	o, ok := listed.Lookup(topic, partition)
	if !ok {
		return 0, badInput("--offset", fmt.Sprintf("topic %s has no partition %d", topic, partition), "")
	}
	return o.Offset, refused(topic, o.Err)
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
		for _, a := range answers.Sorted() {
			if a.Err != nil {
				return refused(a.Group, a.Err)
			}
		}
		return say(c, s, "deleted", names)
	}
	addJSON(c)
	addBootstrap(c)
	return c
}
