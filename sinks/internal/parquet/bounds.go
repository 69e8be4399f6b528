package parquet

import (
	"bytes"

	pq "github.com/parquet-go/parquet-go"
	fmtpq "github.com/parquet-go/parquet-go/format"
)

// unboundedType is a type whose pages get bounds that hold for every value, so that no
// reader skips a page: for values whose order the library gets wrong, and for
// long ones, whose bounds would only fill the footer. The column chunk's own bounds are
// left out with SkipPageBounds.
type unboundedType struct {
	pq.Type
	low, high []byte
}

func unbounded(t pq.Type, low, high []byte) pq.Type { return unboundedType{t, low, high} }

var (
	noBytes  []byte
	maxText  = bytes.Repeat([]byte("\U0010FFFF"), 8)
	maxBytes = bytes.Repeat([]byte{0xFF}, 32)
	min16    = append([]byte{0x80}, make([]byte, 15)...)
	max16    = append([]byte{0x7F}, bytes.Repeat([]byte{0xFF}, 15)...)
)

func (t unboundedType) NewColumnIndexer(int) pq.ColumnIndexer {
	return &widest{low: t.low, high: t.high}
}

// widest is a column index of such pages.
type widest struct {
	low, high []byte
	nulls     []int64
	allNull   []bool
}

func (w *widest) Reset() { w.nulls, w.allNull = w.nulls[:0], w.allNull[:0] }

func (w *widest) IndexPage(numValues, numNulls int64, _, _ pq.Value) {
	w.nulls = append(w.nulls, numNulls)
	w.allNull = append(w.allNull, numValues == numNulls)
}

func (w *widest) ColumnIndex() fmtpq.ColumnIndex {
	x := fmtpq.ColumnIndex{NullPages: append([]bool(nil), w.allNull...), NullCounts: append([]int64(nil), w.nulls...), BoundaryOrder: fmtpq.Unordered}
	for _, null := range w.allNull {
		low, high := w.low, w.high
		if null { // "writers have to set the corresponding entries to byte[0]"
			low, high = nil, nil
		}
		x.MinValues = append(x.MinValues, low)
		x.MaxValues = append(x.MaxValues, high)
	}
	return x
}

// unboundedPaths lists the leaves whose bounds are left out.
func unboundedPaths(node pq.Node, path []string) [][]string {
	if node.Leaf() {
		if _, ok := node.Type().(unboundedType); ok {
			return [][]string{append([]string(nil), path...)}
		}
		return nil
	}
	var all [][]string
	for _, f := range node.Fields() {
		all = append(all, unboundedPaths(f, append(path, f.Name()))...)
	}
	return all
}
