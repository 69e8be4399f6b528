package record

import (
	"encoding/binary"
	"fmt"
)

// Compression is a codec and how hard it tries. Level 0 is the codec's default; the others are Kafka's numbers (KIP-390): 1 to 9
// of gzip, 1 to 17 of lz4, up to 22 of zstd. An encoder of ours that has fewer steps takes the nearest.
type Compression struct {
	Codec Codec
	Level int
}

// Recode appends to dst the batch b with its records compressed as to says, its other fields as they are, and with its new CRC.
// A batch that is over limit bytes then is ErrTooLarge. Offsets and timestamps lie in the records, so they are not looked at.
func (b Batch) Recode(h *Header, dst []byte, to Compression, limit int) ([]byte, error) {
	at := len(dst)
	write := func(plain []byte) error {
		if to.Codec == None && HeaderSize+len(plain) > limit {
			return fmt.Errorf("%w: %d bytes", ErrTooLarge, HeaderSize+len(plain))
		}
		var err error
		dst, err = compress(to, append(dst, b[:HeaderSize]...), plain)
		if err == nil && len(dst)-at > limit {
			err = fmt.Errorf("%w: %d bytes", ErrTooLarge, len(dst)-at)
		}
		return err
	}
	var err error
	if h.Attributes.Codec() == None {
		err = write(b[HeaderSize:])
	} else {
		err = b.Plain(h, write)
	}
	if err != nil {
		return dst[:at], err
	}
	one := dst[at:]
	binary.BigEndian.PutUint32(one[offLength:], uint32(len(one)-Overhead))
	a := Attributes(binary.BigEndian.Uint16(one[offAttributes:]))
	binary.BigEndian.PutUint16(one[offAttributes:], uint16(a&^codecMask|Attributes(to.Codec)))
	Batch(one).Seal()
	return dst, nil
}
