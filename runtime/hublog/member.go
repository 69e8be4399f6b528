package hublog

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// memberSession is how long a worker may be silent before others take over its share: the least that Kafka's
// brokers allow by default (group.min.session.timeout.ms).
const memberSession = 6 * time.Second

// Member is a membership in a group that shares out a topic's partitions; nobody reads them.
type Member struct{ cl *kgo.Client }

// Join joins a group under a name that Members shows. assigned and revoked are called, one at a time, with
// partitions that this member has got or must give back: others get them once revoked has returned, or
// when this member was silent for too long. The topic must be there.
func (l *Log) Join(group, topic, name string, assigned, revoked func(partitions []int32)) (*Member, error) {
	hand := func(fn func([]int32)) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, m map[string][]int32) {
			if ps := m[topic]; len(ps) > 0 {
				fn(ps)
			}
		}
	}
	o := l.o
	o.ClientID = name
	cl, err := o.client(
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()), // who stays keeps what it has
		kgo.SessionTimeout(memberSession),
		kgo.HeartbeatInterval(memberSession/6),
		kgo.RebalanceTimeout(time.Minute), // revoked may take as long as the tasks' end
		kgo.OnPartitionsAssigned(hand(assigned)),
		kgo.OnPartitionsRevoked(hand(revoked)),
		kgo.OnPartitionsLost(hand(revoked)),
	)
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", group, err)
	}
	cl.PauseFetchTopics(topic) // there is nothing in it
	return &Member{cl}, nil
}

// Leave gives everything back, after revoked has been called with it.
func (m *Member) Leave() { m.cl.Close() }

// Members says which member of a group has which partition of a topic, by the name it joined under.
func (l *Log) Members(ctx context.Context, group, topic string) (map[int32]string, error) {
	described, err := l.adm.DescribeGroups(ctx, group)
	if err != nil {
		return nil, fmt.Errorf("describe group %s: %w", group, err)
	}
	out := map[int32]string{}
	for _, g := range described {
		for _, m := range g.Members {
			assigned, ok := m.Assigned.AsConsumer()
			if !ok {
				continue
			}
			for _, t := range assigned.Topics {
				if t.Topic == topic {
					for _, p := range t.Partitions {
						out[p] = m.ClientID
					}
				}
			}
		}
	}
	return out, nil
}
