package parquet

import (
	"errors"
	"io"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sinks/internal/files"
)

const (
	// formatVersion is of docs/formats/parquet.md; it stands in every file's metadata.
	formatVersion = "1"
	// batchRows are gathered before they go to the library, column by column.
	batchRows = 128
	// pageBytes is the size of a page before compression. Each open file holds one
	// for each column that cannot be null from its start.
	pageBytes = 64 << 10
	// writeBytes are gathered before they go to the target.
	writeBytes = 64 << 10
)

// encoder writes one file.
type encoder struct {
	f      *format
	layout *layout
	out    counter
	w      *pq.GenericWriter[any]
	cols   []*pq.ColumnWriter
	batch  *rows
	marks  []int // lengths of the batch's leaves before the record at hand

	group    int64 // bytes of the open row group before encoding
	written  int64 // bytes of finished row groups before encoding; out.n is after
	taken    int64 // of the budget
	overfull bool  // the budget is spent
	err      error // once a write failed the file is worth nothing
	closed   bool
}

var (
	_ files.Encoder   = (*encoder)(nil)
	_ files.Discarder = (*encoder)(nil)
)

func newEncoder(w io.Writer, f *format, l *layout) *encoder {
	e := &encoder{f: f, layout: l, out: counter{w: w}, batch: newRows(l.leaves)}
	config := &pq.WriterConfig{
		CreatedBy:            "forebay",
		ColumnPageBuffers:    pageBuffers,
		ColumnIndexSizeLimit: func([]string) int { return pq.DefaultColumnIndexSizeLimit },
		PageBufferSize:       pageBytes,
		WriteBufferSize:      writeBytes,
		DataPageVersion:      1, // what Hive and old Spark read
		MaxRowsPerRowGroup:   1 << 40,
		KeyValueMetadata:     map[string]string{"forebay.format": formatVersion},
		Schema:               pq.NewSchema("record", l.root),
		SkipPageBounds:       unboundedPaths(l.root, nil),
		Compression:          f.codec,
		Sorting:              pq.SortingConfig{},
	}
	e.w = pq.NewGenericWriter[any](&e.out, config)
	e.cols = e.w.ColumnWriters()
	e.reserve(baseBytes(l))
	return e
}

// pageBuffers hold the finished pages of open row groups.
var pageBuffers = pq.NewBufferPool()

// baseBytes is what an empty file costs.
func baseBytes(l *layout) int64 {
	n := writeBytes + int64(l.leaves)*2048
	for _, c := range l.columns {
		if !c.optional && c.shape == leafShape {
			n += pageBytes
		}
	}
	return n
}

func (e *encoder) reserve(n int64) {
	e.taken += n
	e.overfull = !e.f.budget.take(n)
}

// Write takes a record apart. On a RecordError nothing of it was written.
func (e *encoder) Write(r *connectors.Record) error {
	if e.err != nil {
		return e.err
	}
	size := e.batch.size
	e.marks = e.marks[:0]
	for _, vs := range e.batch.leaves {
		e.marks = append(e.marks, len(vs))
	}
	if err := e.layout.fill(e.batch, r); err != nil {
		for i, n := range e.marks {
			e.batch.leaves[i] = e.batch.leaves[i][:n]
		}
		e.batch.size = size
		return &files.RecordError{Err: err}
	}
	if e.batch.count < batchRows && e.batch.size < maxBatchBytes {
		return nil
	}
	return e.flushBatch()
}

// flushBatch gives the gathered rows to the column writers, which copy them.
func (e *encoder) flushBatch() error {
	for i, vs := range e.batch.leaves {
		if _, err := e.cols[i].WriteRowValues(vs); err != nil {
			return e.fail(err)
		}
	}
	size := e.batch.size
	e.batch.reset()
	e.group += size
	e.reserve(size)
	if e.group >= rowGroup || e.overfull && e.group >= minRowGroup {
		return e.flushGroup()
	}
	return nil
}

// flushGroup ends the row group, which goes to the file.
func (e *encoder) flushGroup() error {
	if err := e.w.Flush(); err != nil {
		return e.fail(err)
	}
	e.written += e.group
	e.taken -= e.group
	e.f.budget.give(e.group)
	e.group, e.overfull = 0, false
	return nil
}

func (e *encoder) fail(err error) error {
	e.err = err
	e.Discard()
	return err
}

// Size guesses what is not yet in the file by the ratio of what is.
func (e *encoder) Size() int64 {
	open := e.group + e.batch.size
	if e.written == 0 {
		if e.f.codec == &pq.Uncompressed {
			return e.out.n + open
		}
		return e.out.n + open/3
	}
	return e.out.n + int64(float64(open)*float64(e.out.n)/float64(e.written))
}

// Close writes the last row group and the footer.
func (e *encoder) Close() error {
	if e.err != nil {
		return e.err
	}
	if e.closed {
		return nil
	}
	defer e.Discard()
	if err := e.flushBatch(); err != nil {
		return err
	}
	if err := e.w.Close(); err != nil {
		return e.fail(err)
	}
	e.closed, e.group = true, 0
	return nil
}

// Discard gives the file's memory back.
func (e *encoder) Discard() {
	e.f.budget.give(e.taken)
	e.taken = 0
	if !e.closed && e.err == nil {
		e.err = errDiscarded
	}
	e.batch = newRows(0)
	if e.w != nil {
		e.w.Reset(io.Discard) // page buffers go back to their pool
		e.w, e.cols = nil, nil
	}
}

var errDiscarded = errors.New("parquet: the file was given up")

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
