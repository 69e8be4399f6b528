package transform

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

// maxRoutes bounds the topics that one transform makes out of what records hold: each costs files and memory in the log.
const maxRoutes = 1000

var routeType = &Type{
	Name: "route", Connect: "RegexRouter, TimestampRouter, ExtractTopic",
	Spec: spec.Spec{Doc: "Appends records to another topic. The topic is made when it is not there, with the source's partitions.", Fields: []spec.Field{
		{Name: "match", Default: ".*", Check: regex, Doc: "A regular expression; a record whose whole topic does not match it stays where it is.", Example: `shop\.public\.(.*)`},
		{Name: "to", Required: true, Doc: "The topic: text, $1 or ${name} for what a group matched ($$ is one dollar sign before a brace), {topic} for the topic, {field} for the " +
			"value of `field`, and %Y %m %d %H %M %S for the record's time in UTC.", Example: "orders-$1"},
		{Name: "field", Doc: "The field of the value that {field} stands for, by name or by a path with dots.", Example: "tenant"}, missingField}},
	Example: "- {type: route, match: 'shop\\.public\\.(.*)', to: 'db.$1'}\n- {type: route, to: 'events-{field}', field: tenant}\n- {type: route, to: '{topic}-%Y%m%d'}",
	side: func(s Side) error {
		if s == Sink {
			return advise("route in the source, or say in the sink what it reads (`topics`) and where it writes (`table`, `url`)",
				"a sink's records keep the topic that they lie in: offsets are counted in it")
		}
		return nil
	},
	make: func(v spec.Values, _ Side) (applier, error) {
		re, err := whole(v.String("match"))
		if err != nil {
			return nil, err
		}
		t := &route{match: re, field: v.String("field"), skip: v.String("missing") == "skip", known: map[string]string{}, made: map[string]string{}}
		if t.to, err = template(v.String("to"), re); err != nil {
			return nil, err
		}
		for _, p := range t.to {
			t.dynamic = t.dynamic || p.kind == fieldPiece || p.kind == timePiece
			t.fields = t.fields || p.kind == fieldPiece
		}
		if t.fields != (t.field != "") {
			return nil, advise("for example `to: 'events-{field}', field: tenant`", "{field} in `to` and `field` go together")
		}
		return t, nil
	},
}

type route struct {
	match   *regexp.Regexp
	to      []piece
	field   string
	skip    bool
	dynamic bool              // the topic depends on more than the topic
	fields  bool              // … on a field
	known   map[string]string // of a route that is not dynamic: topic to topic, "" for one that does not match
	made    map[string]string // of a dynamic one: the topics that it has made
	buf     []byte
}

func (t *route) pure() bool { return !t.dynamic }

// piece is a part of the template.
type piece struct {
	kind  pieceKind
	text  string
	group int  // of what match has matched
	verb  byte // of a time
}

type pieceKind uint8

const (
	textPiece pieceKind = iota
	groupPiece
	topicPiece
	fieldPiece
	timePiece
)

func (t *route) apply(w *work) (bool, error) {
	from := w.r.Topic
	if !t.dynamic {
		to, ok := t.known[from]
		if !ok {
			var err error
			if to, err = t.static(from); err != nil {
				return false, err
			}
			if len(t.known) >= maxRoutes {
				clear(t.known)
			}
			t.known[from] = to
		}
		if to != "" && to != from {
			w.r.Topic, w.r.Partition = to, -1
		}
		return true, nil
	}
	groups := t.match.FindStringSubmatchIndex(from)
	if groups == nil {
		return true, nil
	}
	if t.fields {
		d, err := w.datum(value)
		if err != nil {
			return false, err
		}
		f, ok := find(d, t.field)
		if !ok || f.Value.IsNull() || f.Value.Kind == schema.Unavailable {
			return true, missing(t.skip, t.field)
		}
		if t.buf, ok = appendText(t.buf[:0], f); !ok {
			return false, fmt.Errorf("field '%s' is %s, not a text", t.field, kindName(f.Value.Kind))
		}
	}
	var name [maxTopic + 1]byte
	dst, err := t.append(name[:0], from, groups, t.buf, w)
	if err != nil {
		return false, err
	}
	to, ok := t.made[string(dst)]
	if !ok {
		if len(t.made) >= maxRoutes {
			return false, advise("route by a field with fewer values", "more than %d topics", maxRoutes)
		}
		if err := topicName(string(dst)); err != nil {
			return false, err
		}
		to = string(dst)
		t.made[to] = to
	}
	if to != from {
		w.r.Topic, w.r.Partition = to, -1
	}
	return true, nil
}

// static is the topic that another one is routed to, "" when it does not match.
func (t *route) static(from string) (string, error) {
	groups := t.match.FindStringSubmatchIndex(from)
	if groups == nil {
		return "", nil
	}
	dst, err := t.append(nil, from, groups, nil, nil)
	if err != nil {
		return "", err
	}
	return string(dst), topicName(string(dst))
}

var errLong = errors.New("the topic's name becomes longer than 249 characters")

func (t *route) append(dst []byte, from string, groups []int, field []byte, w *work) ([]byte, error) {
	for i := range t.to {
		switch p := &t.to[i]; p.kind {
		case textPiece:
			dst = append(dst, p.text...)
		case groupPiece:
			if at := groups[2*p.group]; at >= 0 {
				dst = append(dst, from[at:groups[2*p.group+1]]...)
			}
		case topicPiece:
			dst = append(dst, from...)
		case fieldPiece:
			if len(field) > maxTopic {
				return dst, errLong
			}
			dst = append(dst, field...)
		case timePiece:
			dst = appendTime(dst, w.at(), p.verb)
		}
	}
	if len(dst) > maxTopic {
		return dst, errLong
	}
	return dst, nil
}

// at is the record's time. A source may leave it to the append: that is now, and from here on it is the record's.
func (w *work) at() time.Time {
	if w.r.Timestamp.IsZero() {
		w.r.Timestamp = time.Now()
	}
	return w.r.Timestamp.UTC()
}

// maxTopic is Kafka's limit (Topic.MAX_NAME_LENGTH).
const maxTopic = 249

// topicName checks a name as Kafka does (Topic.validate).
func topicName(name string) error {
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("%q cannot be a topic's name", name)
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return advise("Kafka's topics have letters, digits, dots, _ and -", "%q cannot be a topic's name", name)
		}
	}
	if strings.HasPrefix(name, "_forebay.") || strings.HasPrefix(name, "__") {
		return advise("", "%q is an internal topic", name)
	}
	return nil
}

// verbs are the parts of a time, as in a sink's `partition`.
const verbs = "YmdHMS"

func appendTime(dst []byte, at time.Time, verb byte) []byte {
	two := func(n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }
	switch verb {
	case 'Y':
		return at.AppendFormat(dst, "2006")
	case 'm':
		return two(int(at.Month()))
	case 'd':
		return two(at.Day())
	case 'H':
		return two(at.Hour())
	case 'M':
		return two(at.Minute())
	}
	return two(at.Second())
}

// template reads a `to`.
func template(text string, re *regexp.Regexp) (pieces []piece, err error) {
	add := func(p piece) { pieces = append(pieces, p) }
	for text != "" {
		i := strings.IndexAny(text, "$%{")
		if i < 0 {
			i = len(text)
		}
		if i > 0 {
			add(piece{text: text[:i]})
			text = text[i:]
			continue
		}
		switch {
		case strings.HasPrefix(text, "{topic}"):
			add(piece{kind: topicPiece})
			text = text[len("{topic}"):]
		case strings.HasPrefix(text, "{field}"):
			add(piece{kind: fieldPiece})
			text = text[len("{field}"):]
		case text[0] == '{':
			return nil, advise("write {topic} or {field}", "`to` has a brace that says nothing: %s", text)
		case text[0] == '%':
			if len(text) < 2 || strings.IndexByte(verbs, text[1]) < 0 {
				return nil, advise("write %Y, %m, %d, %H, %M or %S", "`to` has a %% that says nothing: %s", text)
			}
			add(piece{kind: timePiece, verb: text[1]})
			text = text[2:]
		default:
			var g int
			if g, text, err = group(text, re); err != nil {
				return nil, err
			}
			add(piece{kind: groupPiece, group: g})
		}
	}
	return pieces, nil
}

// group reads $1 or ${name}.
func group(text string, re *regexp.Regexp) (n int, rest string, err error) {
	bad := advise("write $1 for what the first pair of parentheses in `match` matched", "`to` names a group that `match` does not have: %s", text)
	if inner, ok := strings.CutPrefix(text, "${"); ok {
		name, rest, ok := strings.Cut(inner, "}")
		if i := re.SubexpIndex(name); ok && i >= 0 {
			return i, rest, nil
		}
		if i, err := strconv.Atoi(name); ok && err == nil && i >= 0 && i <= re.NumSubexp() {
			return i, rest, nil
		}
		return 0, "", bad
	}
	// As Java's Matcher.appendReplacement: further digits count as long as there is such a group.
	end := 1
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		next := 10*n + int(text[end]-'0')
		if next > re.NumSubexp() {
			break
		}
		n, end = next, end+1
	}
	if end == 1 {
		return 0, "", bad
	}
	return n, text[end:], nil
}
