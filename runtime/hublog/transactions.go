package hublog

// Transactions resolve what a Scan gives: T is applied at once when it belongs to no transaction, and else when its transaction is
// committed. What is aborted is forgotten.
type Transactions[T any] struct {
	apply func(T)
	open  map[int64][]held[T] // by producer id
}

type held[T any] struct {
	value  T
	offset int64
}

// NewTransactions resolves into apply.
func NewTransactions[T any](apply func(T)) *Transactions[T] {
	return &Transactions[T]{apply: apply, open: map[int64][]held[T]{}}
}

// Marker says whether e is a transaction's marker, and ends the transaction if it is.
func (t *Transactions[T]) Marker(e Entry) bool {
	if !e.Control {
		return false
	}
	if e.Commit {
		for _, h := range t.open[e.ProducerID] {
			t.apply(h.value)
		}
	}
	delete(t.open, e.ProducerID)
	return true
}

// Add takes what the record e holds.
func (t *Transactions[T]) Add(e Entry, value T) {
	if !e.Transactional {
		t.apply(value)
		return
	}
	t.open[e.ProducerID] = append(t.open[e.ProducerID], held[T]{value, e.Offset})
}

// Finish deals with what was added and whose marker was not seen. Below the last stable offset its transaction has ended, and compaction, which drops
// aborted records, has dropped the marker of a committed one. What lies above is given to still, unless that is nil, whose error ends it.
func (t *Transactions[T]) Finish(lso int64, still func(producer, offset int64, value T) error) error {
	for id, all := range t.open {
		for _, h := range all {
			if h.offset < lso {
				t.apply(h.value)
			} else if still != nil {
				if err := still(id, h.offset, h.value); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
