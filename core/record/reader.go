package record

import (
	"fmt"
	"iter"
)

// minRecord is the least that a record's length can say: attributes, two deltas, two null lengths, no headers.
const minRecord = 6

// DefaultLimit bounds what one batch may become when it is decompressed.
const DefaultLimit = 256 << 20

// Record is one record of a batch. Its bytes lie in the batch, or in the Reader's
// buffer when the batch is compressed: they are good until the Reader's next Reset.
type Record struct {
	Offset         int64
	OffsetDelta    int32
	Timestamp      int64 // ms; the append time in a LogAppendTime batch
	TimestampDelta int64
	Key            []byte // nil: null
	Value          []byte // nil: null
	HeaderCount    int32
	Headers        []byte // encoded; see HeaderList
}

// RecordHeader is a record's header.
type RecordHeader struct{ Key, Value []byte }

// HeaderList walks over the headers. The Reader has checked them.
func (r *Record) HeaderList() iter.Seq[RecordHeader] {
	return func(yield func(RecordHeader) bool) {
		b := r.Headers
		for i := int32(0); i < r.HeaderCount; i++ {
			var h RecordHeader
			var ok bool
			if h, b, ok = nextHeader(b); !ok || !yield(h) {
				return
			}
		}
	}
}

// Header finds the last header of that name, as Kafka's Headers.lastHeader.
func (r *Record) Header(key string) (value []byte, ok bool) {
	for h := range r.HeaderList() {
		if string(h.Key) == key {
			value, ok = h.Value, true
		}
	}
	return value, ok
}

// Reader iterates the records of a batch. The zero value is ready for Reset; keep it
// to keep its buffer.
type Reader struct {
	h    Header
	body []byte
	buf  []byte
	at   int32
	rec  Record
	err  error
}

// Reset starts on a batch that Next gave; limit bounds the decompressed bytes (0: DefaultLimit).
func (r *Reader) Reset(h Header, b Batch, limit int) error {
	if limit <= 0 {
		limit = DefaultLimit
	}
	r.h, r.at, r.err = h, 0, nil
	r.body = b[HeaderSize:]
	if codec := h.Attributes.Codec(); codec != None && h.Count > 0 {
		r.buf, r.err = decompress(codec, r.buf[:0], r.body, limit)
		r.body = r.buf
		if r.err != nil {
			r.body = nil
		}
	}
	return r.err
}

// Next steps to the next record. False is the end, or an error that Err tells.
func (r *Reader) Next() bool {
	if r.err != nil || r.at >= r.h.Count {
		if r.err == nil && r.at == r.h.Count && len(r.body) > 0 {
			r.err = fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(r.body))
		}
		return false
	}
	n, w := Varint(r.body)
	if w <= 0 || n < minRecord || int64(n) > int64(len(r.body)-w) {
		r.err = fmt.Errorf("%w: record %d of %d does not fit", ErrCorrupt, r.at, r.h.Count)
		return false
	}
	one := r.body[w : w+int(n)]
	r.body = r.body[w+int(n):]
	if !r.parse(one) {
		r.err = fmt.Errorf("%w: record %d of %d", ErrCorrupt, r.at, r.h.Count)
		return false
	}
	r.at++
	return true
}

func (r *Reader) parse(b []byte) bool {
	b = b[1:] // attributes: no bit is in use
	ts, w := Varlong(b)
	if w == 0 {
		return false
	}
	b = b[w:]
	delta, w := Varint(b)
	if w == 0 || delta < 0 || delta > r.h.LastOffsetDelta {
		return false
	}
	b = b[w:]
	rec := Record{Offset: r.h.BaseOffset + int64(delta), OffsetDelta: delta, TimestampDelta: ts, Timestamp: r.h.BaseTimestamp + ts}
	if r.h.Attributes.LogAppendTime() {
		rec.Timestamp = r.h.MaxTimestamp
	}
	var ok bool
	if rec.Key, b, ok = nextBytes(b); !ok {
		return false
	}
	if rec.Value, b, ok = nextBytes(b); !ok {
		return false
	}
	count, w := Varint(b)
	if w == 0 || count < 0 {
		return false
	}
	rec.HeaderCount, rec.Headers = count, b[w:]
	rest := rec.Headers
	for i := int32(0); i < count; i++ {
		if _, rest, ok = nextHeader(rest); !ok {
			return false
		}
	}
	r.rec = rec
	return len(rest) == 0
}

// nextBytes reads a length and as many bytes; length -1 is null.
func nextBytes(b []byte) (v, rest []byte, ok bool) {
	n, w := Varint(b)
	if w == 0 || n < -1 || int64(n) > int64(len(b)-w) {
		return nil, nil, false
	}
	b = b[w:]
	if n == -1 {
		return nil, b, true
	}
	return b[:n:n], b[n:], true
}

func nextHeader(b []byte) (h RecordHeader, rest []byte, ok bool) {
	if h.Key, b, ok = nextBytes(b); !ok || h.Key == nil {
		return h, b, false
	}
	h.Value, b, ok = nextBytes(b)
	return h, b, ok
}

// Record is the record that Next stepped to.
func (r *Reader) Record() *Record { return &r.rec }

// Err is what ended the iteration early.
func (r *Reader) Err() error { return r.err }

// All walks over every record of the batches in b, in order. It is for readers that are not in
// a hurry; it stops at the first error. A record is good until the next step.
func All(b []byte, limit int) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		var r Reader
		for len(b) > 0 {
			h, batch, rest, err := Next(b)
			if err == nil {
				err = r.Reset(h, batch, limit)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for r.Next() {
				if !yield(r.Record(), nil) {
					return
				}
			}
			if r.Err() != nil {
				yield(nil, r.Err())
				return
			}
			b = rest
		}
	}
}
