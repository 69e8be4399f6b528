package table

import (
	"bytes"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/forebayhub/forebay/connectors/schema"
)

// The semantic names that have a type of their own in files.
const (
	Debezium        = "io.debezium."
	connect         = "org.apache.kafka.connect.data."
	VariableDecimal = Debezium + "data.VariableScaleDecimal"
	ConnectDecimal  = connect + "Decimal"
	ConnectDate     = connect + "Date"
	ConnectTime     = connect + "Time"
	ConnectInstant  = connect + "Timestamp"
)

const (
	// MaxDepth bounds nested structs, arrays and maps.
	MaxDepth = 16
	// MaxLeaves bounds the columns of one file, members of structs among them.
	MaxLeaves = 10_000
)

// ErrKind says that a value is not of its column's type.
var ErrKind = errors.New("a value of another type than its column's")

// IsInt says whether v is a whole number of any width.
func IsInt(v schema.Value) bool {
	return v.Kind == schema.Int32 || v.Kind == schema.Int64 || v.Kind == schema.Int16
}

// ClockOf says whether a type is a time of day, and in which unit: so many per second, so many digits behind the point. Files
// hold them as text, since engines refuse whole files over their formats' own types, which cannot hold PostgreSQL's 24:00:00 either.
func ClockOf(s *schema.Schema) (perSecond int64, digits int, ok bool) {
	switch {
	case s.Kind == schema.Int32 && (s.Name == Debezium+"time.Time" || s.Name == ConnectTime):
		return 1000, 3, true
	case s.Kind == schema.Int64 && s.Name == Debezium+"time.MicroTime":
		return 1_000_000, 6, true
	case s.Kind == schema.Int64 && s.Name == Debezium+"time.NanoTime":
		return 1_000_000_000, 9, true
	}
	return 0, 0, false
}

// AppendClock appends a time of day as 13:51:30.123456; what is none stays a number.
func AppendClock(dst []byte, n, perSecond int64, digits int) []byte {
	if n < 0 || n > 86400*perSecond {
		return strconv.AppendInt(dst, n, 10)
	}
	s, frac := n/perSecond, n%perSecond
	dst = two(two(two(dst, s/3600, ':'), s/60%60, ':'), s%60, '.')
	for unit := perSecond / 10; digits > 0 && unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+frac/unit%10))
	}
	return dst
}

func two(b []byte, n int64, sep byte) []byte {
	return append(b, byte('0'+n/10), byte('0'+n%10), sep)
}

// Text is p as a string of a file, which must be UTF-8: what is not becomes U+FFFD.
func Text(p []byte) []byte {
	if !utf8.Valid(p) {
		p = bytes.ToValidUTF8(p, []byte("\uFFFD"))
	}
	return p
}
