package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"github.com/pierrec/lz4/v4"
)

// LZ4's frames (LZ4 Frame Format 1.6), decoded at once and where the content is to lie. A streaming reader takes two
// buffers of the frame's block size, and most clients' frames say 4 MiB, whatever a batch holds.

const (
	lz4Magic  = 0x184D2204
	lz4Skip   = 0x184D2A50 // and fifteen more
	lz4Window = 64 << 10   // how far back a linked block may point
)

// lz4Frame is what a frame's header says.
type lz4Frame struct {
	linked, blockSums, contentSum, sized bool
	size                                 uint64
	block                                int // bytes that a block holds at most
}

var (
	errLZ4Frame = errors.New("not a frame")
	errLZ4Block = errors.New("damaged block")
	errLZ4Sum   = errors.New("wrong checksum")
)

// unlz4 appends the content of the frames.
func unlz4(dst, src []byte, limit int) ([]byte, error) {
	start := len(dst)
	for {
		var err error
		if dst, src, err = unlz4Frame(dst, src, limit-(len(dst)-start)); err != nil {
			if !errors.Is(err, ErrTooLarge) {
				err = corrupt(LZ4, err)
			}
			return dst[:start], err
		}
		if len(src) == 0 {
			return dst, nil
		}
	}
}

// unlz4Frame appends the content of one frame, or nothing for one that is to be skipped, and gives what follows it.
func unlz4Frame(dst, src []byte, limit int) (out, rest []byte, err error) {
	start := len(dst)
	f, src, err := lz4Head(src)
	if err != nil || f.block == 0 {
		return dst, src, err
	}
	tooLarge := fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit)
	if f.sized && f.size > uint64(limit) {
		return dst, nil, tooLarge
	}
	for {
		var word uint32
		if word, src, err = lz4Word(src); err != nil {
			return dst, nil, err
		}
		if word == 0 {
			break
		}
		stored, n := word>>31 != 0, int(word&^(1<<31))
		if n > f.block {
			return dst, nil, errLZ4Block
		}
		if n > len(src) {
			return dst, nil, io.ErrUnexpectedEOF
		}
		block := src[:n]
		if src = src[n:]; f.blockSums {
			if src, err = lz4Check(src, block); err != nil {
				return dst, nil, err
			}
		}
		size := n
		if !stored {
			if size = lz4Size(block); size < 0 || size > f.block {
				return dst, nil, errLZ4Block
			}
		}
		if size > limit-(len(dst)-start) {
			return dst, nil, tooLarge
		}
		at := len(dst)
		dst = slices.Grow(dst, size)[:at+size]
		switch {
		case stored:
			copy(dst[at:], block)
			continue
		case f.linked:
			n, err = lz4.UncompressBlockWithDict(block, dst[at:], dst[max(start, at-lz4Window):at])
		default:
			n, err = lz4.UncompressBlock(block, dst[at:])
		}
		if err != nil || n != size {
			return dst, nil, errLZ4Block
		}
	}
	if f.contentSum {
		if src, err = lz4Check(src, dst[start:]); err != nil {
			return dst, nil, err
		}
	}
	if f.sized && f.size != uint64(len(dst)-start) {
		return dst, nil, io.ErrUnexpectedEOF
	}
	return dst, src, nil
}

// lz4Head reads the header of a frame; one that is to be skipped has no block size.
func lz4Head(src []byte) (f lz4Frame, rest []byte, err error) {
	magic, src, err := lz4Word(src)
	if err != nil {
		return f, nil, err
	}
	if magic&^15 == lz4Skip {
		n, src, err := lz4Word(src)
		if err != nil || uint64(n) > uint64(len(src)) {
			return f, nil, io.ErrUnexpectedEOF
		}
		return f, src[n:], nil
	}
	if magic != lz4Magic {
		return f, nil, errLZ4Frame
	}
	if len(src) < 3 {
		return f, nil, io.ErrUnexpectedEOF
	}
	flags, kind, n := src[0], src[1]>>4, 2
	f = lz4Frame{linked: flags&(1<<5) == 0, blockSums: flags&(1<<4) != 0, sized: flags&(1<<3) != 0, contentSum: flags&(1<<2) != 0}
	// Another version, a reserved bit, or a dictionary that nobody has here; no block size.
	if flags>>6 != 1 || flags&3 != 0 || src[1]&15 != 0 || kind < 4 || kind > 7 {
		return f, nil, errLZ4Frame
	}
	f.block = 1 << (8 + 2*kind)
	if f.sized {
		if n = 10; len(src) < 11 {
			return f, nil, io.ErrUnexpectedEOF
		}
		f.size = binary.LittleEndian.Uint64(src[2:])
	}
	if byte(xxh32(src[:n])>>8) != src[n] {
		return f, nil, errLZ4Sum
	}
	return f, src[n+1:], nil
}

func lz4Word(src []byte) (uint32, []byte, error) {
	if len(src) < 4 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return binary.LittleEndian.Uint32(src), src[4:], nil
}

// lz4Check compares the checksum at the beginning of src.
func lz4Check(src, of []byte) (rest []byte, err error) {
	sum, src, err := lz4Word(src)
	if err == nil && sum != xxh32(of) {
		err = errLZ4Sum
	}
	return src, err
}

// lz4Size is how many bytes a block's sequences make; -1 when they break off. It is known before anything is allocated.
func lz4Size(b []byte) (size int) {
	length := func(i, n int) (int, int) {
		if n < 15 {
			return i, n
		}
		for i < len(b) {
			v := b[i]
			if i, n = i+1, n+int(v); v != 255 {
				return i, n
			}
		}
		return len(b) + 1, n
	}
	for i := 0; i < len(b); {
		token := int(b[i])
		at, literals := length(i+1, token>>4)
		if at += literals; at > len(b) {
			return -1
		}
		if size += literals; at == len(b) {
			return size // the last sequence has literals alone
		}
		at, match := length(at+2, token&15)
		if at > len(b) {
			return -1
		}
		i, size = at, size+match+4
	}
	return size
}

// xxh32 is xxHash's 32-bit checksum with seed 0 (xxHash specification 0.1.1).
func xxh32(b []byte) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	le := binary.LittleEndian
	total := uint32(len(b))
	var h uint32
	if len(b) < 16 {
		h = p5
	} else {
		var one, two uint32 = p1, p2 // of variables, since these sums wrap
		v := [4]uint32{one + two, two, 0, -one}
		for ; len(b) >= 16; b = b[16:] {
			v[0] = bits.RotateLeft32(v[0]+le.Uint32(b)*p2, 13) * p1
			v[1] = bits.RotateLeft32(v[1]+le.Uint32(b[4:])*p2, 13) * p1
			v[2] = bits.RotateLeft32(v[2]+le.Uint32(b[8:])*p2, 13) * p1
			v[3] = bits.RotateLeft32(v[3]+le.Uint32(b[12:])*p2, 13) * p1
		}
		h = bits.RotateLeft32(v[0], 1) + bits.RotateLeft32(v[1], 7) + bits.RotateLeft32(v[2], 12) + bits.RotateLeft32(v[3], 18)
	}
	h += total
	for ; len(b) >= 4; b = b[4:] {
		h = bits.RotateLeft32(h+le.Uint32(b)*p3, 17) * p4
	}
	for _, c := range b {
		h = bits.RotateLeft32(h+uint32(c)*p5, 11) * p1
	}
	h = (h ^ h>>15) * p2
	h = (h ^ h>>13) * p3
	return h ^ h>>16
}
