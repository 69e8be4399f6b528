// Package parquet is the files format parquet: columns with the types of the table.
//
// A file has one schema. A change event becomes the row's columns and _op, _ts,
// _offset, _unchanged; a record without a schema becomes value, _headers, _ts,
// _offset. docs/formats/parquet.md has the tables of types and columns, which are a promise to readers.
//
// Records go through a tree of columns that is built once per file, straight into
// parquet-go's column writers: no reflection, no map per row. What the
// library is not asked to do, and why, is in DESIGN.md.
package parquet

import (
	"fmt"
	"io"

	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sinks/internal/files"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

// New makes the format with the budget of the node.
func New(o files.FormatOptions) (files.Format, error) { return NewWith(o, node) }

// NewWith makes the format with a budget of its own.
func NewWith(o files.FormatOptions, b *Budget) (files.Format, error) {
	f := &format{options: table.Options{Flatten: o.Flatten || !o.FlattenGiven, Coordinates: o.Coordinates}, budget: b}
	switch o.Compression {
	case "", "auto", "snappy":
		f.codec = &pq.Snappy
	case "zstd":
		f.codec = &pq.Zstd
	case "gzip":
		f.codec = &pq.Gzip
	case "none":
		f.codec = &pq.Uncompressed
	default:
		return nil, fmt.Errorf("compression: %s is not made for parquet; use snappy, zstd, gzip or none", o.Compression)
	}
	return f, nil
}

type format struct {
	options table.Options
	codec   compress.Codec
	budget  *Budget
}

var _ files.Format = (*format)(nil)

func (f *format) Extension() string { return "parquet" }
func (f *format) Decoded() bool     { return f.options.Flatten }

// Fits says whether the record has the columns of the open file.
func (f *format) Fits(e files.Encoder, r *connectors.Record) bool {
	enc, ok := e.(*encoder)
	return ok && enc.layout.Fits(r)
}

// NewEncoder starts a file with the columns of its first record.
func (f *format) NewEncoder(w io.Writer, first *connectors.Record) (files.Encoder, error) {
	l, err := f.layoutOf(first, false)
	if err != nil {
		return nil, &files.RecordError{Err: err}
	}
	return newEncoder(w, f, l), nil
}
