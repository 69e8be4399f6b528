package controller

import (
	"context"
	"maps"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

// Configs of subscriptions to client metrics (resource type 16, KIP-714). They are kept and shown, as tools ask for them; no client is told of a
// subscription, and no metrics are received. Like Kafka's ClientMetricsConfigs.
//
// They lie beside the brokers' configs, under names that no node has: those are numbers.

const subscription = "client-metrics/"

// matchable is what a subscription can select clients by.
var matchable = []string{"client_instance_id", "client_id", "client_software_name", "client_software_version", "client_source_address", "client_source_port"}

// MetricsSubscriptions are the names of the subscriptions, sorted.
func (c *Controller) MetricsSubscriptions() (names []string) {
	for _, key := range slices.Sorted(maps.Keys(c.Image().BrokerConfigs)) {
		if name, ok := strings.CutPrefix(key, subscription); ok {
			names = append(names, name)
		}
	}
	return names
}

// MetricsConfigs lists a subscription's configs, whether it is there or not.
func (c *Controller) MetricsConfigs(name string) ([]ConfigEntry, error) {
	if name == "" {
		return nil, refuse(kerr.InvalidRequest, "Client metrics subscription name must not be empty")
	}
	image := c.Image()
	var entries []ConfigEntry
	for _, d := range metricsDefs {
		entries = append(entries, c.entry(image, OwnMetricsConfigs(image, name), fromMetrics, d))
	}
	return entries, nil
}

// OwnMetricsConfigs are what is set of a subscription.
func OwnMetricsConfigs(image *metadata.Image, name string) map[string]string {
	return image.BrokerConfigs[subscription+name]
}

// AlterMetricsConfigs changes a subscription's configs, all or none.
func (c *Controller) AlterMetricsConfigs(ctx context.Context, name string, ops []ConfigOp, validateOnly bool) error {
	if err := c.learnLists(ctx, ops, OwnMetricsConfigs(c.Image(), name)); err != nil {
		return err
	}
	return untilFresh(func() error { return c.alterMetricsConfigs(ctx, name, ops, validateOnly) })
}

func (c *Controller) alterMetricsConfigs(ctx context.Context, name string, ops []ConfigOp, validateOnly bool) error {
	if err := c.plan.take(ctx); err != nil {
		return err
	}
	defer c.plan.give()
	if err := CheckOps(ops); err != nil {
		return err
	}
	if name == "" {
		return refuse(kerr.InvalidRequest, "Subscription name can't be empty")
	}
	for _, o := range ops {
		if o.Op == opSet && metricsByName[o.Name] == nil {
			return refuse(kerr.InvalidRequest, "Unknown client metrics configuration: %s%s", o.Name, hint(o.Name, metricsByName))
		}
	}
	own := OwnMetricsConfigs(c.Image(), name)
	cmd := &metadata.AlterConfigs{Broker: true, Name: subscription + name}
	if err := plan(cmd, ops, metricsByName, "client metrics", own, func(key string) string { return own[key] }); err != nil {
		return err
	}
	for k, v := range cmd.Set {
		if err := metricsByName[k].check(v); err != nil {
			return refuse(kerr.InvalidConfig, "%s", err)
		}
	}
	if v, ok := cmd.Set["interval.ms"]; ok && (whole(v) < 100 || whole(v) > 3_600_000) {
		return refuse(kerr.InvalidRequest, "Invalid value %s for interval.ms, interval must be between 100 and 3600000 (1 hour)", v)
	}
	for _, pattern := range splitList(cmd.Set["match"]) {
		key, value, _ := strings.Cut(pattern, "=")
		_, err := syntax.Parse(strings.TrimSpace(value), syntax.Perl)
		if value == "" || strings.Contains(value, "=") || !slices.Contains(matchable, strings.TrimSpace(key)) || err != nil {
			return refuse(kerr.InvalidConfig, "Illegal client matching pattern: %s", pattern)
		}
	}
	return c.alter(ctx, cmd, validateOnly)
}
