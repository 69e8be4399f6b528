package dlq

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// Bounds of a payload.
const (
	MostPayload = 32 << 20 // bytes of a key, a value and headers that are kept whole
	cutPayload  = 1 << 20  // bytes that are kept of each when they are larger: enough to see what it is
	pieceBytes  = 512 << 10
	leastPiece  = 1 << 10
	mostPieces  = 4 * MostPayload / leastPiece // more than there can be
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

// Append appends the payload's bytes. cut: the record was too large, and only the beginning of its key, its value and its headers is kept.
func (p Payload) Append(dst []byte) (grown []byte, cut bool) {
	if cut = len(p.Key)+len(p.Value)+headerBytes(p.Headers) > MostPayload; cut {
		p.Key, p.Value = p.Key[:min(len(p.Key), cutPayload)], p.Value[:min(len(p.Value), cutPayload)]
		n := 0
		for left := cutPayload; n < len(p.Headers); n++ {
			if left -= headerBytes(p.Headers[n : n+1]); left < 0 {
				break
			}
		}
		p.Headers = p.Headers[:n]
	}
	length := func(b []byte) *int {
		if b == nil {
			return nil
		}
		n := len(b)
		return &n
	}
	line, _ := json.Marshal(payloadLine{1, p.Topic, p.Partition, writable(p.Timestamp), p.Headers, length(p.Key), length(p.Value), p.TypedKey, p.TypedValue}) // strings, numbers and a time that is one cannot fail
	dst = append(append(dst, line...), '\n')
	return append(append(dst, p.Key...), p.Value...), cut
}

func headerBytes(headers []Header) (n int) {
	for i := range headers {
		n += len(headers[i].Key) + len(headers[i].Value) + len(`{"key":"","value":""},`)
	}
	return n
}

// writable is t, or the nearest time that JSON can say (RFC 3339: years of four digits). People look at it; a replay has the time of its own.
func writable(t time.Time) time.Time {
	switch t = t.UTC(); {
	case t.Year() < 0:
		return time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	return t
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
