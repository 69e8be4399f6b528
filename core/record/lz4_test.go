package record

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/pierrec/lz4/v4"
)

// lz4Frames are frames as clients make them, of every block size and with every checksum, and what they hold.
func lz4Frames(tb testing.TB) (frames, contents [][]byte) {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	text := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog "), 10_000)
	for _, content := range [][]byte{nil, {1}, text[:17], text, noise, append(bytes.Clone(noise[:70_000]), text...), make([]byte, 5<<20)} {
		for _, size := range []lz4.BlockSize{lz4.Block64Kb, lz4.Block4Mb} {
			for sums := range 4 {
				var b bytes.Buffer
				w := lz4.NewWriter(&b)
				o := []lz4.Option{lz4.BlockSizeOption(size), lz4.BlockChecksumOption(sums&1 > 0), lz4.ChecksumOption(sums&2 > 0)}
				if sums == 3 {
					o = append(o, lz4.SizeOption(uint64(len(content))))
				}
				if err := w.Apply(o...); err != nil {
					tb.Fatal(err)
				}
				_, err := w.Write(content)
				if err = errors.Join(err, w.Close()); err != nil {
					tb.Fatal(err)
				}
				frames, contents = append(frames, b.Bytes()), append(contents, content)
			}
		}
	}
	return frames, contents
}

// linked is a frame of a stored block and one that points back into it.
func linked() []byte {
	b := []byte{4, 0x22, 0x4D, 0x18, 0x40, 0x40}
	b = append(b, byte(xxh32(b[4:])>>8))
	b = append(b, 8, 0, 0, 0x80, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h')
	second := []byte{0x04, 8, 0, 0x50, 'x', 'y', 'z', 'x', 'y'} // eight bytes from eight back, then five literals
	b = append(b, byte(len(second)), 0, 0, 0)
	return append(append(b, second...), 0, 0, 0, 0)
}

func TestLZ4(t *testing.T) {
	frames, contents := lz4Frames(t)
	frames, contents = append(frames, linked()), append(contents, []byte("abcdefghabcdefghxyzxy"))
	frames = append(frames, slices.Concat(frames[3], []byte{0x5A, 0x2A, 0x4D, 0x18, 2, 0, 0, 0, 7, 7}, frames[20], frames[0]))
	contents = append(contents, slices.Concat(contents[3], contents[20]))
	for i, frame := range frames {
		got, err := decompress(LZ4, []byte("before"), frame, len(contents[i]))
		if err != nil || !bytes.Equal(got, append([]byte("before"), contents[i]...)) {
			t.Fatalf("frame %d of %d bytes: %d of %d bytes, %v", i, len(frame), len(got)-6, len(contents[i]), err)
		}
		if n := len(contents[i]); n > 0 {
			if _, err := decompress(LZ4, nil, frame, n-1); !errors.Is(err, ErrTooLarge) {
				t.Fatalf("frame %d with a limit of one byte less: %v", i, err)
			}
		}
		for _, cut := range []int{0, 3, 5, 7, len(frame) / 2, len(frame) - 1} {
			if got, err := decompress(LZ4, nil, frame[:cut], 6<<20); !errors.Is(err, ErrCorrupt) || len(got) > 0 {
				t.Fatalf("frame %d cut at %d: %d bytes, %v", i, cut, len(got), err)
			}
		}
	}
}

// TestLZ4Memory: a small batch takes little, whatever block size its frame names.
func TestLZ4Memory(t *testing.T) {
	var b bytes.Buffer
	w := lz4.NewWriter(&b) // 4 MiB
	_, err := w.Write(make([]byte, 1000))
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC() // twice: what pools hold is gone then
	runtime.GC()
	runtime.ReadMemStats(&before)
	if _, err := decompress(LZ4, nil, b.Bytes(), 1<<20); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<10 {
		t.Errorf("1,000 bytes took %d", took)
	}
}

// FuzzLZ4 holds the decoder against the streaming one.
func FuzzLZ4(f *testing.F) {
	frames, _ := lz4Frames(f)
	for _, b := range append(frames, linked()) {
		if len(b) < 10_000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 20
		got, err := decompress(LZ4, nil, b, limit)
		if errors.Is(err, ErrTooLarge) {
			return
		}
		want, werr := io.ReadAll(io.LimitReader(lz4.NewReader(bytes.NewReader(b)), limit+1))
		if err == nil && (werr != nil || !bytes.Equal(got, want)) {
			t.Fatalf("%d bytes, the other has %d: %v", len(got), len(want), werr)
		}
		// What only the other reads are legacy frames, which no Kafka client makes or takes.
		if err != nil && werr == nil && len(want) > 0 && !bytes.HasPrefix(b, []byte{2, 0x21, 0x4C, 0x18}) {
			t.Fatalf("%v, the other has %d bytes", err, len(want))
		}
	})
}
