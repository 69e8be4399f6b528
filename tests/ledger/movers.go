package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/pause"
)

// movers are a group that reads "numbers", writes to "moved" for each record where it lay, and commits its offsets in the same transaction: what lies below
// the group's offset is there once, and nothing else.
type movers struct {
	mu    sync.Mutex
	acked map[int32]int64 // partition -> offset whose commit was acknowledged
	on    bool
}

const moversGroup = "movers"

// run is one member. A session that fails is followed by a new one, as an application would do.
func (m *movers) run(ctx context.Context, session func(...kgo.Opt) (*kgo.GroupTransactSession, error), id string) {
	m.mu.Lock()
	m.on = true
	m.mu.Unlock()
	for ctx.Err() == nil {
		s, err := session(kgo.TransactionalID(id), kgo.TransactionTimeout(10*time.Second), kgo.ConsumerGroup(moversGroup), kgo.ConsumeTopics("numbers"),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err == nil {
			err = m.work(ctx, s)
			s.Close()
		}
		if err != nil {
			_ = pause.For(ctx, 20*time.Millisecond)
		}
	}
}

func (m *movers) work(ctx context.Context, s *kgo.GroupTransactSession) error {
	for ctx.Err() == nil {
		polled, cancel := context.WithTimeout(ctx, time.Second)
		records := s.PollRecords(polled, 500).Records()
		cancel()
		if len(records) == 0 {
			continue
		}
		if err := s.Begin(); err != nil {
			return err
		}
		step, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		var out []*kgo.Record
		next := map[int32]int64{}
		for _, r := range records {
			out = append(out, &kgo.Record{Topic: "moved", Partition: r.Partition, Key: r.Key, Value: strconv.AppendInt(nil, r.Offset, 10)})
			next[r.Partition] = max(next[r.Partition], r.Offset+1)
		}
		produced := s.ProduceSync(step, out...).FirstErr()
		committed, err := s.End(step, kgo.TransactionEndTry(produced == nil))
		cancel()
		if err != nil {
			return err
		}
		if committed {
			m.mu.Lock()
			for p, offset := range next {
				m.acked[p] = max(m.acked[p], offset)
			}
			m.mu.Unlock()
		}
	}
	return nil
}

// check says whether the group is behind a commit that was acknowledged.
func (m *movers) check(ctx context.Context, admin *kadm.Client) error {
	_, err := m.offsets(ctx, admin)
	return err
}

func (m *movers) offsets(ctx context.Context, admin *kadm.Client) (kadm.OffsetResponses, error) {
	m.mu.Lock()
	acked := map[int32]int64{}
	for p, at := range m.acked {
		acked[p] = at
	}
	on := m.on
	m.mu.Unlock()
	if !on {
		return nil, nil
	}
	got, err := stableOffsets(ctx, admin)
	if err != nil {
		return nil, err
	}
	for p, at := range acked {
		if o, ok := got.Lookup("numbers", p); !ok || o.At < at {
			return nil, errors.Join(o.Err, fmt.Errorf("group movers: offset %d of numbers-%d was committed in a transaction and %d was read back", at, p, o.At))
		}
	}
	return got, nil
}

// stableOffsets waits until no transaction holds an offset of the group open. A commit is answered before its marker is in the group's partition: only
// a stable answer has it for certain (KIP-447).
func stableOffsets(ctx context.Context, admin *kadm.Client) (kadm.OffsetResponses, error) {
	ctx, cancel := context.WithTimeout(kadm.RequireStable(ctx), 40*time.Second) // beyond a transaction's timeout, and what its abort takes
	defer cancel()
	for {
		got, err := admin.FetchOffsets(ctx, moversGroup)
		if err = errors.Join(err, got.Error()); !errors.Is(err, kerr.UnstableOffsetCommit) {
			return got, err
		}
		_ = pause.For(ctx, 10*time.Millisecond)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("the offsets of group movers do not become stable: %w", err)
		}
	}
}

// verify reads "moved" when all transactions are decided.
func (m *movers) verify(connect Connect, admin *kadm.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	got, err := m.offsets(ctx, admin)
	if err != nil || got == nil {
		return err
	}
	if err := decided(ctx, admin, "numbers", "moved"); err != nil {
		return err
	}
	sources, err := readTopic(ctx, connect, "numbers")
	if err != nil {
		return err
	}
	copies, err := readTopic(ctx, connect, "moved")
	if err != nil {
		return err
	}
	found := map[int32]map[int64]int64{}
	for _, r := range copies {
		source, err := strconv.ParseInt(string(r.Value), 10, 64)
		if err != nil {
			return err
		}
		if found[r.Partition] == nil {
			found[r.Partition] = map[int64]int64{}
		}
		if before, twice := found[r.Partition][source]; twice {
			return fmt.Errorf("numbers-%d@%d was moved twice, to %d and %d", r.Partition, source, before, r.Offset)
		}
		found[r.Partition][source] = r.Offset
	}
	for _, r := range sources {
		o, _ := got.Lookup("numbers", r.Partition)
		at, moved := found[r.Partition][r.Offset]
		switch {
		case moved && r.Offset >= o.At:
			return fmt.Errorf("numbers-%d@%d was moved, to %d, and the group's offset is %d", r.Partition, r.Offset, at, o.At)
		case !moved && r.Offset < o.At:
			return fmt.Errorf("numbers-%d@%d was not moved, and the group's offset is %d", r.Partition, r.Offset, o.At)
		}
	}
	if len(copies) == 0 {
		return errors.New("nothing was moved: too little happened")
	}
	return nil
}

// readTopic reads what is committed.
func readTopic(ctx context.Context, connect Connect, topic string) (all []*kgo.Record, err error) {
	c, err := connect(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ends, err := told(ctx, kadm.NewClient(c).ListCommittedOffsets, topic)
	if err != nil {
		return nil, err
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	for len(left) > 0 {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s could not be read: %v left", topic, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				all = append(all, r)
			}
			if end, ok := left[r.Partition]; ok && r.Offset >= end-1 {
				delete(left, r.Partition)
			}
		})
	}
	return all, nil
}

// told asks for offsets until it is told them. A leader that is new says OFFSET_NOT_AVAILABLE as long as it does not know the end (KIP-207), and a client asks again; leaders
// change without a storm, too, when a reassignment ends or preferred leaders are elected. Not for ever: a leader whose followers do not come is a fault.
func told(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error), topics ...string) (kadm.ListedOffsets, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		got, err := list(ctx, topics...)
		err = errors.Join(err, got.Error())
		if !errors.Is(err, kerr.OffsetNotAvailable) || ctx.Err() != nil {
			return got, err
		}
		_ = pause.For(ctx, 10*time.Millisecond)
	}
}

// decided waits until the timeout of transactions that were left open has decided them.
func decided(ctx context.Context, admin *kadm.Client, topics ...string) error {
	for {
		ends, err := told(ctx, admin.ListEndOffsets, topics...)
		if err != nil {
			return err
		}
		stable, err := told(ctx, admin.ListCommittedOffsets, topics...)
		if err != nil {
			return err
		}
		open := ""
		ends.Each(func(e kadm.ListedOffset) {
			if s, _ := stable.Lookup(e.Topic, e.Partition); s.Offset < e.Offset {
				open = fmt.Sprintf("%s-%d is stable to %d of %d", e.Topic, e.Partition, s.Offset, e.Offset)
			}
		})
		if open == "" {
			return nil
		}
		_ = pause.For(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return errors.New("a transaction hangs: " + open)
		}
	}
}
