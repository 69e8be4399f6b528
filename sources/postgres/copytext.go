package postgres

import (
	"bytes"
	"errors"
)

var errCopyRow = errors.New("a COPY row does not have the columns that were asked for")

// splitCopyRow cuts a row of COPY's text format (PostgreSQL, chapter "COPY",
// "Text Format") into its columns: nil for null. Escapes are resolved in place,
// so the columns borrow line and line is changed.
func splitCopyRow(line []byte, cols [][]byte) error {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if len(cols) == 0 {
		if len(line) != 0 {
			return errCopyRow
		}
		return nil
	}
	escaped := bytes.IndexByte(line, '\\') >= 0
	for i := range cols {
		field := line
		if i < len(cols)-1 {
			end := bytes.IndexByte(line, '\t')
			if end < 0 {
				return errCopyRow
			}
			field, line = line[:end:end], line[end+1:]
		} else if bytes.IndexByte(line, '\t') >= 0 {
			return errCopyRow
		}
		switch {
		case !escaped:
			cols[i] = field
		case len(field) == 2 && field[0] == '\\' && field[1] == 'N':
			cols[i] = nil
		default:
			var err error
			if cols[i], err = unescapeCopy(field); err != nil {
				return err
			}
		}
	}
	return nil
}

// unescapeCopy resolves backslashes in place.
func unescapeCopy(p []byte) ([]byte, error) {
	i := bytes.IndexByte(p, '\\')
	if i < 0 {
		return p, nil
	}
	w := i
	for ; i < len(p); i++ {
		c := p[i]
		if c == '\\' {
			if i++; i == len(p) {
				return nil, errCopyRow
			}
			switch c = p[i]; c {
			case 'b':
				c = '\b'
			case 'f':
				c = '\f'
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'v':
				c = '\v'
			}
		}
		p[w] = c
		w++
	}
	return p[:w:w], nil
}
