package declared

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

// Topic is where the declared connectors are.
const Topic = "_forebay.configs"

// maxSetBytes bounds a group's set: one record, which every reader must be able to hold.
const maxSetBytes = 4 << 20

// TopicSpec is how it is made.
func TopicSpec() connectors.TopicSpec {
	return connectors.TopicSpec{Name: Topic, Partitions: 1, Configs: map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "8388608", "max.message.bytes": fmt.Sprint(maxSetBytes + 64<<10),
	}}
}

// Set is what one group declares.
type Set struct {
	Version    int64 // 0: nothing was ever declared
	Connectors []Connector
	At         time.Time // when it was made
	Host       string    // which machine made it
}

// find returns a connector by its name.
func (s Set) find(name string) (Connector, bool) {
	for _, c := range s.Connectors {
		if c.Name == name {
			return c, true
		}
	}
	return Connector{}, false
}

const recordVersion = 1

type recordKey struct {
	V     int    `json:"v"`
	Group string `json:"group"`
	Open  bool   `json:"open,omitempty"` // not a set: a writer has begun, and reads up to here
}

type recordValue struct {
	Version    int64       `json:"version"`
	Connectors []Connector `json:"connectors"`
	At         int64       `json:"at"` // milliseconds
	Host       string      `json:"host"`
}

func keyOf(group string, open bool) ([]byte, error) {
	return json.Marshal(recordKey{V: recordVersion, Group: group, Open: open})
}

// parseKey is for every record of the topic: those of other groups must be known as such. A later version of
// the format may hold what this one must not ignore.
func parseKey(key []byte) (recordKey, error) {
	var k recordKey
	if err := json.Unmarshal(key, &k); err != nil || k.V != recordVersion {
		return k, fmt.Errorf("%s has a key that this version cannot read: %q", Topic, key)
	}
	return k, nil
}

func (s Set) encode() ([]byte, error) {
	if s.Connectors == nil {
		s.Connectors = []Connector{}
	}
	text, err := json.Marshal(recordValue{Version: s.Version, Connectors: s.Connectors, At: s.At.UnixMilli(), Host: s.Host})
	if err == nil && len(text) > maxSetBytes {
		err = fmt.Errorf("%w: all connectors of a group together are %d bytes, and may be %d", ErrInvalid, len(text), maxSetBytes)
	}
	return text, err
}

func decodeSet(text []byte) (Set, error) {
	var v recordValue
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // what a later version adds means something
	if err := d.Decode(&v); err != nil {
		return Set{}, fmt.Errorf("%s has a set that this version cannot read: %w", Topic, err)
	}
	return Set{Version: v.Version, Connectors: v.Connectors, At: time.UnixMilli(v.At), Host: v.Host}, nil
}
