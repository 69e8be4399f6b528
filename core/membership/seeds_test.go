package membership

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// The file is read again at each try: a node that was started before its file was written joins all the same.
func TestSeedFileIsReadAgain(t *testing.T) {
	a := open(t, 1, "127.0.0.1:0")
	path := filepath.Join(t.TempDir(), "seeds")
	b := open(t, 2, "127.0.0.1:0", "file:"+path)
	if n := len(b.Members()); n != 1 {
		t.Fatalf("%d members without a file", n)
	}
	if err := os.WriteFile(path, []byte("# nobody yet\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if list, err := resolve(t.Context(), []string{"file:" + path}); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	if err := os.WriteFile(path, []byte("127.0.0.1:1\n"+a.Addr()+" # the first\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the seed that was written later", func() bool { return len(a.Members()) == 2 && len(b.Members()) == 2 })
}

// names serves DNS on loopback: what the map says, when it is asked.
func names(t *testing.T, of func(name string) [][4]byte) *net.Resolver {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			if q.Type == dnsmessage.TypeA {
				for _, ip := range of(q.Name.String()) {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AResource{A: ip},
					})
				}
			}
			if out, err := m.Pack(); err == nil {
				_, _ = c.WriteTo(out, from) // asked again
			}
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-ended }) // nothing is under way
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", c.LocalAddr().String())
	}}
}

// A name may have several addresses, and other ones later: all are tried, as DNS has them at that moment.
func TestSeedNames(t *testing.T) {
	var addrs atomic.Pointer[[][4]byte]
	addrs.Store(&[][4]byte{{127, 0, 0, 2}, {127, 0, 0, 3}})
	was := net.DefaultResolver
	net.DefaultResolver = names(t, func(name string) [][4]byte {
		if name == "nodes.test." {
			return *addrs.Load()
		}
		return nil
	})
	t.Cleanup(func() { net.DefaultResolver = was })
	list, err := resolve(t.Context(), []string{"nodes.test.:7946", "127.0.0.9:1"})
	slices.Sort(list)
	if want := []string{"127.0.0.2:7946", "127.0.0.3:7946", "127.0.0.9:1"}; err != nil || !slices.Equal(list, want) {
		t.Errorf("%v, %v", list, err)
	}
	addrs.Store(&[][4]byte{{127, 0, 0, 4}})
	if list, err := resolve(t.Context(), []string{"nodes.test.:7946"}); err != nil || !slices.Equal(list, []string{"127.0.0.4:7946"}) {
		t.Errorf("after a change %v, %v", list, err)
	}
	// A name that nobody knows hides none of the others.
	if list, err := resolve(t.Context(), []string{"nobody.test.:1", "127.0.0.9:1"}); err == nil || !slices.Equal(list, []string{"127.0.0.9:1"}) {
		t.Errorf("%v, %v", list, err)
	}
}

func TestCheckSeed(t *testing.T) {
	for seed, ok := range map[string]bool{"a:1": true, "[::1]:7946": true, "file:/etc/seeds": true, "file:": false, "a": false, ":1": false, "a:": false, "": false} {
		if err := CheckSeed(seed); (err == nil) != ok {
			t.Errorf("%q: %v", seed, err)
		}
	}
}

// FuzzSeeds reads any file of seeds.
func FuzzSeeds(f *testing.F) {
	f.Add([]byte("a:1\n#\n b:2 # c\n"))
	f.Add([]byte("\xff\x00\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list := parseSeeds(b)
		if len(list) > maxSeeds {
			t.Errorf("%d seeds", len(list))
		}
		for _, s := range list {
			if s != strings.TrimSpace(s) || s == "" || strings.ContainsAny(s, "#\n") {
				t.Errorf("%q", s)
			}
		}
		if again := parseSeeds([]byte(strings.Join(list, "\n"))); !slices.Equal(again, list) {
			t.Errorf("%q, again %q", list, again)
		}
	})
}

// A removed node is not dialled for ever; one that talks is heard all the same.
func TestForgotten(t *testing.T) {
	a := open(t, 1, "127.0.0.1:0")
	b := open(t, 2, "127.0.0.1:0", a.Addr())
	eventually(t, "two members", func() bool { return len(a.Members()) == 2 })
	a.forget(func(id int32) bool { return id == 2 })
	if _, ok := a.Lookup(2); !ok {
		t.Error("a living node was forgotten")
	}
	if err := b.list.Shutdown(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one member", func() bool { return len(a.Members()) == 1 })
	if _, ok := a.Lookup(2); !ok {
		t.Error("a dead node was forgotten")
	}
	a.forget(func(id int32) bool { return id == 2 })
	if m, ok := a.Lookup(2); ok {
		t.Errorf("a removed node is remembered: %+v", m)
	}
}
