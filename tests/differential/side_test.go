// Package differential sends the same requests to Apache Kafka and to a Forebay node and compares the responses field
// by field. What cannot be equal is levelled by rules_test.go, what differs on purpose is listed in differences_test.go,
// and anything else fails. docs/differences.md is made from that list.
package differential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// M is a request's fields by their names in kmsg, L a list of them; what is not named has its default.
type (
	M map[string]any
	L []any
)

// patience is how long a response is waited for. Longer than any wait that a request here asks for.
const patience = 10 * time.Second

// step is one thing that a side said.
type step struct {
	label string
	resp  kmsg.Response
	event string // instead of a response: closed, silent
}

// side is one of the two servers, with what one scenario has seen of it.
type side struct {
	name, addr string
	versions   *versions
	prefix     string // begins every name that the scenario makes, so that scenarios do not see each other
	steps      []step
	main       *conn
	conns      []*conn
	ids        map[string][16]byte
	symbols    map[string]map[string]string
	fault      string
	now        string // the step that is being compared
}

// versions are what both serve, by key.
type versions map[int16][2]int16

// each calls fn with every version of a key that both serve.
func (s *side) each(key kmsg.Key, fn func(v int16)) {
	if r, ok := (*s.versions)[int16(key)]; ok {
		for v := r[0]; v <= r[1]; v++ {
			fn(v)
		}
	}
}

// last is the highest version that both serve, false if there is none.
func (s *side) last(key kmsg.Key) (int16, bool) {
	r, ok := (*s.versions)[int16(key)]
	return r[1], ok
}

// run plays a scenario and keeps what went wrong in it.
func (s *side) run(play func(*side)) {
	defer func() {
		if p := recover(); p != nil {
			s.fault = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
		for _, c := range s.conns {
			c.close()
		}
	}()
	s.main = s.dial()
	play(s)
}

// conn is one connection; after an end it is dialed again by the next call.
type conn struct {
	s      *side
	nc     net.Conn
	last   int32
	format *kmsg.RequestFormatter
}

func (s *side) dial() *conn {
	c := &conn{s: s, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("differ"))}
	s.conns = append(s.conns, c)
	return c
}

func (c *conn) close() {
	if c.nc != nil {
		_ = c.nc.Close() // its answers do not matter any more
		c.nc = nil
	}
}

func (c *conn) connect() {
	if c.nc != nil {
		return
	}
	nc, err := net.DialTimeout("tcp", c.s.addr, 5*time.Second)
	if err != nil {
		panic(err)
	}
	c.nc = nc
}

// write sends bytes as they are.
func (c *conn) write(b []byte) {
	c.connect()
	_, _ = c.nc.Write(b) // the read that follows tells
}

func (c *conn) send(req kmsg.Request) {
	c.last++
	c.write(c.format.AppendRequest(nil, req, c.last))
}

// frame reads a whole response without its length; an error is the connection's end.
func (c *conn) frame(wait time.Duration) ([]byte, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(wait)) // a dead connection is told by the read
	var size [4]byte
	if _, err := io.ReadFull(c.nc, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(c.nc, b)
	return b, err
}

func (c *conn) receive(req kmsg.Request, wait time.Duration) (kmsg.Response, string) {
	b, err := c.frame(wait)
	if err != nil {
		c.close()
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			return nil, "silent"
		}
		return nil, "closed"
	}
	if len(b) < 4 || int32(binary.BigEndian.Uint32(b)) != c.last {
		return nil, "another correlation id"
	}
	b = b[4:]
	if req.IsFlexible() && req.Key() != int16(kmsg.ApiVersions) {
		if len(b) == 0 || b[0] != 0 {
			return nil, "a response header with tags"
		}
		b = b[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(b); err != nil {
		return nil, "unreadable: " + err.Error()
	}
	if again := len(resp.AppendTo(nil)); again != len(b) {
		// kmsg leaves trailing bytes and tagged defaults alone; a length that differs is worth a word.
		return resp, fmt.Sprintf("%+d bytes beside its fields", len(b)-again)
	}
	return resp, ""
}

// build makes a request of a key and version.
func build(key kmsg.Key, v int16, m M) kmsg.Request {
	req := key.Request()
	req.SetVersion(v)
	fill(req, m)
	return req
}

// ask sends and receives without a note.
func (c *conn) ask(key kmsg.Key, v int16, m M) kmsg.Response {
	req := build(key, v, m)
	c.send(req)
	resp, event := c.receive(req, patience)
	if resp == nil {
		panic(fmt.Sprintf("%s v%d: %s", key.Name(), v, event))
	}
	return resp
}

// do sends, receives and notes.
func (c *conn) do(label string, key kmsg.Key, v int16, m M) kmsg.Response {
	return c.start(key, v, m).note(label)
}

func (s *side) do(label string, key kmsg.Key, v int16, m M) kmsg.Response {
	return s.main.do(label, key, v, m)
}

func (s *side) ask(key kmsg.Key, v int16, m M) kmsg.Response { return s.main.ask(key, v, m) }

// flight is a request whose response is still due.
type flight struct {
	c   *conn
	req kmsg.Request
}

// start sends; note takes the response later. One at a time per connection.
func (c *conn) start(key kmsg.Key, v int16, m M) flight {
	req := build(key, v, m)
	c.send(req)
	return flight{c, req}
}

func (f flight) note(label string) kmsg.Response {
	resp, event := f.c.receive(f.req, patience)
	f.c.s.steps = append(f.c.s.steps, step{fmt.Sprintf("%s v%d %s", kmsg.NameForKey(f.req.Key()), f.req.GetVersion(), label), resp, event})
	return resp
}

// noted keeps what was received by other means.
func (s *side) noted(label string, resp kmsg.Response, event string) {
	s.steps = append(s.steps, step{label, resp, event})
}

// eventually asks until done is true, for at most five seconds, and notes the last answer. For what Kafka's
// brokers learn a moment after the controller has answered.
func (s *side) eventually(label string, key kmsg.Key, v int16, m M, done func(kmsg.Response) bool) kmsg.Response {
	resp := s.await(key, v, m, done)
	s.noted(fmt.Sprintf("%s v%d %s", key.Name(), v, label), resp, "")
	return resp
}

func (s *side) await(key kmsg.Key, v int16, m M, done func(kmsg.Response) bool) kmsg.Response {
	again, until := time.NewTicker(10*time.Millisecond), time.Now().Add(5*time.Second)
	defer again.Stop()
	for {
		resp := s.ask(key, v, m)
		if done(resp) || time.Now().After(until) {
			return resp
		}
		<-again.C
	}
}

// n is a name of the scenario's own.
func (s *side) n(name string) string { return s.prefix + name }

// topic creates a topic and waits until it is led. configs are name=value.
func (s *side) topic(name string, partitions int32, configs ...string) string {
	name = s.n(name)
	var cs L
	for _, c := range configs {
		k, v, _ := strings.Cut(c, "=")
		cs = append(cs, M{"Name": k, "Value": v})
	}
	r := s.ask(kmsg.CreateTopics, 7, M{"Topics": L{M{"Topic": name, "NumPartitions": partitions, "ReplicationFactor": 1, "Configs": cs}}, "TimeoutMillis": 10000}).(*kmsg.CreateTopicsResponse)
	if r.Topics[0].ErrorCode != 0 {
		panic(fmt.Sprintf("create %s: error %d", name, r.Topics[0].ErrorCode))
	}
	s.led(name, int(partitions))
	var all L
	for p := range partitions {
		all = append(all, M{"Partition": p, "Timestamp": -1, "CurrentLeaderEpoch": -1})
	}
	// A broker has the topic in its metadata a moment before it leads it.
	s.await(kmsg.ListOffsets, 7, M{"ReplicaID": -1, "Topics": L{M{"Topic": name, "Partitions": all}}}, func(r kmsg.Response) bool {
		for _, p := range r.(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
			if p.ErrorCode != 0 {
				return false
			}
		}
		return true
	})
	s.ids[name] = r.Topics[0].TopicID
	return name
}

// led waits until a topic has partitions, all with leaders.
func (s *side) led(name string, partitions int) {
	s.await(kmsg.Metadata, 12, M{"Topics": L{M{"Topic": name}}}, func(r kmsg.Response) bool {
		t := r.(*kmsg.MetadataResponse).Topics[0]
		ok := t.ErrorCode == 0 && len(t.Partitions) == partitions
		for _, p := range t.Partitions {
			ok = ok && p.Leader >= 0 && p.ErrorCode == 0
		}
		return ok
	})
}

// dump is a transcript, for people.
func dump(t *testing.T, s *side) {
	t.Helper()
	for _, st := range s.steps {
		t.Logf("%s %s: %s %+v", s.name, st.label, st.event, st.resp)
	}
}
