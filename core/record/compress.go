package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is a compression codec, with Kafka's numbers.
type Codec int8

// The codecs.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// String is the name in compression.type.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec(%d)", int8(c))
}

// xerial is the frame that Java's snappy clients write around blocks.
var xerial = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

var (
	gzipReaders sync.Pool
	zstdReaders sync.Pool
	gzipWriters [gzip.BestCompression + 2]sync.Pool // by level, from -1
	lz4Writers  [10]sync.Pool                       // by level; 0: fast
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
		// One shared decoder; DecodeAll may be called concurrently. Its memory bound is
		// above ours so that ours answers, and small enough that a lying frame cannot take the machine.
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(1<<30), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic(fmt.Sprintf("zstd decoder with constant options: %v", err))
		}
		return d
	})
	// By level; each is made when it is first asked for. EncodeAll may be called concurrently.
	zstdEncoders = func() (all [zstd.SpeedBestCompression + 1]func() *zstd.Encoder) {
		for level := range all {
			all[level] = sync.OnceValue(func() *zstd.Encoder {
				e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevel(level)), zstd.WithLowerEncoderMem(true))
				if err != nil {
					panic(fmt.Sprintf("zstd encoder with constant options: %v", err))
				}
				return e
			})
		}
		return all
	}()
)

// decompress appends the content of src to dst; more than limit bytes is ErrTooLarge. It allocates what dst lacks.
func decompress(codec Codec, dst, src []byte, limit int) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		zr, _ := gzipReaders.Get().(*gzip.Reader)
		if zr == nil {
			zr = new(gzip.Reader)
		}
		defer gzipReaders.Put(zr)
		if err := zr.Reset(bytes.NewReader(src)); err != nil {
			return dst, corrupt(codec, err)
		}
		return drain(codec, dst, zr, limit)
	case Snappy:
		return unsnappy(dst, src, limit)
	case LZ4:
		return unlz4(dst, src, limit)
	case Zstd:
		return unzstd(dst, src, limit)
	}
	return dst, fmt.Errorf("%w: codec %d", ErrCorrupt, codec)
}

// zstdWindow is the window that every decoder supports (RFC 8878, 3.1.1.1.2); zstdMaxWindow the largest that Java's encoder makes.
const (
	zstdWindow    = 8 << 20
	zstdMaxWindow = 128 << 20
)

// unzstd decodes at once what says how large it is, as C's one-shot encoder does, and streams the rest, as Java's leaves it. A window is
// memory too: a large one needs a large limit.
func unzstd(dst, src []byte, limit int) ([]byte, error) {
	var head zstd.Header
	if err := head.Decode(src); err != nil {
		return dst, corrupt(Zstd, err)
	}
	if head.HasFCS && head.FrameContentSize > uint64(limit) || head.WindowSize > uint64(max(limit, zstdWindow)) {
		return dst, fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit)
	}
	if head.HasFCS && !head.Skippable {
		// Only what was stated is let in: another frame behind this one may be of any size.
		if need := int(head.FrameContentSize); cap(dst)-len(dst) < need {
			dst = append(make([]byte, 0, len(dst)+need), dst...)
		}
		out, err := zstdDecoder().DecodeAll(src, dst[:len(dst):len(dst)+int(head.FrameContentSize)])
		if err == nil {
			return out, nil
		}
		if !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return dst, corrupt(Zstd, err)
		}
	}
	zr, _ := zstdReaders.Get().(*zstd.Decoder)
	if zr == nil {
		var err error
		if zr, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdMaxWindow)); err != nil {
			return dst, corrupt(Zstd, err)
		}
	}
	if head.WindowSize <= zstdWindow {
		defer zstdReaders.Put(zr)
	} else {
		defer zr.Close() // it holds a large window
	}
	if err := zr.Reset(bytes.NewReader(src)); err != nil {
		return dst, corrupt(Zstd, err)
	}
	return drain(Zstd, dst, zr, limit)
}

func corrupt(codec Codec, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, codec, err)
}

// drain reads r to its end into dst.
func drain(codec Codec, dst []byte, r io.Reader, limit int) ([]byte, error) {
	start := len(dst)
	for {
		if len(dst) == cap(dst) {
			// Twice as much, so that what is thrown away on the way is less than what is kept.
			dst = slices.Grow(dst, max(512, min(len(dst), start+limit+1-len(dst))))
		}
		n, err := r.Read(dst[len(dst):min(cap(dst), start+limit+1)])
		dst = dst[:len(dst)+n]
		if len(dst)-start > limit {
			return dst[:start], fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit)
		}
		if errors.Is(err, io.EOF) {
			return dst, nil
		}
		if err != nil {
			return dst[:start], corrupt(codec, err)
		}
	}
}

func unsnappy(dst, src []byte, limit int) ([]byte, error) {
	if len(src) < 16 || !bytes.HasPrefix(src, xerial) {
		return unsnappyBlock(dst, src, limit)
	}
	start := len(dst)
	for src = src[16:]; len(src) > 0; {
		if len(src) < 4 {
			return dst[:start], corrupt(Snappy, io.ErrUnexpectedEOF)
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return dst[:start], corrupt(Snappy, io.ErrUnexpectedEOF)
		}
		var err error
		dst, err = unsnappyBlock(dst, src[:n], limit-(len(dst)-start))
		if err != nil {
			return dst[:start], err
		}
		src = src[n:]
	}
	return dst, nil
}

func unsnappyBlock(dst, src []byte, limit int) ([]byte, error) {
	n, err := s2.DecodedLen(src)
	if err != nil {
		return dst, corrupt(Snappy, err)
	}
	if n > limit {
		return dst, fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit)
	}
	// Snappy makes at most about 21 bytes of one: what claims more is a lie, found before its buffer is made.
	if n > 64*len(src)+64 {
		return dst, corrupt(Snappy, s2.ErrCorrupt)
	}
	at := len(dst)
	if cap(dst)-at < n {
		grown := make([]byte, at, at+n)
		copy(grown, dst)
		dst = grown
	}
	out, err := s2.Decode(dst[at:at+n], src)
	if err != nil {
		return dst, corrupt(Snappy, err)
	}
	return append(dst, out...), nil // out lies at that place already, or is empty
}

// compress appends src compressed. It allocates what dst lacks.
func compress(c Compression, dst, src []byte) ([]byte, error) {
	switch c.Codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		level := gzip.DefaultCompression
		if c.Level > 0 {
			level = min(c.Level, gzip.BestCompression)
		}
		pool := &gzipWriters[level+1]
		w := appender{dst}
		zw, _ := pool.Get().(*gzip.Writer)
		if zw == nil {
			var err error
			if zw, err = gzip.NewWriterLevel(nil, level); err != nil {
				return dst, err
			}
		}
		defer pool.Put(zw)
		zw.Reset(&w)
		_, err := zw.Write(src)
		if cerr := zw.Close(); err == nil {
			err = cerr
		}
		return w.b, err
	case Snappy: // a bare block: every client reads it, the xerial frame is a habit of Java's
		at, most := len(dst), s2.MaxEncodedLen(len(src))
		if most < 0 {
			return dst, fmt.Errorf("%w: snappy block of %d bytes", ErrTooLarge, len(src))
		}
		if cap(dst)-at < most {
			dst = append(make([]byte, 0, at+most), dst...)
		}
		return dst[:at+len(s2.EncodeSnappy(dst[at:at+most], src))], nil
	case LZ4:
		return lz4Compress(c.Level, dst, src)
	case Zstd:
		level := zstd.SpeedDefault
		if c.Level != 0 {
			level = zstd.EncoderLevelFromZstd(c.Level)
		}
		return zstdEncoders[level]().EncodeAll(src, dst), nil
	}
	return dst, fmt.Errorf("codec %d", c.Codec)
}

// lz4Default is Kafka's default level, and stands there for the fast compressor; the others are the slow one's.
const lz4Default = 9

func lz4Compress(level int, dst, src []byte) ([]byte, error) {
	n, option := 0, lz4.Fast
	if level > 0 && level != lz4Default {
		n = min(level, 9)
		option = lz4.Level1 << (n - 1)
	}
	w := appender{dst}
	zw, _ := lz4Writers[n].Get().(*lz4.Writer)
	if zw == nil {
		zw = lz4.NewWriter(nil)
		// Java's block size; the default of 4 MiB would take as much memory for every batch.
		if err := zw.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.CompressionLevelOption(option)); err != nil {
			return dst, err
		}
	}
	defer lz4Writers[n].Put(zw)
	zw.Reset(&w)
	_, err := zw.Write(src)
	if cerr := zw.Close(); err == nil {
		err = cerr
	}
	return w.b, err
}

type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}
