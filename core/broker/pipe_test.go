package broker

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func testPipe() (net.Conn, net.Conn) {
	return Pipe(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092})
}

func TestPipeCarriesEveryByteInOrder(t *testing.T) {
	a, b := testPipe()
	want := make([]byte, 3<<20)
	rnd := rand.NewChaCha8([32]byte{1})
	if _, err := rnd.Read(want); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		r := rand.New(rnd)
		for rest := want; len(rest) > 0; {
			n := min(1+r.IntN(100<<10), len(rest))
			if m, err := a.Write(rest[:n]); m != n || err != nil {
				t.Errorf("wrote %d of %d: %v", m, n, err)
				return
			}
			rest = rest[n:]
		}
		_ = a.Close()
	})
	got, err := io.ReadAll(b)
	wg.Wait()
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(want), err)
	}
	if _, err := b.Write([]byte{1}); err == nil {
		t.Error("wrote to an end that nobody reads")
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Error("read from a closed end:", err)
	}
}

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testPipe()
		start := time.Now()
		_ = a.SetReadDeadline(start.Add(time.Second))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err := a.Write(make([]byte, 2*pipeBytes)); n != pipeBytes || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %d, %v", n, err)
		}
		_ = a.SetDeadline(time.Time{})
		time.AfterFunc(time.Minute, func() {
			_, _ = io.CopyN(io.Discard, b, pipeBytes)
			_, _ = b.Write([]byte("x"))
		})
		if n, err := a.Write([]byte("more")); n != 4 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
		if n, err := a.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Errorf("read: %d, %v", n, err)
		}
	})
}

func TestPipeCloseWakesBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testPipe()
		errs := make(chan error, 2)
		go func() { _, err := a.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := b.Read(make([]byte, 1)); errs <- err }()
		synctest.Wait()
		_ = a.Close()
		got := []error{<-errs, <-errs}
		if !(errors.Is(got[0], net.ErrClosed) && errors.Is(got[1], io.EOF) || errors.Is(got[1], net.ErrClosed) && errors.Is(got[0], io.EOF)) {
			t.Error(got)
		}
		_ = b.Close()
	})
}

func BenchmarkPipe(bm *testing.B) {
	a, b := testPipe()
	go func() { _, _ = io.CopyBuffer(io.Discard, struct{ io.Reader }{b}, make([]byte, 64<<10)) }()
	buf := make([]byte, 64<<10)
	bm.SetBytes(int64(len(buf)))
	for bm.Loop() {
		if _, err := a.Write(buf); err != nil {
			bm.Fatal(err)
		}
	}
	_ = a.Close()
}
