package task

import "github.com/twmb/franz-go/pkg/kgo"

const arenaChunk = 256 << 10

// arena holds the bytes of one transaction's records until it has ended.
type arena struct {
	chunks  [][]byte // each of length 0 .. arenaChunk in use
	current int
	headers []kgo.RecordHeader
}

// tail is free room at the end of the current chunk, at least some kilobytes.
func (a *arena) tail() []byte {
	const least = 8 << 10
	if len(a.chunks) == 0 {
		a.chunks = append(a.chunks, make([]byte, 0, arenaChunk))
	}
	if c := a.chunks[a.current]; cap(c)-len(c) < least {
		a.current++
		if a.current == len(a.chunks) {
			a.chunks = append(a.chunks, make([]byte, 0, arenaChunk))
		}
	}
	c := a.chunks[a.current]
	return c[len(c):]
}

// keep marks what was appended to tail as used. What outgrew the chunk has
// memory of its own.
func (a *arena) keep(tail, grown []byte) {
	if cap(grown) == cap(tail) {
		c := a.chunks[a.current]
		a.chunks[a.current] = c[:len(c)+len(grown)]
	}
}

// copy keeps a copy of b; nil stays nil.
func (a *arena) copy(b []byte) []byte {
	if b == nil {
		return nil
	}
	tail := a.tail()
	grown := append(tail, b...)
	a.keep(tail, grown)
	return grown[:len(b):len(b)]
}

// header makes room for n headers.
func (a *arena) header(n int) []kgo.RecordHeader {
	if len(a.headers)+n > cap(a.headers) {
		a.headers = make([]kgo.RecordHeader, 0, max(1024, 2*cap(a.headers), n)) // the old ones live on through their records
	}
	first := len(a.headers)
	a.headers = a.headers[:first+n]
	return a.headers[first : first+n : first+n]
}

// reset forgets everything and keeps at most limit bytes of memory.
func (a *arena) reset(limit int) {
	if n := max(1, limit/arenaChunk); len(a.chunks) > n {
		clear(a.chunks[n:])
		a.chunks = a.chunks[:n]
	}
	for i := range a.chunks {
		a.chunks[i] = a.chunks[i][:0]
	}
	a.current = 0
	clear(a.headers)
	a.headers = a.headers[:0]
}
