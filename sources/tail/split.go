package tail

import (
	"bytes"
	"regexp"
)

// onLong is what happens to a line, or a multiline event, that is longer than max_line.
type onLong uint8

const (
	longSplit    onLong = iota // more records, nothing is lost
	longTruncate               // its beginning stays
	longDrop
)

// skip says what a file's next bytes are the rest of.
type skip uint8

const (
	skipNone  skip = iota
	skipLine       // a line that was cut: up to its newline
	skipEvent      // a multiline event that was cut: up to the next start line
)

// splitter finds records in a file's bytes. It keeps no state: where a record
// ends depends on the bytes from the record's beginning alone, never on how many
// of them happened to be read at once. So a position between two records is all that a resume needs.
type splitter struct {
	start *regexp.Regexp // nil: every line is a record
	max   int            // bytes of a record
	long  onLong
}

// window is how many bytes a caller must be able to show for next to get on.
func (s *splitter) window() int {
	if s.start != nil {
		return max(2*s.max+2, holeMin)
	}
	return max(s.max+1, holeMin)
}

// more says what the bytes after data are.
type more uint8

const (
	moreComes more = iota // unknown: they may not be written yet
	moreLater             // nothing for a while: an event of complete lines counts as complete
	moreNever             // nothing: the end of data ends a line
)

// next looks at data, which begins at a record's beginning, or within what sk
// says is skipped. consumed 0 means that more bytes are needed, or that data is hollow:
// the caller looks where that ends. A nil value with consumed > 0 was skipped.
func (s *splitter) next(data []byte, sk skip, m more) (value []byte, consumed int, _ skip) {
	if sk == skipEvent && s.start == nil { // multiline was taken out of the config: the next line is a record
		sk = skipNone
	}
	switch sk {
	case skipLine:
		i := bytes.IndexByte(data, '\n')
		switch {
		case i < 0:
			return nil, len(data), skipLine
		case s.start != nil:
			return nil, i + 1, skipEvent
		}
		return nil, i + 1, skipNone
	case skipEvent:
		return s.skipToStart(data, m)
	}
	if hollow(data) || m == moreComes && len(data) < holeMin && zeros(data) == len(data) {
		return nil, 0, skipNone
	}
	if s.start != nil {
		return s.event(data, m)
	}
	window := data[:min(len(data), s.max+1)]
	if i := bytes.IndexByte(window, '\n'); i >= 0 {
		return data[:i:i], i + 1, skipNone
	}
	return s.unended(data, m)
}

// unended is a first line without a newline within the limit.
func (s *splitter) unended(data []byte, m more) ([]byte, int, skip) {
	switch {
	case len(data) > s.max && s.long == longSplit:
		return data[:s.max:s.max], s.max, skipNone
	case len(data) > s.max && s.long == longTruncate:
		return data[:s.max:s.max], s.max, skipLine
	case len(data) > s.max:
		return nil, s.max, skipLine
	case m == moreNever && len(data) > 0:
		return data[:len(data):len(data)], len(data), skipNone
	}
	return nil, 0, skipNone
}

// line looks at the line that begins data: its text as far as a decision needs
// it, and its length with the newline, 0 while that is not known.
func (s *splitter) line(data []byte, m more) (text []byte, length int, known bool) {
	if i := bytes.IndexByte(data[:min(len(data), s.max+1)], '\n'); i >= 0 {
		return data[:i], i + 1, true
	}
	switch {
	case len(data) > s.max:
		return data[:s.max], 0, true
	case m == moreNever && len(data) > 0:
		return data, len(data), true
	}
	return nil, 0, false
}

func (s *splitter) skipToStart(data []byte, m more) ([]byte, int, skip) {
	text, length, known := s.line(data, m)
	switch {
	case !known:
		return nil, 0, skipEvent
	case s.start.Match(text):
		// Nothing is consumed, yet the state has moved on: look again as a beginning.
		return s.event(data, m)
	case length == 0:
		return nil, s.max, skipLine
	}
	return nil, length, skipEvent
}

// event finds the end of a multiline event: the line before the next that matches start.
func (s *splitter) event(data []byte, m more) ([]byte, int, skip) {
	text, end, known := s.line(data, m)
	if !known || end == 0 {
		return s.unended(data, m)
	}
	if end == len(text) { // the file's last line, without a newline
		return text[:end:end], end, skipNone
	}
	for {
		rest := data[end:]
		text, length, known := s.line(rest, m)
		switch {
		case !known && m == moreComes:
			return nil, 0, skipNone
		case !known, s.start.Match(text):
			return data[: end-1 : end-1], end, skipNone
		case end+len(text) > s.max:
			switch s.long {
			case longTruncate:
				return data[: end-1 : end-1], end, skipEvent
			case longDrop:
				return nil, end, skipEvent
			}
			return data[: end-1 : end-1], end, skipNone
		case length == len(text): // the file's last line, without a newline
			return data[: end+length : end+length], end + length, skipNone
		}
		end += length
	}
}
