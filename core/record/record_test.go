package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func build(t testing.TB, codec Codec, n int) Batch {
	t.Helper()
	w := NewBuilder()
	w.Attributes = Attributes(codec)
	w.BaseOffset = 1000
	for i := range n {
		key := fmt.Appendf(nil, "key-%d", i)
		if i%3 == 2 {
			key = nil
		}
		value := []byte(strings.Repeat("value ", i))
		if i%5 == 4 {
			value = nil
		}
		w.Append(1_700_000_000_000+int64(i)-3, key, value, RecordHeader{Key: []byte("a"), Value: nil}, RecordHeader{Key: []byte("b"), Value: []byte{byte(i)}})
	}
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return append(Batch(nil), b...)
}

func TestRoundTrip(t *testing.T) {
	for codec := None; codec <= Zstd; codec++ {
		b := build(t, codec, 100)
		h, one, rest, err := Next(b)
		if err != nil || len(rest) != 0 {
			t.Fatal(codec, err)
		}
		scan, serr := one.Scan(&h)
		if err := errors.Join(one.Check(), serr); err != nil {
			t.Fatal(codec, err)
		}
		// The largest is record 98: 588 bytes of value, 7 of headers, 9 of numbers; it has no key.
		if scan != (Scan{MinTimestamp: 1_699_999_999_997, MaxTimestamp: 1_700_000_000_096, Keyless: 33, Largest: 604}) {
			t.Fatalf("%s: %+v", codec, scan)
		}
		if h.Count != 100 || h.LastOffset() != 1099 || h.MaxTimestamp != 1_700_000_000_096 || h.Attributes.Codec() != codec {
			t.Fatalf("%+v", h)
		}
		i := 0
		for r, err := range All(b, 0) {
			if err != nil {
				t.Fatal(codec, err)
			}
			v, ok := r.Header("b")
			if r.Offset != 1000+int64(i) || r.Timestamp != 1_700_000_000_000+int64(i)-3 || (r.Key == nil) != (i%3 == 2) || (r.Value == nil) != (i%5 == 4) || !ok || v[0] != byte(i) {
				t.Fatalf("%s: record %d is %+v", codec, i, r)
			}
			i++
		}
		if i != 100 {
			t.Fatalf("%s: %d records", codec, i)
		}
		// The decompressed size is bounded.
		var r Reader
		if err := r.Reset(h, one, 1000); codec != None && !errors.Is(err, ErrTooLarge) {
			t.Fatal(codec, err)
		}
		// Another implementation reads the same header.
		var k kmsg.RecordBatch
		if err := k.ReadFrom(b); err != nil || k.FirstOffset != 1000 || k.NumRecords != 100 || k.CRC != int32(h.CRC) || k.LastOffsetDelta != 99 {
			t.Fatalf("%+v %v", k, err)
		}
	}
}

func TestPatchKeepsCRC(t *testing.T) {
	b := build(t, Zstd, 10)
	b.Patch(77, 5)
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	b.PatchAppendTime(42)
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	for r, err := range All(b, 0) {
		if err != nil || r.Timestamp != 42 || r.Offset < 77 {
			t.Fatal(r, err)
		}
	}
	b[len(b)-1] ^= 1
	if err := b.Check(); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

// TestXerialSnappy reads the frames that Java's snappy clients write.
func TestXerialSnappy(t *testing.T) {
	plain := build(t, None, 50)
	body := plain[HeaderSize:]
	framed := append([]byte(nil), xerial...)
	framed = append(framed, 0, 0, 0, 1, 0, 0, 0, 1)
	for at := 0; at < len(body); at += 700 {
		block := s2.EncodeSnappy(nil, body[at:min(at+700, len(body))])
		framed = binary.BigEndian.AppendUint32(framed, uint32(len(block)))
		framed = append(framed, block...)
	}
	got, err := decompress(Snappy, nil, framed, len(body))
	if err != nil || !bytes.Equal(got, body) {
		t.Fatal(err)
	}
	if _, err := decompress(Snappy, nil, framed, len(body)-1); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
}

func TestMarker(t *testing.T) {
	b := EndTxn(9, 3, Marker{Type: Commit, CoordinatorEpoch: 12}, 5)
	h, one, _, err := Next(b)
	if err != nil {
		t.Fatal(err)
	}
	m, ok, err := ParseMarker(&h, one)
	if err != nil || !ok || m != (Marker{Commit, 12}) || h.ProducerID != 9 || h.ProducerEpoch != 3 || !h.Attributes.Control() || !h.Attributes.Transactional() {
		t.Fatal(m, ok, err, h)
	}
}

func TestOldMagic(t *testing.T) {
	for magic := range byte(2) {
		b := make([]byte, 40)
		b[offMagic] = magic
		if _, err := Parse(b); !errors.Is(err, ErrMagic) {
			t.Fatal(err)
		}
	}
}

func TestVarints(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 63, 64, -64, -65, 1<<31 - 1, -1 << 31, 1<<63 - 1, -1 << 63} {
		b := AppendVarint(nil, v)
		if len(b) != VarintLen(v) {
			t.Fatal(v, len(b))
		}
		if got, n := Varlong(b); got != v || n != len(b) {
			t.Fatal(v, got, n)
		}
		if v == int64(int32(v)) {
			if got, n := Varint(b); int64(got) != v || n != len(b) {
				t.Fatal(v, got, n)
			}
		}
		if _, n := Varlong(b[:len(b)-1]); n != 0 {
			t.Fatal(v, n)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	b := build(t, None, 100)
	var r Reader
	if n := testing.AllocsPerRun(100, func() {
		h, one, _, err := Next(b)
		if err != nil || one.Check() != nil {
			t.Fatal("bad batch")
		}
		if _, err := one.Scan(&h); err != nil || r.Reset(h, one, 0) != nil {
			t.Fatal("bad batch")
		}
		for r.Next() {
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// FuzzBatch: no input makes the parser panic, read past a batch or use more memory than its limit.
func FuzzBatch(f *testing.F) {
	for codec := None; codec <= Zstd; codec++ {
		f.Add([]byte(build(f, codec, 5)))
	}
	f.Add([]byte(EndTxn(1, 1, Marker{}, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Reader
		for len(b) > 0 {
			h, one, rest, err := Next(b)
			if err != nil {
				return
			}
			_ = one.Check()
			_, scanErr := one.Scan(&h)
			_, _, _ = ParseMarker(&h, one)
			if r.Reset(h, one, 1<<20) == nil {
				if len(r.body) > 1<<20 && h.Attributes.Codec() != None {
					t.Fatalf("%d bytes", len(r.body))
				}
				n, inOrder := int32(0), true
				for r.Next() {
					inOrder = inOrder && r.Record().OffsetDelta == n
					n++
					for v := range r.Record().HeaderList() {
						_ = v
					}
				}
				if r.Err() == nil && n != h.Count {
					t.Fatalf("%d of %d records", n, h.Count)
				}
				if scanErr == nil && r.Err() != nil {
					t.Fatalf("Scan has passed what a reader refuses: %v", r.Err())
				}
				if scanErr != nil && r.Err() == nil && inOrder {
					t.Fatalf("Scan has refused what a reader passes: %v", scanErr)
				}
			}
			b = rest
		}
	})
}

// TestLargeTakesNoTurn: a batch that becomes large leaves the turns of the small ones alone.
func TestLargeTakesNoTurn(t *testing.T) {
	w := NewBuilder()
	w.Attributes = Attributes(Zstd)
	w.Append(0, nil, make([]byte, smallBatch+1))
	large, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	h, one, _, err := Next(large)
	if err != nil {
		t.Fatal(err)
	}
	for range cap(scanSlots) - 1 {
		scanSlots <- struct{}{}
		defer func() { <-scanSlots }()
	}
	err = one.Plain(&h, func([]byte) error {
		select {
		case scanSlots <- struct{}{}:
			<-scanSlots
			return nil
		default:
			return errors.New("the last turn is taken")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
