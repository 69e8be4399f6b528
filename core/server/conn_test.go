package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
)

// Replies leave in request order, whatever is pipelined.
func TestRepliesInRequestOrder(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 2)
	for name, c := range map[string]*client{"tcp": n.dial(), "memory": n.pipe()} {
		t.Run(name, func(t *testing.T) {
			var reqs []kmsg.Request
			for i := range 200 {
				switch i % 7 {
				case 3:
					m := kmsg.NewPtrMetadataRequest()
					m.SetVersion(12)
					reqs = append(reqs, m)
				case 5:
					reqs = append(reqs, fetchRequest(12, topic, 0, 0))
				default:
					reqs = append(reqs, produceRequest(9, topic, int32(i%2), int16(1-i%3), batch(t, fmt.Sprint(i))))
				}
			}
			go func() {
				var b []byte
				for i, r := range reqs {
					b = append(b, kmsg.NewRequestFormatter().AppendRequest(nil, r, int32(i))...)
				}
				_, _ = c.c.Write(b)
			}()
			for i, r := range reqs {
				if p, ok := r.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
					continue
				}
				resp := c.receive(r, int32(i))
				if p, ok := resp.(*kmsg.ProduceResponse); ok {
					if code := p.Topics[0].Partitions[0].ErrorCode; code != 0 {
						t.Fatalf("request %d: %v", i, kerr.ErrorForCode(code))
					}
				}
			}
		})
	}
}

// Pipelined produces are all appended before the first is acked.
func TestProducesOfOneConnectionShareACommit(t *testing.T) {
	disk := newGatedFS()
	n := newNode(t, nodeOptions{fs: disk, dir: "/data", durability: commitlog.PowerSafe})
	topic := n.topic("orders", 1)
	c := n.dial()
	first := produceRequest(9, topic, 0, -1, batch(t, "warm"))
	if got := call[*kmsg.ProduceResponse](c, first); got.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(got)
	}
	disk.shut()
	const many = 20
	var corr []int32
	for i := range many {
		corr = append(corr, c.send(produceRequest(9, topic, 0, -1, batch(t, fmt.Sprint(i)))))
	}
	p, err := n.set.Partition("orders", 0)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are appended while none is acked", func() bool { return p.Log().EndOffset() == many+1 })
	if hw := p.HighWatermark(); hw != 1 {
		t.Fatalf("high watermark %d before any sync", hw)
	}
	disk.open()
	for i, id := range corr {
		r := c.receive(first, id).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if r.ErrorCode != 0 || r.BaseOffset != int64(i)+1 {
			t.Fatalf("reply %d: code %d, base offset %d", i, r.ErrorCode, r.BaseOffset)
		}
	}
}

// What cannot be acked in the client's time is REQUEST_TIMED_OUT, and the connection goes on.
func TestProduceTimeout(t *testing.T) {
	disk := newGatedFS()
	n := newNode(t, nodeOptions{fs: disk, dir: "/data", durability: commitlog.PowerSafe})
	topic := n.topic("orders", 1)
	c := n.dial()
	call[*kmsg.ProduceResponse](c, produceRequest(9, topic, 0, -1, batch(t, "warm")))
	disk.shut()
	req := produceRequest(9, topic, 0, -1, batch(t, "late"))
	req.TimeoutMillis = 30
	if code := call[*kmsg.ProduceResponse](c, req).Topics[0].Partitions[0].ErrorCode; code != kerr.RequestTimedOut.Code {
		t.Fatalf("code %d", code)
	}
	disk.open()
	if got := call[*kmsg.ProduceResponse](c, produceRequest(9, topic, 0, -1, batch(t, "next"))).Topics[0].Partitions[0]; got.ErrorCode != 0 || got.BaseOffset != 2 {
		t.Fatalf("%+v", got)
	}
}

func TestGarbageClosesTheConnectionWithOneLine(t *testing.T) {
	n := newNode(t, nodeOptions{})
	tooLarge := binary.BigEndian.AppendUint32(nil, 200<<20)
	tooLarge = append(tooLarge, make([]byte, 100)...)
	largeMetadata := binary.BigEndian.AppendUint32(nil, 50<<20)
	largeMetadata = append(largeMetadata, 0, 3, 0, 9, 0, 0, 0, 1)
	broken := kmsg.NewRequestFormatter().AppendRequest(nil, &kmsg.MetadataRequest{Version: 9}, 1)
	broken = append(broken[:len(broken)-1], 0xff)
	for name, in := range map[string][]byte{
		"http":             []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"oversized":        tooLarge,
		"large metadata":   largeMetadata,
		"unknown key":      {0, 0, 0, 10, 3, 231, 0, 0, 0, 0, 0, 1, 255, 255},
		"unserved key":     {0, 0, 0, 10, 0, 4, 0, 0, 0, 0, 0, 1, 255, 255},
		"unserved version": {0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 255, 255},
		"produce v2":       {0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 255, 255},
		"broken body":      broken,
		"broken produce":   {0, 0, 0, 10, 0, 0, 0, 3, 0, 0, 0, 1, 255, 255},
		"broken fetch":     {0, 0, 0, 10, 0, 1, 0, 4, 0, 0, 0, 1, 255, 255},
	} {
		before := strings.Count(n.logs.String(), "\n")
		c := n.dial()
		if _, err := c.c.Write(in); err != nil {
			t.Fatal(err)
		}
		if b, err := c.frame(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("%s: answered %x, %v", name, b, err)
		}
		eventually(t, name+": one line in the log", func() bool { return strings.Count(n.logs.String(), "\n") > before })
		lines := strings.Split(strings.TrimSpace(n.logs.String()), "\n")[before:]
		if len(lines) != 1 || !strings.Contains(lines[0], c.c.LocalAddr().String()) {
			t.Errorf("%s: %q", name, lines)
		}
	}
	call[*kmsg.MetadataResponse](n.dial(), &kmsg.MetadataRequest{Version: 9}) // the node lives
}

// Clients that begin a large frame and stall do not keep others out: one that has only announced it takes nothing, and one of
// which a part has come is cut.
func TestStalledFramesHoldNobodyUp(t *testing.T) {
	n := newNode(t, nodeOptions{deps: func(d *Deps) { d.MaxInFlightBytes = 1 << 20 }})
	topic := n.topic("orders", 1)
	c := n.dial()
	produce := func() {
		t.Helper()
		r := produceRequest(9, topic, 0, 1, batch(t, strings.Repeat("waits for the budget", cheapFrame/10)))
		if got := call[*kmsg.ProduceResponse](c, r); got.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatal(got)
		}
	}
	head := binary.BigEndian.AppendUint32(nil, 1<<20)
	head = append(head, 0, 0, 0, 9, 0, 0, 0, 1)
	for range 3 {
		if _, err := n.dial().c.Write(head); err != nil {
			t.Fatal(err)
		}
	}
	produce()
	stalled := n.dial()
	if _, err := stalled.c.Write(append(head, make([]byte, 64<<10)...)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is cut", func() bool {
		produce()
		return strings.Contains(n.logs.String(), "others waited for the memory")
	})
	if _, err := stalled.frame(); err == nil {
		t.Error("what has stalled is answered")
	}
}

// Nobody has the budget while he waits for somebody else: for a client that does not read its reply, for acks, for the other members of a group.
func TestNobodyWaitsWithTheBudgetTaken(t *testing.T) {
	disk := newGatedFS()
	n := newServingWith(t, nodeOptions{fs: disk, dir: "/data", durability: commitlog.PowerSafe, static: map[string]string{"group.initial.rebalance.delay.ms": "0"},
		deps: func(d *Deps) { d.MaxInFlightBytes = 1 << 20 }})
	topic := n.topic("orders", 1)
	call[*kmsg.ProduceResponse](n.dial(), produceRequest(9, topic, 0, -1, batch(t, "warm")))
	large := strings.Repeat("x", patientFrame)
	large9 := kmsg.NewPtrMetadataRequest()
	large9.Version = 9
	for i := 0; i < 2*patientFrame/250; i++ {
		large9.Topics = append(large9.Topics, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(fmt.Sprintf("%0250d", i))})
	}
	join := func(group, metadata string) *kmsg.JoinGroupRequest {
		r := kmsg.NewPtrJoinGroupRequest()
		r.Version, r.Group, r.ProtocolType, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 3, group, "consumer", 30_000, 60_000
		r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte(metadata)}}
		return r
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKey = 3, "joining"
	eventually(t, "groups are served", func() bool {
		call[*kmsg.FindCoordinatorResponse](n.dial(), find) // makes their topic
		return call[*kmsg.JoinGroupResponse](n.dial(), join("any", "x")).ErrorCode == 0
	})
	unread := func(r kmsg.Request) { n.pipe().send(r) }
	for name, wait := range map[string]func(){
		"reply":         func() { unread(large9) },
		"Produce reply": func() { unread(produceRequest(9, topic, 7, 1, batch(t, large))) },
		"acks": func() {
			disk.shut()
			c := n.dial()
			r := produceRequest(9, topic, 0, -1, batch(t, "not synced"))
			r.TimeoutMillis = 60_000
			c.send(r)
			c.send(large9)
		},
		"JoinGroup": func() {
			call[*kmsg.JoinGroupResponse](n.dial(), join("joining", "x"))
			unread(join("joining", large))
		},
		"SyncGroup": func() {
			first, second := n.dial(), n.dial()
			r, r2 := join("syncing", "x"), join("syncing", "x")
			r.MemberID = call[*kmsg.JoinGroupResponse](first, r).MemberID
			id2 := second.send(r2)
			eventually(t, "both have joined", func() bool { return call[*kmsg.JoinGroupResponse](first, r).Generation == 2 })
			joined := second.receive(r2, id2).(*kmsg.JoinGroupResponse)
			s := kmsg.NewPtrSyncGroupRequest()
			s.Version, s.Group, s.Generation, s.MemberID = 2, "syncing", joined.Generation, joined.MemberID
			s.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: "x", MemberAssignment: []byte(large)}}
			second.send(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			wait()
			c := n.dial()
			r := produceRequest(9, topic, 0, 1, batch(t, large[:2*cheapFrame]))
			for range 50 { // what waits may still be on its way to the server
				if got := call[*kmsg.ProduceResponse](c, r).Topics[0].Partitions[0]; got.ErrorCode != 0 {
					t.Error(got)
				}
			}
			if name == "acks" {
				disk.open()
			}
		})
	}
}

// Whoever has filled the budget, small requests do not wait for it.
func TestSmallRequestsDoNotWaitForTheBudget(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 1)
	taken, err := n.s.budget.Take(t.Context(), 1<<50)
	if err != nil {
		t.Fatal(err)
	}
	defer n.s.budget.Give(taken)
	c := n.dial()
	call[*kmsg.ApiVersionsResponse](c, apiVersionsRequest(3))
	if got := call[*kmsg.ProduceResponse](c, produceRequest(9, topic, 0, -1, batch(t, strings.Repeat("x", cheapFrame*9/10)))).Topics[0].Partitions[0]; got.ErrorCode != 0 {
		t.Error(got)
	}
	if got := call[*kmsg.FetchResponse](c, fetchRequest(12, topic, 0)).Topics[0].Partitions[0]; len(got.RecordBatches) == 0 {
		t.Error(got)
	}
}

// acks=0 sends nothing; when it fails, the closed connection is the only sign.
func TestAcksZero(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 1)
	c := n.dial()
	c.send(produceRequest(9, topic, 0, 0, batch(t, "a")))
	got := call[*kmsg.FetchResponse](c, withWait(fetchRequest(12, topic, 0), 5000))
	if v := values(t, got.Topics[0].Partitions[0].RecordBatches); len(v) != 1 || v[0] != "a" {
		t.Fatalf("%q", v)
	}
	c.send(produceRequest(9, topic, 7, 0, batch(t, "no such partition")))
	if _, err := c.frame(); !errors.Is(err, io.EOF) {
		t.Fatalf("the connection is still open: %v", err)
	}
}

func withWait(r *kmsg.FetchRequest, ms int32) *kmsg.FetchRequest {
	r.MaxWaitMillis = ms
	return r
}

// A waiting request ends when its client does.
func TestDisconnectEndsAWaitingRequest(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 1)
	c := n.dial()
	c.send(withWait(fetchRequest(12, topic, 0), 60_000))
	c.send(withWait(fetchRequest(12, topic, 0), 60_000)) // pipelined: the watcher must look past it
	eventually(t, "the connection is served", func() bool { return n.conns() == 1 })
	_ = c.c.Close()
	eventually(t, "the connection is gone", func() bool { return n.conns() == 0 })
}

func (n *node) conns() int {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	return len(n.s.conns)
}

func TestDrainAnswersWaitingFetches(t *testing.T) {
	n := newNode(t, nodeOptions{})
	topic := n.topic("orders", 1)
	c, idle := n.dial(), n.dial()
	call[*kmsg.MetadataResponse](idle, &kmsg.MetadataRequest{Version: 9})
	req := withWait(fetchRequest(12, topic, 0), 60_000)
	id := c.send(req)
	eventually(t, "both are served", func() bool { return n.conns() == 2 })
	done := make(chan struct{})
	go func() { n.stop(); close(done) }()
	// The request may still have been on its way: then the connection just ends.
	if b, err := c.frame(); err == nil {
		if err := decode(b, req, req.ResponseKind(), id); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	if _, err := net.DialTimeout("tcp", n.addr, time.Second); err == nil {
		t.Error("it still accepts connections")
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	n := newNode(t, nodeOptions{deps: func(d *Deps) { d.IdleTimeout = 50 * time.Millisecond }})
	c := n.dial()
	if _, err := c.frame(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

func TestPanicCostsOneConnection(t *testing.T) {
	n := newNode(t, nodeOptions{})
	a := *n.s.apis[kmsg.Metadata]
	a.handle = func(*Server, *request) kmsg.Response { panic("boom") }
	n.s.apis[kmsg.Metadata] = &a
	c := n.dial()
	c.send(&kmsg.MetadataRequest{Version: 9})
	if _, err := c.frame(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if logs := n.logs.String(); !strings.Contains(logs, "api=Metadata") || !strings.Contains(logs, "boom") {
		t.Errorf("the log does not tell of it: %s", logs)
	}
	call[*kmsg.ApiVersionsResponse](n.dial(), apiVersionsRequest(3))
}

func apiVersionsRequest(v int16) *kmsg.ApiVersionsRequest {
	r := kmsg.NewPtrApiVersionsRequest()
	r.SetVersion(v)
	r.ClientSoftwareName, r.ClientSoftwareVersion = "test", "1"
	return r
}

func TestMaxConnections(t *testing.T) {
	n := newNode(t, nodeOptions{deps: func(d *Deps) { d.MaxConnections = 1 }})
	first := n.dial()
	call[*kmsg.MetadataResponse](first, &kmsg.MetadataRequest{Version: 9})
	if _, err := n.dial().frame(); err == nil {
		t.Fatal("a second connection is served")
	}
	call[*kmsg.MetadataResponse](first, &kmsg.MetadataRequest{Version: 9})
}

// Every advertised version decodes an empty request and answers it, or closes
// the connection; nothing panics.
func TestEveryVersionAnswersAnEmptyRequest(t *testing.T) {
	n := newNode(t, nodeOptions{})
	for _, a := range n.s.apis {
		if a == nil {
			continue
		}
		for v := max(a.min, a.refuseBelow); v <= a.max; v++ {
			req := a.key.Request()
			if d, ok := req.(interface{ Default() }); ok {
				d.Default()
			}
			req.SetVersion(v)
			switch r := req.(type) {
			case *kmsg.ProduceRequest:
				r.Acks = 1 // or there is no reply
			case *kmsg.ApiVersionsRequest:
				r.ClientSoftwareName, r.ClientSoftwareVersion = "test", "1"
			}
			c := n.dial()
			id := c.send(req)
			b, err := c.frame()
			if err != nil {
				t.Errorf("%s version %d: %v", a.key.Name(), v, err)
				continue
			}
			if err := decode(b, req, req.ResponseKind(), id); err != nil {
				t.Errorf("%s version %d: %v", a.key.Name(), v, err)
			}
			_ = c.c.Close()
		}
	}
	if strings.Contains(n.logs.String(), "panic") {
		t.Error(n.logs.String())
	}
}

// FuzzDispatch sends any body to any API of a real node, in memory.
func FuzzDispatch(f *testing.F) {
	n := newNode(f, nodeOptions{})
	topic := n.topic("orders", 2)
	for _, a := range n.s.apis {
		if a == nil {
			continue
		}
		for _, v := range []int16{max(a.min, a.refuseBelow), a.max} {
			req := a.key.Request()
			req.SetVersion(v)
			f.Add(int16(a.key), v, req.AppendTo(nil))
		}
	}
	for _, v := range []int16{3, 9, 13} {
		f.Add(int16(0), v, produceRequest(v, topic, 0, 1, batch(f, "x")).AppendTo(nil))
	}
	for _, v := range []int16{4, 11, 12, 18} {
		f.Add(int16(1), v, fetchRequest(v, topic, 0, 0).AppendTo(nil))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f.Fuzz(func(t *testing.T, key, version int16, body []byte) {
		if key < 0 || int(key) >= len(n.s.apis) || n.s.apis[key] == nil {
			return
		}
		a := n.s.apis[key]
		if version < a.min || version > a.max || len(body) > 4096 {
			return
		}
		frame := binary.BigEndian.AppendUint16(nil, uint16(key))
		frame = binary.BigEndian.AppendUint16(frame, uint16(version))
		frame = append(frame, 0, 0, 0, 1, 255, 255)
		if version >= a.flexibleFrom {
			frame = append(frame, 0)
		}
		frame = append(frame, body...)
		frame = append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
		c := newConn(ctx, n.s, &replay{Reader: bytes.NewReader(frame)}, &Listener{Name: "PLAINTEXT"})
		time.AfterFunc(10*time.Millisecond, c.drain) // nobody waits for a long poll
		c.serve()
		c.close()
		if strings.Contains(n.logs.String(), "panic") {
			t.Fatal(n.logs.String())
		}
		n.logs.reset()
	})
}

func (b *syncBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Reset()
}

// replay is a connection that sends what it has been given and throws away what it gets.
type replay struct{ *bytes.Reader }

func (r *replay) Read(p []byte) (int, error)       { return r.Reader.Read(p) }
func (r *replay) Write(p []byte) (int, error)      { return len(p), nil }
func (r *replay) Close() error                     { return nil }
func (r *replay) LocalAddr() net.Addr              { return nil }
func (r *replay) RemoteAddr() net.Addr             { return nil }
func (r *replay) SetDeadline(time.Time) error      { return nil }
func (r *replay) SetReadDeadline(time.Time) error  { return nil }
func (r *replay) SetWriteDeadline(time.Time) error { return nil }
