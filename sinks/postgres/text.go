package postgres

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"

	"github.com/forebayhub/forebay/connectors/schema"
)

// encodeFunc appends a value, which is neither null nor missing, as the text that
// PostgreSQL's input function of the column's type reads. The text is not yet
// escaped for COPY. It is spelled as PostgreSQL casts the value to text, so that a column
// that has become text has one spelling for what was written before and after.
type encodeFunc func(dst []byte, v schema.Value) ([]byte, error)

var (
	errKind = errors.New("the value is not of its schema's kind")
	errText = errors.New("the text holds a zero byte or is not UTF-8: PostgreSQL cannot store it as text")
)

// Debezium's sentinels for infinity, in microseconds (PGStatement.DATE_POSITIVE_INFINITY).
const (
	positiveInfinity = 9223372036825200000
	negativeInfinity = -9223372036832400000
)

// encoderOf picks the encoder of a schema's values for a column.
func encoderOf(s *schema.Schema, col pgType) encodeFunc {
	if s.Kind == schema.Array {
		if !col.array {
			return jsonEncoder(s)
		}
		elem := col
		elem.array = false
		return arrayEncoder(encoderOf(s.Elem, elem), elem)
	}
	if isText(col) && s.Name != nameDecimal && s.Name != nameVariable {
		// A date in a text column is still a date for people.
		if f := byName(s, natural(s)); f != nil {
			return f
		}
	}
	if f := byName(s, col); f != nil {
		return f
	}
	switch s.Kind {
	case schema.Bool:
		if col.base == "bit" || col.base == "bit varying" {
			return encodeBoolBit
		}
		return encodeBool
	case schema.Int16, schema.Int32, schema.Int64:
		return encodeInt
	case schema.Float32:
		if col.base == "double precision" {
			return encodeFloat(64) // of the value, as PostgreSQL's cast: the shortest text of a real is another double
		}
		return encodeFloat(32)
	case schema.Float64:
		return encodeFloat(64)
	case schema.String:
		return encodeString
	case schema.Bytes:
		return encodeBytes
	}
	return jsonEncoder(s)
}

func isText(t pgType) bool { return t.base == "text" || t.base == "character varying" }

func byName(s *schema.Schema, col pgType) encodeFunc {
	switch s.Name {
	case nameDate, nameConnectDate:
		return encodeDate
	case nameTime, nameConnectTime:
		return encodeTime(1000)
	case nameMicroTime:
		return encodeTime(1)
	case nameTimestamp, nameConnectStamp:
		return encodeTimestamp(1000)
	case nameMicroTimestamp:
		return encodeTimestamp(1)
	case nameZonedTimestamp:
		return encodeZoned
	case nameMicroDuration:
		if col.base == "interval" {
			return encodeInterval
		}
	case nameDecimal:
		scale, err := strconv.Atoi(s.Params["scale"])
		if err != nil {
			return nil
		}
		return func(dst []byte, v schema.Value) ([]byte, error) {
			if v.Kind != schema.Bytes {
				return dst, errKind
			}
			return appendDecimal(dst, v.Data, scale)
		}
	case nameVariable:
		return variableEncoder(s)
	case nameBits:
		return bitsEncoder(col)
	case namePoint:
		return pointEncoder(s)
	case nameJSON:
		switch col.base {
		case "hstore":
			return encodeHstore
		case "jsonb":
			return encodeJSONB
		}
	}
	return nil
}

func encodeBool(dst []byte, v schema.Value) ([]byte, error) {
	if v.Kind != schema.Bool {
		return dst, errKind
	}
	if v.Bool() {
		return append(dst, "true"...), nil
	}
	return append(dst, "false"...), nil
}

func encodeBoolBit(dst []byte, v schema.Value) ([]byte, error) {
	if v.Kind != schema.Bool {
		return dst, errKind
	}
	if v.Bool() {
		return append(dst, '1'), nil
	}
	return append(dst, '0'), nil
}

func integer(v schema.Value) bool {
	return v.Kind == schema.Int16 || v.Kind == schema.Int32 || v.Kind == schema.Int64
}

func encodeInt(dst []byte, v schema.Value) ([]byte, error) {
	if !integer(v) {
		return dst, errKind
	}
	return strconv.AppendInt(dst, v.Int(), 10), nil
}

func encodeFloat(bits int) encodeFunc {
	return func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind != schema.Float32 && v.Kind != schema.Float64 {
			return dst, errKind
		}
		switch f := v.Float(); {
		case math.IsInf(f, 1):
			return append(dst, "Infinity"...), nil
		case math.IsInf(f, -1):
			return append(dst, "-Infinity"...), nil
		case math.IsNaN(f):
			return append(dst, "NaN"...), nil
		default:
			low, high := 1e-4, 1e15 // outside of them PostgreSQL writes an exponent (src/common/d2s.c, f2s.c)
			if bits == 32 {
				low, high = float64(float32(1e-4)), 1e6
			}
			if abs := math.Abs(f); abs != 0 && (abs < low || abs >= high) {
				return strconv.AppendFloat(dst, f, 'e', -1, bits), nil
			}
			return strconv.AppendFloat(dst, f, 'f', -1, bits), nil
		}
	}
}

func encodeString(dst []byte, v schema.Value) ([]byte, error) {
	if v.Kind != schema.String {
		return dst, errKind
	}
	if !storable(v.Data) {
		return dst, errText
	}
	return append(dst, v.Data...), nil
}

// storable says whether PostgreSQL can hold b as text.
func storable(b []byte) bool {
	for _, c := range b {
		if c == 0 {
			return false
		}
	}
	return utf8.Valid(b)
}

// encodeJSONB refuses the one character that json may hold and jsonb may not.
func encodeJSONB(dst []byte, v schema.Value) ([]byte, error) {
	const zero = `\u0000`
	for t := v.Data; ; {
		i := bytes.Index(t, []byte(zero))
		if i < 0 {
			return encodeString(dst, v)
		}
		slashes := 0
		for i-slashes > 0 && t[i-slashes-1] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return dst, errors.New(`jsonb cannot hold the character \u0000`)
		}
		t = t[i+len(zero):]
	}
}

func encodeBytes(dst []byte, v schema.Value) ([]byte, error) {
	if v.Kind != schema.Bytes {
		return dst, errKind
	}
	return hex.AppendEncode(append(dst, `\x`...), v.Data), nil
}

// encodeDate writes days since 1970. Debezium's infinities are the ends of int32.
func encodeDate(dst []byte, v schema.Value) ([]byte, error) {
	if !integer(v) {
		return dst, errKind
	}
	switch n := v.Int(); n {
	case math.MaxInt32:
		return append(dst, "infinity"...), nil
	case math.MinInt32:
		return append(dst, "-infinity"...), nil
	default:
		dst, bc := appendDate(dst, n)
		if bc {
			dst = append(dst, " BC"...)
		}
		return dst, nil
	}
}

// appendDate writes days since 1970 as 2024-01-31, proleptic Gregorian; bc: the
// year counts backwards (1 BC is the year 0).
func appendDate(dst []byte, days int64) ([]byte, bool) {
	z := days + 719468
	era := z / 146097
	if z < 0 {
		era = (z - 146096) / 146097
	}
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day := doy - (153*mp+2)/5 + 1
	month := mp + 3
	if month > 12 {
		month -= 12
	}
	year := yoe + era*400
	if month <= 2 {
		year++
	}
	bc := year <= 0
	if bc {
		year = 1 - year
	}
	for pow := int64(1000); pow > 1 && year < pow; pow /= 10 {
		dst = append(dst, '0')
	}
	dst = strconv.AppendInt(dst, year, 10)
	return append(dst, '-', byte('0'+month/10), byte('0'+month%10), '-', byte('0'+day/10), byte('0'+day%10)), bc
}

// appendClock writes microseconds of a day as 13:51:30.123; 24:00:00 is legal.
func appendClock(dst []byte, us int64) []byte {
	s := us / 1e6
	for i, n := range [3]int64{s / 3600, s / 60 % 60, s % 60} {
		if i > 0 {
			dst = append(dst, ':')
		}
		dst = append(dst, byte('0'+n/10), byte('0'+n%10))
	}
	if f := us % 1e6; f != 0 {
		dst = append(dst, '.')
		for pow := int64(1e5); f > 0; pow /= 10 {
			dst = append(dst, byte('0'+f/pow))
			f %= pow
		}
	}
	return dst
}

const dayMicros = 86400 * 1e6

func encodeTime(unit int64) encodeFunc {
	return func(dst []byte, v schema.Value) ([]byte, error) {
		if !integer(v) {
			return dst, errKind
		}
		n := v.Int()
		if n < 0 || n > dayMicros/unit {
			return dst, fmt.Errorf("%d is no time of a day", n)
		}
		return appendClock(dst, n*unit), nil
	}
}

func encodeTimestamp(unit int64) encodeFunc {
	return func(dst []byte, v schema.Value) ([]byte, error) {
		if !integer(v) {
			return dst, errKind
		}
		n := v.Int()
		switch n {
		case positiveInfinity / unit:
			return append(dst, "infinity"...), nil
		case negativeInfinity / unit:
			return append(dst, "-infinity"...), nil
		}
		perDay := int64(dayMicros) / unit
		days, rest := n/perDay, n%perDay
		if rest < 0 {
			days, rest = days-1, rest+perDay
		}
		dst, bc := appendDate(dst, days)
		dst = appendClock(append(dst, ' '), rest*unit)
		if bc {
			dst = append(dst, " BC"...)
		}
		return dst, nil
	}
}

// encodeZoned reads ISO 8601 as java.time writes it: +21016-11-04T06:51:30Z and
// -4713-12-31T23:59:59Z need PostgreSQL's own spelling.
func encodeZoned(dst []byte, v schema.Value) ([]byte, error) {
	if v.Kind != schema.String {
		return dst, errKind
	}
	t := v.Data
	switch {
	case len(t) > 0 && t[0] == '+':
		return appendZoned(dst, t[1:]), nil
	case len(t) > 5 && (t[0] == '-' && t[1] >= '0' && t[1] <= '9' || string(t[:5]) == "0000-"):
		neg := t[0] == '-'
		if neg {
			t = t[1:]
		}
		i := 0
		for i < len(t) && t[i] >= '0' && t[i] <= '9' {
			i++
		}
		year, err := strconv.ParseInt(string(t[:i]), 10, 32)
		if err != nil {
			return dst, errKind
		}
		dst = fmt.Appendf(dst, "%04d", year+1) // the year 0 is 1 BC
		return append(appendZoned(dst, t[i:]), " BC"...), nil
	}
	if !storable(t) {
		return dst, errText
	}
	return appendZoned(dst, t), nil
}

// appendZoned writes …T03:04:05.120Z as … 03:04:05.12+00; anything else as it is.
func appendZoned(dst, t []byte) []byte {
	day, clock, ok := bytes.Cut(t, []byte("T"))
	clock, utc := bytes.CutSuffix(clock, []byte("Z"))
	if !ok || !utc {
		return append(dst, t...)
	}
	dst = append(append(dst, day...), ' ')
	return append(append(dst, trimFraction(clock)...), "+00"...)
}

// trimFraction takes zeros from the end of a fraction of a second.
func trimFraction(clock []byte) []byte {
	if bytes.IndexByte(clock, '.') < 0 {
		return clock
	}
	return bytes.TrimRight(bytes.TrimRight(clock, "0"), ".")
}

// encodeInterval writes microseconds. Months and days were lost where the value was made.
func encodeInterval(dst []byte, v schema.Value) ([]byte, error) {
	if !integer(v) {
		return dst, errKind
	}
	n := v.Int()
	u := uint64(n)
	if n < 0 {
		dst, u = append(dst, '-'), -u
	}
	return append(dst, trimFraction(fmt.Appendf(nil, "%02d:%02d:%02d.%06d", u/3600e6, u/60e6%60, u/1e6%60, u%1e6))...), nil
}

// maxDecimal bounds a decimal's bytes and scale: PostgreSQL's numeric reaches 131,072 digits before the point.
const maxDecimal = 200_000

// appendDecimal writes an unscaled big-endian two's complement number exactly.
func appendDecimal(dst, unscaled []byte, scale int) ([]byte, error) {
	if len(unscaled) > maxDecimal || scale > maxDecimal || scale < -maxDecimal {
		return dst, errors.New("a decimal is too large")
	}
	if len(unscaled) <= 8 {
		n := int64(0)
		if len(unscaled) > 0 && unscaled[0] >= 0x80 {
			n = -1
		}
		for _, b := range unscaled {
			n = n<<8 | int64(b)
		}
		var buf [24]byte
		u := uint64(n)
		if n < 0 {
			dst, u = append(dst, '-'), -u
		}
		return appendPoint(dst, strconv.AppendUint(buf[:0], u, 10), scale), nil
	}
	n := new(big.Int).SetBytes(unscaled)
	if unscaled[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(unscaled))))
	}
	if n.Sign() < 0 {
		dst = append(dst, '-')
		n.Neg(n)
	}
	return appendPoint(dst, n.Append(nil, 10), scale), nil
}

// appendPoint puts the point into digits, scale places from the right.
func appendPoint(dst, digits []byte, scale int) []byte {
	if scale <= 0 {
		dst = append(dst, digits...)
		if string(digits) != "0" {
			for range -scale {
				dst = append(dst, '0')
			}
		}
		return dst
	}
	whole := len(digits) - scale
	if whole <= 0 {
		dst = append(dst, '0', '.')
		for ; whole < 0; whole++ {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	}
	dst = append(append(dst, digits[:whole]...), '.')
	return append(dst, digits[whole:]...)
}

func variableEncoder(s *schema.Schema) encodeFunc {
	scale, value := s.FieldIndex("scale"), s.FieldIndex("value")
	return func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind != schema.Struct || scale < 0 || value < 0 || len(v.List) <= max(scale, value) || v.List[value].Kind != schema.Bytes || !integer(v.List[scale]) {
			return dst, errKind
		}
		return appendDecimal(dst, v.List[value].Data, int(v.List[scale].Int()))
	}
}

func pointEncoder(s *schema.Schema) encodeFunc {
	x, y, f := s.FieldIndex("x"), s.FieldIndex("y"), encodeFloat(64)
	return func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind != schema.Struct || x < 0 || y < 0 || len(v.List) <= max(x, y) {
			return dst, errKind
		}
		dst, err := f(append(dst, '('), v.List[x])
		if err == nil {
			dst, err = f(append(dst, ','), v.List[y])
		}
		return append(dst, ')'), err
	}
}

// maxBits is what PostgreSQL allows of a bit string.
const maxBits = 83886080

// bitsEncoder writes little-endian bytes as a bit string, as long as the column is.
func bitsEncoder(col pgType) encodeFunc {
	want := 0
	if col.base == "bit" && len(col.mods) == 1 {
		want = col.mods[0]
	}
	return func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind != schema.Bytes {
			return dst, errKind
		}
		n := 8 * len(v.Data)
		for n > 0 && v.Data[(n-1)/8]>>((n-1)%8)&1 == 0 {
			n--
		}
		if n = max(n, want); n > maxBits {
			return dst, errors.New("a bit string is too long")
		}
		for i := n - 1; i >= 0; i-- {
			bit := byte('0')
			if i/8 < len(v.Data) {
				bit += v.Data[i/8] >> (i % 8) & 1
			}
			dst = append(dst, bit)
		}
		return dst, nil
	}
}

// arrayEncoder writes {1,NULL,"a b"}.
func arrayEncoder(elem encodeFunc, t pgType) encodeFunc {
	delim := byte(',')
	if t.base == "box" {
		delim = ';'
	}
	return func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind != schema.Array {
			return dst, errKind
		}
		dst = append(dst, '{')
		for i, e := range v.List {
			if i > 0 {
				dst = append(dst, delim)
			}
			if e.IsNull() {
				dst = append(dst, "NULL"...)
				continue
			}
			at := len(dst)
			var err error
			if dst, err = elem(dst, e); err != nil {
				return dst, err
			}
			dst = quoteElement(dst, at)
		}
		return append(dst, '}'), nil
	}
}

// quoteElement puts dst[at:] into the quotes of an array literal.
func quoteElement(dst []byte, at int) []byte {
	item := append([]byte(nil), dst[at:]...)
	plain := len(item) > 0 && len(item) < 24
	for _, c := range item {
		if !(c >= '0' && c <= '9' || c == '-' || c == '.') {
			plain = false
			break
		}
	}
	if plain {
		return dst
	}
	dst = append(dst[:at], '"')
	for _, c := range item {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
