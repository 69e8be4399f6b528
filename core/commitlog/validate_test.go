package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/forebayhub/forebay/core/record"
)

// forge makes a batch whose CRC is right and whose records are whatever body says.
func forge(t testing.TB, codec record.Codec, count int32, body []byte) []byte {
	t.Helper()
	w := record.NewBuilder()
	w.Append(1_700_000_000_000, nil, nil)
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b = append(bytes.Clone(b[:record.HeaderSize]), body...)
	be := binary.BigEndian
	be.PutUint32(b[8:], uint32(len(b)-record.Overhead))
	be.PutUint16(b[21:], uint16(codec))
	be.PutUint32(b[23:], uint32(count-1))
	be.PutUint32(b[57:], uint32(count))
	b.Seal()
	return b
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestUnsoundRecordsAreRefused: a right CRC says that the bytes are the producer's, not that they are records.
func TestUnsoundRecordsAreRefused(t *testing.T) {
	one := func(delta byte) []byte { return []byte{12, 0, 0, delta, 1, 1, 0} } // length 6, no key, no value, no headers
	good := append(one(0), one(2)...)
	cases := map[string]struct {
		count int32
		body  []byte
	}{
		"one record too few":          {2, one(0)},
		"one record too many":         {1, good},
		"same offset twice":           {2, append(one(0), one(0)...)},
		"offset skipped":              {2, append(one(0), one(4)...)},
		"record ends early":           {1, []byte{14, 0, 0, 0, 1, 1, 0, 0}},
		"record is cut":               {1, one(0)[:6]},
		"negative length":             {1, []byte{11, 0, 0, 0, 1, 1, 0}},
		"length of six bytes":         {1, []byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0}},
		"key beyond the record":       {1, []byte{12, 0, 0, 0, 40, 1, 0}},
		"key length -2":               {1, []byte{12, 0, 0, 0, 3, 1, 0}},
		"value beyond the record":     {1, []byte{12, 0, 0, 0, 1, 40, 0}},
		"headers that are not there":  {1, []byte{12, 0, 0, 0, 1, 1, 4}},
		"header with a null key":      {1, []byte{16, 0, 0, 0, 1, 1, 2, 1, 1}},
		"negative number of headers":  {1, []byte{12, 0, 0, 0, 1, 1, 1}},
		"timestamp of eleven bytes":   {1, append([]byte{32, 0}, bytes.Repeat([]byte{0x80}, 15)...)},
		"nothing where records go":    {3, nil},
		"bytes after the last record": {1, append(one(0), 9)},
	}
	o, _ := memoryLog(t, Config{})
	l := mustOpen(t, o)
	for name, c := range cases {
		for _, packed := range []bool{false, true} {
			b := forge(t, record.None, c.count, c.body)
			if packed {
				b = forge(t, record.Gzip, c.count, gzipped(t, c.body))
			}
			if _, err := l.Append(b, 1, FromClient); !errors.Is(err, ErrInvalidRecord) {
				t.Errorf("%s (gzip %v): %v", name, packed, err)
			}
		}
	}
	for codec := record.Gzip; codec <= record.Zstd; codec++ {
		for name, body := range map[string][]byte{"noise": []byte("not what this codec makes of anything"), "nothing": {}} {
			if _, err := l.Append(forge(t, codec, 1, body), 1, FromClient); !errors.Is(err, ErrInvalidRecord) {
				t.Errorf("%s of %s: %v", codec, name, err)
			}
		}
	}
	if l.EndOffset() != 0 {
		t.Fatalf("the log has %d records", l.EndOffset())
	}
	mustAppend(t, l, forge(t, record.None, 2, good))
	mustAppend(t, l, forge(t, record.Gzip, 2, gzipped(t, good)))
}

// TestDecompressionBomb: what becomes larger than any reader takes is refused, and does not take the memory either.
func TestDecompressionBomb(t *testing.T) {
	o, _ := memoryLog(t, Config{MaxBatchBytes: 4 << 20})
	l := mustOpen(t, o)
	// Members of a gzip file follow one another.
	bomb := forge(t, record.Gzip, 1, bytes.Repeat(gzipped(t, make([]byte, 1<<20)), 300))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := l.Append(bomb, 1, FromClient); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	// Doubling up to the limit allocates less than four times of it, one after the other.
	if n := after.TotalAlloc - before.TotalAlloc; n > 4*record.DefaultLimit {
		t.Fatalf("%d MiB allocated", n>>20)
	}
}

// TestRecordErrors: which records are at fault is told one by one (KIP-467).
func TestRecordErrors(t *testing.T) {
	o, ck := memoryLog(t, Config{Compact: true, TimestampBefore: time.Hour, TimestampAfter: time.Minute})
	l := mustOpen(t, o)
	now := ck.now().UnixMilli()
	build := func(codec record.Codec, key []byte, times ...int64) []byte {
		w := record.NewBuilder()
		w.Attributes = record.Attributes(codec)
		for i, ts := range times {
			k := key
			if i%2 == 0 {
				k = []byte("k")
			}
			w.Append(ts, k, []byte("v"))
		}
		b, err := w.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(b)
	}
	const hour = 3_600_000
	for name, c := range map[string]struct {
		b    []byte
		kind error
		at   []int32
	}{
		"sound":           {build(0, []byte("x"), now, now-hour, now+60_000), nil, nil},
		"no timestamp":    {build(0, []byte("x"), record.NoTimestamp), nil, nil},
		"keyless":         {build(0, nil, now, now, now, now), ErrInvalidRecord, []int32{1, 3}},
		"keyless, zstd":   {build(record.Zstd, nil, now, now), ErrInvalidRecord, []int32{1}},
		"too old":         {build(0, []byte("x"), now, now-hour-1, now), ErrInvalidTimestamp, []int32{1}},
		"too young, lz4":  {build(record.LZ4, []byte("x"), now, now, now+60_001), ErrInvalidTimestamp, []int32{2}},
		"both":            {build(0, nil, now-hour-1, now), ErrInvalidTimestamp, []int32{0, 1}},
		"before all time": {build(0, []byte("x"), math.MinInt64+5), ErrInvalidTimestamp, []int32{0}},
	} {
		_, err := l.Append(c.b, 1, FromClient)
		if !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var bad *RecordErrors
		var at []int32
		if errors.As(err, &bad) {
			for _, r := range bad.Records {
				at = append(at, r.Index)
			}
		}
		if fmt.Sprint(at) != fmt.Sprint(c.at) {
			t.Errorf("%s: records %v are told, want %v", name, at, c.at)
		}
	}
}

// TestMaxTimestampIsTheRecords: a header that says otherwise would let time searches miss records.
func TestMaxTimestampIsTheRecords(t *testing.T) {
	o, _ := memoryLog(t, Config{})
	l := mustOpen(t, o)
	w := record.NewBuilder()
	w.Append(1000, nil, []byte("a"))
	w.Append(3000, nil, []byte("b"))
	w.Append(2000, nil, []byte("c"))
	w.Times(1000, 9_000_000)
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, b)
	if at, ts, _, err := l.MaxTimestamp(); at != 1 || ts != 3000 || err != nil {
		t.Fatal(at, ts, err)
	}
	if at, _, _, err := l.OffsetForTime(5000); at != -1 || err != nil {
		t.Fatal(at, err)
	}
	readAll(t, l) // compares the CRC
}

// TestRecompression: whatever the producer sends, the log holds what compression.type says, with the same records.
func TestRecompression(t *testing.T) {
	targets := []Compression{{}, {Set: true}}
	for codec := record.Gzip; codec <= record.Zstd; codec++ {
		targets = append(targets, Compression{true, record.Compression{Codec: codec}})
	}
	for level := range 9 {
		targets = append(targets, Compression{true, record.Compression{Codec: record.Gzip, Level: level + 1}})
	}
	for _, level := range []int{1, 5, 9, 17} {
		targets = append(targets, Compression{true, record.Compression{Codec: record.LZ4, Level: level}})
	}
	for _, level := range []int{-131072, 1, 3, 7, 22} {
		targets = append(targets, Compression{true, record.Compression{Codec: record.Zstd, Level: level}})
	}
	for _, target := range targets {
		for source := record.None; source <= record.Zstd; source++ {
			for _, stamped := range []bool{false, true} {
				o, ck := memoryLog(t, Config{Compression: target, LogAppendTime: stamped})
				l := mustOpen(t, o)
				var values []string
				for i := range 50 {
					values = append(values, strings.Repeat(fmt.Sprint("value ", i), i))
				}
				b := batch(t, 1000, values, producerOf(7, 3, 40), func(w *record.Builder) { w.Attributes |= record.Attributes(source) })
				mustAppend(t, l, batch(t, 1000, []string{"first"}))
				a := mustAppend(t, l, bytes.Clone(b))
				s, err := l.Read(1, 51, 1<<20, true)
				if err != nil {
					t.Fatal(err)
				}
				raw := make([]byte, s.Len)
				if _, err := s.File.ReadAt(raw, s.Pos); err != nil {
					t.Fatal(err)
				}
				s.Release()
				h, one, rest, err := record.Next(raw)
				if err != nil || len(rest) > 0 || one.Check() != nil {
					t.Fatal(err, len(rest), one.Check())
				}
				want := source
				if target.Set {
					want = target.Codec
				}
				name := fmt.Sprintf("%s to %+v, append time %v", source, target, stamped)
				if h.Attributes.Codec() != want || h.BaseOffset != 1 || h.Count != 50 || h.ProducerID != 7 || h.ProducerEpoch != 3 || h.BaseSequence != 40 || h.LeaderEpoch != 1 {
					t.Fatalf("%s: %+v", name, h)
				}
				i, time := int64(0), int64(1000)
				for r, err := range record.All(raw, 0) {
					if stamped {
						time = ck.now().UnixMilli() - i
					}
					if err != nil || r.Offset != 1+i || r.Timestamp != time+i || string(r.Key) != fmt.Sprint("k", i) || string(r.Value) != values[i] {
						t.Fatalf("%s: record %d is %+v, %v", name, i, r, err)
					}
					i++
				}
				if i != 50 || stamped != (a.AppendTime >= 0) {
					t.Fatal(name, i, a)
				}
				if again := mustAppend(t, l, b); !again.Duplicate || again.Base != 1 {
					t.Fatalf("%s: %+v", name, again)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if got := readAll(t, mustOpen(t, o)); len(got) != 51 || got[50] != values[49] {
					t.Fatalf("%s: %d records after a restart", name, len(got))
				}
			}
		}
	}
}

// TestRecompressedTooLarge: max.message.bytes is for what lies in the log.
func TestRecompressedTooLarge(t *testing.T) {
	o, _ := memoryLog(t, Config{Compression: Compression{Set: true}, MaxBatchBytes: 2000})
	l := mustOpen(t, o)
	b := batch(t, 1000, []string{strings.Repeat("x", 5000)}, func(w *record.Builder) { w.Attributes |= record.Attributes(record.Gzip) })
	if _, err := l.Append(b, 1, FromClient); !errors.Is(err, ErrTooLarge) || l.EndOffset() != 0 {
		t.Fatal(err)
	}
}
