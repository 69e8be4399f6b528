package record

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
)

// Scan is what is known of a batch's records once all of them have been stepped over.
type Scan struct {
	MinTimestamp, MaxTimestamp int64 // ms, of the records; NoTimestamp when there are none
	Keyless                    int32 // records whose key is null
	Largest                    int32 // bytes of the largest record, without its length
}

// Scratch bounds: batches that become larger than smallBatch are decompressed one at a time on this node, the others a few
// at a time, and those do not wait for the large ones. So a million bombs of a few bytes cost their senders more than this node: smallBatch for each slot, and one DefaultLimit.
const smallBatch = 4 << 20

var (
	scanSlots = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	bigScan   sync.Mutex
	scratches = sync.Pool{New: func() any { return new([]byte) }}
)

// Scan reads every record of a batch that Next gave, decompressing it if need be, and says whether they are what the header
// says: as many, filling the batch to its last byte, their offset deltas 0, 1, 2 and so on, every length and varint sound.
// Like the iteration of Kafka's LogValidator. It allocates nothing per record; what is over DefaultLimit when
// decompressed is ErrTooLarge.
func (b Batch) Scan(h *Header) (s Scan, err error) {
	if h.Attributes.Codec() == None || h.Count == 0 { // of none there is nothing to decompress
		return scan(h, b[HeaderSize:])
	}
	err = b.Plain(h, func(plain []byte) error {
		s, err = scan(h, plain)
		return err
	})
	return s, err
}

// Plain calls fn with the uncompressed records of a compressed batch. They are good until fn returns; how many are in memory
// at a time is bounded for the whole process, and who comes too many waits.
func (b Batch) Plain(h *Header, fn func(plain []byte) error) error {
	err := b.plainSmall(h, fn)
	if !errors.Is(err, errNotSmall) {
		return err
	}
	bigScan.Lock()
	defer bigScan.Unlock()
	plain, err := decompress(h.Attributes.Codec(), nil, b[HeaderSize:], DefaultLimit)
	if err != nil {
		return err
	}
	return fn(plain)
}

var errNotSmall = errors.New("larger than smallBatch")

func (b Batch) plainSmall(h *Header, fn func(plain []byte) error) error {
	scanSlots <- struct{}{}
	defer func() { <-scanSlots }()
	buf := scratches.Get().(*[]byte)
	defer scratches.Put(buf)
	plain, err := decompress(h.Attributes.Codec(), (*buf)[:0], b[HeaderSize:], smallBatch)
	if errors.Is(err, ErrTooLarge) {
		return errNotSmall
	}
	if cap(plain) <= smallBatch+smallBatch/4 {
		*buf = plain[:0]
	}
	if err != nil {
		return err
	}
	return fn(plain)
}

func scan(h *Header, body []byte) (Scan, error) {
	s := Scan{MinTimestamp: math.MaxInt64, MaxTimestamp: NoTimestamp}
	at := 0
	for i := int32(0); i < h.Count; i++ {
		n, p := varintAt(body, at)
		if p == 0 || n < minRecord || int64(n) > int64(len(body)-p) {
			return s, fmt.Errorf("%w: record %d of %d does not fit", ErrCorrupt, i, h.Count)
		}
		at = p + int(n)
		s.Largest = max(s.Largest, n)
		ts, keyed, ok := scanRecord(body[:at], p, i)
		if !ok {
			return s, fmt.Errorf("%w: record %d of %d", ErrCorrupt, i, h.Count)
		}
		ts += h.BaseTimestamp
		s.MinTimestamp, s.MaxTimestamp = min(s.MinTimestamp, ts), max(s.MaxTimestamp, ts)
		if !keyed {
			s.Keyless++
		}
	}
	if at != len(body) {
		return s, fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(body)-at)
	}
	if h.Count == 0 {
		s.MinTimestamp = NoTimestamp
	}
	return s, nil
}

// scanRecord steps over the record from p to the end of b, whose offset delta must be want. What nearly every record has, numbers of one or
// two bytes and no headers, is decoded here; the rest by scanRest.
func scanRecord(b []byte, p int, want int32) (ts int64, keyed, ok bool) {
	// Twelve bytes cannot be overrun by two numbers of two bytes each and their look-ahead.
	if len(b)-p < 12 {
		return scanRest(b, p, want)
	}
	q := p + 1 // attributes: no bit is in use
	u := uint64(b[q])
	if q++; u >= 0x80 {
		c := uint64(b[q])
		if q++; c >= 0x80 {
			return scanRest(b, p, want)
		}
		u = u&0x7f | c<<7
	}
	ts = int64(u>>1) ^ -int64(u&1)
	d := uint32(b[q])
	if q++; d >= 0x80 {
		c := uint32(b[q])
		if q++; c >= 0x80 {
			return scanRest(b, p, want)
		}
		d = d&0x7f | c<<7
	}
	if d != uint32(want)<<1 { // zigzag
		return 0, false, false
	}
	k := int(b[q])
	if q++; k >= 0x80 {
		c := int(b[q])
		if q++; c >= 0x80 {
			return scanRest(b, p, want)
		}
		k = k&0x7f | c<<7
	}
	if keyed = k != 1; keyed {
		if k&1 != 0 || k>>1 > len(b)-q-3 {
			return scanRest(b, p, want)
		}
		q += k >> 1
	}
	v := int(b[q])
	if q++; v >= 0x80 {
		c := int(b[q])
		if q++; c >= 0x80 {
			return scanRest(b, p, want)
		}
		v = v&0x7f | c<<7
	}
	if v != 1 {
		q += v >> 1
	}
	if v&1 != 0 && v != 1 || q != len(b)-1 || b[q] != 0 {
		return scanRest(b, p, want)
	}
	return ts, keyed, true
}

// scanRest is scanRecord for any record.
func scanRest(b []byte, p int, want int32) (ts int64, keyed, ok bool) {
	ts, w := Varlong(b[p+1:])
	if w == 0 {
		return 0, false, false
	}
	delta, p := varintAt(b, p+1+w)
	if p == 0 || delta != want {
		return 0, false, false
	}
	key, p := varintAt(b, p)
	if p == 0 || key < -1 || int64(key) > int64(len(b)-p) {
		return 0, false, false
	}
	value, p := varintAt(b, p+int(max(key, 0)))
	if p == 0 || value < -1 || int64(value) > int64(len(b)-p) {
		return 0, false, false
	}
	count, p := varintAt(b, p+int(max(value, 0)))
	if p == 0 || count < 0 || int64(count) > int64(len(b)-p) {
		return 0, false, false
	}
	rest := b[p:]
	for range count {
		if _, rest, ok = nextHeader(rest); !ok {
			return 0, false, false
		}
	}
	return ts, key >= 0, len(rest) == 0
}

// varintAt is Varint of b[p:], with the place behind it, never 0 unless there is none. Two bytes are
// the most that nearly every length and delta takes.
func varintAt(b []byte, p int) (v int32, next int) {
	if p+1 < len(b) {
		c, d := uint32(b[p]), uint32(b[p+1])
		if c < 0x80 {
			return int32(c>>1) ^ -int32(c&1), p + 1
		}
		if d < 0x80 {
			u := c&0x7f | d<<7
			return int32(u>>1) ^ -int32(u&1), p + 2
		}
	}
	return varintSlow(b, p)
}

func varintSlow(b []byte, p int) (int32, int) {
	v, w := Varint(b[min(p, len(b)):])
	if w == 0 {
		return 0, 0
	}
	return v, p + w
}
