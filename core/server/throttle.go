package server

import (
	"net/netip"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/quota"
	"github.com/forebayhub/forebay/core/wire"
)

// Throttling (KIP-13, KIP-124, KIP-219): a request over its client's quota is answered, with the time that the client
// should wait in the answer, and its connection is not read for that time. Where no quota is set, which one
// comparison tells, nothing is measured.

// countedTime is what a request counts at most against request_percentage: a handler that takes longer waits for
// others (a group to gather, the quorum), which costs no processor.
const countedTime = watchAfter

// throttle measures one request against the quota key, which the sensors of kind sum up.
func (c *conn) throttle(q *metadata.ClientQuotas, kind quota.Kind, key, clientID string, value float64, now time.Time) time.Duration {
	limit, ok := q.Limit(key, c.principal.Name, clientID)
	if !ok {
		return 0
	}
	return c.s.quotas.Record(quota.Key{Kind: kind, User: limit.User, ClientID: limit.ClientID}, limit.Bound, value, now)
}

// throttleTime measures the time that a request has taken since began, without what it waited.
func (c *conn) throttleTime(q *metadata.ClientQuotas, clientID string, took time.Duration, now time.Time) time.Duration {
	percent := min(took, countedTime).Seconds() * 100
	return min(c.throttle(q, quota.Request, controller.RequestPercentage, clientID, percent, now), c.s.quotas.ClientWindow().Size)
}

// throttleProduce measures a Produce request: its bytes, and its time unless it wants no answer.
func (c *conn) throttleProduce(q *metadata.ClientQuotas, p *produced, bytes int, began time.Time) {
	now := time.Now()
	wait := c.throttle(q, quota.Produce, controller.ProducerByteRate, p.h.ClientID, float64(bytes), now)
	if p.acks != 0 {
		wait = max(wait, c.throttleTime(q, p.h.ClientID, now.Sub(began), now))
	}
	p.throttle, c.mute = wait, wait
	c.s.stats.held(wait)
}

// throttleFetch measures what a consumer is about to be sent. Over its quota it is sent nothing, and nothing counts.
func (c *conn) throttleFetch(q *metadata.ClientQuotas, f *fetching, took time.Duration) {
	now := time.Now()
	wait := c.throttleTime(q, f.h.ClientID, took, now)
	if limit, ok := q.Limit(controller.ConsumerByteRate, c.principal.Name, f.h.ClientID); ok {
		key := quota.Key{Kind: quota.Fetch, User: limit.User, ClientID: limit.ClientID}
		over := c.s.quotas.Record(key, limit.Bound, float64(f.bytes), now)
		if wait = max(wait, over); wait > 0 {
			c.s.quotas.Unrecord(key, float64(f.bytes), now)
		}
	}
	f.throttle, c.mute = wait, wait
	c.s.stats.held(wait)
}

// fetchable is how many bytes a consumer can be sent at all under its quota: more would be over it for ever.
func (c *conn) fetchable(q *metadata.ClientQuotas, f *fetching) int {
	limit, ok := q.Limit(controller.ConsumerByteRate, c.principal.Name, f.h.ClientID)
	if !ok {
		return f.maxBytes
	}
	w := c.s.quotas.ClientWindow()
	return int(min(limit.Bound*float64(w.Samples-1)*w.Size.Seconds(), float64(f.maxBytes)))
}

// throttleOther measures any other request and puts into its response how long its client is to wait: what the handler has put there,
// or what the request's own time asks for.
func (c *conn) throttleOther(q *metadata.ClientQuotas, h wire.Header, resp kmsg.Response, began time.Time) {
	var wait time.Duration
	if t, ok := resp.(kmsg.ThrottleResponse); ok {
		ms, _ := t.Throttle()
		wait = time.Duration(ms) * time.Millisecond
	}
	if !betweenNodes(h) {
		now := time.Now()
		wait = max(wait, c.throttleTime(q, h.ClientID, now.Sub(began), now))
	}
	if t, ok := resp.(kmsg.SetThrottleResponse); ok && wait > 0 {
		t.SetThrottle(int32(wait.Milliseconds()))
	}
	c.mute = wait
	c.s.stats.held(wait)
}

// betweenNodes says whether a request is one that nodes send each other, which no quota holds back.
func betweenNodes(h wire.Header) bool {
	return h.Key == int16(kmsg.WriteTxnMarkers) || h.Key == int16(kmsg.AddPartitionsToTxn) && h.Version >= 4
}

// sitOut waits out the throttle time, after all replies are sent. The connection is not read, but that its client is gone is noticed.
func (c *conn) sitOut() error {
	wait := c.mute
	c.mute = 0
	if c.acks != nil {
		if err := c.acks.wait(); err != nil {
			return err
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	c.watch.start()
	defer c.watch.stop()
	select {
	case <-timer.C:
	case <-c.drained:
	case <-c.ctx.Done():
		return errQuiet
	}
	return nil
}

// admits counts a new connection of an address. One too many is held for as long as the rate is too high, a sample's time at most, and
// refused then: a client that is closed at once comes back at once (KIP-612).
func (c *conn) admits() bool {
	q := c.s.d.Controller.Image().Quotas
	if q == nil || c.address == "" {
		return true
	}
	bound, ok := q.AddressLimit(controller.ConnectionCreationRate, c.address)
	if !ok {
		return true
	}
	now := time.Now()
	key := quota.Key{Kind: quota.Connection, ClientID: c.address}
	wait := min(c.s.quotas.Record(key, bound, 1, now), c.s.quotas.ClientWindow().Size)
	if wait == 0 {
		return true
	}
	c.s.quotas.Unrecord(key, 1, now)
	c.mute = wait
	_ = c.sitOut() // it ends either way
	return false
}

// addressOf is an address as quotas name it.
func addressOf(ip []byte) string {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap().String()
}

// mutations is the controller_mutation_rate of one request (KIP-599): partitions that are created or deleted.
type mutations struct {
	s      *Server
	key    quota.Key
	bound  float64 // 0: no quota
	strict bool
	wait   time.Duration
}

func (s *Server) mutations(r *request, strict bool) *mutations {
	m := &mutations{s: s, strict: strict}
	if limit, ok := s.d.Controller.Image().Quotas.Limit(controller.ControllerMutationRate, r.principal.Name, r.clientID); ok {
		m.key, m.bound = quota.Key{Kind: quota.Mutation, User: limit.User, ClientID: limit.ClientID}, limit.Bound
	}
	return m
}

// take says whether n partitions may be changed. A strict quota that is exceeded lets none be; any other
// only makes the client wait.
func (m *mutations) take(n int) bool {
	if m.bound == 0 {
		return true
	}
	wait, ok := m.s.quotas.Take(m.key, m.bound, float64(n), m.strict, time.Now())
	m.wait = max(m.wait, wait)
	return ok
}

func (m *mutations) millis() int32 { return int32(m.wait.Milliseconds()) }
