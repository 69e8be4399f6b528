package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// ConfigOp is one change of IncrementalAlterConfigs.
type ConfigOp struct {
	Name  string
	Op    int8 // 0 set, 1 delete, 2 append, 3 subtract
	Value *string
}

const (
	opSet      = int8(kmsg.IncrementalAlterConfigOpSet)
	opDelete   = int8(kmsg.IncrementalAlterConfigOpDelete)
	opAppend   = int8(kmsg.IncrementalAlterConfigOpAppend)
	opSubtract = int8(kmsg.IncrementalAlterConfigOpSubtract)
)

// AlterTopicConfigs changes a topic's configs, all or none.
func (c *Controller) AlterTopicConfigs(ctx context.Context, topic string, ops []ConfigOp, validateOnly bool) error {
	if err := c.learnLists(ctx, ops, c.Image().TopicConfigs[topic]); err != nil {
		return err
	}
	return c.surely(ctx, 1, func([]int) []error {
		return []error{untilFresh(func() error { return c.alterTopicConfigs(ctx, topic, ops, validateOnly) })}
	})[0]
}

// learnLists: what APPEND and SUBTRACT change is compared with what it was planned by, but where the list is inherited from the brokers' configs or a default.
// Such a change begins with all that was agreed on before.
func (c *Controller) learnLists(ctx context.Context, ops []ConfigOp, own map[string]string) error {
	if slices.ContainsFunc(ops, func(o ConfigOp) bool {
		_, set := own[o.Name]
		return !set && (o.Op == opAppend || o.Op == opSubtract)
	}) {
		return c.Current(ctx)
	}
	return nil
}

// untilFresh asks again while what was planned is of configs that another node has changed meanwhile: by then this node knows them. Each time somebody has got
// ahead, so all get there.
func untilFresh(ask func() error) error {
	for {
		err := ask()
		var e *Error
		if !errors.As(err, &e) || e.Code != kerr.InvalidUpdateVersion.Code {
			return err
		}
	}
}

func (c *Controller) alterTopicConfigs(ctx context.Context, topic string, ops []ConfigOp, validateOnly bool) error {
	if err := c.plan.take(ctx); err != nil {
		return err
	}
	defer c.plan.give()
	image := c.Image()
	if err := CheckOps(ops); err != nil {
		return err
	}
	if topic == "" {
		return refuse(kerr.InvalidRequest, "Default topic resources are not allowed.")
	}
	if err := checkTopicName(topic); err != nil {
		return err
	}
	current := func(name string) string {
		return c.topicValue(image, topic, topicByName[name])
	}
	cmd := &metadata.AlterConfigs{Name: topic}
	if err := plan(cmd, ops, topicByName, "topic", image.TopicConfigs[topic], current); err != nil {
		return err
	}
	for k, v := range cmd.Set {
		if err := checkTopicConfig(k, v); err != nil {
			return err
		}
	}
	if err := checkTogether(after(image.TopicConfigs[topic], cmd)); err != nil {
		return err
	}
	if err := checkTopic(image, topic); err != nil { // after the values, as in Kafka
		return err
	}
	return c.alter(ctx, cmd, validateOnly)
}

// AlterBrokerConfigs changes the configs of one node, or of all (""). A value that cannot be is INVALID_REQUEST, where
// a topic's is INVALID_CONFIG: Kafka's clients know it so (KAFKA-13609).
func (c *Controller) AlterBrokerConfigs(ctx context.Context, node string, ops []ConfigOp, validateOnly bool) error {
	if err := c.learnLists(ctx, ops, c.Image().BrokerConfigs[node]); err != nil {
		return err
	}
	return untilFresh(func() error { return c.alterBrokerConfigs(ctx, node, ops, validateOnly) })
}

func (c *Controller) alterBrokerConfigs(ctx context.Context, node string, ops []ConfigOp, validateOnly bool) error {
	if err := c.plan.take(ctx); err != nil {
		return err
	}
	defer c.plan.give()
	image := c.Image()
	if err := CheckOps(ops); err != nil {
		return err
	}
	if err := c.checkNode(image, node, "Node"); err != nil {
		return err
	}
	current := func(name string) string {
		v, _, _ := c.brokerValue(image, node, brokerByName[name])
		return v
	}
	cmd := &metadata.AlterConfigs{Broker: true, Name: node}
	if err := plan(cmd, ops, brokerByName, "broker", image.BrokerConfigs[node], current); err != nil {
		return err
	}
	var fixed []string
	for _, k := range slices.Sorted(maps.Keys(cmd.Set)) {
		if !brokerByName[k].dynamic {
			fixed = append(fixed, k)
		}
	}
	if len(fixed) > 0 {
		return refuse(kerr.InvalidRequest, "Cannot update these configs dynamically: [%s]; set it with --set %s=… at the start", strings.Join(fixed, ", "), fixed[0])
	}
	for k, v := range cmd.Set {
		if err := brokerByName[k].check(v); err != nil {
			return refuse(kerr.InvalidRequest, "%s", err)
		}
	}
	if v, ok := cmd.Set[metadata.DrainConfig]; ok {
		if err := checkDrain(image, node, v); err != nil {
			return err
		}
	}
	return c.alter(ctx, cmd, validateOnly)
}

// alter proposes a change that was found right.
func (c *Controller) alter(ctx context.Context, cmd *metadata.AlterConfigs, validateOnly bool) error {
	if validateOnly || len(cmd.Set) == 0 && len(cmd.Delete) == 0 {
		return nil
	}
	if c.Image().Level() < 1 {
		cmd.From = nil // not every node knows it
	}
	_, err := c.propose(ctx, cmd)
	return err
}

// after is what a resource's own configs are with cmd.
func after(own map[string]string, cmd *metadata.AlterConfigs) map[string]string {
	m := map[string]string{}
	maps.Copy(m, own)
	maps.Copy(m, cmd.Set)
	for _, k := range cmd.Delete {
		delete(m, k)
	}
	return m
}

// CheckNode refuses a node that is not registered, and a name that is no node's. The whole cluster ("") is right. called
// is what Kafka calls it in the API that asks: Node or Broker.
func (c *Controller) CheckNode(node, called string) error {
	return c.checkNode(c.Image(), node, called)
}

func (c *Controller) checkNode(image *metadata.Image, node, called string) error {
	if node == "" {
		return nil
	}
	id, err := strconv.ParseInt(node, 10, 32)
	if err != nil {
		return refuse(kerr.InvalidRequest, "%s id must be an integer, but it is: %s", called, node)
	}
	if image.Nodes[metadata.NodeID(id)] == nil {
		return refuse(kerr.InvalidRequest, "Unexpected broker id, no node %s is registered", node)
	}
	return nil
}

// CheckOps refuses what no resource takes. Like Kafka's ConfigAdminManager.
func CheckOps(ops []ConfigOp) error {
	seen := map[string]bool{}
	var null []string
	for _, o := range ops {
		if seen[o.Name] {
			return refuse(kerr.InvalidRequest, "Error due to duplicate config keys")
		}
		seen[o.Name] = true
		if o.Value == nil && o.Op != opDelete {
			null = append(null, o.Name)
		}
	}
	if len(null) > 0 {
		return refuse(kerr.InvalidRequest, "Null value not supported for : %s", strings.Join(null, ", "))
	}
	for _, o := range ops {
		if o.Op < opSet || o.Op > opSubtract {
			return refuse(kerr.InvalidRequest, "Unknown operations type %d", o.Op)
		}
	}
	return nil
}

// plan turns operations that CheckOps lets through into what to set and what to delete. To delete what is not there is
// right, whatever it is called.
func plan(cmd *metadata.AlterConfigs, ops []ConfigOp, known map[string]*def, kind string, own map[string]string, current func(string) string) error {
	cmd.Set = map[string]string{}
	for _, o := range ops {
		d := known[o.Name]
		switch {
		case o.Op == opDelete:
			if _, set := own[o.Name]; set || d != nil {
				cmd.Delete = append(cmd.Delete, o.Name)
			}
		case o.Op != opSet && (d == nil || d.typ != list):
			return refuse(kerr.InvalidConfig, "%s", notList(kind, o))
		case d == nil:
			return refuse(kerr.InvalidConfig, "Unknown %s config name: %s%s", kind, o.Name, hint(o.Name, known))
		case o.Op == opSet:
			cmd.Set[o.Name] = *o.Value
		default:
			was, wasSet := own[o.Name]
			items := splitList(current(o.Name))
			for _, v := range strings.Split(*o.Value, ",") {
				switch at := slices.Index(items, v); {
				case o.Op == opAppend && at < 0:
					items = append(items, v)
				case o.Op == opSubtract && at >= 0:
					items = slices.Delete(items, at, at+1)
				}
			}
			cmd.Set[o.Name] = strings.Join(items, ",")
			if cmd.From == nil {
				cmd.From = map[string]*string{}
			}
			if cmd.From[o.Name] = nil; wasSet {
				cmd.From[o.Name] = &was
			}
		}
	}
	return nil
}

// notList are Kafka's words, of its broker and of its controller.
func notList(kind string, o ConfigOp) string {
	op := "APPEND"
	if o.Op == opSubtract {
		op = "SUBTRACT"
	}
	if kind == "broker" {
		return fmt.Sprintf("Config value %s is not allowed for config key: %s", strings.ToLower(op), o.Name)
	}
	return fmt.Sprintf("Can't %s to key %s because its type is not LIST.", op, o.Name)
}
