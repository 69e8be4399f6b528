package hublog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/connectors"
)

// Log is an open connection to the log for everything but records.
type Log struct {
	o   Options
	cl  *kgo.Client
	adm *kadm.Client
}

// Open makes a Log; it connects with the first request.
func Open(o Options) (*Log, error) {
	cl, err := o.client()
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	adm := kadm.NewClient(cl)
	adm.SetTimeoutMillis(int32(retryTimeout / time.Millisecond))
	return &Log{o: o, cl: cl, adm: adm}, nil
}

// Close ends the connection. Appenders and Pollers have their own.
func (l *Log) Close() { l.cl.Close() }

// Ping is nil when a node of the log answers.
func (l *Log) Ping(ctx context.Context) error { return l.cl.Ping(ctx) }

// Embedded says whether the log is a node in this process.
func (l *Log) Embedded() bool { return l.o.Dial != nil }

// ClusterID is the log's own name for itself; "": it has not said one.
func (l *Log) ClusterID(ctx context.Context) (string, error) {
	meta, err := l.adm.BrokerMetadata(ctx)
	if err != nil {
		return "", fmt.Errorf("ask for the cluster's id: %w", err)
	}
	return meta.Cluster, nil
}

// Topic is a topic as the log knows it now.
type Topic struct {
	Name       string
	ID         [16]byte // changes when the topic is deleted and created again, unless Derived
	Derived    bool     // the log gives topics no ids: ID is one of the name
	Partitions int32
	Leaders    []int32 // by partition, the node that leads it; -1: none does
}

// derivedID stands for the id of a topic on a log that gives none: Metadata has them from version 10 on, and neither Apache Kafka before 2.8, nor one
// with an older inter.broker.protocol.version, nor every other log that speaks the protocol has these. It tells topics apart, and clusters.
func derivedID(cluster, topic string) (id [16]byte) {
	sum := sha256.Sum256([]byte("forebay topic\x00" + cluster + "\x00" + topic))
	copy(id[:], sum[:])
	return id
}

// Topics lists the topics, internal ones left out. Names, if given, restrict
// the answer to those that exist among them.
func (l *Log) Topics(ctx context.Context, names ...string) (map[string]Topic, error) {
	meta, err := l.adm.Metadata(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	out := make(map[string]Topic, len(meta.Topics))
	for name, d := range meta.Topics {
		if d.IsInternal {
			continue
		}
		if d.Err != nil {
			if errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
				continue
			}
			return nil, fmt.Errorf("describe topic %s: %w", name, d.Err)
		}
		if len(names) == 0 && (strings.HasPrefix(name, "__") || strings.HasPrefix(name, "_forebay.")) {
			continue
		}
		t := Topic{Name: name, ID: d.ID, Partitions: int32(len(d.Partitions)), Leaders: make([]int32, len(d.Partitions))}
		if t.ID == [16]byte{} {
			t.ID, t.Derived = derivedID(meta.Cluster, name), true
		}
		for p := range t.Leaders {
			t.Leaders[p] = d.Partitions[int32(p)].Leader
		}
		out[name] = t
	}
	return out, nil
}

const (
	// MaxRecordBytes is the largest record that a source's topics take: a row
	// with large columns has to pass, and a reader must still be able to bound its memory.
	MaxRecordBytes = 16 << 20
	maxReplicas    = 3
)

// EnsureTopic creates a topic when it is not there; it says whether it did.
// Replication is min(3, nodes). An existing topic is left as it is.
func (l *Log) EnsureTopic(ctx context.Context, t connectors.TopicSpec) (created bool, err error) {
	have, err := l.Topics(ctx, t.Name)
	if err != nil {
		return false, err
	}
	if _, ok := have[t.Name]; ok {
		return false, nil
	}
	brokers, err := l.adm.ListBrokers(ctx)
	if err != nil {
		return false, fmt.Errorf("list brokers: %w", err)
	}
	configs := make(map[string]*string, len(t.Configs))
	for k, v := range t.Configs {
		configs[k] = &v
	}
	res, err := l.adm.CreateTopic(ctx, max(t.Partitions, 1), int16(min(maxReplicas, max(len(brokers), 1))), configs, t.Name)
	if err == nil {
		err = res.Err
	}
	created = err == nil
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return false, fmt.Errorf("create topic %s: %w", t.Name, err)
	}
	return created, l.appears(ctx, t.Name)
}

// appears waits until metadata shows a topic: it may take a moment to be known
// everywhere, and the client keeps the answer from before the creation for a while.
func (l *Log) appears(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, retryTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		have, err := l.Topics(ctx, name)
		if err != nil {
			return err
		}
		if have[name].Partitions > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("topic %s does not appear: %w", name, ctx.Err())
		case <-tick.C:
		}
	}
}

// Offsets are the ends of a partition.
type Offsets struct {
	Start int64 // log start offset
	LSO   int64 // last stable offset: a read_committed reader gets no further
	End   int64 // high watermark
}

// Offsets looks up the ends of partitions; one that does not exist is left out.
func (l *Log) Offsets(ctx context.Context, tps ...connectors.TopicPartition) (map[connectors.TopicPartition]Offsets, error) {
	ends, failed := l.EndsOf(ctx, tps...)
	return ends, first(tps, failed)
}

// CommitGroup commits offsets for a group without members: for lag tools only,
// nothing resumes from them (invariant 6).
func (l *Log) CommitGroup(ctx context.Context, group string, offsets map[connectors.TopicPartition]int64) error {
	if len(offsets) == 0 {
		return nil
	}
	var os kadm.Offsets
	for tp, at := range offsets {
		os.Add(kadm.Offset{Topic: tp.Topic, Partition: tp.Partition, At: at, LeaderEpoch: -1})
	}
	res, err := l.adm.CommitOffsets(ctx, group, os)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		return fmt.Errorf("commit offsets of group %s: %w", group, err)
	}
	return nil
}

// GroupOffsets reads what CommitGroup committed.
func (l *Log) GroupOffsets(ctx context.Context, group string) (map[connectors.TopicPartition]int64, error) {
	res, err := l.adm.FetchOffsets(ctx, group)
	if err == nil {
		err = res.Error()
	}
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("fetch offsets of group %s: %w", group, err)
	}
	out := map[connectors.TopicPartition]int64{}
	res.Each(func(o kadm.OffsetResponse) {
		out[connectors.TopicPartition{Topic: o.Topic, Partition: o.Partition}] = o.At
	})
	return out, nil
}
