package postgres

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a place in PostgreSQL's write-ahead log: a byte offset.
type LSN uint64

// String writes an LSN as PostgreSQL does: 16/B374D848.
func (l LSN) String() string { return string(l.append(nil)) }

func (l LSN) append(dst []byte) []byte {
	dst = appendHex(dst, uint64(l>>32))
	dst = append(dst, '/')
	return appendHex(dst, uint64(l&0xffffffff))
}

func appendHex(dst []byte, n uint64) []byte {
	const digits = "0123456789ABCDEF"
	var buf [16]byte
	i := len(buf)
	for {
		i--
		buf[i] = digits[n&15]
		if n >>= 4; n == 0 {
			return append(dst, buf[i:]...)
		}
	}
}

// ParseLSN reads what String writes.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, err1 := strconv.ParseUint(hi, 16, 32)
	l, err2 := strconv.ParseUint(lo, 16, 32)
	if !ok || err1 != nil || err2 != nil {
		return 0, fmt.Errorf("%q is not an LSN", s)
	}
	return LSN(h<<32 | l), nil
}
