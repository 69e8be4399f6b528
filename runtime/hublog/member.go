package hublog

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// memberSession is how long a worker may be silent before others take over its share: the least that Kafka's
// brokers allow by default (group.min.session.timeout.ms).
const memberSession = 6 * time.Second

// Member is a membership in a group that shares out a topic's partitions; nobody reads them.
type Member struct {
	log         *Log
	cl          *kgo.Client
	group, name string
}

// Join joins a group under a name that Members shows. assigned and revoked are called, one at a time, with
// partitions that this member has got or must give back: others get them once revoked has returned, or
// when this member was silent for too long. A member that comes back under its name within that time, after a crash,
// has its partitions at once and disturbs nobody (static membership, KIP-345). The topic must be there.
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
		kgo.InstanceID(instance(name)),
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
	return &Member{l, cl, group, name}, nil
}

var notInstance = regexp.MustCompile(`[^a-zA-Z0-9._-]`)

// instance makes a group.instance.id of a name: Kafka wants the letters of a topic's name.
func instance(name string) string { return notInstance.ReplaceAllString(name, "-") }

// leaveTimeout bounds the farewell; without one the others take over when the session has ended.
const leaveTimeout = 2 * time.Second

// Leave gives everything back, after revoked has been called with it.
func (m *Member) Leave() {
	m.cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	// A static member stays unless somebody says that it has gone.
	_, _ = m.log.adm.LeaveGroup(ctx, kadm.LeaveGroup(m.group).InstanceIDs(instance(m.name)))
}

// Members are the names of a group's members, and says who has which partition of a topic. While the group
// is sharing out anew, nobody is known to have any.
func (l *Log) Members(ctx context.Context, group, topic string) (names []string, has map[int32]string, err error) {
	described, err := l.adm.DescribeGroups(ctx, group)
	if err != nil {
		return nil, nil, fmt.Errorf("describe group %s: %w", group, err)
	}
	out := map[int32]string{}
	for _, g := range described {
		for _, m := range g.Members {
			names = append(names, m.ClientID)
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
	return names, out, nil
}
