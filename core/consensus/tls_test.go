package consensus

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/tlsdir"
	"github.com/forebayhub/forebay/internal/vfs"
)

// secrets makes an authority, and gives a node's folder of it and the path of a client's certificate.
func secrets(t *testing.T) (*tlsdir.Dir, string) {
	t.Helper()
	dir := t.TempDir()
	if _, err := tlsdir.Init(tlsdir.Plan{Dir: dir, Nodes: []tlsdir.Node{{Name: "n", Hosts: []string{"127.0.0.1"}}}, Clients: []string{"c"}, Days: 1}); err != nil {
		t.Fatal(err)
	}
	d, err := tlsdir.Open(filepath.Join(dir, "n"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return d, filepath.Join(dir, "c", "client.pem")
}

// Three nodes found a cluster and agree, over TLS alone.
func TestThreeOverTLS(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, _ := secrets(t)
	w := &town{expect: 3, peers: map[metadata.NodeID]Candidate{}, tls: &PeersTLS{d.Server(), d.Client, d.Hold}}
	for _, p := range w.three(ctx, t) {
		if _, err := p.Propose(ctx, &metadata.SetClusterID{ID: "x"}); err != nil {
			t.Errorf("node %d: %v", p.id, err)
		}
	}
}

// Who is no node of the authority is answered nothing, and a length that he writes gets no memory.
func TestStrangersAtThePeerPort(t *testing.T) {
	d, clientPath := secrets(t)
	other, _ := secrets(t)
	w := &town{expect: 1, peers: map[metadata.NodeID]Candidate{}, tls: &PeersTLS{d.Server(), d.Client, d.Hold}}
	a := w.join(t, 1, vfs.NewMemory(), "ours")

	client, err := tls.LoadX509KeyPair(clientPath, clientPath)
	if err != nil {
		t.Fatal(err)
	}
	nobody, asClient, stranger := d.Client(), d.Client(), d.Client()
	nobody.Certificates, asClient.Certificates, stranger.Certificates = nil, []tls.Certificate{client}, other.Client().Certificates
	hello := append([]byte{kindCall, 4}, "ours"...)
	call := binary.BigEndian.AppendUint32(hello, maxCall)
	status := append(binary.BigEndian.AppendUint32(hello, uint32(len(`{"m":"status","w":1000}`))), `{"m":"status","w":1000}`...)
	garbage := make([]byte, 64<<10)
	_, _ = rand.Read(garbage) // never fails
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for who, c := range map[string]*tls.Config{"plain": nil, "nobody": nobody, "a client": asClient, "a stranger": stranger} {
		for what, said := range map[string][]byte{"a call": status, "a long call": call, "raft": {kindRaft, 0, 0, 0, 0}, "garbage": garbage} {
			conn, err := net.Dial("tcp", a.peers.Addr())
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if c != nil {
				conn = tls.Client(conn, c)
			}
			_, _ = conn.Write(said) // the other side may have closed
			got, err := io.ReadAll(conn)
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				t.Errorf("%s with %s is not let go", who, what)
			}
			if c != nil && len(got) > 0 || len(got) > 16 { // a TLS alert answers who speaks plainly
				t.Errorf("%s with %s was told %q", who, what, got)
			}
			_ = conn.Close() // both sides have
		}
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
		t.Errorf("16 strangers made this process allocate %d bytes", used)
	}
	if _, err := a.Status(t.Context(), a.peers.Addr()); err != nil {
		t.Errorf("a node does not come in any more: %v", err)
	}
	// And a node goes to nobody but nodes.
	trap, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan int, 1)
	go func() {
		c, err := trap.Accept()
		if err != nil {
			heard <- -1
			return
		}
		n, _ := tls.Server(c, other.Server()).Read(make([]byte, 1)) // it is refused, and n tells how much came before
		_ = c.Close()                                               // both sides have
		heard <- n
	}()
	if _, err := a.Status(t.Context(), trap.Addr().String()); !errors.Is(err, ErrUnreached) {
		t.Errorf("called a stranger: %v", err)
	}
	if n := <-heard; n != 0 {
		t.Errorf("%d bytes were told to a stranger", n)
	}
	if err := trap.Close(); err != nil {
		t.Error(err)
	}
}

// However many hold out a hand without shaking it, a node comes in at once.
func TestSlowHandshakes(t *testing.T) {
	d, _ := secrets(t)
	w := &town{expect: 1, peers: map[metadata.NodeID]Candidate{}, tls: &PeersTLS{d.Server(), d.Client, d.Hold}}
	a := w.join(t, 1, vfs.NewMemory(), "ours")
	var slow []net.Conn
	t.Cleanup(func() {
		for _, c := range slow {
			_ = c.Close() // the other side may have
		}
	})
	for range 2 * maxStrangers {
		c, err := net.Dial("tcp", a.peers.Addr())
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
		_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}) // the beginning of a ClientHello; the oldest are closed already
	}
	began := time.Now()
	if _, err := a.Status(t.Context(), a.peers.Addr()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > helloTimeout/2 {
		t.Errorf("a node waits %v behind the slow", took)
	}
	a.peers.mu.Lock()
	unknown := len(a.peers.unknown)
	a.peers.mu.Unlock()
	if unknown > maxStrangers {
		t.Errorf("%d strangers are waited for", unknown)
	}
	// The oldest has been let go for the sake of the newest.
	if err := slow[0].SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := slow[0].Read(make([]byte, 1))
	var ne net.Error
	if err == nil || errors.As(err, &ne) && ne.Timeout() {
		t.Errorf("the first of the slow is kept: %v", err)
	}
}
