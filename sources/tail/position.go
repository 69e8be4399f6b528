package tail

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

// position is where a file was read up to, and how to know it again. Its key is
// device and inode, which one file at a time has; Gen rises when the file behind
// them is another one than before (truncated, deleted and created).
type position struct {
	V      int    `json:"v"`
	Path   string `json:"path"`             // under which it was found first: the header path of its records
	At     string `json:"at,omitempty"`     // under which it was seen last, when that is another
	Target string `json:"target,omitempty"` // what that led to, when it was a link
	Dev    uint64 `json:"dev"`
	Inode  uint64 `json:"inode"`
	Gen    int64  `json:"gen"` // -1: whichever (an audit's point)
	Offset int64  `json:"offset"`
	Skip   skip   `json:"skip,omitempty"`
	Part   int32  `json:"partition,omitempty"`
	File   string `json:"file"`           // names this content: the header file of its records
	From   int64  `json:"from,omitempty"` // where its own records begin: what is before was skipped, or read from the file that this is a copy of

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

// newIdent names a content that begins to be read from a file. It is given once and
// kept in the position, which is in the log together with the first records that
// carry it: so it needs to be unique, and not to be computed again.
func newIdent(id fileID) string {
	return string(fileKey(id)) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
}

func parsePosition(p connectors.Position) (position, error) {
	var out position
	if err := json.Unmarshal(p, &out); err != nil {
		return out, fmt.Errorf("position %.100q: %w", p, err)
	}
	if out.V != positionVersion {
		return out, fmt.Errorf("position %.100q: version %d is not known", p, out.V)
	}
	if out.Offset < 0 || out.From < 0 || out.HeadLen < 0 || out.HeadLen > headMax || out.TailLen < 0 || out.TailLen > tailMax || int64(out.TailLen) > out.Offset || out.Skip > skipEvent {
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
	if pb.Gen < 0 && pa.CopyOf != "" {
		return 0 // an audit asks for nothing of a copy whose original is there
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

// partitionOf keeps all lines of one family in one partition.
func partitionOf(family string, partitions int32) int32 {
	if partitions <= 1 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(family)) // a hash never fails
	return int32(h.Sum32() % uint32(partitions))
}
