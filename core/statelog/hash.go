package statelog

import (
	"math"
	"unicode/utf16"
)

// PartitionFor is the partition of a coordinator's topic that a group or transactional id belongs to:
// Utils.abs(id.hashCode) % partitions in Apache Kafka. Any coordinator must agree with every other, so it is Java's
// String.hashCode, over UTF-16 units.
func PartitionFor(id string, partitions int32) int32 {
	if partitions <= 0 {
		return 0
	}
	var h int32
	for _, r := range id {
		if r > 0xFFFF {
			a, b := utf16.EncodeRune(r)
			h = 31*(31*h+a) + b
			continue
		}
		h = 31*h + r
	}
	if h == math.MinInt32 {
		return 0 // has no positive counterpart
	}
	return max(h, -h) % partitions
}
