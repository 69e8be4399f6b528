package files

import (
	"errors"

	"github.com/forebayhub/forebay/connectors"
)

// NewText makes the format text: the value's bytes and a newline, nothing else.
// It is the one format that keeps every byte of a value that is not UTF-8.
func NewText(o FormatOptions) (Format, error) {
	switch {
	case o.Coordinates:
		return nil, errors.New("coordinates: format text has no place for them; use json or parquet")
	case o.Flatten:
		return nil, errors.New("flatten: format text writes the value's bytes as they are; use json or parquet")
	}
	c, err := codecOf(o.Compression)
	if err != nil {
		return nil, err
	}
	appendRaw := func(dst []byte, r *connectors.Record) ([]byte, error) {
		return append(append(dst, r.RawValue...), '\n'), nil
	}
	return &lineFormat{extension: "txt", codec: c, newAppend: func() appendRecord { return appendRaw }}, nil
}
