package parquet

import (
	"errors"
	"fmt"
	"io"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sinks/internal/files"
)

// readBytes are read at once of each column. Columns lie apart, and in HDFS a
// read at another place is a new connection to a datanode.
const readBytes = 256 << 10

// Compare reads a file back and holds each row against the log's record of the
// same offset, value by value and level by level.
func (f *format) Compare(r files.Reader, want func() (*connectors.Record, error), differ func(row int, what string)) error {
	file, err := pq.OpenFile(r, r.Size(), pq.SkipPageIndex(true), pq.SkipBloomFilters(true), pq.ReadBufferSize(readBytes))
	if err != nil {
		differ(0, "not a Parquet file: "+err.Error())
		return drain(want, differ)
	}
	c := &comparison{f: f, file: file, rows: newRowReader(file), differ: differ}
	defer c.rows.close()
	for {
		rec, err := want()
		if errors.Is(err, io.EOF) {
			return c.rest()
		}
		if err != nil {
			return err
		}
		if err := c.record(rec); err != nil {
			return err
		}
	}
}

// drain reports every record as missing.
func drain(want func() (*connectors.Record, error), differ func(int, string)) error {
	for {
		rec, err := want()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		differ(-1, fmt.Sprintf("offset %d is missing", rec.Place().Offset))
	}
}

type comparison struct {
	f      *format
	file   *pq.File
	rows   *rowReader
	differ func(int, string)

	layout   *layout
	fitting  bool // the file has the layout's columns
	offsetAt int  // leaf of _offset
	expected *rows
}

// record compares one record of the log.
func (c *comparison) record(rec *connectors.Record) error {
	if rec.RawValue == nil && rec.Change == nil && rec.Value.Schema == nil {
		return nil // a tombstone has no row
	}
	if err := c.expect(rec); err != nil {
		c.differ(-1, files.Refused(rec, err))
		return nil
	}
	if !c.fitting {
		c.differ(-1, fmt.Sprintf("offset %d is missing: the file's columns are not the record's", rec.Place().Offset))
		return nil
	}
	for {
		row, at, err := c.rows.peek()
		if errors.Is(err, io.EOF) {
			c.differ(-1, fmt.Sprintf("offset %d is missing", rec.Place().Offset))
			return nil
		}
		if err != nil {
			return err
		}
		offset := int64(-1)
		row.Range(func(i int, vs []pq.Value) bool {
			if i == c.offsetAt && len(vs) == 1 {
				offset = vs[0].Int64()
			}
			return true
		})
		switch {
		case offset > rec.Place().Offset:
			c.differ(-1, fmt.Sprintf("offset %d is missing", rec.Place().Offset))
			return nil
		case offset < rec.Place().Offset:
			c.rows.next()
			c.differ(at, fmt.Sprintf("offset %d is not in the log here, or twice in the file", offset))
			continue
		}
		c.compareRow(row, at)
		c.rows.next()
		return nil
	}
}

// expect takes the record apart as the writer did, or says why it cannot be.
func (c *comparison) expect(rec *connectors.Record) error {
	if c.layout == nil || !c.layout.Fits(rec) {
		l, err := c.f.layoutOf(rec, false)
		if err == nil && !sameNodes(l.root, c.file.Root()) {
			l, err = c.f.layoutOf(rec, true) // a file with a truncate
		}
		if err != nil {
			return err
		}
		c.layout, c.expected = l, newRows(l.leaves)
		c.fitting = sameNodes(l.root, c.file.Root())
		c.offsetAt = l.offsetLeaf()
	}
	c.expected.reset()
	return c.layout.fill(c.expected, rec)
}

// compareRow reports the first column that differs.
func (c *comparison) compareRow(row pq.Row, at int) {
	row.Range(func(i int, got []pq.Value) bool {
		want := c.expected.leaves[i]
		ok := len(got) == len(want)
		for k := 0; ok && k < len(want); k++ {
			ok = pq.Equal(got[k], want[k]) && got[k].RepetitionLevel() == want[k].RepetitionLevel() &&
				got[k].DefinitionLevel() == want[k].DefinitionLevel()
		}
		if !ok {
			c.differ(at, fmt.Sprintf("column %s is %s, the log has %s", c.leafName(i), show(got), show(want)))
		}
		return ok
	})
}

func (c *comparison) leafName(i int) string {
	path := c.file.Schema().Columns()[i]
	return path[0]
}

// show prints values for a report, at most about a line of them.
func show(vs []pq.Value) string {
	s := ""
	for i, v := range vs {
		if i > 0 {
			s += ", "
		}
		if v.IsNull() {
			s += "null"
		} else {
			s += fmt.Sprintf("%q", v.String())
		}
		if len(s) > 120 {
			return s[:117] + "…"
		}
	}
	return s
}

// rest reports rows that the log does not have.
func (c *comparison) rest() error {
	for {
		_, at, err := c.rows.peek()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.rows.next()
		c.differ(at, "the log has no such record")
	}
}

// sameNodes says whether a file has these columns, in this order, with these types.
func sameNodes(a, b pq.Node) bool {
	if a.Optional() != b.Optional() || a.Repeated() != b.Repeated() || a.Leaf() != b.Leaf() {
		return false
	}
	if a.Leaf() {
		at, bt := a.Type(), b.Type()
		return at.Kind() == bt.Kind() && at.Length() == bt.Length() && at.String() == bt.String()
	}
	af, bf := a.Fields(), b.Fields()
	if len(af) != len(bf) {
		return false
	}
	for i := range af {
		if af[i].Name() != bf[i].Name() || !sameNodes(af[i], bf[i]) {
			return false
		}
	}
	return true
}

// rowReader yields the rows of all row groups.
type rowReader struct {
	groups []pq.RowGroup
	open   pq.Rows
	buf    []pq.Row
	have   int // rows in buf
	pos    int // of the row that peek shows
	index  int // its number in the file
	ended  bool
}

func newRowReader(f *pq.File) *rowReader {
	return &rowReader{groups: f.RowGroups(), buf: make([]pq.Row, 64)}
}

func (r *rowReader) peek() (pq.Row, int, error) {
	for r.pos == r.have {
		if r.ended {
			if r.open != nil {
				err := r.open.Close()
				r.open = nil
				if err != nil {
					return nil, 0, err
				}
			}
			r.ended = false
		}
		if r.open == nil {
			if len(r.groups) == 0 {
				return nil, 0, io.EOF
			}
			r.open, r.groups = r.groups[0].Rows(), r.groups[1:]
		}
		n, err := r.open.ReadRows(r.buf)
		r.have, r.pos = n, 0
		if errors.Is(err, io.EOF) {
			r.ended = true
		} else if err != nil {
			return nil, 0, fmt.Errorf("row %d: %w", r.index, err)
		}
	}
	return r.buf[r.pos], r.index, nil
}

func (r *rowReader) next() { r.pos, r.index = r.pos+1, r.index+1 }

func (r *rowReader) close() {
	if r.open != nil {
		_ = r.open.Close() // only read
	}
}
