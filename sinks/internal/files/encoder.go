package files

import (
	"io"

	"github.com/forebayhub/forebay/connectors"
)

// Encoder writes records of one topic into one file. Write may buffer.
type Encoder interface {
	// Write appends a record. An error marked as a RecordError concerns this record alone: nothing of it was written.
	Write(r *connectors.Record) error
	// Size is the bytes written so far, with what is buffered at its encoded size or a fair guess of it.
	Size() int64
	// Close writes what the format needs at its end. It does not close the file.
	Close() error
}

// Format makes encoders and reads back what they wrote.
type Format interface {
	Extension() string // json, txt, parquet, with compression: json.gz
	// Fits says whether a record can go into the open file of this encoder; false asks for a new
	// file (Parquet: the schema changed).
	Fits(e Encoder, r *connectors.Record) bool
	NewEncoder(w io.Writer, first *connectors.Record) (Encoder, error)
	// Decoded says whether Write needs Key, Value and Change (SinkEnv.Decode) or only the raw bytes.
	Decoded() bool
	// Compare reads a file back and holds it against the log's records, in order, for an audit.
	Compare(r Reader, want func() (*connectors.Record, error), differ func(row int, what string)) error
}

// RecordError is an error of one record.
type RecordError struct{ Err error }

func (e *RecordError) Error() string { return e.Err.Error() }
func (e *RecordError) Unwrap() error { return e.Err }
