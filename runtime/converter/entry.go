// Package converter turns records into bytes and back: Debezium's JSON envelope
// (schemaless, or {schema, payload}), plain rows, typed values, raw bytes.
//
// JSON loses types. So each typed record carries a header, forebay.schema, with
// the fingerprint of an Entry, and the Entry itself lies in a compacted topic:
// a sink gets exact types back without a registry.
package converter

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/forebayhub/forebay/connectors/schema"
)

// SchemaHeader is the record header that names an Entry.
const SchemaHeader = "forebay.schema"

// Envelope is how a value's bytes are laid out.
type Envelope string

const (
	Debezium Envelope = "debezium" // a change in Debezium's envelope
	Plain    Envelope = "plain"    // a change's row alone
	Value    Envelope = "value"    // a value that is no change, or none
)

// Entry is the types of a kind of records, as they lie in the schema topic.
type Entry struct {
	Envelope Envelope
	Key      *schema.Schema // nil: bytes, which are what they look like
	Value    *schema.Schema // of the row (debezium, plain) or the value; nil: bytes
	Source   *schema.Schema // of the envelope's source block; nil without one
	Update   *schema.Schema // of a document's updateDescription; nil without one
}

// JSON is the entry's canonical text, version 1.
func (e Entry) JSON() []byte {
	b := append([]byte(`{"v":1,"envelope":"`), e.Envelope...)
	b = e.Key.AppendJSON(append(b, `","key":`...))
	b = e.Value.AppendJSON(append(b, `,"value":`...))
	b = e.Source.AppendJSON(append(b, `,"source":`...))
	if e.Update != nil { // absent otherwise: the fingerprints of older entries stay what they are
		b = e.Update.AppendJSON(append(b, `,"update":`...))
	}
	return append(b, '}')
}

// ID is the entry's fingerprint: the first 64 bits of the SHA-256 of its JSON, in hex.
func (e Entry) ID() string {
	sum := sha256.Sum256(e.JSON())
	return hex.EncodeToString(sum[:8])
}

// ParseEntry reads what JSON wrote.
func ParseEntry(text []byte) (Entry, error) {
	var j struct {
		V        int             `json:"v"`
		Envelope Envelope        `json:"envelope"`
		Key      json.RawMessage `json:"key"`
		Value    json.RawMessage `json:"value"`
		Source   json.RawMessage `json:"source"`
		Update   json.RawMessage `json:"update"`
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return Entry{}, fmt.Errorf("schema entry: %w", err)
	}
	if j.V != 1 {
		return Entry{}, fmt.Errorf("schema entry: version %d is not known", j.V)
	}
	e := Entry{Envelope: j.Envelope}
	if e.Envelope != Debezium && e.Envelope != Plain && e.Envelope != Value {
		return Entry{}, fmt.Errorf("schema entry: envelope %q is not known", e.Envelope)
	}
	var err error
	if e.Key, err = schema.ParseJSON(j.Key); err != nil {
		return Entry{}, err
	}
	if e.Value, err = schema.ParseJSON(j.Value); err != nil {
		return Entry{}, err
	}
	if e.Source, err = schema.ParseJSON(j.Source); err != nil {
		return Entry{}, err
	}
	if e.Update, err = schema.ParseJSON(j.Update); err != nil {
		return Entry{}, err
	}
	return e, nil
}
