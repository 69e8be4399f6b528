package dlq

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// Bounds of a payload.
const (
	MostPayload = 32 << 20 // bytes of a key and a value that are kept whole
	cutPayload  = 1 << 20  // bytes that are kept of each when they are larger: enough to see what it is
	pieceBytes  = 512 << 10
)

// Payload is a source's record as it was before its transforms: JSON for what is typed, bytes as they are for the rest.
//
// Its bytes, version 1, are a line of JSON and behind it the key and the value:
//
//	{"v":1,"topic":…,"partition":…,"timestamp":…,"headers":[{"key":…,"value":base64}],"key":3,"value":17,…}\n key value
//
// where key and value are their lengths; null, not 0, where there is none.
type Payload struct {
	Topic                string
	Partition            int32 // -1: the key decides
	Timestamp            time.Time
	Headers              []Header
	Key, Value           []byte
	TypedKey, TypedValue bool // they were values with a schema, which a header names
}

// Header is a record's header.
type Header struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

type payloadLine struct {
	V          int       `json:"v"`
	Topic      string    `json:"topic"`
	Partition  int32     `json:"partition"`
	Timestamp  time.Time `json:"timestamp"`
	Headers    []Header  `json:"headers,omitempty"`
	Key        *int      `json:"key"`
	Value      *int      `json:"value"`
	TypedKey   bool      `json:"typed_key,omitempty"`
	TypedValue bool      `json:"typed_value,omitempty"`
}

// Append appends the payload's bytes. cut: the key or the value was too large, and only its beginning is kept.
func (p Payload) Append(dst []byte) (grown []byte, cut bool, err error) {
	if len(p.Key)+len(p.Value) > MostPayload {
		cut = true
		p.Key, p.Value = p.Key[:min(len(p.Key), cutPayload)], p.Value[:min(len(p.Value), cutPayload)]
	}
	length := func(b []byte) *int {
		if b == nil {
			return nil
		}
		n := len(b)
		return &n
	}
	line, err := json.Marshal(payloadLine{1, p.Topic, p.Partition, p.Timestamp.UTC(), p.Headers, length(p.Key), length(p.Value), p.TypedKey, p.TypedValue})
	if err != nil { // a time that is no time of this era
		return dst, false, err
	}
	dst = append(append(dst, line...), '\n')
	return append(append(dst, p.Key...), p.Value...), cut, nil
}

var errPayload = errors.New("the kept record cannot be read")

// ParsePayload reads what Append wrote. What it returns lies in b.
func ParsePayload(b []byte) (Payload, error) {
	text, rest, _ := bytes.Cut(b, []byte{'\n'})
	var l payloadLine
	if json.Unmarshal(text, &l) != nil || l.V != 1 {
		return Payload{}, errPayload
	}
	p := Payload{Topic: l.Topic, Partition: l.Partition, Timestamp: l.Timestamp, Headers: l.Headers, TypedKey: l.TypedKey, TypedValue: l.TypedValue}
	for _, part := range []struct {
		n  *int
		to *[]byte
	}{{l.Key, &p.Key}, {l.Value, &p.Value}} {
		if part.n == nil {
			continue
		}
		if *part.n < 0 || *part.n > len(rest) {
			return Payload{}, errPayload
		}
		*part.to, rest = rest[:*part.n:*part.n], rest[*part.n:]
	}
	if len(rest) > 0 {
		return Payload{}, errPayload
	}
	return p, nil
}
