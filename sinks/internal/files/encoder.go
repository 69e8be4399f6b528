package files

import (
	"io"

	"github.com/forebayhub/forebay/connectors"
)

// Encoder writes records of one topic into one file. Write may buffer. Tombstones
// never reach an encoder: they are left out of files of every format.
type Encoder interface {
	// Write appends a record. An error marked as a RecordError concerns this record alone: nothing of it was written.
	Write(r *connectors.Record) error
	// Size is the bytes written so far, with what is buffered at its encoded size or a fair guess of it.
	Size() int64
	// Close writes what the format needs at its end. It does not close the file.
	Close() error
}

// Discarder is an Encoder that holds memory or a budget; Discard gives it back
// when the file is given up instead of closed.
type Discarder interface{ Discard() }

// Format makes encoders and reads back what they wrote.
type Format interface {
	Extension() string // json, txt, parquet, with compression: json.gz
	// Fits says whether a record can go into the open file of this encoder; false asks for a new
	// file (Parquet: the schema changed).
	Fits(e Encoder, r *connectors.Record) bool
	// NewEncoder starts a file whose first record is first, which Write gets next. A RecordError concerns first alone.
	NewEncoder(w io.Writer, first *connectors.Record) (Encoder, error)
	// Decoded says whether Write needs Key, Value and Change (SinkEnv.Decode) or only the raw bytes.
	Decoded() bool
	// Compare reads a file back and holds it against the log's records, in order, for an audit.
	// want ends with io.EOF and borrows its record until the next call; a record that Write would
	// reject has no row, and is missing (Refused). differ names the row, or -1 when the file has no row for a record; a
	// call after want's io.EOF is about a row that the log does not have. An error is one of
	// want or of reading; a file that cannot be understood is a difference.
	Compare(r Reader, want func() (*connectors.Record, error), differ func(row int, what string)) error
}

// RecordError is an error of one record.
type RecordError struct{ Err error }

func (e *RecordError) Error() string { return e.Err.Error() }
func (e *RecordError) Unwrap() error { return e.Err }
