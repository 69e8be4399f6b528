package wire

import (
	"math/bits"
	"sync"
)

// Buffers come in powers of two. Smaller than minClass is not worth a class;
// larger than maxClass is rare and left to the garbage collector.
const (
	minClass = 10 // 1 KiB
	maxClass = 24 // 16 MiB
)

// Buf is a byte slice with a pool to return to.
type Buf struct {
	B []byte // may be resliced and appended to; a longer array replaces the pooled one
}

var pools [maxClass + 1]sync.Pool

// Get gives a buffer of length n; its bytes are not zero.
func Get(n int) *Buf {
	c := class(n)
	if c < 0 {
		return &Buf{B: make([]byte, n)}
	}
	if b, ok := pools[c].Get().(*Buf); ok {
		b.B = b.B[:n]
		return b
	}
	return &Buf{B: make([]byte, n, 1<<c)}
}

// Free returns the buffer; nobody may use its bytes afterwards.
func (b *Buf) Free() {
	// An append may have moved the bytes into a larger array: it is pooled as what it is now.
	c := bits.Len(uint(cap(b.B))) - 1
	if c < minClass || c > maxClass {
		return
	}
	b.B = b.B[:0]
	pools[c].Put(b)
}

func class(n int) int {
	if n > 1<<maxClass {
		return -1
	}
	if n <= 1<<minClass {
		return minClass
	}
	return bits.Len(uint(n - 1))
}
