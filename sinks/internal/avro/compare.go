package avro

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sinks/internal/files"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

// Compare reads a file back and holds each row against the log's record of the same offset, column by column.
func (f *format) Compare(r files.Reader, want func() (*connectors.Record, error), differ func(row int, what string)) error {
	file, err := openContainer(r)
	if err != nil {
		differ(0, "not an Avro file: "+err.Error())
	}
	c := &comparison{f: f, file: file, differ: differ}
	for {
		rec, err := want()
		if errors.Is(err, io.EOF) {
			c.rest()
			return nil
		}
		if err != nil {
			return err
		}
		c.record(rec)
	}
}

type comparison struct {
	f      *format
	file   *container // nil: nothing more can be read
	differ func(int, string)

	layout   *layout
	fitting  bool // the file has the layout's columns
	expected []byte

	left  int64  // rows of the block at hand, the one at data's beginning among them
	data  []byte // of the block, from the row at hand on
	index int    // that row's number in the file
}

func (c *comparison) missing(rec *connectors.Record, why string) {
	c.differ(-1, fmt.Sprintf("offset %d is missing%s", rec.Place().Offset, why))
}

// record compares one record of the log.
func (c *comparison) record(rec *connectors.Record) {
	if rec.RawValue == nil && rec.Change == nil && rec.Value.Schema == nil {
		return // a tombstone has no row
	}
	if err := c.expect(rec); err != nil {
		c.differ(-1, files.Refused(rec, err))
		return
	}
	for c.file != nil {
		if !c.fitting {
			c.missing(rec, ": the file's columns are not the record's")
			return
		}
		parts, offset, ok := c.row()
		switch {
		case !ok:
			continue
		case offset > rec.Place().Offset:
			c.missing(rec, "")
			return
		case offset < rec.Place().Offset:
			c.differ(c.index, fmt.Sprintf("offset %d is not in the log here, or twice in the file", offset))
			c.step(parts)
			continue
		}
		c.compare(parts)
		c.step(parts)
		return
	}
	c.missing(rec, "")
}

// row parts the row at hand into its columns. False: it cannot be read, or there is none, and file is nil.
func (c *comparison) row() (parts [][]byte, offset int64, ok bool) {
	for c.left == 0 {
		if !c.block() {
			return nil, 0, false
		}
	}
	rest := c.data
	for i, n := range c.layout.columns {
		after, err := n.skip(rest)
		if err != nil {
			return nil, 0, c.broken(err)
		}
		parts, rest = append(parts, rest[:len(rest)-len(after)]), after
		if c.layout.Columns[i].Name == table.OffsetColumn {
			offset, _, _ = long(parts[i]) // skip has read it
		}
	}
	return parts, offset, true
}

// block reads the next one.
func (c *comparison) block() bool {
	if len(c.data) > 0 {
		return c.broken(errors.New("a block holds more than its rows"))
	}
	var err error
	c.left, c.data, err = c.file.next()
	if errors.Is(err, io.EOF) {
		c.file = nil
		return false
	}
	if err != nil {
		return c.broken(err)
	}
	return true
}

func (c *comparison) broken(err error) bool {
	c.differ(c.index, "unreadable from here on: "+err.Error())
	c.file = nil
	return false
}

func (c *comparison) step(parts [][]byte) {
	for _, p := range parts {
		c.data = c.data[len(p):]
	}
	c.left, c.index = c.left-1, c.index+1
}

// expect writes the record as the writer did, or says why it cannot be.
func (c *comparison) expect(rec *connectors.Record) error {
	if c.layout == nil || !c.layout.Fits(rec) {
		l, err := c.f.layoutOf(rec, false)
		if err == nil && c.file != nil && l.text != c.file.schema {
			l, err = c.f.layoutOf(rec, true) // a file with a truncate
		}
		if err != nil {
			return err
		}
		c.layout, c.fitting = l, c.file != nil && l.text == c.file.schema
	}
	var err error
	c.expected, err = c.layout.append(c.expected[:0], rec)
	return err
}

// compare reports the first column that differs.
func (c *comparison) compare(parts [][]byte) {
	rest := c.expected
	for i, n := range c.layout.columns {
		after, err := n.skip(rest)
		if err != nil {
			return // we have just written it
		}
		want := rest[:len(rest)-len(after)]
		if rest = after; !bytes.Equal(parts[i], want) {
			c.differ(c.index, fmt.Sprintf("column %s is %s, the log has %s (Avro's bytes)", c.layout.Columns[i].Name, show(parts[i]), show(want)))
			return
		}
	}
}

func show(p []byte) string {
	if len(p) > 40 {
		return fmt.Sprintf("%q… (%d bytes)", p[:40], len(p))
	}
	return fmt.Sprintf("%q", p)
}

// rest reports rows that the log does not have. Their columns may be unknown, so they are counted.
func (c *comparison) rest() {
	for c.file != nil {
		for ; c.left > 0; c.left, c.index = c.left-1, c.index+1 {
			c.differ(c.index, "the log has no such record")
		}
		c.data = nil
		c.block()
	}
}
