package postgres

import (
	"bytes"

	"github.com/forebayhub/forebay/connectors"
)

// line is a row on its way into the target; in mode upsert the last state of a key.
type line struct {
	at, n  int    // the line in the arena, without its end
	cols   int    // how many columns it has: the table may have gained some since
	live   bool   // false: there is only a delete
	del    bool   // the key's old row goes first
	key    string // mode upsert: the key's text, as COPY reads it
	group  int
	from   string // the key of the row, before this commit, that has the columns which were not sent; "": this very row
	offset int64
}

// group is a set of lines that are written by the same statements.
type group struct {
	present string // one byte for each column
	partly  bool   // some columns of the record were not sent: they keep what the target holds
	moved   bool   // … and it is another key's row that holds them
}

// buffer collects what one commit writes. Its memory is what size says.
type buffer struct {
	arena    []byte
	rows     []line
	byKey    map[string]int
	groups   []group
	groupIDs map[group]int
	truncate bool // the table is emptied first
	keyBytes int
	wider    int // how often columns of the table had been widened when its lines were spelled
}

func newBuffer() *buffer {
	return &buffer{byKey: map[string]int{}, groupIDs: map[group]int{}}
}

// reset makes an empty buffer of a used one.
func (b *buffer) reset() *buffer {
	clear(b.byKey)
	clear(b.groupIDs)
	clear(b.rows) // the keys' texts
	b.arena, b.rows, b.groups, b.truncate, b.keyBytes = b.arena[:0], b.rows[:0], b.groups[:0], false, 0
	return b
}

// rowOverhead is about what a row costs beside its bytes.
const rowOverhead = 160

func (b *buffer) size() int { return len(b.arena) + 2*b.keyBytes + rowOverhead*len(b.rows) }

func (b *buffer) empty() bool { return len(b.rows) == 0 && !b.truncate }

func (b *buffer) groupOf(g group) int {
	id, ok := b.groupIDs[g]
	if !ok {
		id = len(b.groups)
		b.groups, b.groupIDs[g] = append(b.groups, g), id
	}
	return id
}

// row finds or makes the state of a key.
func (b *buffer) row(key []byte) *line {
	i, ok := b.byKey[string(key)]
	if !ok {
		i = len(b.rows)
		k := string(key)
		b.byKey[k] = i
		b.keyBytes += len(k)
		b.rows = append(b.rows, line{key: k})
	}
	return &b.rows[i]
}

// find is the state of a key; nil when this commit has not touched it.
func (b *buffer) find(key string) *line {
	if i, ok := b.byKey[key]; ok {
		return &b.rows[i]
	}
	return nil
}

// clear forgets everything: the table is emptied.
func (b *buffer) clear() {
	b.arena, b.rows, b.truncate, b.keyBytes = b.arena[:0], b.rows[:0], true, 0
	clear(b.byKey)
}

// remove notes that a key's row goes.
func (b *buffer) remove(key []byte, offset int64) {
	r := b.row(key)
	r.live, r.del, r.from, r.offset = false, true, "", offset
}

// put notes a key's row, whose line of cols columns begins at at and ends the
// arena. old is nil, or the state of the row that it has moved from.
func (b *buffer) put(key []byte, at, cols int, present, plan string, move *moved, offset int64) {
	n := len(b.arena) - at
	r := b.row(key)
	next := line{at: at, n: n, cols: cols, live: true, del: r.del, key: r.key, offset: offset}
	partly := present != plan
	base := line{}
	switch {
	case move != nil:
		base = move.was
		if partly {
			next.from = move.from
		}
	case r.live:
		base = *r
		if partly {
			next.from = r.from
		}
	}
	if base.live && (partly || base.cols > cols || b.groups[base.group].present != present) {
		var all bool
		present, all = b.merge(&next, present, plan, base)
		partly = partly && !all
	}
	if !partly {
		next.from = ""
	}
	next.group = b.groupOf(group{present: present, partly: partly, moved: partly && next.from != ""})
	*r = next
}

// merge takes from base what the row's line leaves out. all: nothing of the plan is missing any more.
func (b *buffer) merge(next *line, present, plan string, base line) (merged string, all bool) {
	had := b.groups[base.group].present
	mine := bytes.Split(b.arena[next.at:next.at+next.n], tab)
	old := bytes.Split(b.arena[base.at:base.at+base.n], tab)
	cols := max(next.cols, base.cols)
	set := make([]byte, cols)
	out := make([]byte, 0, next.n+base.n)
	all = true
	for i := range cols {
		if i > 0 {
			out = append(out, '\t')
		}
		switch {
		case i < next.cols && present[i] == 1:
			out, set[i] = append(out, mine[i]...), 1
		case i < base.cols && had[i] == 1:
			out, set[i] = append(out, old[i]...), 1
		default:
			out = append(out, `\N`...)
			all = all && !(i < len(plan) && plan[i] == 1)
		}
	}
	b.arena = append(b.arena[:next.at], out...)
	next.n, next.cols = len(out), cols
	return string(set), all
}

var tab = []byte{'\t'}

// moved is where a row comes from whose key has changed.
type moved struct {
	was  line   // its state in this commit, if live
	from string // the key of its row in the target before this commit; "": there is none
}

// moving is a delete that is the first half of a key change. It is held back
// until its second half is there, which takes the columns that it does not bring (unchanged TOAST)
// from the row.
type moving struct {
	key    []byte
	offset int64
}

// part is one partition at work.
type part struct {
	connectors.Assignment
	table   *table
	start   int64 // the next commit moves the offset from here
	next    int64 // after the last record that was written
	buf     *buffer
	earlier []*buffer // … and these before it: columns have been widened since
	count   int
	since   ticks
	moving  *moving
	torn    *moving // … that was committed without its second half, which may be what comes next
	warned  bool    // of columns that nobody has
}

// size is what the next commit holds in memory.
func (p *part) size() int {
	n := p.buf.size()
	for _, b := range p.earlier {
		n += b.size()
	}
	return n
}

func (p *part) empty() bool { return p.buf.empty() && len(p.earlier) == 0 }
