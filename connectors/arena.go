package connectors

import "github.com/forebayhub/forebay/connectors/schema"

// slabLen is how many values or changes a batch takes from the heap at a time.
const slabLen = 1024

// slabs are the parts of a batch's memory that hold typed things. A slab that is
// full stays alive through the records that point into it; Reset reuses the last.
type slabs struct {
	values  []schema.Value
	changes []Change
}

// Values returns n null values in the batch's own memory, valid until Reset: the
// members of a row without an allocation for each row.
func (b *Batch) Values(n int) []schema.Value {
	s := &b.slabs
	if len(s.values)+n > cap(s.values) {
		s.values = make([]schema.Value, 0, max(slabLen, n, min(2*cap(s.values), 64*slabLen)))
	}
	at := len(s.values)
	s.values = s.values[:at+n]
	v := s.values[at : at+n : at+n]
	clear(v)
	return v
}

// NewChange returns a zero Change in the batch's own memory, valid until Reset.
func (b *Batch) NewChange() *Change {
	s := &b.slabs
	if len(s.changes) == cap(s.changes) {
		s.changes = make([]Change, 0, max(slabLen/8, min(2*cap(s.changes), 4*slabLen)))
	}
	s.changes = append(s.changes, Change{})
	return &s.changes[len(s.changes)-1]
}

// reset forgets what the slabs held. The values keep their pointers until they
// are handed out again: all of them point into this batch.
func (s *slabs) reset() {
	if cap(s.values) > 64*slabLen { // of one large array
		s.values = nil
	}
	s.values, s.changes = s.values[:0], s.changes[:0]
}
