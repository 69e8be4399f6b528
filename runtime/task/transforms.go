package task

import (
	"errors"
	"fmt"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/transform"
)

// SourceChain makes the transforms of a source; nil when it has none. Records that come as bytes are read as what they
// look like.
func SourceChain(n spec.Node) (*transform.Chain, error) {
	c, err := transform.New(n, transform.Source, converter.NewDecoder(unknownTypes).DecodeWhole, jsonWriter())
	if err != nil {
		return nil, connectors.Fatal(err, "see `forebay lint`")
	}
	return c, nil
}

// jsonWriter writes values as they stand in a topic.
func jsonWriter() func(dst []byte, d connectors.Datum) ([]byte, error) {
	e := converter.NewEncoder(converter.Format{})
	return func(dst []byte, d connectors.Datum) ([]byte, error) {
		_, out, err := e.Encode(dst, &connectors.Record{Value: d})
		return out.Value, err
	}
}

// SinkChain is the transforms of a sink, and what its task needs around them. It belongs to one goroutine.
type SinkChain struct {
	chain   *transform.Chain
	decoder *converter.Decoder
	encoder *converter.Encoder
	memory  *connectors.Batch // of typed things
	bytes   arena             // of keys and values
}

// NewSinkChain makes it; nil when there are no transforms.
func NewSinkChain(n spec.Node, d *converter.Decoder) (*SinkChain, error) {
	c, err := transform.New(n, transform.Sink, d.DecodeWhole, jsonWriter())
	if err != nil {
		return nil, connectors.Fatal(err, "see `forebay lint`")
	}
	if c == nil {
		return nil, nil
	}
	return &SinkChain{chain: c, decoder: d, encoder: converter.NewEncoder(converter.Format{}), memory: connectors.NewBatch(batchBytes)}, nil
}

// Decode is SinkEnv.Decode: what a transform has seen is typed already, and what it has changed cannot be read again.
func (s *SinkChain) Decode(r *connectors.Record) error {
	if r.Key.Schema != nil || r.Value.Schema != nil || r.Change != nil {
		return nil
	}
	return s.decoder.Decode(r)
}

// Reset frees the memory of the records that Apply has changed.
func (s *SinkChain) Reset() {
	s.memory.Reset()
	s.bytes.reset(batchBytes)
}

// Renew takes new memory and leaves the old to the records that lie in it.
func (s *SinkChain) Renew() {
	s.memory, s.bytes = connectors.NewBatch(batchBytes), arena{}
}

// Apply changes r; false says that it is dropped. A record that was changed has its bytes and its types anew; its
// topic, partition and offset never change. What it holds lives until Reset.
func (s *SinkChain) Apply(r *connectors.Record) (keep bool, err error) {
	keep, err = s.apply(r)
	if c := r.Change; c != nil && c.Before.Kind != schema.Struct { // what Decode leaves out
		c.Before = schema.Value{}
	}
	return keep, err
}

func (s *SinkChain) apply(r *connectors.Record) (keep bool, err error) {
	keep, err = s.chain.Apply(s.memory, r)
	if err != nil || !keep || !s.chain.Touched() {
		return keep, err
	}
	typed := *r // a part that has bytes keeps them
	if typed.RawKey != nil {
		typed.Key = connectors.Datum{}
	}
	if typed.RawValue != nil {
		typed.Value, typed.Change = connectors.Datum{}, nil
	}
	tail := s.bytes.tail()
	grown, e, err := s.encoder.Encode(tail, &typed)
	if err != nil {
		return false, err
	}
	s.bytes.keep(tail, grown)
	r.RawKey, r.RawValue = e.Key, e.Value
	s.header(r, e.SchemaID)
	return true, nil
}

// header makes the header that says which types the record has say the new ones, or takes it away.
func (s *SinkChain) header(r *connectors.Record, id []byte) {
	at := -1
	for i := range r.Headers {
		if r.Headers[i].Key == converter.SchemaHeader {
			at = i
		}
	}
	if at < 0 {
		return // types that were guessed stay undeclared
	}
	hs := s.memory.Headers(len(r.Headers))
	copy(hs, r.Headers)
	if id == nil {
		hs = append(hs[:at], hs[at+1:]...)
	} else {
		hs[at].Value = id
	}
	r.Headers = hs
}

// transform changes a portion of records in place and returns those that are left.
func (t *sinkTask) transform(records []connectors.Record) ([]connectors.Record, error) {
	t.chain.Reset()
	kept := records[:0]
	for i := range records {
		r := &records[i]
		keep, err := t.chain.Apply(r)
		if err != nil {
			return nil, unhandled("sink", t.o.Env.Name, fmt.Sprintf("%s-%d at offset %d", r.Topic, r.Partition, r.Offset), err)
		}
		if keep {
			kept = append(kept, *r)
		}
	}
	return kept, nil
}

// unhandled is the end of a task: a record that a transform cannot handle must not be lost in silence.
func unhandled(kind, name, where string, err error) error {
	hint := "nothing after it is lost: mend the transform or the record's cause, and restart the " + kind
	var e *transform.Error
	if errors.As(err, &e) {
		return connectors.Fatal(fmt.Errorf("%s '%s': transform %d (%s) cannot handle the record of %s: %w", kind, name, e.Number, e.Type, where, e.Err), e.Hint+"; "+hint)
	}
	return connectors.Fatal(fmt.Errorf("%s '%s': the transforms cannot handle the record of %s: %w", kind, name, where, err), hint)
}

// place is where the record at index of a batch stands in the source: before the first position that covers it.
func (t *sourceTask) place(b *connectors.Batch, topic string, index int) string {
	for _, m := range b.Marks {
		if m.Upto > index && m.Position != nil {
			return fmt.Sprintf("topic %s before position %s of %s", topic, m.Position, m.Key)
		}
	}
	return "topic " + topic
}
