package controller

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

// Configs of groups (resource type 32, KIP-848): they are kept whether the group is there or not. Like Kafka's GroupConfig.

// GroupConfigs lists every group config that has a meaning here.
func (c *Controller) GroupConfigs(group string) ([]ConfigEntry, error) {
	if group == "" {
		return nil, refuse(kerr.InvalidRequest, "Group name must not be empty")
	}
	image := c.Image()
	entries := make([]ConfigEntry, 0, len(groupDefs))
	for _, d := range groupDefs {
		entries = append(entries, c.entry(image, image.GroupConfigs[group], fromGroup, d))
	}
	return entries, nil
}

// AlterGroupConfigs changes a group's configs, all or none.
func (c *Controller) AlterGroupConfigs(ctx context.Context, group string, ops []ConfigOp, validateOnly bool) error {
	if err := c.plan.take(ctx); err != nil {
		return err
	}
	defer c.plan.give()
	if err := CheckOps(ops); err != nil {
		return err
	}
	if group == "" {
		return refuse(kerr.InvalidRequest, "Default group resources are not allowed.")
	}
	image := c.Image()
	own := image.GroupConfigs[group]
	cmd := &metadata.AlterConfigs{}
	if err := plan(cmd, ops, groupByName, "group", own, nil); err != nil { // no group config is a list
		return err
	}
	for k, v := range cmd.Set {
		if err := groupByName[k].check(v); err != nil {
			return refuse(kerr.InvalidConfig, "%s", err)
		}
	}
	if err := c.checkGroup(image, after(own, cmd)); err != nil {
		return err
	}
	if validateOnly || len(cmd.Set) == 0 && len(cmd.Delete) == 0 {
		return nil
	}
	_, err := c.propose(ctx, &metadata.AlterGroupConfigs{Group: group, Set: cmd.Set, Delete: cmd.Delete})
	return err
}

// checkGroup holds a group's own configs to the bounds that the broker sets, and to each other.
func (c *Controller) checkGroup(image *metadata.Image, own map[string]string) error {
	value := func(name string) int64 {
		v, _ := c.overBroker(image, own, groupByName[name])
		return whole(v)
	}
	for _, of := range []string{"heartbeat.interval.ms", "session.timeout.ms"} {
		lo, hi := c.Int("group.consumer.min."+of), c.Int("group.consumer.max."+of)
		if _, set := own["consumer."+of]; !set {
			continue
		}
		if n := value("consumer." + of); n < lo || n > hi {
			return refuse(kerr.InvalidConfig, "consumer.%s must be in the range %d to %d inclusive.", of, lo, hi)
		}
	}
	if len(own) > 0 && value("consumer.session.timeout.ms") <= value("consumer.heartbeat.interval.ms") {
		return refuse(kerr.InvalidConfig, "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms")
	}
	return nil
}
