package connectors

// Batch collects what one Read hands over: records in order, and marks that say
// which position holds after how many of them. Its memory is reused: everything
// added with Copy lives until Reset.
type Batch struct {
	Records []Record
	Marks   []Mark

	budget  int
	size    int
	arena   []byte
	headers []Header
	slabs   slabs
}

// Mark says: once Records[:Upto] are in the log, key stands at Position. What becomes durable is Records[:n]
// for some n, with every mark whose Upto is at most n, in one transaction: marks of the same Upto hold together.
type Mark struct {
	Key      PositionKey
	Position Position
	Upto     int
	Boundary bool // end of a transaction of the source: a good place to commit
}

// NewBatch makes a batch that is full at budget bytes of keys, values and headers.
func NewBatch(budget int) *Batch { return &Batch{budget: budget} }

// Add appends a record. The batch does not copy its bytes: see Copy.
func (b *Batch) Add(r Record, size int) {
	b.Records = append(b.Records, r)
	b.size += size
}

// Mark sets key's position after the records added so far. p is copied.
func (b *Batch) Mark(key PositionKey, p Position, boundary bool) {
	if p != nil {
		p = Position(b.Copy(p))
	}
	b.Marks = append(b.Marks, Mark{Key: key, Position: p, Upto: len(b.Records), Boundary: boundary})
}

// Copy keeps a copy of p in the batch's own memory.
func (b *Batch) Copy(p []byte) []byte {
	if p == nil {
		return nil
	}
	if len(b.arena)+len(p) > cap(b.arena) {
		// The old arena stays alive through the records that point into it.
		b.arena = make([]byte, 0, max(64<<10, min(2*cap(b.arena), 4*b.budget), len(p)))
	}
	n := len(b.arena)
	b.arena = append(b.arena, p...)
	return b.arena[n:len(b.arena):len(b.arena)]
}

// Headers gives n empty headers in the batch's own memory, for one record.
func (b *Batch) Headers(n int) []Header {
	if len(b.headers)+n > cap(b.headers) {
		// The old block stays alive through the records that point into it.
		b.headers = make([]Header, 0, max(256, 2*cap(b.headers), n))
	}
	at := len(b.headers)
	b.headers = b.headers[:at+n]
	return b.headers[at : at+n : at+n]
}

// Size is the sum of what Add was told; Full says whether it has reached the budget.
func (b *Batch) Size() int  { return b.size }
func (b *Batch) Full() bool { return b.size >= b.budget }

// Empty says whether there is neither a record nor a mark.
func (b *Batch) Empty() bool { return len(b.Records) == 0 && len(b.Marks) == 0 }

// Reset empties the batch and keeps its memory, up to four times its budget.
func (b *Batch) Reset() {
	clear(b.Records)
	clear(b.Marks)
	clear(b.headers)
	b.headers = b.headers[:0]
	b.Records, b.Marks, b.size = b.Records[:0], b.Marks[:0], 0
	if cap(b.arena) > 4*b.budget {
		b.arena = nil
	}
	b.arena = b.arena[:0]
	b.slabs.reset()
}
