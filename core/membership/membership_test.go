package membership

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func open(t *testing.T, id int32, bind string, seeds ...string) *List {
	t.Helper()
	return run(t, Options{Self: Member{ID: id, Peer: "127.0.0.1:1", Rack: "r", Expect: 3}, Bind: bind, Seeds: seeds})
}

// run is a List that runs until the test ends.
func run(t *testing.T, o Options) *List {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	})
	return l
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("not within 20 s: " + what)
		case <-tick.C:
		}
	}
}

func TestThreeFindEachOther(t *testing.T) {
	a := open(t, 1, "127.0.0.1:0")
	b := open(t, 2, "127.0.0.1:0", a.Addr())
	c := open(t, 3, "127.0.0.1:0", a.Addr(), "127.0.0.1:1") // a seed that is not there does no harm
	for _, l := range []*List{a, b, c} {
		eventually(t, "three members", func() bool { return len(l.Members()) == 3 })
	}
	m := c.Members()
	if m[0].ID != 1 || m[2].ID != 3 || m[1].Rack != "r" || m[1].Expect != 3 || m[1].Gossip != b.Addr() {
		t.Errorf("%+v", m)
	}
	told := make(chan error)
	go func() { told <- a.SetCluster("one") }()
	for range 1000 {
		a.Addr() // memberlist writes to this node meanwhile
	}
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new tag", func() bool { m, ok := b.Lookup(1); return ok && m.Cluster == "one" })
}

// A seed that comes up later, and a node that comes back at the same address, are joined without being asked.
func TestRejoin(t *testing.T) {
	first := open(t, 9, "127.0.0.1:0")
	where := first.Addr()
	if err := first.list.Shutdown(); err != nil {
		t.Fatal(err)
	}
	a := open(t, 1, "127.0.0.1:0", where)
	if n := len(a.Members()); n != 1 {
		t.Fatalf("%d members", n)
	}
	b := open(t, 2, where)
	eventually(t, "the late seed", func() bool { return len(a.Members()) == 2 && len(b.Members()) == 2 })
}

// FuzzMeta hears any tags of a stranger.
func FuzzMeta(f *testing.F) {
	f.Add("1", []byte(`{"id":1}`))
	f.Add("-7", []byte(`{"id":-7,"peer":"127.0.0.1:1"}`))
	f.Add("2", []byte("\x00\xff"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		m, err := parse(&memberlist.Node{Name: name, Meta: b})
		if err == nil && strconv.Itoa(int(m.ID)) != name {
			t.Errorf("%q told that it is %d", name, m.ID)
		}
	})
}
