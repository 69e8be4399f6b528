package parquet

import "sync/atomic"

// Budget bounds the memory in which open files gather their row groups. It
// never makes anybody wait: a file that would exceed it ends its row group
// early, so files get smaller row groups instead of the node more memory. Every open file
// may hold minRowGroup beyond the budget, or one record if that is larger.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget makes a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// take counts n more bytes and says whether all of them are within the budget.
func (b *Budget) take(n int64) bool { return b.used.Add(n) <= b.limit }

func (b *Budget) give(n int64) { b.used.Add(-n) }

// Used is what open files hold now, in bytes.
func (b *Budget) Used() int64 { return b.used.Load() }

// node is the budget of this process, shared by all sinks of the node: what it
// bounds, the memory of the process, is one thing too.
var node = NewBudget(256 << 20)

const (
	rowGroup    = 8 << 20   // bytes before encoding at which a row group ends
	minRowGroup = 512 << 10 // below this a row group does not end early for the budget's sake
)
