package record

// Kafka's varints are zigzag, as protobuf's sint. An int32 takes up to 5 bytes, an int64 up to 10.

// Varint reads an int32; w is the bytes it took, or 0 when b is cut short or it is longer than an int32 can be.
func Varint(b []byte) (v int32, w int) {
	if len(b) > 0 && b[0] < 0x80 { // most lengths and deltas
		u := uint32(b[0])
		return int32(u>>1) ^ -int32(u&1), 1
	}
	u, w := uvarint(b, 5)
	if u > 1<<32-1 {
		return 0, 0
	}
	return int32(uint32(u)>>1) ^ -int32(u&1), w
}

// Varlong reads an int64, like Varint.
func Varlong(b []byte) (v int64, w int) {
	if len(b) > 0 && b[0] < 0x80 {
		u := uint64(b[0])
		return int64(u>>1) ^ -int64(u&1), 1
	}
	u, w := uvarint(b, 10)
	return int64(u>>1) ^ -int64(u&1), w
}

func uvarint(b []byte, most int) (u uint64, w int) {
	for i, c := range b {
		if i == most || i == 9 && c > 1 {
			return 0, 0
		}
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return u, i + 1
		}
	}
	return 0, 0
}

// AppendVarint appends v zigzag-encoded; an int32 gives the bytes that Varint reads.
func AppendVarint(b []byte, v int64) []byte {
	u := uint64(v)<<1 ^ uint64(v>>63)
	for u >= 0x80 {
		b = append(b, byte(u)|0x80)
		u >>= 7
	}
	return append(b, byte(u))
}

// VarintLen is the bytes that AppendVarint takes.
func VarintLen(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		n++
		u >>= 7
	}
	return n
}
