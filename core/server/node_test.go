package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/txn"
	"github.com/forebayhub/forebay/internal/vfs"
)

// quorum is the metadata without consensus: Apply, and whoever follows.
type quorum struct {
	mu     sync.Mutex
	image  atomic.Pointer[metadata.Image]
	follow func(*metadata.Image)
	lost   func(context.Context) // nil: what was agreed on can be asked for; else it is told each question
	news   *metadata.Image       // what others have agreed on: learnt when it is asked for
}

func (q *quorum) Image() *metadata.Image { return q.image.Load() }

func (q *quorum) Current(ctx context.Context) error {
	if q.lost == nil {
		if q.news != nil {
			q.image.Store(q.news)
		}
		return nil
	}
	q.lost(ctx)
	return context.DeadlineExceeded
}

func (q *quorum) Propose(_ context.Context, c metadata.Command) (metadata.Result, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	old := q.image.Load()
	next, r := metadata.Apply(old, old.Index+1, c)
	if q.follow != nil {
		q.follow(next)
	}
	q.image.Store(next)
	return r, nil
}

// node is a server over real partitions in memory or on disk.
type node struct {
	t      testing.TB
	quorum *quorum
	set    *replica.Set
	s      *Server
	logs   *syncBuffer
	stop   context.CancelFunc
	addr   string
}

type nodeOptions struct {
	fs         vfs.FS
	dir        string
	durability commitlog.Durability
	static     map[string]string // what --set would say
	deps       func(*Deps)
	listener   func(*Listener, *controller.Controller) // changes what is asked of clients
}

func newNode(t testing.TB, o nodeOptions) *node {
	t.Helper()
	if o.fs == nil {
		o.fs, o.dir = vfs.NewMemory(), "/data"
	}
	n := &node{t: t, quorum: &quorum{}, logs: &syncBuffer{}}
	logger := slog.New(slog.NewTextHandler(n.logs, nil))
	n.quorum.image.Store(metadata.NewImage())
	ctl := controller.New(controller.Options{Quorum: n.quorum, NodeID: 1, Static: o.static})
	for _, c := range []metadata.Command{
		&metadata.SetClusterID{ID: "abcdefghijklmnopqrstuv"},
		&metadata.RegisterNode{ID: 1, Host: "127.0.0.1", Port: 9092, BootID: "b"},
	} {
		if r, err := n.quorum.Propose(t.Context(), c); err != nil || r.Err != nil {
			t.Fatal(err, r.Err)
		}
	}
	syncer := commitlog.NewSyncer(2, func(err error) { t.Error(err) })
	n.set = replica.New(replica.Options{NodeID: 1, FS: o.fs, Dirs: []*replica.Dir{{Name: o.dir, Path: o.dir + "/log", Quarantine: o.dir + "/quarantine", Syncer: syncer}},
		Durability: o.durability, Logger: logger, Settings: ctl.Settings})
	if err := n.set.Start(n.quorum.Image()); err != nil {
		t.Fatal(err)
	}
	n.quorum.follow = n.set.Update
	groups := group.New(group.Deps{NodeID: 1, Replicas: n.set, Controller: ctl, Logger: logger})
	txns := txn.New(txn.Deps{NodeID: 1, Replicas: n.set, Controller: ctl, Groups: groups, Logger: logger})
	d := Deps{NodeID: 1, Replicas: n.set, Controller: ctl, Groups: groups, Txns: txns, Logger: logger, FS: o.fs}
	if o.deps != nil {
		o.deps(&d)
	}
	n.s = New(d)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr = l.Addr().String()
	door := Listener{Listener: l, Name: "PLAINTEXT"}
	if o.listener != nil {
		o.listener(&door, ctl)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 3)
	for _, run := range []func(context.Context) error{groups.Run, txns.Run, func(ctx context.Context) error { return n.s.Serve(ctx, door) }} {
		go func() { done <- run(ctx) }()
	}
	n.stop = sync.OnceFunc(func() {
		cancel()
		for range 3 {
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if err := n.set.Close(); err != nil {
			t.Error(err)
		}
		syncer.Close()
	})
	t.Cleanup(n.stop)
	return n
}

// topic creates a topic.
func (n *node) topic(name string, partitions int32) *metadata.Topic {
	n.t.Helper()
	ts, errs := n.s.d.Controller.CreateTopics(context.Background(), []controller.NewTopic{{Name: name, Partitions: partitions, Replication: 1}}, false)
	if errs[0] != nil {
		n.t.Fatal(errs[0])
	}
	return ts[0]
}

// syncBuffer is a log that a test may read.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// client is a raw connection.
type client struct {
	t    testing.TB
	c    net.Conn
	corr int32
}

func (n *node) dial() *client {
	n.t.Helper()
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	return &client{t: n.t, c: c}
}

// pipe connects in memory, where there is no sendfile.
func (n *node) pipe() *client {
	a, b := net.Pipe()
	go n.s.ServeConn(context.Background(), b)
	n.t.Cleanup(func() { _ = a.Close() })
	return &client{t: n.t, c: a}
}

// send writes a request and returns its correlation id.
func (c *client) send(req kmsg.Request) int32 {
	c.t.Helper()
	c.corr++
	if _, err := c.c.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, c.corr)); err != nil {
		c.t.Fatal(err)
	}
	return c.corr
}

// frame reads one response frame.
func (c *client) frame() ([]byte, error) {
	if err := c.c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c.c, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, int(head[0])<<24|int(head[1])<<16|int(head[2])<<8|int(head[3]))
	_, err := io.ReadFull(c.c, b)
	return b, err
}

// receive reads the response to req, which must have this correlation id.
func (c *client) receive(req kmsg.Request, corr int32) kmsg.Response {
	c.t.Helper()
	b, err := c.frame()
	if err != nil {
		c.t.Fatalf("%s: %v", kmsg.NameForKey(req.Key()), err)
	}
	resp := req.ResponseKind()
	if err := decode(b, req, resp, corr); err != nil {
		c.t.Fatalf("%s version %d: %v", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	return resp
}

func decode(b []byte, req kmsg.Request, resp kmsg.Response, corr int32) error {
	if got := int32(b[0])<<24 | int32(b[1])<<16 | int32(b[2])<<8 | int32(b[3]); got != corr {
		return fmt.Errorf("correlation id %d, want %d", got, corr)
	}
	b = b[4:]
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && resp.Key() != int16(kmsg.ApiVersions) {
		if b[0] != 0 {
			return fmt.Errorf("tags in the response header: %x", b[0])
		}
		b = b[1:]
	}
	return resp.ReadFrom(b)
}

// call sends a request at its highest version and waits for the response.
func call[R kmsg.Response](c *client, req kmsg.Request) R {
	c.t.Helper()
	if req.GetVersion() == 0 {
		req.SetVersion(req.MaxVersion())
	}
	return c.receive(req, c.send(req)).(R)
}

// batch makes a record batch of values.
func batch(t testing.TB, values ...string) []byte {
	t.Helper()
	w := record.NewBuilder()
	for _, v := range values {
		w.Append(1000, nil, []byte(v))
	}
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), b...)
}

// produceRequest has one record set for one partition.
func produceRequest(version int16, t *metadata.Topic, partition int32, acks int16, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(version)
	req.Acks, req.TimeoutMillis = acks, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = t.Name, t.ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, records
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// fetchRequest asks for partitions 0.. of a topic, each from an offset.
func fetchRequest(version int16, t *metadata.Topic, from ...int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(version)
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 0, 1, 50<<20
	req.SessionEpoch = -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = t.Name, t.ID
	for i, o := range from {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = int32(i), o, 1<<20
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// values decodes the records of a fetched partition.
func values(t testing.TB, b []byte) (out []string) {
	t.Helper()
	for r, err := range record.All(b, 64<<20) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(r.Value))
	}
	return out
}

// eventually waits for a condition that has no event to wait on.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-tick.C
	}
}
