package mongodb

import (
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/forebayhub/forebay/connectors"
)

// line is a document on its way into the target; in mode upsert the last state of a key.
type line struct {
	id    bson.RawValue // the key's _id
	canon string        // mode upsert: two ids are one document when this is the same
	doc   bsoncore.Document
	live  bool // false: there is only a delete
	del   bool // what the key had before goes first
	// partly says that some columns of the record were not sent: they keep what the target holds.
	partly bool
	unset  []string          // partly: fields that go away
	full   bsoncore.Document // partly, and to be read: the document as a whole, of this try
	from   bson.RawValue     // partly: the _id of the document, before this commit, that has the columns which were not sent; zero: this very one
}

func (l *line) size() int {
	n := len(l.doc)
	for _, u := range l.unset {
		n += len(u) + 16
	}
	return n
}

// buffer collects what one commit writes. Its memory is what size says.
type buffer struct {
	lines    []line
	byKey    map[string]int
	truncate bool // the collection is emptied first
	bytes    int
	moves    int // lines that take columns from elsewhere
}

// maxMoves makes a partition due: what they take from elsewhere is read into memory, and its size is not known before.
const maxMoves = 100

func newBuffer() *buffer { return &buffer{byKey: map[string]int{}} }

// lineOverhead is about what a line costs beside its bytes.
const lineOverhead = 250

func (b *buffer) size() int { return b.bytes + lineOverhead*len(b.lines) }

func (b *buffer) empty() bool { return len(b.lines) == 0 && !b.truncate }

// row finds or makes the state of a key.
func (b *buffer) row(id key) *line {
	i, ok := b.byKey[id.canon]
	if !ok {
		i = len(b.lines)
		b.byKey[id.canon] = i
		b.bytes += 2*len(id.canon) + len(id.raw.Value)
		b.lines = append(b.lines, line{canon: id.canon})
	}
	l := &b.lines[i]
	l.id = id.raw
	return l
}

// find is the state of a key; nil when this commit has not touched it.
func (b *buffer) find(canon string) *line {
	if i, ok := b.byKey[canon]; ok {
		return &b.lines[i]
	}
	return nil
}

// clear forgets everything: the collection is emptied.
func (b *buffer) clear() {
	b.lines, b.truncate, b.bytes, b.moves = nil, true, 0, 0
	clear(b.byKey)
}

// remove notes that a key's document goes.
func (b *buffer) remove(id key) {
	l := b.row(id)
	b.bytes -= l.size()
	*l = line{id: l.id, canon: l.canon, del: true}
}

// put notes a key's document. move is nil, or where the document has moved from.
func (b *buffer) put(id key, doc bsoncore.Document, partly bool, unset []string, move *moved) error {
	l := b.row(id)
	next := line{id: l.id, canon: l.canon, doc: doc, live: true, del: l.del, partly: partly, unset: unset}
	base := line{}
	switch {
	case move != nil:
		base = move.was
		next.from = move.from
	case l.live:
		base = *l
		next.from = l.from
	}
	if partly && base.live {
		var err error
		if next.doc, err = merge(base.doc, doc, unset); err != nil {
			return err
		}
		next.partly = base.partly
		next.unset = slices.Clone(base.unset)
		for _, u := range unset {
			if !slices.Contains(next.unset, u) { // each is a stage of the statement, and a row may change thousands of times
				next.unset = append(next.unset, u)
			}
		}
	}
	if next.partly && !next.from.IsZero() {
		b.moves++
	}
	if !next.partly {
		next.from, next.unset = bson.RawValue{}, nil
	}
	b.bytes += next.size() - l.size()
	*l = next
	return nil
}

// merge is base with the members of over, and without those that unset names.
func merge(base, over bsoncore.Document, unset []string) (bsoncore.Document, error) {
	mine, err := over.Elements()
	if err != nil {
		return nil, err
	}
	fresh := map[string]bsoncore.Element{}
	for _, e := range mine {
		fresh[e.Key()] = e
	}
	gone := map[string]bool{}
	for _, u := range unset {
		gone[u] = true
	}
	theirs, err := base.Elements()
	if err != nil {
		return nil, err
	}
	start, dst := bsoncore.AppendDocumentStart(make([]byte, 0, len(base)+len(over)))
	for _, e := range theirs {
		k := e.Key()
		if n, ok := fresh[k]; ok {
			dst = append(dst, n...)
			delete(fresh, k)
		} else if !gone[k] {
			dst = append(dst, e...)
		}
	}
	for _, e := range mine {
		if _, left := fresh[e.Key()]; left {
			dst = append(dst, e...)
		}
	}
	return bsoncore.AppendDocumentEnd(dst, start)
}

// moved is where a document comes from whose key has changed.
type moved struct {
	was  line          // its state in this commit, if live
	from bson.RawValue // the _id of its document in the target before this commit; zero: there is none
}

// moving is a delete that is the first half of a key change. It is held back until its second half is
// there, which takes the columns that it does not bring (unchanged TOAST) from the document.
type moving struct {
	key    key
	offset int64
}

// leave says where the document is that is about to move away.
func (b *buffer) leave(m *moving) *moved {
	out := &moved{}
	switch was := b.find(m.key.canon); {
	case was == nil:
		if !b.truncate {
			out.from = m.key.raw
		}
	case was.live:
		out.was = *was
		if was.partly {
			if out.from = was.from; out.from.IsZero() && !was.del && !b.truncate {
				out.from = was.id
			}
		}
	}
	return out
}

// part is one partition at work.
type part struct {
	connectors.Assignment
	collection string
	start      int64 // the next commit moves the offset from here
	next       int64 // after the last record that was written
	buf        *buffer
	count      int
	since      ticks
	moving     *moving
	torn       *moving // … that was committed without its second half, which may be what comes next
	warned     bool    // of columns that nobody has
	shape      *string // what the topic's keys are, for all its partitions: see shapes
	told       string  // … that the offset's document says
}

// The shapes of a topic: a tombstone's key alone does not tell them apart.
const (
	shapeDocuments = "documents" // of a document store: the key is the text of an _id
	shapeRows      = "rows"
)
