package mongodb

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// stamp is a cluster time: seconds, and a counter within them. Its text is "seconds.counter".
type stamp struct{ T, I uint32 }

func (s stamp) compare(o stamp) int {
	if c := cmp.Compare(s.T, o.T); c != 0 {
		return c
	}
	return cmp.Compare(s.I, o.I)
}

func (s stamp) isZero() bool { return s == stamp{} }

func (s stamp) next() stamp {
	if s.I++; s.I == 0 {
		s.T++
	}
	return s
}

func later(a, b stamp) stamp {
	if a.compare(b) < 0 {
		return b
	}
	return a
}

func (s stamp) bson() bson.Timestamp { return bson.Timestamp{T: s.T, I: s.I} }
func (s stamp) time() time.Time      { return time.Unix(int64(s.T), 0) }

// number is the 64 bits as MongoDB holds them: larger is later.
func (s stamp) number() uint64 { return uint64(s.T)<<32 | uint64(s.I) }

func (s stamp) append(dst []byte) []byte {
	dst = append(strconv.AppendUint(dst, uint64(s.T), 10), '.')
	return strconv.AppendUint(dst, uint64(s.I), 10)
}

func (s stamp) String() string { return string(s.append(nil)) }

// MarshalText writes a stamp.
func (s stamp) MarshalText() ([]byte, error) { return s.append(nil), nil }

// UnmarshalText reads one.
func (s *stamp) UnmarshalText(text []byte) error {
	t, i, ok := strings.Cut(string(text), ".")
	a, err := strconv.ParseUint(t, 10, 32)
	b, err2 := strconv.ParseUint(i, 10, 32)
	if !ok || err != nil || err2 != nil {
		return fmt.Errorf("%q is not a cluster time", text)
	}
	*s = stamp{uint32(a), uint32(b)}
	return nil
}

// tokenData is what a resume token says: a key string in hex. Tokens of one
// stream sort by it (the server merges shards in that order).
func tokenData(token bson.Raw) string {
	text, _ := token.Lookup("_data").StringValueOK()
	return text
}

// tokenStamp is the cluster time that a resume token begins with: 82, the key string's
// mark of a timestamp, and its eight bytes (ResumeTokenData in MongoDB's source).
func tokenStamp(token bson.Raw) (stamp, bool) {
	data := tokenData(token)
	if len(data) < 18 || data[:2] != "82" {
		return stamp{}, false
	}
	b, err := hex.DecodeString(data[2:18])
	if err != nil {
		return stamp{}, false
	}
	be := func(b []byte) uint32 { return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]) }
	return stamp{be(b[:4]), be(b[4:])}, true
}
