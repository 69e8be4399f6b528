// Package transform changes single records between a connector and the log: what Kafka Connect calls single message
// transforms (SMT). DESIGN.md has the promises, docs/transforms.md all of them with their fields.
//
// A Chain is the transforms of one connector, in their order. It belongs to one goroutine. What it does not touch it
// neither copies nor decodes; what it makes lies in the memory of a connectors.Batch.
package transform

import (
	"fmt"
	"slices"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

// Side is the end of a pipeline that a chain stands at.
type Side uint8

// A source's chain sees records before they are appended, a sink's after they were read.
const (
	Source Side = iota
	Sink
)

func (s Side) String() string { return [...]string{"source", "sink"}[s] }

// Chain is the transforms of one connector.
type Chain struct {
	steps  []step
	side   Side
	decode func(*connectors.Record) error
	encode func(dst []byte, d connectors.Datum) ([]byte, error)
	work   work
}

// step is one transform, and when it applies.
type step struct {
	number int // from 1
	typ    *Type
	when   *condition // nil: always
	negate bool
	do     applier
}

// applier changes a record; false drops it.
type applier interface {
	apply(w *work) (keep bool, err error)
}

// Error says which transform could not handle a record, and why.
type Error struct {
	Number int    // of the transform, from 1
	Type   string // route
	Err    error
	Hint   string // how to mend it
}

func (e *Error) Error() string {
	return fmt.Sprintf("transform %d (%s): %v", e.Number, e.Type, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// New makes the chain that n declares, as Field.Read has checked it; nil when there is none. decode fills a record's Key,
// Value and Change from its bytes; encode appends a value as the JSON that it is in a topic.
func New(n spec.Node, side Side, decode func(*connectors.Record) error, encode func(dst []byte, d connectors.Datum) ([]byte, error)) (*Chain, error) {
	steps, findings := parse(n, side)
	for _, f := range findings {
		if !f.Warning {
			return nil, fmt.Errorf("%s: %s", f.Path, f.Message)
		}
	}
	for i, item := range n.List { // lint leaves them out
		if item.AnyUnresolved() {
			return nil, fmt.Errorf("transform %d has a reference without a value here", i+1)
		}
	}
	if len(steps) == 0 {
		return nil, nil
	}
	return &Chain{steps: steps, side: side, decode: decode, encode: encode}, nil
}

// Len is the number of transforms.
func (c *Chain) Len() int {
	if c == nil {
		return 0
	}
	return len(c.steps)
}

// Apply changes r; false says that the record is dropped. What it makes lives until b is reset. The error is an *Error.
func (c *Chain) Apply(b *connectors.Batch, r *connectors.Record) (keep bool, err error) {
	w := &c.work
	*w = work{b: b, r: r, side: c.side, decode: c.decode, encode: c.encode, topic: r.Topic}
	for i := range c.steps {
		s := &c.steps[i]
		holds := true
		if s.when != nil {
			holds, err = s.when.holds(w)
		}
		if err == nil && holds != s.negate {
			keep, err = s.do.apply(w)
			w.settle()
		} else {
			keep = true
		}
		if err != nil {
			return false, s.fail(err)
		}
		if !keep {
			return false, nil
		}
	}
	w.finish()
	return true, nil
}

// Touched says whether the last Apply changed the record's key or value. Where the bytes are nil then, they are to be
// made of the typed form, if there is one.
func (c *Chain) Touched() bool { return c.work.key || c.work.value }

// Routes says whether one of the transforms may give records another topic.
func (c *Chain) Routes() bool {
	return c != nil && slices.ContainsFunc(c.steps, func(s step) bool { _, routes := s.do.(*route); return routes })
}

// Topic is the topic that a topic's records go to, as far as they are not dropped; "" when all of them are. sure is false
// when the topic depends on more than the topic.
func (c *Chain) Topic(topic string) (to string, sure bool) {
	if c == nil {
		return topic, true
	}
	for i := range c.steps {
		s := &c.steps[i]
		r, routes := s.do.(*route)
		_, drops := s.do.(filter)
		if !drops && !routes || drops && !s.when.byTopic() {
			continue
		}
		if !s.when.byTopic() || routes && r.dynamic {
			return "", false
		}
		if s.when != nil && s.when.topic.matches(topic) == s.negate {
			continue
		}
		if !routes {
			return "", true
		}
		to, err := r.static(topic)
		if err != nil {
			return "", false
		}
		if to != "" {
			topic = to
		}
	}
	return topic, true
}

// Audit says why the rows that a source holds cannot be compared with what this chain has appended of them; nil: they can,
// once Apply has changed them in the same way. That needs transforms to which only the row's own content matters.
func (c *Chain) Audit() error {
	if c == nil {
		return nil
	}
	for i := range c.steps {
		s := &c.steps[i]
		who := fmt.Sprintf("transform %d (%s)", s.number, s.typ.Name)
		if !s.when.byTopic() {
			return fmt.Errorf("%s applies to some records only, by more than their topic: what the log should hold does not follow from what the source holds now", who)
		}
		if p, ok := s.do.(pure); !ok || !p.pure() {
			return fmt.Errorf("%s makes of a row what does not follow from the row alone", who)
		}
	}
	return nil
}

// pure is an applier that may look at nothing but a row's content.
type pure interface{ pure() bool }

func (s *step) fail(err error) error {
	e := &Error{Number: s.number, Type: s.typ.Name, Err: err}
	if h, ok := err.(*hinted); ok { //nolint:errorlint // it is always the outermost
		e.Err, e.Hint = h.error, h.hint
	}
	if e.Hint == "" {
		e.Hint = "let the transform apply only `when` it can, or mend the record's cause"
	}
	return e
}

// hinted is an error with the advice that goes with it.
type hinted struct {
	error
	hint string
}

func advise(hint, format string, args ...any) error {
	return &hinted{fmt.Errorf(format, args...), hint}
}

// work is a record on its way through the chain.
type work struct {
	b      *connectors.Batch
	r      *connectors.Record
	side   Side
	topic  string // that the record came with
	decode func(*connectors.Record) error
	encode func(dst []byte, d connectors.Datum) ([]byte, error)

	decoded    bool // here, from the record's bytes
	key, value bool // changed
}

// see makes the typed form of a record that has only bytes.
func (w *work) see() error {
	r := w.r
	if w.decoded || r.Key.Schema != nil || r.Value.Schema != nil || r.Change != nil || r.RawKey == nil && r.RawValue == nil {
		return nil
	}
	w.decoded = true
	if err := w.decode(r); err != nil {
		return advise("", "the record cannot be read: %w", err)
	}
	return nil
}

// settle makes a value that has become null a tombstone, and a key that has become null none, as Kafka Connect's
// JsonConverter writes them.
func (w *work) settle() {
	r := w.r
	if w.value && r.Change == nil && r.Value.Value.IsNull() {
		r.Value, r.RawValue = connectors.Datum{}, nil
	}
	if w.key && r.Key.Value.IsNull() {
		r.Key, r.RawKey = connectors.Datum{}, nil
	}
}

// finish gives a record that came as bytes its bytes back where only they were looked at, whatever happens to the other
// part. A text that a transform made its value is the bytes of it.
func (w *work) finish() {
	r := w.r
	if w.decoded && w.value && r.Change == nil && r.RawValue == nil && r.Value.Value.Kind == schema.String {
		r.RawValue = r.Value.Value.Data
	}
	if w.decoded && w.key && r.RawKey == nil && r.Key.Value.Kind == schema.String {
		r.RawKey = r.Key.Value.Data
	}
	if w.side == Sink {
		return // what was decoded spares the sink the same work
	}
	if r.RawValue != nil && (w.value || w.decoded) {
		r.Value, r.Change = connectors.Datum{}, nil
	}
	if r.RawKey != nil && (w.key || w.decoded) {
		r.Key = connectors.Datum{}
	}
}

// tombstone says that the record has no value.
func (w *work) tombstone() bool {
	return w.r.RawValue == nil && w.r.Value.Schema == nil && w.r.Change == nil
}

// setValue replaces the record's value, whatever it was.
func (w *work) setValue(d connectors.Datum) {
	w.r.Value, w.r.Change, w.r.RawValue, w.value = d, nil, nil, true
}

func (w *work) setKey(d connectors.Datum) {
	w.r.Key, w.r.RawKey, w.key = d, nil, true
}

// datum is the key, or the value as one reads its fields: of a change, its row after it, or before it when it is a delete.
func (w *work) datum(part part) (connectors.Datum, error) {
	if err := w.see(); err != nil {
		return connectors.Datum{}, err
	}
	if part == key {
		return w.r.Key, nil
	}
	c := w.r.Change
	if c == nil {
		return w.r.Value, nil
	}
	d := connectors.Datum{Schema: c.Row, Value: c.After}
	if d.Value.IsNull() {
		d.Value = c.Before
	}
	return d, nil
}

// part is what a transform works on.
type part uint8

const (
	value part = iota
	key
)

func (p part) String() string { return [...]string{"value", "key"}[p] }

// reshape gives the part's fields another layout: of a value that is a change, the rows before and after it. A
// record without the part is left alone.
func (w *work) reshape(p part, layouts *layouts) error {
	if err := w.see(); err != nil {
		return err
	}
	r := w.r
	if c := r.Change; p == value && c != nil {
		if c.Row.IsDocument() {
			return advise("put an `unwrap` before it", "the record is a change of a document, whose fields are not columns")
		}
		before, changed, err := w.before(layouts)
		if err != nil {
			return err
		}
		l, err := layouts.of(c.Row)
		if err != nil || l.same && !changed {
			return err
		}
		n := w.b.NewChange()
		*n = *c
		if n.Before = before; !l.same {
			n.Row = l.out
			if !changed {
				n.Before, err = l.apply(w, before)
			}
			if err == nil {
				n.After, err = l.apply(w, c.After)
			}
		}
		r.Change, r.RawValue, w.value = n, nil, true
		return err
	}
	d := r.Value
	if p == key {
		d = r.Key
	}
	if d.Schema == nil || d.Value.IsNull() {
		return nil
	}
	if d.Schema.Kind != schema.Struct {
		return advise("`hoist` makes a field of it", "the %s has no fields: it is %s", p, kindName(d.Schema.Kind))
	}
	l, err := layouts.of(d.Schema)
	if err != nil || l.same {
		return err
	}
	v, err := l.apply(w, d.Value)
	if err != nil {
		return err
	}
	if p == key {
		w.setKey(connectors.Datum{Schema: l.out, Value: v})
	} else {
		w.setValue(connectors.Datum{Schema: l.out, Value: v})
	}
	return nil
}

// before is the row before a change, and what a transform makes of it where it is JSON with types of its own.
func (w *work) before(layouts *layouts) (before schema.Value, changed bool, err error) {
	before = w.r.Change.Before
	switch {
	case before.Kind == schema.Unavailable:
		return before, false, errOtherBefore
	case !before.IsJSON():
		return before, false, nil
	}
	row := connectors.Record{RawValue: before.Data}
	if err := w.decode(&row); err != nil {
		return before, false, err
	}
	if row.Value.Schema == nil || row.Value.Schema.Kind != schema.Struct {
		return before, false, errOtherBefore
	}
	l, err := layouts.of(row.Value.Schema)
	if err != nil || l.same {
		return before, false, err
	}
	v, err := l.apply(w, row.Value.Value)
	if err != nil {
		return before, false, err
	}
	text, err := w.encode(nil, connectors.Datum{Schema: l.out, Value: v})
	return schema.JSONOf(text), true, err
}

var errOtherBefore = advise("put an `unwrap` before it", "the row before the change has other types than the row after it")
