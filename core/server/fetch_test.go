package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/wire"
	"github.com/forebayhub/forebay/internal/vfs"
)

// Every version of Produce and Fetch carries the same records, over TCP from a
// disk (sendfile) and over memory (copies).
func TestProduceFetchEveryVersion(t *testing.T) {
	large := strings.Repeat("x", 3*inlineSlice) // above what is copied into the response
	for name, o := range map[string]nodeOptions{
		"memory": {},
		"disk":   {fs: vfs.Disk{}, dir: t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, o)
			for _, c := range []*client{n.dial(), n.pipe()} {
				for v := int16(3); v <= 13; v++ {
					topic := n.topic(fmt.Sprintf("t-%s-%d-%d", name, v, len(n.quorum.Image().Topics)), 2)
					for p := range int32(2) {
						got := call[*kmsg.ProduceResponse](c, produceRequest(v, topic, p, -1, batch(t, "a", large)))
						r := got.Topics[0].Partitions[0]
						if r.ErrorCode != 0 || r.BaseOffset != 0 || r.Partition != p || v < 13 && got.Topics[0].Topic != topic.Name || v >= 13 && got.Topics[0].TopicID != topic.ID {
							t.Fatalf("produce version %d: %+v", v, got)
						}
						call[*kmsg.ProduceResponse](c, produceRequest(v, topic, p, -1, batch(t, "b")))
					}
					for fv := int16(4); fv <= 18; fv++ {
						got := call[*kmsg.FetchResponse](c, fetchRequest(fv, topic, 0, 2))
						if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 2 {
							t.Fatalf("fetch version %d: %+v", fv, got)
						}
						for i, want := range [][]string{{"a", large, "b"}, {"b"}} {
							p := got.Topics[0].Partitions[i]
							if p.ErrorCode != 0 || p.HighWatermark != 3 || p.LastStableOffset != 3 {
								t.Fatalf("fetch version %d: code %d, high watermark %d, LSO %d", fv, p.ErrorCode, p.HighWatermark, p.LastStableOffset)
							}
							if v := values(t, p.RecordBatches); !slices.Equal(v, want) {
								t.Fatalf("fetch version %d: %d records, want %d", fv, len(v), len(want))
							}
						}
					}
				}
			}
		})
	}
}

func TestFetchWaits(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 2)
	c, p := n.dial(), n.dial()
	req := withWait(fetchRequest(12, topic, 0, 0), 60_000)
	id := c.send(req)
	call[*kmsg.ProduceResponse](p, produceRequest(9, topic, 1, -1, batch(t, "woken")))
	got := c.receive(req, id).(*kmsg.FetchResponse)
	if v := values(t, got.Topics[0].Partitions[1].RecordBatches); !slices.Equal(v, []string{"woken"}) {
		t.Fatalf("%q", v)
	}
	// In vain it waits for its time and no longer.
	begin := time.Now()
	got = call[*kmsg.FetchResponse](c, withWait(fetchRequest(12, topic, 0, 1), 60))
	if took := time.Since(begin); took < 50*time.Millisecond || len(got.Topics[0].Partitions[1].RecordBatches) != 0 {
		t.Fatalf("after %v: %+v", took, got)
	}
	// min.bytes above what is there waits too.
	req = withWait(fetchRequest(12, topic, 0, 0), 60)
	req.MinBytes = 1 << 20
	begin = time.Now()
	if got = call[*kmsg.FetchResponse](c, req); time.Since(begin) < 50*time.Millisecond || len(got.Topics[0].Partitions[1].RecordBatches) == 0 {
		t.Fatalf("after %v: %+v", time.Since(begin), got)
	}
	// Something that is wrong is told at once.
	if got = call[*kmsg.FetchResponse](c, withWait(fetchRequest(12, topic, 99, 1), 60_000)); got.Topics[0].Partitions[0].ErrorCode != kerr.OffsetOutOfRange.Code {
		t.Fatalf("%+v", got)
	}
}

// A partition that has more than it may give, or at all as much as the request may, is not waited for: nothing would come of it. Kafka's DelayedFetch counts
// what is readable, up to the limits.
func TestFetchDoesNotWaitForWhatItMayNotGive(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 2)
	c := n.dial()
	body := strings.Repeat("x", 40_000)
	for range 5 {
		call[*kmsg.ProduceResponse](c, produceRequest(9, topic, 0, -1, batch(t, body)))
	}
	ask := func(least, most, ofPartition int32) time.Duration {
		req := withWait(fetchRequest(12, topic, 0, 0), 20_000)
		req.MinBytes, req.MaxBytes = least, most
		for i := range req.Topics[0].Partitions {
			req.Topics[0].Partitions[i].PartitionMaxBytes = ofPartition
		}
		begin := time.Now()
		if got := call[*kmsg.FetchResponse](c, req); len(got.Topics[0].Partitions[0].RecordBatches) == 0 {
			t.Errorf("at least %d, at most %d, %d of one: nothing", least, most, ofPartition)
		}
		return time.Since(begin)
	}
	for _, x := range [][3]int32{{100_000, 1 << 20, 100_000}, {100_000, 100_000, 1 << 20}, {1 << 20, 50_000, 50_000}, {30_000, 20_000, 20_000}} {
		if took := ask(x[0], x[1], x[2]); took > 10*time.Second {
			t.Errorf("at least %d, at most %d, %d of one: waited %v", x[0], x[1], x[2], took)
		}
	}
}

// KIP-74: the first partition with data gives one batch even above the limits, the others keep to them.
func TestFetchLimits(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 3)
	c := n.dial()
	body := strings.Repeat("x", 10_000)
	for p := int32(1); p < 3; p++ {
		for range 3 {
			call[*kmsg.ProduceResponse](c, produceRequest(9, topic, p, -1, batch(t, body)))
		}
	}
	req := fetchRequest(12, topic, 0, 0, 0)
	req.MaxBytes = 100
	got := call[*kmsg.FetchResponse](c, req).Topics[0].Partitions
	if len(got[0].RecordBatches) != 0 || len(values(t, got[1].RecordBatches)) != 1 || len(got[2].RecordBatches) != 0 || got[2].HighWatermark != 3 {
		t.Fatalf("%d, %d, %d bytes", len(got[0].RecordBatches), len(got[1].RecordBatches), len(got[2].RecordBatches))
	}
	req = fetchRequest(12, topic, 0, 0, 0)
	req.Topics[0].Partitions[1].PartitionMaxBytes = 25_000
	got = call[*kmsg.FetchResponse](c, req).Topics[0].Partitions
	if a, b := len(values(t, got[1].RecordBatches)), len(values(t, got[2].RecordBatches)); a != 2 || b != 3 {
		t.Fatalf("%d and %d records, want 2 and 3", a, b)
	}
}

// KIP-227, request by request.
func TestFetchSessionsKIP227(t *testing.T) {
	for _, v := range []int16{7, 12, 17} {
		n := newNode(t, nodeOptions{})
		topic := n.topic("orders", 3)
		c, p := n.dial(), n.dial()
		req := fetchRequest(v, topic, 0, 0, 0)
		req.SessionEpoch = 0
		full := call[*kmsg.FetchResponse](c, req)
		if full.SessionID == 0 || len(full.Topics[0].Partitions) != 3 {
			t.Fatalf("version %d: full fetch: %+v", v, full)
		}
		next := func(epoch int32) *kmsg.FetchRequest {
			r := fetchRequest(v, topic)
			r.Topics = nil
			r.SessionID, r.SessionEpoch = full.SessionID, epoch
			return r
		}
		if got := call[*kmsg.FetchResponse](c, next(1)); got.ErrorCode != 0 || len(got.Topics) != 0 || got.SessionID != full.SessionID {
			t.Fatalf("version %d: nothing changed, yet: %+v", v, got)
		}
		call[*kmsg.ProduceResponse](p, produceRequest(9, topic, 1, -1, batch(t, "a")))
		got := call[*kmsg.FetchResponse](c, next(2))
		if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 || got.Topics[0].Partitions[0].Partition != 1 {
			t.Fatalf("version %d: only partition 1 changed: %+v", v, got)
		}
		// The client moves on in partition 1 and forgets partition 0.
		r := next(3)
		r.Topics = fetchRequest(v, topic, 0, 1).Topics
		r.Topics[0].Partitions = r.Topics[0].Partitions[1:]
		ft := kmsg.NewFetchRequestForgottenTopic()
		ft.Topic, ft.TopicID, ft.Partitions = topic.Name, topic.ID, []int32{0}
		r.ForgottenTopics = append(r.ForgottenTopics, ft)
		if got = call[*kmsg.FetchResponse](c, r); got.ErrorCode != 0 || len(got.Topics) != 0 {
			t.Fatalf("version %d: %+v", v, got)
		}
		for part := range int32(3) {
			call[*kmsg.ProduceResponse](p, produceRequest(9, topic, part, -1, batch(t, "b")))
		}
		got = call[*kmsg.FetchResponse](c, next(4))
		var told []int32
		for _, gt := range got.Topics {
			for _, gp := range gt.Partitions {
				told = append(told, gp.Partition)
			}
		}
		slices.Sort(told)
		if !slices.Equal(told, []int32{1, 2}) {
			t.Fatalf("version %d: partitions %v, want 1 and 2", v, told)
		}
		// A wrong epoch, an unknown session, and the end of it.
		if got = call[*kmsg.FetchResponse](c, next(9)); got.ErrorCode != kerr.InvalidFetchSessionEpoch.Code {
			t.Fatalf("version %d: %+v", v, got)
		}
		closing := fetchRequest(v, topic, 0)
		closing.SessionID, closing.SessionEpoch = full.SessionID, -1
		if got = call[*kmsg.FetchResponse](c, closing); got.ErrorCode != 0 || got.SessionID != 0 {
			t.Fatalf("version %d: %+v", v, got)
		}
		if got = call[*kmsg.FetchResponse](c, next(5)); got.ErrorCode != kerr.FetchSessionIDNotFound.Code {
			t.Fatalf("version %d: %+v", v, got)
		}
		if s := n.s.sessions; len(s.byID) != 0 || s.parts != 0 || s.order.Len() != 0 {
			t.Fatalf("%d sessions, %d partitions are left", len(s.byID), s.parts)
		}
	}
}

// A busy partition does not starve the others when max.bytes leaves room for one only.
func TestFetchSessionTakesTurns(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 3)
	c := n.dial()
	for range 5 {
		for p := range int32(3) {
			call[*kmsg.ProduceResponse](c, produceRequest(9, topic, p, -1, batch(t, strings.Repeat("x", 1000))))
		}
	}
	req := fetchRequest(12, topic, 0, 0, 0)
	req.SessionEpoch, req.MaxBytes = 0, 500
	resp := call[*kmsg.FetchResponse](c, req)
	seen := map[int32]int{}
	offsets := make([]int64, 3)
	for epoch := int32(1); epoch <= 9; epoch++ {
		r := fetchRequest(12, topic)
		r.Topics, r.MaxBytes = nil, 500
		r.SessionID, r.SessionEpoch = resp.SessionID, epoch
		for _, gt := range resp.Topics {
			for _, p := range gt.Partitions {
				if got := len(values(t, p.RecordBatches)); got > 0 {
					seen[p.Partition]++
					offsets[p.Partition] += int64(got)
					moved := fetchRequest(12, topic, offsets...).Topics[0]
					moved.Partitions = moved.Partitions[p.Partition : p.Partition+1]
					r.Topics = append(r.Topics, moved)
				}
			}
		}
		resp = call[*kmsg.FetchResponse](c, r)
	}
	for p := range int32(3) {
		if seen[p] != 3 {
			t.Fatalf("turns %v, want 3 of each", seen)
		}
	}
}

func TestFetchSessionCacheIsBounded(t *testing.T) {
	n := newNode(t, nodeOptions{deps: func(d *Deps) { d.FetchSessions = 2 }})
	topic := n.topic("orders", 1)
	c := n.dial()
	begin := func() int32 {
		req := fetchRequest(12, topic, 0)
		req.SessionEpoch = 0
		return call[*kmsg.FetchResponse](c, req).SessionID
	}
	a, b := begin(), begin()
	if a == 0 || b == 0 || begin() != 0 {
		t.Fatal("a full cache makes room for a session although the others are in use")
	}
	n.s.sessions.mu.Lock()
	n.s.sessions.byID[a].used = time.Now().Add(-2 * sessionRest)
	n.s.sessions.mu.Unlock()
	if begin() == 0 {
		t.Fatal("a session that rests keeps its place")
	}
	r := fetchRequest(12, topic)
	r.Topics, r.SessionID, r.SessionEpoch = nil, a, 1
	if got := call[*kmsg.FetchResponse](c, r); got.ErrorCode != kerr.FetchSessionIDNotFound.Code {
		t.Fatalf("%+v", got)
	}
}

// A large request is not paid for by its connection for ever, whatever it is that it has many of.
func TestLargeFetchIsNotKept(t *testing.T) {
	same := make([]fetchTarget, 2*keptParts)
	other := make([]fetchTarget, 2*keptParts)
	for n := range other {
		other[n].number = int32(n)
	}
	for name, f := range map[string]*fetching{
		"one partition often": {targets: same},
		"many partitions":     {targets: other},
		"many forgotten":      {targets: make([]fetchTarget, 1), forgotten: make([]fetchKey, 2*keptParts)},
	} {
		newFetchSessions(1).beginFull(f)
		if len(f.parts) == 0 {
			t.Errorf("%s: nothing is fetched", name)
		}
		f.shed() // before it waits
		if n := max(cap(f.targets), cap(f.forgotten), len(f.at)); n > keptParts {
			t.Errorf("%s: room for %d is kept while it waits", name, n)
		}
		f.release()
		if n := max(cap(f.parts), cap(f.targets), cap(f.forgotten), len(f.at)); n > keptParts {
			t.Errorf("%s: room for %d is kept", name, n)
		}
	}
}

// What a client asks for may be days; its memory is held for as long.
func TestFetchWaitIsBounded(t *testing.T) {
	for asked, want := range map[int32]time.Duration{500: 500 * time.Millisecond, 1<<31 - 1: maxFetchWait} {
		req := kmsg.NewPtrFetchRequest()
		req.Version, req.MaxWaitMillis = 12, asked
		var f fetching
		if err := f.parse(wire.Header{Version: 12}, req.AppendTo(nil), metadata.NewImage()); err != nil || f.maxWait != want {
			t.Errorf("of %d ms: waits %v, %v", asked, f.maxWait, err)
		}
	}
}

// A Fetch of very many partitions is refused, and one of many holds little more than its response once that is being sent.
func TestFetchOfManyPartitions(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 1)
	text := strings.Repeat("x", 4*inlineSlice)
	call[*kmsg.ProduceResponse](n.dial(), produceRequest(9, topic, 0, 1, batch(t, text)))
	f := fetching{}
	req := fetchRequest(12, topic, make([]int64, maxNamed+1)...)
	if err := f.parse(wire.Header{Version: 12}, req.AppendTo(nil), n.quorum.Image()); !errors.Is(err, errNamed) {
		t.Error(err)
	}
	req.Topics[0].Partitions = nil
	req.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: "orders", Partitions: make([]int32, maxNamed+1)}}
	if err := f.parse(wire.Header{Version: 12}, req.AppendTo(nil), n.quorum.Image()); !errors.Is(err, errNamed) {
		t.Error(err)
	}

	const many = 50_000
	frame := kmsg.NewRequestFormatter().AppendRequest(nil, fetchRequest(4, topic, make([]int64, many)...), 1)
	for name, c := range map[string]*client{"memory": n.pipe(), "tcp": n.dial()} {
		if _, err := c.c.Write(frame); err != nil {
			t.Fatal(err)
		}
		var head [4]byte
		if _, err := io.ReadFull(c.c, head[:]); err != nil {
			t.Fatal(err)
		}
		if name == "memory" { // its server waits until the rest is read
			n.s.mu.Lock()
			for c := range n.s.conns {
				if f := &c.fetching; c.door == nil && cap(f.parts)+cap(f.targets)+len(f.at) > 0 {
					t.Errorf("%d partitions are held while the response is read", cap(f.parts))
				}
			}
			n.s.mu.Unlock()
		}
		b := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(c.c, b); err != nil {
			t.Fatal(err)
		}
		resp := kmsg.NewPtrFetchResponse()
		resp.Version = 4
		if err := resp.ReadFrom(b[4:]); err != nil {
			t.Fatal(err)
		}
		parts := resp.Topics[0].Partitions
		if v := values(t, parts[0].RecordBatches); len(parts) != many || len(v) != 1 || v[0] != text || parts[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("%s: %d partitions, %d bytes of the first, code %d of the second", name, len(parts), len(parts[0].RecordBatches), parts[1].ErrorCode)
		}
	}
}
