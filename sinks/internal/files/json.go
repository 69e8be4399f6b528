package files

import (
	"errors"
	"strconv"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

// NewJSON makes the format json: one value per line.
//
// A record's value that is a JSON text is written as it is, on one line; numbers
// and escapes are not touched. A value that is no JSON text (a log line) becomes
// a JSON string; bytes in it that are not UTF-8 become U+FFFD. With coordinates a
// value that is no object becomes {"value": …} so that the coordinates have a place.
func NewJSON(o FormatOptions) (Format, error) {
	c, err := codecOf(o.Compression)
	if err != nil {
		return nil, err
	}
	return &lineFormat{extension: "json", codec: c, decoded: o.Flatten, newAppend: func() appendRecord {
		return (&jsonLines{flatten: o.Flatten, coordinates: o.Coordinates}).append
	}}, nil
}

type jsonLines struct {
	flatten, coordinates bool
	row                  *schema.Schema // of the last change event
	names                []string       // of its columns
}

func (j *jsonLines) append(dst []byte, r *connectors.Record) ([]byte, error) {
	start := len(dst)
	asRow := j.flatten && r.Change != nil
	if asRow {
		var err error
		if dst, err = j.appendRow(dst, r); err != nil {
			return dst[:start], err
		}
	} else {
		dst = appendValue(dst, r.RawValue)
	}
	if j.coordinates {
		dst = appendCoordinates(dst, start, r, asRow)
	}
	return append(dst, '\n'), nil
}

// appendValue appends value as it is when it is a JSON text, else as a JSON string.
func appendValue(dst, value []byte) []byte {
	if value == nil {
		return append(dst, "null"...)
	}
	if out, ok := appendCompact(dst, value); ok {
		return out
	}
	return schema.AppendQuoted(dst, value)
}

// appendCoordinates adds where the record lies to the value that begins at start; a row has its offset already.
func appendCoordinates(dst []byte, start int, r *connectors.Record, asRow bool) []byte {
	switch {
	case dst[start] != '{':
		const open = `{"value":`
		dst = append(dst, open...)
		copy(dst[start+len(open):], dst[start:len(dst)-len(open)])
		copy(dst[start:], open)
		dst = append(dst, ',')
	case dst[start+1] == '}':
		dst = dst[:len(dst)-1]
	default:
		dst[len(dst)-1] = ','
	}
	dst = schema.AppendQuoted(append(dst, `"_topic":`...), []byte(r.Topic))
	dst = strconv.AppendInt(append(dst, `,"_partition":`...), int64(r.Place().Partition), 10)
	if !asRow {
		dst = strconv.AppendInt(append(dst, `,"_offset":`...), r.Place().Offset, 10)
	}
	dst = appendTime(append(dst, `,"_timestamp":`...), r.Timestamp)
	dst = appendValue(append(dst, `,"_key":`...), r.RawKey)
	return append(dst, '}')
}

// appendTime appends RFC 3339 in UTC with milliseconds, which is what Kafka keeps.
func appendTime(dst []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(dst, '"'), "2006-01-02T15:04:05.000Z"), '"')
}

// appendRow appends a change event as the row's columns, _op, _ts, _offset and,
// when there are such, _unchanged: the columns that the database did not send. A
// delete has what it knows of the old row. A table's own column of such a name is renamed, as in formats with columns.
func (j *jsonLines) appendRow(dst []byte, r *connectors.Record) ([]byte, error) {
	c := r.Change
	row := c.After
	if row.IsNull() {
		row = c.Before
	}
	dst = append(dst, '{')
	var unchanged []string
	if !row.IsNull() {
		if c.Row == nil || row.Kind != schema.Struct || len(row.List) != len(c.Row.Fields) {
			return dst, errors.New("the change event's row does not fit its schema")
		}
		if j.row != c.Row { // one address for all records of a schema
			j.row, j.names = c.Row, table.Names(c.Row, j.coordinates)
		}
		for i, f := range c.Row.Fields {
			v := row.List[i]
			if v.Kind == schema.Unavailable {
				unchanged = append(unchanged, f.Name)
				continue
			}
			dst = append(schema.AppendQuoted(dst, []byte(j.names[i])), ':')
			var err error
			if dst, err = appendTyped(dst, f.Schema, v, 0); err != nil {
				return dst, err
			}
			dst = append(dst, ',')
		}
	}
	dst = append(dst, `"_op":"`...)
	dst = append(append(dst, byte(c.Op)), '"')
	dst = appendTime(append(dst, `,"_ts":`...), c.At)
	dst = strconv.AppendInt(append(dst, `,"_offset":`...), r.Place().Offset, 10)
	if len(unchanged) > 0 {
		dst = append(dst, `,"_unchanged":[`...)
		for i, name := range unchanged {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = schema.AppendQuoted(dst, []byte(name))
		}
		dst = append(dst, ']')
	}
	return append(dst, '}'), nil
}
