package controller

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/metadata"
)

// behind is a node's view of a quorum: it stays as it is until the node asks for what was agreed on.
type behind struct {
	*quorum
	seen *metadata.Image
	gone bool // nobody can be asked
}

func (b *behind) Image() *metadata.Image { return b.seen }

func (b *behind) Current(context.Context) error {
	if b.gone {
		return context.DeadlineExceeded
	}
	b.seen = b.quorum.Image()
	return nil
}

func (b *behind) Propose(ctx context.Context, c metadata.Command) (metadata.Result, error) {
	r, err := b.quorum.Propose(ctx, c)
	b.seen = b.quorum.Image()
	return r, err
}

// What another node has told its client counts: who is behind refuses nothing for it, and who cannot learn it does not say that it knows.
func TestWhoIsBehindRefusesNothing(t *testing.T) {
	there := newController(t, 1, nil)
	q := there.quorum.(*quorum)
	topic := func(name string) []NewTopic { return []NewTopic{{Name: name, Partitions: 1, Replication: 1}} }
	one := func(_ []*metadata.Topic, errs []error) error { return errs[0] }
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	code := func(err error) int16 {
		var e *Error
		errors.As(err, &e)
		return e.Code
	}
	here := &behind{quorum: q, seen: q.Image()}
	c := New(Options{Quorum: here, NodeID: 1})
	value := "1"
	must("create there", one(there.CreateTopics(t.Context(), topic("t"), false)))
	must("configure here", c.AlterTopicConfigs(t.Context(), "t", []ConfigOp{{Name: "retention.ms", Value: &value}}, false))
	must("create there", one(there.CreateTopics(t.Context(), topic("u"), false)))
	must("more partitions here", c.CreatePartitions(t.Context(), "u", 2, nil, false))
	must("delete there", there.DeleteTopics(t.Context(), []string{"t"})[0])
	must("create here what is deleted", one(c.CreateTopics(t.Context(), topic("t"), false)))
	must("delete there", there.DeleteTopics(t.Context(), []string{"t"})[0])
	must("create there anew", one(there.CreateTopics(t.Context(), topic("t"), false)))
	must("delete here what is there anew", c.DeleteTopics(t.Context(), []string{"t"})[0])
	if q.Image().Topics["t"] != nil {
		t.Error("a topic was said to be deleted, and is there")
	}
	if err := c.DeleteTopics(t.Context(), []string{"t"})[0]; code(err) != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("deleted twice: %v", err)
	}
	// An id is one topic, whatever has its name by now.
	must("create there", one(there.CreateTopics(t.Context(), topic("id"), false)))
	must("learn of it", c.Current(t.Context()))
	old := here.seen.Topics["id"].ID
	must("delete there", there.DeleteTopics(t.Context(), []string{"id"})[0])
	must("create there anew", one(there.CreateTopics(t.Context(), topic("id"), false)))
	if err := c.DeleteTopicIDs(t.Context(), []metadata.TopicID{old})[0]; code(err) != kerr.UnknownTopicID.Code && code(err) != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("deleted by an id that is gone: %v", err)
	}
	if q.Image().Topics["id"] == nil {
		t.Error("a topic was deleted by the id of its predecessor")
	}
	here.gone = true
	if err := one(c.CreateTopics(t.Context(), topic("u"), false)); code(err) != kerr.RequestTimedOut.Code {
		t.Errorf("what cannot be known is told: %v", err)
	}
}

// TestListsAreChangedByWhoIsBehind: what is appended to a list, or taken from it, is so by the list as it is, whatever this node has heard of it.
func TestListsAreChangedByWhoIsBehind(t *testing.T) {
	there := newController(t, 1, nil)
	q := there.quorum.(*quorum)
	if _, err := q.Propose(t.Context(), &metadata.RegisterNode{ID: 1, Level: metadata.Level}); err != nil {
		t.Fatal(err)
	}
	if _, err := create(t, there, NewTopic{Name: "t", Partitions: 1, Replication: 1}); err != nil {
		t.Fatal(err)
	}
	late := func() *Controller { return New(Options{Quorum: &behind{quorum: q, seen: q.Image()}, NodeID: 1}) }
	at, here := [2]*Controller{there, there}, [2]*Controller{late(), late()} // for the topic, and for the brokers
	const list, policy = "leader.replication.throttled.replicas", "log.cleanup.policy"
	for n, step := range []struct {
		c             [2]*Controller
		op            int8
		value, policy string
		want, wanted  string
	}{
		{at, opAppend, "0:1", "compact", "0:1", "delete,compact"},
		{at, opSubtract, "0:9", "delete", "0:1", "compact"},
		{here, opAppend, "0:2", "delete", "0:1,0:2", "compact,delete"}, // it has heard of nothing yet
		{here, opAppend, "0:2", "delete", "0:1,0:2", "compact,delete"}, // it is there already
		{at, opSubtract, "0:1", "compact", "0:2", "delete"},
		{at, opAppend, "0:3", "compact", "0:2,0:3", "delete,compact"},
		{here, opSubtract, "0:2", "compact", "0:3", "delete"},
	} {
		if err := step.c[0].AlterTopicConfigs(t.Context(), "t", []ConfigOp{{Name: list, Op: step.op, Value: &step.value}}, false); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		if err := step.c[1].AlterBrokerConfigs(t.Context(), "", []ConfigOp{{Name: policy, Op: step.op, Value: &step.policy}}, false); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		if got, policy := q.Image().TopicConfigs["t"][list], q.Image().BrokerConfigs[""][policy]; got != step.want || policy != step.wanted {
			t.Errorf("step %d: topic %q, brokers %q; want %q and %q", n, got, policy, step.want, step.wanted)
		}
	}

	// A list that is inherited, of a node that has not heard what all inherit now.
	compact, policyOfTopic, remove := "compact", "cleanup.policy", "delete"
	later := late()
	if err := there.AlterBrokerConfigs(t.Context(), "", []ConfigOp{{Name: policy, Op: opSet, Value: &compact}}, false); err != nil {
		t.Fatal(err)
	}
	if err := later.AlterTopicConfigs(t.Context(), "t", []ConfigOp{{Name: policyOfTopic, Op: opAppend, Value: &remove}}, false); err != nil {
		t.Fatal(err)
	}
	if got := q.Image().TopicConfigs["t"][policyOfTopic]; got != "compact,delete" {
		t.Errorf("to an inherited list was appended: %q", got)
	}
}
