package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
)

func frameOf(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func request(key, version int16, rest string) []byte {
	b := kbin.AppendInt16(nil, key)
	b = kbin.AppendInt16(b, version)
	b = kbin.AppendInt32(b, 7)
	return append(b, rest...)
}

func TestReaderCutsFrames(t *testing.T) {
	var in []byte
	var want [][]byte
	for _, n := range []int{0, 1, 100, readBuffer - LengthSize - headerPrefix, readBuffer, 3*readBuffer + 5} {
		body := request(3, 9, strings.Repeat("x", n))
		want = append(want, body)
		in = append(in, frameOf(body)...)
	}
	for name, r := range map[string]io.Reader{
		"at once":     bytes.NewReader(in),
		"byte-wise":   iotest.OneByteReader(bytes.NewReader(in)),
		"half-wise":   iotest.HalfReader(bytes.NewReader(in)),
		"data at EOF": iotest.DataErrReader(bytes.NewReader(in)),
	} {
		b := NewBudget(1 << 20)
		fr := NewReader(r, b, Limits{MaxBytes: 1 << 20})
		for i, w := range want {
			f, err := fr.Next(t.Context())
			if err != nil {
				t.Fatalf("%s: frame %d: %v", name, i, err)
			}
			if !bytes.Equal(f.B, w) {
				t.Fatalf("%s: frame %d has %d bytes, want %d", name, i, len(f.B), len(w))
			}
			f.Release()
		}
		if _, err := fr.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Fatalf("%s: at the end: %v", name, err)
		}
	}
}

func TestReaderRefusesBeforeItAllocates(t *testing.T) {
	refused := errors.New("no such key")
	check := func(key, version int16, size int) (int, int64, error) {
		if key == 99 {
			return 0, 0, refused
		}
		return 64, int64(size), nil
	}
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"http":      {[]byte("GET / HTTP/1.1\r\n\r\n"), `it begins "GET "`},
		"tls":       {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "the limit is"},
		"negative":  {[]byte("\xff\xff\xff\xff....."), "frame of -1 bytes"},
		"tiny":      {[]byte("\x00\x00\x00\x03abc"), "frame of 3 bytes"},
		"wrong key": {frameOf(request(99, 0, "")), "no such key"},
		"too large": {frameOf(request(3, 0, strings.Repeat("x", 100))), "for API key 3, the limit is 64"},
	} {
		b := NewBudget(1 << 20)
		_, err := NewReader(bytes.NewReader(c.in), b, Limits{MaxBytes: 1 << 20, Check: check}).Next(t.Context())
		if !errors.Is(err, ErrFrame) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want ErrFrame with %q", name, err, c.want)
		}
		if !b.sem.TryAcquire(1 << 20) {
			t.Errorf("%s: a refused frame keeps bytes of the budget", name)
		}
	}
	for _, cut := range []int{1, 3, 4, 9, 12, 15} {
		in := frameOf(request(3, 0, "body"))[:cut]
		b := NewBudget(1 << 20)
		_, err := NewReader(bytes.NewReader(in), b, Limits{MaxBytes: 1 << 20}).Next(t.Context())
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", cut, err)
		}
		if !b.sem.TryAcquire(1 << 20) {
			t.Errorf("cut at %d: bytes of the budget are lost", cut)
		}
	}
}

func TestBudgetMakesReadersWait(t *testing.T) {
	b := NewBudget(100)
	in := frameOf(request(0, 3, strings.Repeat("x", 72))) // 80 bytes
	first := NewReader(bytes.NewReader(in), b, Limits{MaxBytes: 1 << 20})
	f, err := first.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewReader(bytes.NewReader(in), b, Limits{MaxBytes: 1 << 20}).Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("a second frame was read beyond the budget: %v", err)
	}
	got := make(chan error)
	go func() {
		f, err := NewReader(bytes.NewReader(in), b, Limits{MaxBytes: 1 << 20}).Next(t.Context())
		if err == nil {
			f.Detach()
		}
		got <- err
	}()
	f.Release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	// A frame above the whole budget runs alone instead of never.
	large := frameOf(request(0, 3, strings.Repeat("x", 500)))
	lf, err := NewReader(bytes.NewReader(large), b, Limits{MaxBytes: 1 << 20}).Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lf.Release()
	if !b.sem.TryAcquire(100) {
		t.Error("bytes of the budget are lost")
	}
}

func TestHeaders(t *testing.T) {
	id := "client-1"
	v1 := kbin.AppendNullableString(request(3, 8, ""), &id)
	v1 = append(v1, "body"...)
	h, body, err := ParseHeader(v1, false)
	if err != nil || h != (Header{3, 8, 7, id}) || string(body) != "body" {
		t.Fatalf("v1: %+v %q %v", h, body, err)
	}
	v2 := kbin.AppendNullableString(request(3, 9, ""), nil)
	v2 = append(v2, 2, 0, 3, 'a', 'b', 'c', 5, 0) // two tags
	v2 = append(v2, "body"...)
	h, body, err = ParseHeader(v2, true)
	if err != nil || h != (Header{3, 9, 7, ""}) || string(body) != "body" {
		t.Fatalf("v2: %+v %q %v", h, body, err)
	}
	for _, bad := range [][]byte{nil, v1[:7], v1[:9], v1[:12], v2[:len(v2)-7], request(3, 9, "\xff\xfe\x00"), request(3, 9, "\xff\xff\x01\x00\xff\xff\xff\xff\x0f")} {
		if _, _, err := ParseHeader(bad, true); !errors.Is(err, ErrHeader) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	r := AppendResponseHeader(nil, 7, true)
	r = append(r, "ab"...)
	Seal(r, 10)
	if want := []byte("\x00\x00\x00\x11\x00\x00\x00\x07\x00ab"); !bytes.Equal(r, want) {
		t.Errorf("response %x, want %x", r, want)
	}
}

func TestBuffersComeBackAsLarge(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 10, 1<<10 + 1, 5000, 1 << 24, 1<<24 + 1} {
		b := Get(n)
		if len(b.B) != n {
			t.Fatalf("Get(%d) has length %d", n, len(b.B))
		}
		b.B = append(b.B, make([]byte, 3000)...)
		b.Free()
		for _, m := range []int{n, n / 2, 2*n + 1} {
			c := Get(m)
			if len(c.B) != m {
				t.Fatalf("Get(%d) has length %d", m, len(c.B))
			}
			c.Free()
		}
	}
}

// A frame that is announced and does not come is cut when others wait for its memory; one that comes slowly, but comes, is not, and
// without anybody who waits none is.
func TestWhatDoesNotComeIsCut(t *testing.T) {
	for name, c := range map[string]struct {
		sent   int // bytes, at once
		rate   int // bytes per second, then
		others bool
		cut    bool
	}{
		"announced":          {100, 0, true, false},
		"stalled":            {readBuffer, 0, true, true},
		"a byte at a time":   {readBuffer, 2, true, true},
		"slow":               {readBuffer, 2 * leastRate, true, false},
		"large and slow":     {readBuffer, 2 * leastRate, true, true},
		"stalled, but alone": {readBuffer, 2, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				size := 4 << 20
				if strings.HasPrefix(name, "large") {
					size *= 4 // in 20 s it has to come
				}
				b := NewBudget(int64(size) + 100)
				here, there := net.Pipe()
				defer there.Close()
				r := NewReader(here, b, Limits{MaxBytes: 2 * int32(size)})
				r.Cut = func() { _ = here.SetReadDeadline(time.Now()) }
				got := make(chan error, 1)
				go func() {
					f, err := r.Next(t.Context())
					if err == nil {
						f.Release()
					}
					got <- err
				}()
				body := frameOf(request(0, 3, strings.Repeat("x", size-headerPrefix)))
				if _, err := there.Write(body[:c.sent]); err != nil {
					t.Fatal(err)
				}
				var written sync.WaitGroup
				defer written.Wait()
				defer here.Close()
				written.Go(func() {
					for at := c.sent; at < len(body) && c.rate > 0; {
						<-time.After(time.Second) // of the bubble's clock: the pace
						n, err := there.Write(body[at:min(at+c.rate, len(body))])
						if at += n; err != nil {
							return // cut
						}
					}
				})
				synctest.Wait()
				if !c.others {
					<-time.After(time.Hour)
					synctest.Wait()
					if len(got) > 0 {
						t.Fatal(<-got)
					}
					return
				}
				began := time.Now()
				small := NewReader(bytes.NewReader(frameOf(request(0, 3, strings.Repeat("x", 200)))), b, Limits{MaxBytes: int32(size)})
				f, err := small.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				f.Release()
				if c.rate == 0 && !c.cut {
					if waited := time.Since(began); waited > 0 {
						t.Errorf("others waited %v for what is only announced", waited)
					}
					return
				}
				err = <-got
				if c.cut && (!errors.Is(err, ErrFrame) || !strings.Contains(err.Error(), "others waited for the memory") || time.Since(began) > 3*pressure) {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				if !c.cut && err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frameOf(request(3, 9, "\xff\xff\x00body")))
	f.Add(append(frameOf(request(18, 3, "\x00\x03abc\x00")), frameOf(request(0, 3, ""))...))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := NewBudget(1 << 16)
		r := NewReader(bytes.NewReader(in), b, Limits{MaxBytes: 1 << 16})
		for {
			fr, err := r.Next(t.Context())
			if err != nil {
				break
			}
			for _, flexible := range []bool{false, true} {
				if h, body, err := ParseHeader(fr.B, flexible); err == nil && len(body)+len(h.ClientID)+headerPrefix > len(fr.B) {
					t.Fatalf("header %+v and body of %d bytes out of %d", h, len(body), len(fr.B))
				}
			}
			fr.Release()
		}
		if !b.sem.TryAcquire(1 << 16) {
			t.Fatal("bytes of the budget are lost")
		}
	})
}
