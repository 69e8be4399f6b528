package server

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/quota"
)

// alterQuota is a request for one quota; "" for a name is the default.
func alterQuota(typ, name, key string, value float64) *kmsg.AlterClientQuotasRequest {
	req := kmsg.NewPtrAlterClientQuotasRequest()
	e := kmsg.NewAlterClientQuotasRequestEntry()
	part := kmsg.NewAlterClientQuotasRequestEntryEntity()
	if part.Type = typ; name != "" {
		part.Name = &name
	}
	e.Entity = append(e.Entity, part)
	op := kmsg.NewAlterClientQuotasRequestEntryOp()
	op.Key, op.Value = key, value
	e.Ops = append(e.Ops, op)
	req.Entries = append(req.Entries, e)
	return req
}

func (n *node) quota(typ, name, key string, value float64) {
	n.t.Helper()
	if got := call[*kmsg.AlterClientQuotasResponse](n.dial(), alterQuota(typ, name, key, value)).Entries[0]; got.ErrorCode != 0 {
		n.t.Fatalf("%d %s", got.ErrorCode, *got.ErrorMessage)
	}
}

// KIP-219: the answer comes at once, with the time to wait in it; then the connection is mute for that time, and only that one.
func TestThrottledProduceMutesItsConnectionKIP219(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("t", 1)
	n.quota("client-id", "test", controller.ProducerByteRate, 1000)
	c, other := n.dial(), n.dial()
	call[*kmsg.ApiVersionsResponse](other, apiVersionsRequest(3))
	// A window takes 10,000; 10,500 is 50 a second too many over ten seconds: half a second.
	began := time.Now()
	got := call[*kmsg.ProduceResponse](c, produceRequest(13, topic, 0, -1, batch(t, strings.Repeat("x", 10_500))))
	answered := time.Since(began)
	if got.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
	wait := time.Duration(got.ThrottleMillis) * time.Millisecond
	if wait < 500*time.Millisecond || wait > 900*time.Millisecond {
		t.Fatalf("throttled for %v, want a little over 500ms", wait)
	}
	call[*kmsg.ApiVersionsResponse](other, apiVersionsRequest(3))
	if took := time.Since(began); took > wait || answered > wait {
		t.Errorf("answered after %v, another connection after %v: before the %v are over", answered, took, wait)
	}
	call[*kmsg.ApiVersionsResponse](c, apiVersionsRequest(3))
	if took := time.Since(began); took < wait {
		t.Errorf("the throttled connection was read after %v, before its %v were over", took, wait)
	}
}

// Over its quota a consumer is sent nothing, and what it was not sent does not count.
func TestThrottledFetchIsEmpty(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("t", 1)
	c := n.dial()
	for range 3 {
		call[*kmsg.ProduceResponse](c, produceRequest(13, topic, 0, -1, batch(t, strings.Repeat("x", 6_000))))
	}
	n.quota("user", "ANONYMOUS", controller.ConsumerByteRate, 1000)
	fetch := func(from int64) *kmsg.FetchResponse {
		req := fetchRequest(13, topic, from)
		req.SessionEpoch = 0
		req.Topics[0].Partitions[0].PartitionMaxBytes = 6_000
		return call[*kmsg.FetchResponse](c, req)
	}
	if got := fetch(0); got.ThrottleMillis != 0 || len(got.Topics[0].Partitions[0].RecordBatches) < 6_000 || got.SessionID == 0 {
		t.Fatalf("the first is within a window's 10,000: throttled %d", got.ThrottleMillis)
	}
	got := fetch(1)
	if got.ThrottleMillis == 0 || len(got.Topics) != 0 || got.ErrorCode != 0 || got.SessionID != 0 {
		t.Fatalf("over the quota: %+v", got)
	}
	if got.ThrottleMillis > 3_000 {
		t.Errorf("throttled for %d ms", got.ThrottleMillis)
	}
	// The same again after the time: what was asked for and not sent has left no trace, or it would be longer each time.
	if again := fetch(1); len(again.Topics) == 0 || len(again.Topics[0].Partitions[0].RecordBatches) < 6_000 {
		if again.ThrottleMillis > got.ThrottleMillis {
			t.Errorf("throttled for %d ms, then %d", got.ThrottleMillis, again.ThrottleMillis)
		}
	}
}

// KIP-599: since the versions that know of it a request beyond the quota is refused; before, it only waits.
func TestControllerMutationQuotaKIP599(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.quota("client-id", "", controller.ControllerMutationRate, 10)
	c := n.dial()
	create := func(version int16, partitions int32, name string) *kmsg.CreateTopicsResponse {
		req := createRequest(name)
		req.Version, req.Topics[0].NumPartitions = version, partitions
		return call[*kmsg.CreateTopicsResponse](c, req)
	}
	// A bucket of 110, which any number may overdraw.
	if got := create(7, 112, "many"); got.Topics[0].ErrorCode != 0 || got.ThrottleMillis != 0 {
		t.Fatalf("%+v", got)
	}
	refused := create(7, 1, "refused")
	if got := refused.Topics[0]; got.ErrorCode != kerr.ThrottlingQuotaExceeded.Code || *got.ErrorMessage != "The throttling quota has been exceeded." || refused.ThrottleMillis == 0 {
		t.Fatalf("%+v throttled for %d ms", got, refused.ThrottleMillis)
	}
	// What is wrong anyway does not count, and says what is wrong.
	if got := create(7, 1, "many").Topics[0]; got.ErrorCode != kerr.TopicAlreadyExists.Code {
		t.Errorf("%+v", got)
	}
	if got := create(5, 3, "waits"); got.Topics[0].ErrorCode != 0 || got.ThrottleMillis == 0 {
		t.Errorf("before version 6: %+v", got)
	}
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.Version, del.TopicNames = 4, []string{"many"}
	if got := call[*kmsg.DeleteTopicsResponse](n.dial(), del); got.Topics[0].ErrorCode != 0 || got.ThrottleMillis < 10_000 {
		t.Errorf("112 partitions deleted at 10 a second: %+v", got)
	}
	del = kmsg.NewPtrDeleteTopicsRequest()
	one := kmsg.NewDeleteTopicsRequestTopic()
	one.Topic = kmsg.StringPtr("waits")
	del.Version, del.Topics = 6, append(del.Topics, one)
	if got := call[*kmsg.DeleteTopicsResponse](n.dial(), del); got.Topics[0].ErrorCode != kerr.ThrottlingQuotaExceeded.Code {
		t.Errorf("%+v", got)
	}
	more := kmsg.NewPtrCreatePartitionsRequest()
	mt := kmsg.NewCreatePartitionsRequestTopic()
	mt.Topic, mt.Count = "waits", 9
	more.Topics = append(more.Topics, mt)
	if got := call[*kmsg.CreatePartitionsResponse](n.dial(), more); got.Topics[0].ErrorCode != kerr.ThrottlingQuotaExceeded.Code || got.ThrottleMillis == 0 {
		t.Errorf("%+v", got)
	}
}

// KIP-612: a connection beyond the rate is held for a moment and closed.
func TestConnectionRateKIP612(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.quota("ip", "", controller.ConnectionCreationRate, 1_000)
	n.quota("ip", "127.0.0.1", controller.ConnectionCreationRate, 1)
	refused := 0
	for range 20 { // a window takes ten
		c := n.dial()
		if _, err := c.c.Write(kmsg.NewRequestFormatter().AppendRequest(nil, apiVersionsRequest(3), 1)); err != nil {
			refused++
		} else if _, err := c.frame(); err != nil {
			refused++
		}
		if refused == 2 {
			break
		}
	}
	if refused != 2 {
		t.Errorf("%d of 20 connections at 1 a second were refused", refused)
	}
	// What has no address has no rate.
	call[*kmsg.ApiVersionsResponse](n.pipe(), apiVersionsRequest(3))
}

// KIP-124: the time of a request counts, for a response of any kind.
func TestRequestPercentageKIP124(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.quota("user", "", controller.RequestPercentage, 1e-9)
	got := call[*kmsg.MetadataResponse](n.dial(), kmsg.NewPtrMetadataRequest())
	// Any time at all is far too much: a sample's time is the most that is waited.
	if got.ThrottleMillis != 1000 {
		t.Errorf("throttled for %d ms", got.ThrottleMillis)
	}
}

// What a request waits for the replies before it on its connection is not its own time.
func TestWaitingForAcksDoesNotCount(t *testing.T) {
	disk := newGatedFS()
	n := newNode(t, nodeOptions{fs: disk, dir: "/data", durability: commitlog.PowerSafe})
	topic := n.topic("t", 1)
	c := n.dial()
	produce := produceRequest(9, topic, 0, -1, batch(t, "v"))
	call[*kmsg.ProduceResponse](c, produce)
	n.quota("client-id", "test", controller.RequestPercentage, 1) // a window takes 100 ms
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.Version = metadata.MaxVersion()
	for range 10 {
		disk.shut()
		time.AfterFunc(30*time.Millisecond, disk.open)
		first, second := c.send(produce), c.send(metadata)
		c.receive(produce, first)
		if got := c.receive(metadata, second).(*kmsg.MetadataResponse); got.ThrottleMillis != 0 {
			t.Fatalf("throttled for %d ms", got.ThrottleMillis)
		}
	}
}

// A client that has gone does not keep its connection's goroutine for the rest of a long throttle time.
func TestThrottledClientGoesAway(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("t", 1)
	n.quota("client-id", "test", controller.ProducerByteRate, 1)
	c := n.dial()
	if got := call[*kmsg.ProduceResponse](c, produceRequest(13, topic, 0, -1, batch(t, strings.Repeat("x", 10_000)))); got.ThrottleMillis < 1_000_000 {
		t.Fatalf("throttled for %d ms", got.ThrottleMillis)
	}
	_ = c.c.Close()
	eventually(t, "the connection ends", func() bool {
		n.s.mu.Lock()
		defer n.s.mu.Unlock()
		for conn := range n.s.conns {
			if conn.peer == c.c.LocalAddr().String() {
				return false
			}
		}
		return true
	})
}

// What franz-go gets through is the quota.
func TestRatesWithFranzGo(t *testing.T) {
	n := newServing(t)
	n.s.quotas = quota.New(quota.Window{Samples: 1}, quota.Window{}) // the burst of a longer window is paid for in its course
	n.topic("rates", 1)
	const bound = 400_000.0
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	throttled := &throttles{}
	client := newKgo(t, n, kgo.ClientID("franz"), kgo.WithHooks(throttled), kgo.DefaultProduceTopic("rates"),
		kgo.ConsumeTopics("rates"), kgo.FetchMaxBytes(20_000), kgo.FetchMaxPartitionBytes(20_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	measure := func(what string, step func() int) {
		t.Helper()
		throttled.times.Store(0)
		sent, began := 0, time.Now()
		for time.Since(began) < 4*time.Second {
			sent += step()
		}
		if throttled.times.Load() == 0 {
			t.Errorf("%s: franz-go was never told to wait", what)
		}
		if got := float64(sent) / time.Since(began).Seconds(); math.Abs(got-bound) > bound/10 {
			t.Errorf("%s: %.0f bytes a second, want %.0f ± 10%%", what, got, bound)
		} else {
			t.Logf("%s: %.0f bytes a second of %.0f", what, got, bound)
		}
	}
	value := make([]byte, 19_900)
	produce := func() int {
		if err := client.ProduceSync(ctx, &kgo.Record{Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		return len(value) + 100
	}
	for range 500 { // enough to be read
		produce()
	}
	n.quota("client-id", "franz", controller.ProducerByteRate, bound)
	measure("produce", produce)
	n.quota("client-id", "franz", controller.ConsumerByteRate, bound)
	measure("fetch", func() (bytes int) {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { bytes += len(r.Value) + 100 })
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
		return bytes
	})
}

// throttles counts the responses that told to wait.
type throttles struct{ times atomic.Int32 }

func (h *throttles) OnBrokerThrottle(_ kgo.BrokerMetadata, _ time.Duration, after bool) {
	if after {
		h.times.Add(1)
	}
}

// These answers were compared with Apache Kafka 4.4's.
func TestClientQuotasAsKafka(t *testing.T) {
	n := newNode(t, nodeOptions{})
	c := n.dial()
	name := func(s string) *string { return &s }
	part := func(typ string, name *string) kmsg.AlterClientQuotasRequestEntryEntity {
		return kmsg.AlterClientQuotasRequestEntryEntity{Type: typ, Name: name}
	}
	for _, tc := range []struct {
		what   string
		entity []kmsg.AlterClientQuotasRequestEntryEntity
		key    string
		value  float64
		want   string // "": it is taken
	}{
		{"no entity", nil, "producer_byte_rate", 1, "Invalid empty client quota entity"},
		{"unknown type", []kmsg.AlterClientQuotasRequestEntryEntity{part("group", name("g"))}, "producer_byte_rate", 1, "Unhandled client quota entity type: group"},
		{"empty name", []kmsg.AlterClientQuotasRequestEntryEntity{part("user", name(""))}, "producer_byte_rate", 1, "Empty user not supported"},
		{"ip with user", []kmsg.AlterClientQuotasRequestEntryEntity{part("ip", nil), part("user", nil)}, "connection_creation_rate", 1, "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId"}, //nolint:misspell // Kafka's words
		{"no address", []kmsg.AlterClientQuotasRequestEntryEntity{part("ip", name("1.2.3.4.5"))}, "connection_creation_rate", 1, "1.2.3.4.5 is not a valid IP or resolvable host."},
		{"key of another entity", []kmsg.AlterClientQuotasRequestEntryEntity{part("user", nil)}, "connection_creation_rate", 1, "Invalid configuration key connection_creation_rate"},
		{"zero", []kmsg.AlterClientQuotasRequestEntryEntity{part("user", nil)}, "producer_byte_rate", 0, "Quota producer_byte_rate must be greater than 0"},
		{"fraction", []kmsg.AlterClientQuotasRequestEntryEntity{part("user", nil)}, "producer_byte_rate", 1.5, "producer_byte_rate cannot be a fractional value."},
		{"too large", []kmsg.AlterClientQuotasRequestEntryEntity{part("ip", nil)}, "connection_creation_rate", 3e9, "Proposed value for connection_creation_rate is too large for an INT."},
		{"fraction of a percentage", []kmsg.AlterClientQuotasRequestEntryEntity{part("client-id", name("c"))}, "request_percentage", 1.5, ""},
		{"both", []kmsg.AlterClientQuotasRequestEntryEntity{part("client-id", nil), part("user", name("u"))}, "consumer_byte_rate", 1e6, ""},
	} {
		req := kmsg.NewPtrAlterClientQuotasRequest()
		e := kmsg.NewAlterClientQuotasRequestEntry()
		e.Entity = tc.entity
		e.Ops = []kmsg.AlterClientQuotasRequestEntryOp{{Key: tc.key, Value: tc.value}}
		req.Entries = append(req.Entries, e)
		got := call[*kmsg.AlterClientQuotasResponse](c, req).Entries[0]
		message := ""
		if got.ErrorMessage != nil {
			message = *got.ErrorMessage
		}
		if message != tc.want || (got.ErrorCode == kerr.InvalidRequest.Code) != (tc.want != "") {
			t.Errorf("%s: %d %q, want %q", tc.what, got.ErrorCode, message, tc.want)
		}
	}
	describe := func(strict bool, components ...kmsg.DescribeClientQuotasRequestComponent) *kmsg.DescribeClientQuotasResponse {
		req := kmsg.NewPtrDescribeClientQuotasRequest()
		req.Components, req.Strict = components, strict
		return call[*kmsg.DescribeClientQuotasResponse](c, req)
	}
	component := func(typ string, match kmsg.QuotasMatchType, name *string) kmsg.DescribeClientQuotasRequestComponent {
		return kmsg.DescribeClientQuotasRequestComponent{EntityType: typ, MatchType: match, Match: name}
	}
	if got := describe(false); len(got.Entries) != 2 {
		t.Errorf("all: %+v", got)
	}
	if got := describe(false, component("client-id", kmsg.QuotasMatchTypeAny, nil)); len(got.Entries) != 2 {
		t.Errorf("every client id: %+v", got)
	}
	if got := describe(true, component("client-id", kmsg.QuotasMatchTypeAny, nil)); len(got.Entries) != 1 || *got.Entries[0].Entity[0].Name != "c" || got.Entries[0].Values[0].Value != 1.5 {
		t.Errorf("strictly client ids: %+v", got)
	}
	if got := describe(true, component("user", kmsg.QuotasMatchTypeExact, name("u")), component("client-id", kmsg.QuotasMatchTypeDefault, nil)); len(got.Entries) != 1 {
		t.Errorf("user and default client: %+v", got)
	}
	if got := describe(true, component("user", kmsg.QuotasMatchTypeDefault, nil)); len(got.Entries) != 0 || got.ErrorCode != 0 {
		t.Errorf("the default user: %+v", got)
	}
	for want, bad := range map[int16][]kmsg.DescribeClientQuotasRequestComponent{
		kerr.UnsupportedVersion.Code: {component("group", kmsg.QuotasMatchTypeAny, nil)},
		kerr.InvalidRequest.Code:     {component("ip", kmsg.QuotasMatchTypeAny, nil), component("user", kmsg.QuotasMatchTypeAny, nil)},
	} {
		if got := describe(false, bad...); got.ErrorCode != want {
			t.Errorf("%+v: %d, want %d", bad, got.ErrorCode, want)
		}
	}
}

// BenchmarkUnlimited is what throttling costs a Produce when no quota is set, and when one is that does not bind.
func BenchmarkUnlimited(b *testing.B) {
	for _, quotas := range []string{"none", "far"} {
		b.Run(quotas, func(b *testing.B) {
			n := newNode(b, nodeOptions{})
			if quotas == "far" {
				n.quota("user", "", controller.ProducerByteRate, 1e15)
			}
			c := &conn{s: n.s}
			p := &produced{}
			p.h.ClientID = "client"
			b.ReportAllocs()
			for b.Loop() {
				if q := n.s.d.Controller.Image().Quotas; q != nil {
					c.throttleProduce(q, p, 1000, time.Now())
				}
			}
		})
	}
}

// What Metadata creates counts as what CreateTopics does.
func TestAutoCreationCountsAsMutation(t *testing.T) {
	n := newNode(t, nodeOptions{})
	n.quota("client-id", "", controller.ControllerMutationRate, 1)
	m := kmsg.NewPtrMetadataRequest()
	m.Version, m.AllowAutoTopicCreation = 12, true
	for i := range 100 {
		m.Topics = append(m.Topics, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(fmt.Sprint("t", i))})
	}
	got := call[*kmsg.MetadataResponse](n.dial(), m)
	// A bucket of 11, which may be overdrawn by one, and a second or two of refill.
	if made := len(n.quorum.Image().Topics); made < 11 || made > 20 || got.Topics[99].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("%d topics are made, the last: %+v", made, got.Topics[99])
	}
}
