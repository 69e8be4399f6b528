package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func topicsCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "topics", Short: "List, describe, create, alter and delete topics"}
	c.AddCommand(topicsList(s), topicsDescribe(s), topicsCreate(s), topicsAlter(s), topicsDelete(s))
	return c
}

type topicRow struct {
	Name       string         `json:"name"`
	ID         string         `json:"id"`
	Partitions int            `json:"partitions"`
	Internal   bool           `json:"internal,omitempty"`
	Detail     []partitionRow `json:"partition_details,omitempty"`
	Configs    []configRow    `json:"configs,omitempty"`
}

type partitionRow struct {
	Partition   int32   `json:"partition"`
	Leader      int32   `json:"leader"`
	LeaderEpoch int32   `json:"leader_epoch"`
	Replicas    []int32 `json:"replicas"`
	ISR         []int32 `json:"isr"`
	Start       int64   `json:"start_offset"`
	End         int64   `json:"end_offset"`
	LastStable  int64   `json:"last_stable_offset"`
	Trouble     string  `json:"trouble,omitempty"` // in words; "": it is well
}

type configRow struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func topicsList(s streams) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List topics", Args: cobra.NoArgs}
	internal := c.Flags().Bool("internal", false, "internal topics too")
	c.RunE = func(c *cobra.Command, _ []string) error {
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		list := admin.ListTopics
		if *internal {
			list = admin.ListTopicsWithInternal
		}
		topics, err := list(c.Context())
		if err != nil {
			return refused("", err)
		}
		rows := []topicRow{}
		for _, t := range topics.Sorted() {
			if !*internal && strings.HasPrefix(t.Topic, "_forebay.") {
				continue
			}
			rows = append(rows, topicRow{Name: t.Topic, ID: topicID(t.ID), Partitions: len(t.Partitions), Internal: t.IsInternal})
		}
		if wantsJSON(c) {
			return writeJSON(s.out, rows)
		}
		var text [][]string
		for _, r := range rows {
			text = append(text, []string{r.Name, strconv.Itoa(r.Partitions)})
		}
		return table(s.out, "TOPIC PARTITIONS", text)
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

func topicsDescribe(s streams) *cobra.Command {
	c := &cobra.Command{Use: "describe TOPIC…", Short: "Show partitions, leaders, offsets and configs", Args: cobra.MinimumNArgs(1)}
	c.RunE = func(c *cobra.Command, names []string) error {
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		rows, err := describeTopics(c, admin, names)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return writeJSON(s.out, rows)
		}
		for _, t := range rows {
			fmt.Fprintf(s.out, "%s  id %s  partitions %d\n", t.Name, t.ID, t.Partitions)
			for _, cfg := range t.Configs {
				if cfg.Source != "DEFAULT_CONFIG" {
					fmt.Fprintf(s.out, "  %s=%s\n", cfg.Name, cfg.Value)
				}
			}
			var text [][]string
			for _, p := range t.Detail {
				text = append(text, []string{fmt.Sprint(p.Partition), fmt.Sprint(p.Leader), fmt.Sprint(p.LeaderEpoch), fmt.Sprint(p.Replicas), fmt.Sprint(p.ISR),
					fmt.Sprint(p.Start), fmt.Sprint(p.End), fmt.Sprint(p.LastStable)})
			}
			if err := table(s.out, "  PARTITION LEADER EPOCH REPLICAS ISR START END LAST-STABLE", indent(text)); err != nil {
				return err
			}
			for _, p := range t.Detail {
				if p.Trouble != "" {
					fmt.Fprintf(s.out, "  partition %d: %s\n", p.Partition, p.Trouble)
				}
			}
		}
		return nil
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

// topicID is an id as Kafka writes it: base64 of URLs, without padding.
func topicID(id kadm.TopicID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func indent(rows [][]string) [][]string {
	for _, r := range rows {
		r[0] = "  " + r[0]
	}
	return rows
}

func describeTopics(c *cobra.Command, admin *kadm.Client, names []string) ([]topicRow, error) {
	ctx := c.Context()
	meta, err := admin.ListTopicsWithInternal(ctx, names...)
	if err != nil {
		return nil, refused("", err)
	}
	starts, err := admin.ListStartOffsets(ctx, names...)
	if err != nil {
		return nil, refused("", err)
	}
	ends, err := admin.ListEndOffsets(ctx, names...)
	if err != nil {
		return nil, refused("", err)
	}
	stable, err := admin.ListCommittedOffsets(ctx, names...)
	if err != nil {
		return nil, refused("", err)
	}
	configs, err := admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, refused("", err)
	}
	nodes, err := nodeStates(c)
	if err != nil {
		return nil, err
	}
	damaged, err := damages(c, meta, nodes)
	if err != nil {
		return nil, err
	}
	var rows []topicRow
	for _, t := range meta.Sorted() {
		if t.Err != nil {
			return nil, refused(t.Topic, t.Err)
		}
		row := topicRow{Name: t.Topic, ID: topicID(t.ID), Partitions: len(t.Partitions), Internal: t.IsInternal}
		for _, p := range t.Partitions.Sorted() {
			at := func(l kadm.ListedOffsets) int64 {
				o, ok := l.Lookup(t.Topic, p.Partition)
				if !ok || o.Err != nil {
					return -1
				}
				return o.Offset
			}
			row.Detail = append(row.Detail, partitionRow{Partition: p.Partition, Leader: p.Leader, LeaderEpoch: p.LeaderEpoch, Replicas: p.Replicas, ISR: p.ISR,
				Start: at(starts), End: at(ends), LastStable: at(stable)})
		}
		if cfg, err := configs.On(t.Topic, nil); err == nil && cfg.Err == nil {
			for _, e := range cfg.Configs {
				row.Configs = append(row.Configs, configRow{Name: e.Key, Value: e.MaybeValue(), Source: e.Source.String()})
			}
			sort.Slice(row.Configs, func(i, j int) bool { return row.Configs[i].Name < row.Configs[j].Name })
		}
		for i, p := range t.Partitions.Sorted() {
			row.Detail[i].Trouble = trouble(p, nodes, damaged, row.config("min.insync.replicas"))
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// configFlags parses --config name=value.
func configFlags(pairs []string) (map[string]*string, error) {
	configs := map[string]*string{}
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, badInput("--config "+p, "not name=value", "for example --config retention.ms=86400000")
		}
		configs[name] = &value
	}
	return configs, nil
}

func topicsCreate(s streams) *cobra.Command {
	c := &cobra.Command{Use: "create TOPIC…", Short: "Create topics", Args: cobra.MinimumNArgs(1)}
	partitions := c.Flags().Int32("partitions", 1, "partitions of each topic")
	replication := c.Flags().Int16("replication", -1, "replicas of each partition; -1: the cluster's default")
	pairs := c.Flags().StringArray("config", nil, "a topic config by Kafka's name, `name=value`; repeatable")
	c.RunE = func(c *cobra.Command, names []string) error {
		configs, err := configFlags(*pairs)
		if err != nil {
			return err
		}
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		answers, err := admin.CreateTopics(c.Context(), *partitions, *replication, configs, names...)
		if err != nil {
			return refused("", err)
		}
		var did []string
		var failed []error
		for _, a := range answers.Sorted() {
			if a.Err != nil {
				failed = append(failed, topicRefused(a.Topic, a.Err, a.ErrMessage))
			} else {
				did = append(did, a.Topic)
			}
		}
		return report(c, s, "created", did, failed)
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

func topicRefused(topic string, err error, message string) error {
	if message != "" {
		err = fmt.Errorf("%w: %s", err, message)
	}
	return refused(topic, err)
}

// say reports what was done to which names.
func say(c *cobra.Command, s streams, done string, names []string) error {
	if wantsJSON(c) {
		return writeJSON(s.out, map[string][]string{done: names})
	}
	for _, n := range names {
		fmt.Fprintln(s.out, done, n)
	}
	return nil
}

// report is say for what may have been done to some names and not to others.
func report(c *cobra.Command, s streams, done string, names []string, failed []error) error {
	slices.Sort(names)
	if len(failed) == 0 || len(names) > 0 && !wantsJSON(c) { // one object of JSON: the error says which were refused
		if err := say(c, s, done, names); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

func topicsAlter(s streams) *cobra.Command {
	c := &cobra.Command{Use: "alter TOPIC", Short: "Change configs, or raise the partition count", Args: cobra.ExactArgs(1)}
	partitions := c.Flags().Int("partitions", 0, "the new total")
	pairs := c.Flags().StringArray("config", nil, "set a config, `name=value`; repeatable")
	unset := c.Flags().StringArray("unset", nil, "put a config back to its default, by `name`; repeatable")
	c.RunE = func(c *cobra.Command, names []string) error {
		configs, err := configFlags(*pairs)
		if err != nil {
			return err
		}
		if len(configs)+len(*unset) == 0 && !c.Flags().Changed("partitions") {
			return badInput("", "nothing to alter", "give --config name=value, --unset name or --partitions N")
		}
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		var alters []kadm.AlterConfig
		for name, value := range configs {
			alters = append(alters, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: value})
		}
		for _, name := range *unset {
			alters = append(alters, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
		}
		if len(alters) > 0 {
			answers, err := admin.AlterTopicConfigs(c.Context(), alters, names...)
			if err != nil {
				return refused("", err)
			}
			for _, a := range answers {
				if a.Err != nil {
					return topicRefused(a.Name, a.Err, a.ErrMessage)
				}
			}
		}
		if c.Flags().Changed("partitions") {
			answers, err := admin.UpdatePartitions(c.Context(), *partitions, names...)
			if err != nil {
				return refused("", err)
			}
			for _, a := range answers.Sorted() {
				if a.Err != nil {
					return topicRefused(a.Topic, a.Err, a.ErrMessage)
				}
			}
		}
		return say(c, s, "altered", names)
	}
	addJSON(c)
	addBootstrap(c)
	return c
}

func topicsDelete(s streams) *cobra.Command {
	c := &cobra.Command{Use: "delete TOPIC…", Short: "Delete topics and everything in them", Args: cobra.MinimumNArgs(1)}
	internal := c.Flags().Bool("internal", false, "internal topics too: positions of sources, offsets of groups, transactions or schemas are lost with them")
	c.RunE = func(c *cobra.Command, names []string) error {
		for _, n := range names {
			if !*internal && (strings.HasPrefix(n, "__") || strings.HasPrefix(n, "_forebay.") || n == "_schemas") {
				return badInput(n, "it is internal: what is in it cannot be had again, and whoever needs it begins anew", "give --internal if that is meant")
			}
		}
		admin, done, err := dialAdmin(c)
		if err != nil {
			return err
		}
		defer done()
		answers, err := admin.DeleteTopics(c.Context(), names...)
		if err != nil {
			return refused("", err)
		}
		var did []string
		var failed []error
		for _, a := range answers.Sorted() {
			if a.Err != nil {
				failed = append(failed, topicRefused(a.Topic, a.Err, a.ErrMessage))
			} else {
				did = append(did, a.Topic)
			}
		}
		return report(c, s, "deleted", did, failed)
	}
	addJSON(c)
	addBootstrap(c)
	return c
}
