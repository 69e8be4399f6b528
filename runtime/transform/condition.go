package transform

import (
	"regexp"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

// condition is a `when`: it holds when everything that it says holds.
type condition struct {
	topic     *topicMatch
	header    string
	tombstone *bool
	ops       string // "": any, and what is no change
	field     string
	equals    []string
	matches   *regexp.Regexp
	buf       []byte
}

// conditionOf is nil when nothing is said.
func conditionOf(v spec.Values) (*condition, error) {
	c := &condition{header: v.String("when.header"), field: v.String("when.field"), equals: v.Strings("when.equals"), ops: strings.Join(v.Strings("when.op"), "")}
	var err error
	if p := v.String("when.topic"); p != "" {
		c.topic, err = newTopicMatch(p)
	}
	if p := v.String("when.matches"); p != "" && err == nil {
		c.matches, err = whole(p)
	}
	if err != nil {
		return nil, err
	}
	if v.Given("when.tombstone") {
		is := v.Bool("when.tombstone")
		c.tombstone = &is
	}
	if c.field == "" && (c.equals != nil || c.matches != nil) {
		return nil, advise("add `when.field`", "`when.equals` and `when.matches` are about a field")
	}
	if c.topic == nil && c.header == "" && c.tombstone == nil && c.ops == "" && c.field == "" {
		return nil, nil
	}
	return c, nil
}

func (c *condition) holds(w *work) (bool, error) {
	r := w.r
	if c.topic != nil && !c.topic.matches(r.Topic) {
		return false, nil
	}
	if c.tombstone != nil && w.tombstone() != *c.tombstone {
		return false, nil
	}
	if c.header != "" {
		has := false
		for i := range r.Headers {
			has = has || r.Headers[i].Key == c.header
		}
		if !has {
			return false, nil
		}
	}
	if c.ops != "" {
		if err := w.see(); err != nil {
			return false, err
		}
		if r.Change == nil || strings.IndexByte(c.ops, byte(r.Change.Op)) < 0 {
			return false, nil
		}
	}
	if c.field == "" {
		return true, nil
	}
	return c.fieldHolds(w)
}

func (c *condition) fieldHolds(w *work) (bool, error) {
	d, err := w.datum(value)
	if err != nil {
		return false, err
	}
	f, ok := find(d, c.field)
	if !ok || f.Value.IsNull() {
		return false, nil
	}
	if c.equals == nil && c.matches == nil {
		return true, nil
	}
	if f.Value.Kind == schema.Unavailable {
		return false, advise("set the table's REPLICA IDENTITY to FULL, or ask for another field", "field '%s' was not sent, because it did not change", c.field)
	}
	if c.buf, ok = appendText(c.buf[:0], f); !ok {
		return false, nil
	}
	if c.equals != nil && !slices.ContainsFunc(c.equals, func(s string) bool { return s == string(c.buf) }) {
		return false, nil
	}
	return c.matches == nil || c.matches.Match(c.buf), nil
}

// byTopic says whether the condition looks at nothing but the topic.
func (c *condition) byTopic() bool {
	return c == nil || c.topic != nil && c.header == "" && c.tombstone == nil && c.ops == "" && c.field == ""
}

// topicMatch remembers what it found: topics are few.
type topicMatch struct {
	re    *regexp.Regexp
	known map[string]bool
	last  string
	was   bool
}

func newTopicMatch(pattern string) (*topicMatch, error) {
	re, err := whole(pattern)
	return &topicMatch{re: re, known: map[string]bool{}}, err
}

func (m *topicMatch) matches(topic string) bool {
	if topic == m.last {
		return m.was
	}
	is, ok := m.known[topic]
	if !ok {
		is = m.re.MatchString(topic)
		if len(m.known) >= maxLayouts {
			clear(m.known)
		}
		m.known[topic] = is
	}
	m.last, m.was = topic, is
	return is
}
