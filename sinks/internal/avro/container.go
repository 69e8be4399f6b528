package avro

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// The object container file (Avro specification 1.12): a header with the schema and the codec, then blocks of rows, each with its
// count, its size and the file's 16 sync bytes.

const (
	magic = "Obj\x01"
	// maxBlock bounds a block that is read, packed or not: a record is at most 16 MiB in the log, and a block ends with the one that fills it.
	maxBlock = 128 << 20
	// maxHeader bounds the metadata of a file that is read.
	maxHeader = 16 << 20
)

// codec packs blocks.
type codec struct {
	name   string // as the header has it
	pack   func(dst, src []byte) ([]byte, error)
	unpack func(src []byte) ([]byte, error)
}

var codecs = map[string]codec{
	"none":   {"null", func(dst, src []byte) ([]byte, error) { return append(dst, src...), nil }, func(src []byte) ([]byte, error) { return src, nil }},
	"gzip":   {"deflate", deflate, inflate},
	"snappy": {"snappy", packSnappy, unpackSnappy},
	"zstd":   {"zstandard", packZstd, unpackZstd},
}

func codecNamed(name string) (codec, bool) {
	for _, c := range codecs {
		if c.name == name {
			return c, true
		}
	}
	return codec{}, false
}

// deflaters are kept: each holds some hundred kilobytes.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.DefaultCompression)
	if err != nil {
		panic(err) // the level is constant
	}
	return w
}}

func deflate(dst, src []byte) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	w := deflaters.Get().(*flate.Writer) //nolint:forcetypeassert // the pool has nothing else
	defer deflaters.Put(w)
	w.Reset(out)
	if _, err := w.Write(src); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}

func inflate(src []byte) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(src)), maxBlock+1))
	if err == nil && len(out) > maxBlock {
		err = errBlock
	}
	return out, err
}

// packSnappy adds the checksum of what is packed, as the specification wants.
func packSnappy(dst, src []byte) ([]byte, error) {
	n := len(dst)
	size := s2.MaxEncodedLen(len(src))
	if size < 0 {
		return nil, errBlock
	}
	dst = append(dst, make([]byte, size)...)
	packed := s2.EncodeSnappy(dst[n:], src)
	return binary.BigEndian.AppendUint32(dst[:n+len(packed)], crc32.ChecksumIEEE(src)), nil
}

func unpackSnappy(src []byte) ([]byte, error) {
	if len(src) < 4 {
		return nil, errShort
	}
	packed, sum := src[:len(src)-4], binary.BigEndian.Uint32(src[len(src)-4:])
	if n, err := s2.DecodedLen(packed); err != nil || n > maxBlock {
		return nil, errBlock
	}
	out, err := s2.Decode(nil, packed)
	if err == nil && crc32.ChecksumIEEE(out) != sum {
		err = errors.New("a block's checksum is wrong")
	}
	return out, err
}

// packer and unpacker serve all files, from the first that needs them: EncodeAll and DecodeAll may be called side by side.
var (
	packer = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	})
	unpacker = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock))
	})
)

func packZstd(dst, src []byte) ([]byte, error) {
	e, err := packer()
	if err != nil {
		return nil, err
	}
	return e.EncodeAll(src, dst), nil
}

func unpackZstd(src []byte) ([]byte, error) {
	d, err := unpacker()
	if err != nil {
		return nil, err
	}
	return d.DecodeAll(src, nil)
}

var errBlock = fmt.Errorf("a block of more than %d bytes", maxBlock)

// appendHeader appends a file's header.
func appendHeader(dst []byte, schema, codec string, sync [16]byte) []byte {
	dst = append(dst, magic...)
	meta := [][2]string{{"avro.schema", schema}, {"avro.codec", codec}, {"forebay.format", formatVersion}}
	dst = binary.AppendVarint(dst, int64(len(meta)))
	for _, m := range meta {
		dst = appendBytes(appendBytes(dst, []byte(m[0])), []byte(m[1]))
	}
	return append(append(dst, 0), sync[:]...)
}

// container reads a file.
type container struct {
	in     *bufio.Reader
	schema string
	codec  codec
	sync   [16]byte
}

// openContainer reads a header.
func openContainer(r io.Reader) (*container, error) {
	c := &container{in: bufio.NewReaderSize(r, 64<<10)}
	var begin [4]byte
	if _, err := io.ReadFull(c.in, begin[:]); err != nil || string(begin[:]) != magic {
		return nil, errors.New("it does not begin as one")
	}
	meta, left := map[string]string{}, int64(maxHeader)
	for {
		n, err := binary.ReadVarint(c.in)
		if err != nil {
			return nil, unexpected(err)
		}
		if n == 0 {
			break
		}
		if n < 0 { // the block's bytes are told, too
			if _, err := binary.ReadVarint(c.in); err != nil {
				return nil, unexpected(err)
			}
			n = -n
		}
		for ; n > 0; n-- {
			var pair [2]string
			for i := range pair {
				p, err := c.bytes(left)
				if err != nil {
					return nil, err
				}
				if left -= int64(len(p)) + 1; left < 0 {
					return nil, errors.New("its header is too large")
				}
				pair[i] = string(p)
			}
			meta[pair[0]] = pair[1]
		}
	}
	if _, err := io.ReadFull(c.in, c.sync[:]); err != nil {
		return nil, unexpected(err)
	}
	name := meta["avro.codec"]
	if name == "" {
		name = "null"
	}
	var ok bool
	if c.codec, ok = codecNamed(name); !ok {
		return nil, fmt.Errorf("its codec %q is not known", name)
	}
	c.schema = meta["avro.schema"]
	return c, nil
}

// bytes reads bytes with their length before them; memory grows with what is there, not with what is claimed.
func (c *container) bytes(most int64) ([]byte, error) {
	n, err := binary.ReadVarint(c.in)
	if err != nil {
		return nil, unexpected(err)
	}
	if n < 0 || n > most {
		return nil, fmt.Errorf("a length of %d", n)
	}
	var out bytes.Buffer
	if got, err := io.CopyN(&out, c.in, n); got < n {
		return nil, unexpected(err)
	}
	return out.Bytes(), nil
}

// next reads a block: how many rows it has, and their bytes. io.EOF says that the file ends before it.
func (c *container) next() (int64, []byte, error) {
	if _, err := c.in.Peek(1); err != nil {
		return 0, nil, err
	}
	rows, err := binary.ReadVarint(c.in)
	if err != nil {
		return 0, nil, unexpected(err)
	}
	packed, err := c.bytes(maxBlock)
	if err != nil {
		return 0, nil, err
	}
	var sync [16]byte
	if _, err := io.ReadFull(c.in, sync[:]); err != nil {
		return 0, nil, unexpected(err)
	}
	if rows < 0 || sync != c.sync {
		return 0, nil, errors.New("a block does not end as the header says")
	}
	data, err := c.codec.unpack(packed)
	if err == nil && rows > int64(len(data)) { // a row has a byte at least, that of its offset
		err = fmt.Errorf("a block of %d bytes claims %d rows", len(data), rows)
	}
	return rows, data, err
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
