// Package dlq keeps which records a sink could not take, or a source could not append, in one compacted topic for each connector,
// _forebay.dlq.<group>.<connector>.
//
// A record's key is JSON, {"v":1,"topic":…,"partition":…,"offset":…}: where the record lies in the log. Its value is the
// Entry, which says why, at which stage, and what became of it; null forgets it. The record itself is
// not copied: it stays where it is. With "ask":true in its key it says what somebody wants to be done with the entry of that place. Besides, each
// start of the sink's task leaves a record with "open":true, whose offset ends the loading.
//
// Only the connector's task writes entries, under its lease; everybody else asks. So no two ever decide about the same record.
//
// A source's record is not in the log yet. So its letter keeps it (Payload), in records beside the entry's, whose keys have a "piece". Its place is a
// number among those of its split: Topic is SPLIT/TOPIC, which no topic of a log can be, and Partition is -1.
package dlq

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// Topic is where the dead letters of a connector are.
func Topic(group, connector string) string { return "_forebay.dlq." + group + "." + connector }

// TopicSpec is how it is made.
func TopicSpec(group, connector string) connectors.TopicSpec {
	return connectors.TopicSpec{Name: Topic(group, connector), Partitions: 1, Configs: map[string]string{
		"max.message.bytes": strconv.Itoa(hublog.MaxRecordBytes), // of a batch, whose pieces a source's appender puts together
		"cleanup.policy":    "compact", "segment.bytes": "8388608", "min.cleanable.dirty.ratio": "0.2", "segment.ms": "3600000",
	}}
}

// Place is where a record lies in the log, or which letter of a source it is.
type Place struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// SourcePlace is the place of a source's letter.
func SourcePlace(split, topic string, number int64) Place {
	return Place{Topic: split + "/" + topic, Partition: -1, Offset: number}
}

// OfSource says whether it is one.
func (p Place) OfSource() bool { return p.Partition < 0 }

// String is the place as ParsePlace reads it: orders-0@17, or stream/shop.public.orders@17.
func (p Place) String() string {
	if p.OfSource() {
		return fmt.Sprintf("%s@%d", p.Topic, p.Offset)
	}
	return fmt.Sprintf("%s-%d@%d", p.Topic, p.Partition, p.Offset)
}

// ParsePlace reads what String writes.
func ParsePlace(text string) (Place, error) {
	bad := fmt.Errorf("%q is no place of a record: write TOPIC-PARTITION@OFFSET, like orders-0@17, or SPLIT/TOPIC@NUMBER, like stream/orders@17", text)
	at := strings.LastIndexByte(text, '@')
	if at < 0 {
		return Place{}, bad
	}
	offset, err := strconv.ParseUint(text[at+1:], 10, 63)
	if err != nil {
		return Place{}, bad
	}
	if split, topic, ok := strings.Cut(text[:at], "/"); ok {
		return SourcePlace(split, topic, int64(offset)), nil
	}
	dash := strings.LastIndexByte(text[:at], '-')
	if dash < 1 {
		return Place{}, bad
	}
	partition, err := strconv.ParseUint(text[dash+1:at], 10, 31)
	if err != nil {
		return Place{}, bad
	}
	return Place{Topic: text[:dash], Partition: int32(partition), Offset: int64(offset)}, nil
}

func (p Place) compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.Partition, q.Partition), cmp.Compare(p.Offset, q.Offset))
}

// Stage is what could not handle a record.
type Stage string

const (
	Transform Stage = "transform"
	Converter Stage = "converter" // its bytes cannot be read
	Target    Stage = "sink"
	Size      Stage = "size"   // it is larger than its topic takes
	Parked    Stage = "parked" // nothing is wrong with it: an earlier record of its key is in the dead letters
	Gone      Stage = "log"    // it was to be played again, and cannot be read any more
)

// State is what became of a dead letter.
type State string

const (
	Dead      State = ""          // it waits
	Replaying State = "replaying" // it has its number in the replay, and may be in the target
	Replayed  State = "replayed"  // it is in the target
	Dropped   State = "dropped"   // the target never gets it
)

// Across says that a record has to do with more than its key, so that it waits for what is before it in its partition.
type Across string

const (
	Move     Across = "move"     // one of the two halves of a change of a row's key
	Truncate Across = "truncate" // what is behind it waits for it, too
)

// Do is what somebody asks for.
type Do string

const (
	Replay Do = "replay"
	Drop   Do = "drop"
)

// Entry says why a record is in the dead letters.
type Entry struct {
	Place
	Stage     Stage     `json:"stage"`
	Reason    string    `json:"reason"`           // the whole error
	Causes    []string  `json:"causes,omitempty"` // what it wraps, the outermost first
	Connector string    `json:"connector"`
	Task      string    `json:"task"` // the start of the task, as its log and the target have it
	Time      time.Time `json:"time"`
	// TopicID is the topic's, in hex: one that is made anew under the same name has other records at the same offsets.
	TopicID string `json:"topic_id,omitempty"`
	// KeySHA256 is the hash of the record's key in hex, by which later records of the key are known; "" when it has none.
	KeySHA256 string `json:"key_sha256,omitempty"`
	Across    Across `json:"across,omitempty"`
	State     State  `json:"state,omitempty"`
	// Pieces and Bytes are of a source's payload. Cut says that it is not the whole one: the record is larger than what a letter keeps.
	Pieces int   `json:"pieces,omitempty"`
	Bytes  int64 `json:"bytes,omitempty"`
	Cut    bool  `json:"cut,omitempty"`
	// With is the number of the first of a source's letters that are appended together or not at all; 0: it is on its own.
	With int64 `json:"with,omitempty"`
	// Number is its offset in the partition of replays (connectors.ReplayPartition) from Replaying on. It rises in the order of the log.
	Number int64 `json:"number,omitempty"`
}

// Waits says that it is one that people have to look after, or is on its way.
func (e *Entry) Waits() bool { return e.State == Dead || e.State == Replaying }

// Bounds of an entry, so that a reason that quotes a large value does not copy it.
const (
	mostText   = 2 << 10 // bytes of a reason or cause
	mostCauses = 8
)

// Explain fills in Reason and Causes from an error.
func (e *Entry) Explain(err error) {
	e.Reason, e.Causes = bounded(err.Error()), nil
	last := err.Error()
	for err = errors.Unwrap(err); err != nil && len(e.Causes) < mostCauses; err = errors.Unwrap(err) {
		if text := err.Error(); text != last { // a mark, such as connectors.Fatal, says nothing of its own
			e.Causes, last = append(e.Causes, bounded(text)), text
		}
	}
}

func bounded(text string) string {
	if len(text) > mostText {
		text = text[:mostText] + "…"
	}
	return strings.ToValidUTF8(text, "\ufffd")
}

// Hash is a key's KeySHA256.
func Hash(key []byte) string {
	if key == nil {
		return ""
	}
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:])
}

type recordKey struct {
	V int `json:"v"`
	Place
	Open  bool `json:"open,omitempty"`
	Ask   bool `json:"ask,omitempty"`
	Piece int  `json:"piece,omitempty"` // from 1 on: of the payload
}

func (k recordKey) bytes() []byte {
	k.V = 1
	b, _ := json.Marshal(k) // strings and numbers cannot fail
	return b
}

// change is what a record of the topic says about a place: what its entry is, or what is asked for it.
type change struct {
	place Place
	ask   bool
	entry *Entry // not ask; nil: there is none any more
	do    Do     // ask; "": nothing any more
}

// record is the change as the topic has it.
func (c change) record() (key, value []byte) {
	key = recordKey{Place: c.place, Ask: c.ask}.bytes()
	switch {
	case c.ask && c.do != "":
		value, _ = json.Marshal(request{c.do}) // a string cannot fail
	case c.entry != nil:
		value, _ = json.Marshal(c.entry) // strings, numbers, and a time of this millennium
	}
	return key, value
}

type request struct {
	Do Do `json:"do"`
}

// parse reads a record of the topic; false for one of another format.
func parse(key, value []byte) (c change, ok bool) {
	var k recordKey
	if json.Unmarshal(key, &k) != nil || k.V != 1 || k.Open || k.Piece != 0 {
		return change{}, false
	}
	c = change{place: k.Place, ask: k.Ask}
	switch {
	case value == nil:
		return c, true
	case c.ask:
		var r request
		err := json.Unmarshal(value, &r)
		c.do = r.Do
		return c, err == nil && (r.Do == Replay || r.Do == Drop)
	}
	c.entry = &Entry{}
	if json.Unmarshal(value, c.entry) != nil || c.entry.Pieces < 0 || c.entry.Pieces > mostPieces {
		return change{}, false
	}
	c.entry.Place = k.Place
	return c, true
}
