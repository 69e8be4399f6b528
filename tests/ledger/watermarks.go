package ledger

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/internal/pause"
)

// watermarks are what leaders said of their high watermarks. In the order of leader epochs they never fall (invariant 3, KIP-207); a leader of an
// older epoch, who does not know yet that it is none any more, may be behind and is not held against the newer one.
type watermarks struct {
	mu    sync.Mutex
	last  map[spot]watermark
	seen  int
	wrong error
}

type watermark struct {
	epoch  int32
	offset int64
}

func newWatermarks() *watermarks { return &watermarks{last: map[spot]watermark{}} }

// watch asks all leaders again and again. The current leader epoch in the request is what makes an answer one of that epoch.
func (w *watermarks) watch(ctx context.Context, c *kgo.Client) {
	for ctx.Err() == nil {
		step, cancel := context.WithTimeout(ctx, 2*time.Second)
		w.ask(step, c)
		cancel()
		_ = pause.For(ctx, 50*time.Millisecond)
	}
}

func (w *watermarks) ask(ctx context.Context, c *kgo.Client) {
	metadata := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		metadata.Topics = append(metadata.Topics, t)
	}
	known, err := metadata.RequestWith(ctx, c)
	if err != nil {
		return // nobody answers now
	}
	requests, epochs := map[int32]*kmsg.ListOffsetsRequest{}, map[spot]int32{}
	for _, t := range known.Topics {
		for _, p := range t.Partitions {
			if t.Topic == nil || p.ErrorCode != 0 || p.Leader < 0 {
				continue
			}
			r := requests[p.Leader]
			if r == nil {
				r = kmsg.NewPtrListOffsetsRequest()
				r.ReplicaID = -1
				requests[p.Leader] = r
			}
			one := kmsg.NewListOffsetsRequestTopicPartition()
			one.Partition, one.CurrentLeaderEpoch, one.Timestamp = p.Partition, p.LeaderEpoch, -1
			topic := kmsg.NewListOffsetsRequestTopic()
			topic.Topic, topic.Partitions = *t.Topic, []kmsg.ListOffsetsRequestTopicPartition{one}
			r.Topics = append(r.Topics, topic)
			epochs[spot{*t.Topic, p.Partition}] = p.LeaderEpoch
		}
	}
	for leader, request := range requests {
		got, err := c.Broker(int(leader)).RetriableRequest(ctx, request)
		if err != nil {
			continue
		}
		for _, t := range got.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				if at := (spot{t.Topic, p.Partition}); p.ErrorCode == 0 {
					w.saw(at, watermark{epochs[at], p.Offset})
				}
			}
		}
	}
}

func (w *watermarks) saw(at spot, now watermark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.last[at]
	if now.epoch < before.epoch {
		return
	}
	if now.offset < before.offset && w.wrong == nil {
		w.wrong = fmt.Errorf("the high watermark of %v went from %d (leader epoch %d) back to %d (leader epoch %d)", at, before.offset, before.epoch, now.offset, now.epoch)
	}
	w.last[at] = now
	w.seen++
}

func (w *watermarks) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrong
}
