package replica

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// stepped is node 1 of three, in power-safe, with one partition of which all are replicas. Nothing of it happens by itself.
type stepped struct {
	*Set
	*Steps
	t      *testing.T
	image  *metadata.Image
	syncer *commitlog.Syncer
}

func newStepped(t *testing.T) *stepped {
	s := &stepped{t: t, image: metadata.NewImage(), syncer: commitlog.NewSteppedSyncer(nil)}
	s.Set = New(Options{
		NodeID: 1, FS: vfs.NewCrash(), Dirs: []*Dir{{Path: "/data/log", Quarantine: "/data/quarantine", Syncer: s.syncer}}, BootID: "b", Parallel: 1,
		Settings:  func(*metadata.Image, string) controller.TopicSettings { return controller.TopicSettings{MinInSync: 2} },
		Following: Following{Dial: noDialing},
	})
	s.Steps = s.Set.Steps(nil)
	for id := range metadata.NodeID(3) {
		s.agree(&metadata.RegisterNode{ID: id + 1})
	}
	s.agree(&metadata.CreateTopics{Topics: []metadata.TopicSpec{{Name: "t", ID: metadata.TopicID{7}, Assignment: [][]metadata.NodeID{{2, 3, 1}}}}})
	if err := s.Start(s.image); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stepped) agree(c metadata.Command) {
	s.t.Helper()
	next, r := metadata.Apply(s.image, s.image.Index+1, c)
	if r.Err != nil {
		s.t.Fatal(r.Err)
	}
	s.image = next
	s.Update(next)
}

func (s *stepped) lead(node metadata.NodeID) {
	s.t.Helper()
	p := s.image.Partition("t", 0)
	s.agree(&metadata.ChangePartition{Topic: p.TopicID, Expected: p.PartitionEpoch, Leader: node, ISR: p.ISR})
}

// asks wants a Fetch from an offset, or none when it is -1.
func (s *stepped) asks(leader metadata.NodeID, offset int64) {
	s.t.Helper()
	req := s.Fetch(leader)
	switch {
	case req == nil && offset < 0:
	case req == nil:
		s.t.Errorf("node %d is asked for nothing", leader)
	case offset < 0:
		s.t.Errorf("node %d is asked from %d on: that tells it that everything before is durable", leader, req.Topics[0].Partitions[0].FetchOffset)
	case req.Topics[0].Partitions[0].FetchOffset != offset:
		s.t.Errorf("node %d is asked from %d on, want %d", leader, req.Topics[0].Partitions[0].FetchOffset, offset)
	}
}

func noDialing(context.Context, metadata.NodeID) (net.Conn, error) { return nil, context.Canceled }

func oneRecord(t *testing.T, at int64, epoch int32) []byte {
	t.Helper()
	w := record.NewBuilder()
	w.BaseOffset, w.LeaderEpoch = at, epoch
	w.Append(1, nil, []byte("v"))
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A fetch offset is an acknowledgement (invariant 1), whoever gave this node what lies before it: it waits for the disk in an epoch that has just
// begun, too.
func TestFetchOfNextLeaderWaitsForDisk(t *testing.T) {
	t.Run("fetched from the leader before", func(t *testing.T) {
		s := newStepped(t)
		s.asks(2, 0)
		resp := kmsg.NewPtrFetchResponse()
		rt := kmsg.NewFetchResponseTopic()
		rt.TopicID = metadata.TopicID{7}
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.RecordBatches = oneRecord(t, 0, 0)
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		if err := s.Fetched(2, resp); err != nil {
			t.Fatal(err)
		}
		s.lead(3)
		s.asks(3, -1)
		s.syncer.Step()
		s.asks(3, 1)
	})
	t.Run("appended as the leader before", func(t *testing.T) {
		s := newStepped(t)
		s.lead(1)
		p, err := s.Partition("t", 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Append(oneRecord(t, 0, 0), partition.AnyEpoch, commitlog.FromClient, false); err != nil {
			t.Fatal(err)
		}
		s.lead(2)
		s.asks(2, -1)
		s.syncer.Step()
		s.asks(2, 1)
	})
}

// A replica all of whose records are deleted at the leader, up to the middle of a batch, takes that batch (KAFKA-6975).
func TestFetchedBatchBeginsBeforeTheEnd(t *testing.T) {
	s := newStepped(t)
	fetched := func(start, watermark int64, batch []byte) {
		t.Helper()
		resp := kmsg.NewPtrFetchResponse()
		rt := kmsg.NewFetchResponseTopic()
		rt.TopicID = metadata.TopicID{7}
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.RecordBatches, rp.LogStartOffset, rp.HighWatermark = batch, start, watermark
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		if err := s.Fetched(2, resp); err != nil {
			t.Fatal(err)
		}
		s.syncer.Step()
	}
	s.asks(2, 0)
	fetched(0, 0, append(oneRecord(t, 0, 0), oneRecord(t, 1, 0)...)) // the second is not the leader's: it was cut off
	s.asks(2, 2)
	w := record.NewBuilder()
	w.BaseOffset, w.LeaderEpoch = 1, 0
	for range 3 {
		w.Append(1, nil, []byte("v"))
	}
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	fetched(2, 4, b)
	p, err := s.Partition("t", 0)
	if err != nil {
		t.Fatal(err)
	}
	if start, end, hw := p.Log().StartOffset(), p.Log().EndOffset(), p.HighWatermark(); start != 2 || end != 4 || hw != 4 {
		t.Errorf("the log is from %d to %d, its watermark %d; want 2 to 4, and 4", start, end, hw)
	}
	s.asks(2, 4)
}

// A Fetch waits longer where nothing has come for a while, so that replicas at rest cost little, but not so long that the leader could take the replica for one that is
// behind; with the first record it is as before.
func TestFetchWaitsLongerAtRest(t *testing.T) {
	s := newStepped(t)
	s.lead(2)
	waits := func(want int32) {
		t.Helper()
		if got := s.Fetch(2).MaxWaitMillis; got != want {
			t.Fatalf("a Fetch waits for %d ms, want %d", got, want)
		}
	}
	answered := func(topics ...kmsg.FetchResponseTopic) {
		t.Helper()
		resp := kmsg.NewPtrFetchResponse()
		resp.SessionID, resp.Topics = 1, topics
		if err := s.Fetched(2, resp); err != nil {
			t.Fatal(err)
		}
	}
	for range quietRounds {
		waits(500)
		answered()
	}
	waits(2000)
	rt := kmsg.NewFetchResponseTopic()
	rt.TopicID = metadata.TopicID{7}
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.RecordBatches = oneRecord(t, 0, 0)
	rt.Partitions = append(rt.Partitions, rp)
	answered(rt)
	s.syncer.Step()
	for range quietRounds {
		waits(500)
		answered()
	}
	s.followers.f.Lag = 10 * time.Second
	waits(1250)
	s.followers.f.Lag = time.Second
	waits(500)
}
