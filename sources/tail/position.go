package tail

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/forebayhub/forebay/connectors"
)

// position is where a file was read up to, and how to know it again. Its key is
// device and inode, which one file at a time has; Gen rises when the file behind
// them is another one than before (truncated, deleted and created).
type position struct {
	V      int    `json:"v"`
	Path   string `json:"path"`         // under which it was found first: the header path of its records
	At     string `json:"at,omitempty"` // under which it was seen last, when that is another
	Dev    uint64 `json:"dev"`
	Inode  uint64 `json:"inode"`
	Gen    int64  `json:"gen"` // -1: whichever (an audit's point)
	Offset int64  `json:"offset"`
	Skip   skip   `json:"skip,omitempty"`
	Part   int32  `json:"partition,omitempty"`

	// The first and the last bytes before Offset, summed: a file that was rewritten in place differs in one of them.
	HeadLen int    `json:"fp_len"`
	Head    string `json:"fp"`
	TailLen int    `json:"tail_len"`
	Tail    string `json:"tail"`

	CopyOf connectors.PositionKey `json:"copy_of,omitempty"` // not read while that file has the same content
}

const positionVersion = 1

// startKey is there once a source with start: end has skipped what was there at its first start.
const startKey connectors.PositionKey = "start"

func fileKey(id fileID) connectors.PositionKey {
	return connectors.PositionKey(strconv.FormatUint(id.dev, 16) + "-" + strconv.FormatUint(id.ino, 16))
}

func parsePosition(p connectors.Position) (position, error) {
	var out position
	if err := json.Unmarshal(p, &out); err != nil {
		return out, fmt.Errorf("position %.100q: %w", p, err)
	}
	if out.V != positionVersion {
		return out, fmt.Errorf("position %.100q: version %d is not known", p, out.V)
	}
	if out.Offset < 0 || out.HeadLen < 0 || out.HeadLen > headMax || out.TailLen < 0 || out.TailLen > tailMax || int64(out.TailLen) > out.Offset || out.Skip > skipEvent {
		return out, fmt.Errorf("position %.100q is out of range", p)
	}
	return out, nil
}

const (
	headMax = 1024 // bytes of a file's beginning in its fingerprint; fewer while the file is shorter
	tailMax = 64   // bytes before the offset that are looked at before each read
)

// sum is FNV-1a over what it was given: it grows with the file, byte by byte.
type sum uint64

const newSum sum = 14695981039346656037

func (s sum) add(p []byte) sum {
	for _, c := range p {
		s = (s ^ sum(c)) * 1099511628211
	}
	return s
}

func (s sum) String() string { return fmt.Sprintf("%016x", uint64(s)) }

func parseSum(text string) sum {
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return newSum // matches nothing but the empty prefix
	}
	return sum(n)
}

// compare orders two positions of one key.
func compare(a, b connectors.Position) int {
	pa, aerr := parsePosition(a)
	pb, berr := parsePosition(b)
	switch {
	case aerr != nil && berr != nil:
		return 0
	case aerr != nil:
		return -1
	case berr != nil:
		return 1
	}
	if pa.Gen >= 0 && pb.Gen >= 0 && pa.Gen != pb.Gen {
		if pa.Gen < pb.Gen {
			return -1
		}
		return 1
	}
	switch {
	case pa.Offset < pb.Offset:
		return -1
	case pa.Offset > pb.Offset:
		return 1
	}
	return 0
}

// partitionOf keeps all lines of one path, and of the files that it is renamed to, in one partition.
func partitionOf(path string, partitions int32) int32 {
	if partitions <= 1 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(path)) // a hash never fails
	return int32(h.Sum32() % uint32(partitions))
}
