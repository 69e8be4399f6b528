// Package avro is the files format avro: object container files whose rows have the types of the table.
// docs/formats/avro.md has the tables of types and columns, which are a promise to readers.
package avro

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sinks/internal/files"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

const (
	// formatVersion is of docs/formats/avro.md; it stands in every file's metadata.
	formatVersion = "1"
	// blockBytes of rows make a block. Each open file holds one, and its packed form for a moment.
	blockBytes = 64 << 10
)

// New makes the format.
func New(o files.FormatOptions) (files.Format, error) {
	name := o.Compression
	if name == "" || name == "auto" {
		name = "snappy"
	}
	c, ok := codecs[name]
	if !ok {
		return nil, fmt.Errorf("compression: %s is not made for avro; use snappy, zstd, gzip (Avro's deflate) or none", o.Compression)
	}
	return &format{options: table.Options{Flatten: o.Flatten || !o.FlattenGiven, Coordinates: o.Coordinates}, codec: c}, nil
}

type format struct {
	options table.Options
	codec   codec
}

var _ files.Format = (*format)(nil)

func (f *format) Extension() string { return "avro" }
func (f *format) Decoded() bool     { return f.options.Flatten }

// Fits says whether the record has the columns of the open file.
func (f *format) Fits(e files.Encoder, r *connectors.Record) bool {
	enc, ok := e.(*encoder)
	return ok && enc.layout.Fits(r)
}

// layout is what one file holds.
type layout struct {
	*table.Layout
	columns []*node
	text    string // the file's schema
}

func (f *format) layoutOf(r *connectors.Record, looseKeys bool) (*layout, error) {
	l := &layout{Layout: f.options.Layout(r, looseKeys)}
	b := &builder{names: map[string]bool{}}
	row, columns, err := b.record(fullName(r.Topic), l.Columns, 0)
	if err != nil {
		return nil, err
	}
	l.columns, l.text = columns, row.text
	return l, nil
}

// append appends a record's row; after an error it has appended nothing.
func (l *layout) append(dst []byte, r *connectors.Record) ([]byte, error) {
	row, meta, err := l.Values(r)
	if err != nil {
		return dst, err
	}
	n := len(dst)
	if dst, err = appendRow(dst, l.columns[:len(row)], row); err == nil {
		dst, err = appendRow(dst, l.columns[len(row):], meta)
	}
	if err != nil {
		return dst[:n], err
	}
	return dst, nil
}

// NewEncoder starts a file with the columns of its first record.
func (f *format) NewEncoder(w io.Writer, first *connectors.Record) (files.Encoder, error) {
	l, err := f.layoutOf(first, false)
	if err != nil {
		return nil, &files.RecordError{Err: err}
	}
	e := &encoder{layout: l, codec: f.codec, out: w}
	if _, err := rand.Read(e.sync[:]); err != nil {
		return nil, err
	}
	if err := e.write(appendHeader(nil, l.text, f.codec.name, e.sync)); err != nil {
		return nil, err
	}
	return e, nil
}

// encoder writes one file.
type encoder struct {
	layout *layout
	codec  codec
	sync   [16]byte
	out    io.Writer
	size   int64 // written
	fed    int64 // bytes of rows in it
	rows   int64 // of the block at hand
	block  []byte
	packed []byte
	err    error // once a write failed the file is worth nothing
}

var _ files.Encoder = (*encoder)(nil)

// Write adds a row. On a RecordError nothing of it was written.
func (e *encoder) Write(r *connectors.Record) error {
	if e.err != nil {
		return e.err
	}
	block, err := e.layout.append(e.block, r)
	if e.block = block; err != nil {
		return &files.RecordError{Err: err}
	}
	e.rows++
	if len(e.block) < blockBytes {
		return nil
	}
	return e.flush()
}

func (e *encoder) flush() error {
	if e.rows == 0 {
		return nil
	}
	packed, err := e.codec.pack(e.packed[:0], e.block)
	if err != nil {
		e.err = err
		return err
	}
	e.packed = packed
	head := binary.AppendVarint(binary.AppendVarint(nil, e.rows), int64(len(packed)))
	for _, p := range [][]byte{head, packed, e.sync[:]} {
		if err := e.write(p); err != nil {
			return err
		}
	}
	e.fed += int64(len(e.block))
	e.rows, e.block = 0, e.block[:0]
	if cap(e.block) > 4*blockBytes { // one very long record shall not stay in memory for each open file
		e.block, e.packed = nil, nil
	}
	return nil
}

func (e *encoder) write(p []byte) error {
	n, err := e.out.Write(p)
	e.size += int64(n)
	e.err = err
	return err
}

// Size guesses what is not yet in the file by the ratio of what is.
func (e *encoder) Size() int64 {
	open := int64(len(e.block))
	switch {
	case e.codec.name == "null":
	case e.fed == 0:
		open /= 3
	default:
		open = int64(float64(open) * float64(e.size) / float64(e.fed))
	}
	return e.size + open
}

// Close writes the last block.
func (e *encoder) Close() error {
	if e.err != nil {
		return e.err
	}
	return e.flush()
}
