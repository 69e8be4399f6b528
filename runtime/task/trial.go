package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/transform"
)

// RecordText is a record as one line of JSON, for people and for tests of transforms: bytes that are a JSON object or array
// stand as that, others as a string.
type RecordText struct {
	Topic     string            `json:"topic"`
	Partition *int32            `json:"partition,omitempty"`
	Offset    *int64            `json:"offset,omitempty"`
	Timestamp string            `json:"timestamp,omitempty"` // RFC 3339
	Headers   map[string]string `json:"headers,omitempty"`
	Key       json.RawMessage   `json:"key,omitempty"`
	Value     json.RawMessage   `json:"value"`
}

// Trial runs single records through a connector's transforms as its task would, without a log. It belongs to one goroutine.
type Trial struct {
	source  *transform.Chain
	sink    *SinkChain
	isSink  bool
	encoder *converter.Encoder
	memory  *connectors.Batch
}

// NewTrial makes a Trial of the transforms n of a source that writes the format f, or of a sink.
func NewTrial(n spec.Node, sink bool, f converter.Format) (*Trial, error) {
	t := &Trial{isSink: sink, encoder: converter.NewEncoder(f), memory: connectors.NewBatch(batchBytes)}
	var err error
	if sink {
		t.sink, err = NewSinkChain(n, converter.NewDecoder(unknownTypes))
	} else {
		t.source, err = SourceChain(n)
	}
	return t, err
}

func unknownTypes(id string) (converter.Entry, error) {
	return converter.Entry{}, fmt.Errorf("the types %s are not known here", id)
}

// Apply gives the record as a source appends it, or a sink is given it; nil: it is dropped.
func (t *Trial) Apply(in RecordText) (*RecordText, error) {
	r, err := in.record()
	if err != nil {
		return nil, err
	}
	t.memory.Reset()
	if t.isSink {
		if t.sink != nil {
			t.sink.Reset()
			if keep, err := t.sink.Apply(&r); err != nil || !keep {
				return nil, err
			}
		}
		return TextOf(&r, r.RawKey, r.RawValue), nil
	}
	return Appended(t.source, t.encoder, t.memory, &r)
}

// Appended is a record as a source appends it after its transforms, of which there may be none (nil); nil: it is not appended.
func Appended(c *transform.Chain, e *converter.Encoder, memory *connectors.Batch, r *connectors.Record) (*RecordText, error) {
	if c != nil {
		if keep, err := c.Apply(memory, r); err != nil || !keep {
			return nil, err
		}
	}
	_, out, err := e.Encode(nil, r)
	if err != nil || out.Unwritten {
		return nil, err
	}
	return TextOf(r, out.Key, out.Value), nil
}

// Check says what keeps the text from being a record.
func (x *RecordText) Check() error {
	_, err := x.record()
	return err
}

func (x *RecordText) record() (connectors.Record, error) {
	r := connectors.Record{Topic: x.Topic, Partition: -1}
	var err error
	if r.RawKey, err = bytesOf(x.Key); err == nil {
		r.RawValue, err = bytesOf(x.Value)
	}
	if err != nil {
		return r, err
	}
	if x.Topic == "" {
		return r, errors.New("a record has no topic")
	}
	if x.Partition != nil {
		r.Partition = *x.Partition
	}
	if x.Offset != nil {
		r.Offset = *x.Offset
	}
	if x.Timestamp != "" {
		if r.Timestamp, err = time.Parse(time.RFC3339Nano, x.Timestamp); err != nil {
			return r, fmt.Errorf("timestamp %q is not RFC 3339, like 2026-11-30T08:15:00Z", x.Timestamp)
		}
	}
	for k, v := range x.Headers {
		r.Headers = append(r.Headers, connectors.Header{Key: k, Value: []byte(v)})
	}
	return r, nil
}

// bytesOf is what a JSON text stands for: a string for its text, null for nothing.
func bytesOf(j json.RawMessage) ([]byte, error) {
	j = bytes.TrimSpace(j)
	switch {
	case len(j) == 0 || string(j) == "null":
		return nil, nil
	case j[0] == '"':
		var s string
		err := json.Unmarshal(j, &s)
		return []byte(s), err
	}
	return bytes.Clone(j), nil
}

// TextOf is a record with these bytes as text, without its place in the log and its schema header.
func TextOf(r *connectors.Record, key, value []byte) *RecordText {
	x := &RecordText{Topic: r.Topic, Key: jsonOf(key), Value: jsonOf(value)}
	if !r.Timestamp.IsZero() {
		x.Timestamp = r.Timestamp.UTC().Format(time.RFC3339Nano)
	}
	for _, h := range r.Headers {
		if h.Key == converter.SchemaHeader {
			continue
		}
		if x.Headers == nil {
			x.Headers = map[string]string{}
		}
		x.Headers[h.Key] = string(h.Value)
	}
	return x
}

func jsonOf(b []byte) json.RawMessage {
	switch {
	case b == nil:
		return nil
	case len(b) > 0 && (b[0] == '{' || b[0] == '[') && json.Valid(b):
		return bytes.Clone(b)
	}
	return plain(string(b))
}

// plain is v as JSON, with <, > and & as they are.
func plain(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // of bytes that nobody has read as JSON
		return json.RawMessage("null")
	}
	return bytes.TrimSpace(b.Bytes())
}

// String is the record as one line of JSON.
func (x *RecordText) String() string { return string(plain(x)) }
