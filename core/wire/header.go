package wire

import (
	"encoding/binary"
	"errors"

	"github.com/twmb/franz-go/pkg/kbin"
)

// Header is a request header.
type Header struct {
	Key, Version  int16
	CorrelationID int32
	ClientID      string // "" for null
}

// headerPrefix is what every header version begins with: key, version, correlation id.
const headerPrefix = 8

// ErrHeader is a request whose header cannot be read.
var ErrHeader = errors.New("malformed request header")

// ParsePrefix reads the part of the header that all versions share: enough to
// answer a request of a version that we do not know.
func ParsePrefix(frame []byte) (Header, error) {
	if len(frame) < headerPrefix {
		return Header{}, ErrHeader
	}
	return Header{
		Key:           int16(binary.BigEndian.Uint16(frame)),
		Version:       int16(binary.BigEndian.Uint16(frame[2:])),
		CorrelationID: int32(binary.BigEndian.Uint32(frame[4:])),
	}, nil
}

// ParseHeader reads a header v1, or v2 when flexible, and returns the body
// behind it. The client id of header v2 is still an ordinary string (KIP-482).
// The body shares the frame's memory; the header does not.
func ParseHeader(frame []byte, flexible bool) (Header, []byte, error) {
	h, err := ParsePrefix(frame)
	if err != nil {
		return h, nil, err
	}
	r := kbin.Reader{Src: frame[headerPrefix:]}
	if n := r.Int16(); n >= 0 {
		h.ClientID = string(r.Span(int(n)))
	} else if n != -1 {
		return h, nil, ErrHeader
	}
	if flexible {
		SkipTags(&r)
	}
	if !r.Ok() {
		return h, nil, ErrHeader
	}
	return h, r.Src, nil
}

// SkipTags reads past a section of tagged fields.
func SkipTags(r *kbin.Reader) { EachTag(r, nil) }

// EachTag calls fn for every tagged field of a section. A nil fn skips them.
func EachTag(r *kbin.Reader, fn func(tag uint32, value []byte)) {
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		tag, size := r.Uvarint(), r.Uvarint()
		if uint64(size) > uint64(len(r.Src)) {
			r.Span(-1) // marks the reader as broken
			return
		}
		if v := r.Span(int(size)); fn != nil && r.Ok() {
			fn(tag, v)
		}
	}
}

// LengthSize is the size of the length that a frame begins with.
const LengthSize = 4

// AppendResponseHeader begins a response frame: room for the length, which Seal
// fills in, and header v0, or v1 when flexible.
func AppendResponseHeader(dst []byte, correlationID int32, flexible bool) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = kbin.AppendInt32(dst, correlationID)
	if flexible {
		dst = append(dst, 0)
	}
	return dst
}

// Seal writes the length of the frame that begins at frame[0]; beyond are bytes
// of it that follow from elsewhere (a file region).
func Seal(frame []byte, beyond int) {
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-LengthSize+beyond))
}
