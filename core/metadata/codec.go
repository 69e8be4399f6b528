package metadata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// ErrCorrupt is the answer for bytes that no version of this code has written.
var ErrCorrupt = errors.New("corrupt metadata")

// ErrVersion is the answer for bytes that a newer version of this code has written.
var ErrVersion = errors.New("metadata of a newer version")

// maxName bounds every string in commands and images, so that a corrupt length
// cannot ask for memory that the input does not have.
const maxName = 1 << 20

// encoder appends values to a buffer: integers as varints, strings and lists with their length before them.
type encoder struct{ b []byte }

func (e *encoder) byte(v byte)        { e.b = append(e.b, v) }
func (e *encoder) uint(v uint64)      { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)        { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) string(v string)    { e.uint(uint64(len(v))); e.b = append(e.b, v...) }
func (e *encoder) id(v TopicID)       { e.b = append(e.b, v[:]...) }
func (e *encoder) nodes(v []NodeID)   { encodeList(e, v, func(n NodeID) { e.int(int64(n)) }) }
func (e *encoder) strings(v []string) { encodeList(e, v, e.string) }

func (e *encoder) float(v float64) { e.b = binary.BigEndian.AppendUint64(e.b, math.Float64bits(v)) }

func (e *encoder) bool(v bool) {
	if v {
		e.byte(1)
	} else {
		e.byte(0)
	}
}

// table writes a map in the order of its keys: the same map gives the same bytes.
func (e *encoder) table(m map[string]string) {
	e.uint(uint64(len(m)))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		e.string(k)
		e.string(m[k])
	}
}

func encodeList[T any](e *encoder, list []T, one func(T)) {
	e.uint(uint64(len(list)))
	for _, v := range list {
		one(v)
	}
}

// decoder reads what encoder wrote. The first error sticks; values after it are zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) < 1 {
		d.fail("short")
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bool() bool {
	switch d.byte() {
	case 0:
		return false
	case 1:
		return true
	}
	d.fail("bool")
	return false
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("varint")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("varint")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int32() int32 {
	v := d.int()
	if v != int64(int32(v)) {
		d.fail("int32")
		return 0
	}
	return int32(v)
}

func (d *decoder) int16() int16 {
	v := d.int()
	if v != int64(int16(v)) {
		d.fail("int16")
		return 0
	}
	return int16(v)
}

func (d *decoder) float() float64 {
	if len(d.b) < 8 {
		d.fail("short")
		return 0
	}
	v := math.Float64frombits(binary.BigEndian.Uint64(d.b))
	d.b = d.b[8:]
	return v
}

func (d *decoder) string() string {
	n := d.uint()
	if n > maxName || n > uint64(len(d.b)) {
		d.fail("string length")
		return ""
	}
	v := string(d.b[:n])
	d.b = d.b[n:]
	return v
}

func (d *decoder) id() (v TopicID) {
	if len(d.b) < len(v) {
		d.fail("short id")
		return v
	}
	copy(v[:], d.b)
	d.b = d.b[len(v):]
	return v
}

// count reads the length of a list whose elements take at least one byte each.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail("list length")
		return 0
	}
	return int(n)
}

func decodeList[T any](d *decoder, one func() T) []T {
	n := d.count()
	if n == 0 {
		return nil
	}
	list := make([]T, 0, min(n, 1024))
	for i := 0; i < n && d.err == nil; i++ {
		list = append(list, one())
	}
	return list
}

func (d *decoder) nodes() []NodeID {
	return decodeList(d, func() NodeID { return NodeID(d.int32()) })
}

func (d *decoder) strings() []string { return decodeList(d, d.string) }

func (d *decoder) table() map[string]string {
	n := d.count()
	m := make(map[string]string, min(n, 1024))
	for i := 0; i < n && d.err == nil; i++ {
		k := d.string()
		m[k] = d.string()
	}
	return m
}

// finish is the first error, or that bytes are left over.
func (d *decoder) finish() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail(fmt.Sprintf("%d bytes too many", len(d.b)))
	}
	return d.err
}
