package mongodb

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/forebayhub/forebay/connectors/schema"
)

// The semantic names that have a BSON type of their own
// (io.debezium.time, io.debezium.data, org.apache.kafka.connect.data).
const (
	nameDate           = "io.debezium.time.Date"
	nameTime           = "io.debezium.time.Time"
	nameMicroTime      = "io.debezium.time.MicroTime"
	nameTimestamp      = "io.debezium.time.Timestamp"
	nameMicroTimestamp = "io.debezium.time.MicroTimestamp"
	nameZonedTimestamp = "io.debezium.time.ZonedTimestamp"
	nameJSON           = "io.debezium.data.Json"
	nameUUID           = "io.debezium.data.Uuid"
	nameVariable       = "io.debezium.data.VariableScaleDecimal"
	nameDecimal        = "org.apache.kafka.connect.data.Decimal"
	nameConnectDate    = "org.apache.kafka.connect.data.Date"
	nameConnectTime    = "org.apache.kafka.connect.data.Time"
	nameConnectStamp   = "org.apache.kafka.connect.data.Timestamp"
)

var (
	errKind = errors.New("the value is not of its schema's kind")
	errUTF8 = errors.New("the text is not UTF-8")
	errDeep = fmt.Errorf("a value nests deeper than %d", maxNesting)
)

// appendValue appends a value as BSON and says its type. us is what a date cannot hold of a time: its
// microseconds. It is -1 where the value is no such time, and where the caller has no place for it (whole) the
// value is text instead if there are any: two keys must not become one.
func appendValue(dst []byte, s *schema.Schema, v schema.Value, whole bool, depth int) (_ []byte, t bsoncore.Type, us int64, err error) {
	if depth > maxNesting {
		return dst, 0, -1, errDeep
	}
	if s == nil {
		s = &schema.Schema{Kind: v.Kind}
	}
	switch v.Kind {
	case schema.Null, schema.Unavailable:
		return dst, bsoncore.TypeNull, -1, nil
	case schema.Bool:
		return bsoncore.AppendBoolean(dst, v.Bool()), bsoncore.TypeBoolean, -1, nil
	case schema.Int16, schema.Int32, schema.Int64:
		return appendNumber(dst, s, v, whole)
	case schema.Float32, schema.Float64:
		return bsoncore.AppendDouble(dst, v.Float()), bsoncore.TypeDouble, -1, nil
	case schema.String:
		return appendText(dst, s, v.Data, whole)
	case schema.Bytes:
		if s.Name == nameDecimal {
			scale, err := strconv.Atoi(s.Params["scale"])
			if err != nil {
				return dst, 0, -1, errors.New("a decimal without a scale")
			}
			dst, t, err = appendDecimal(dst, v.Data, scale)
			return dst, t, -1, err
		}
		return bsoncore.AppendBinary(dst, bson.TypeBinaryGeneric, v.Data), bsoncore.TypeBinary, -1, nil
	case schema.Array:
		dst, err = appendList(dst, s.Elem, v.List, depth)
		return dst, bsoncore.TypeArray, -1, err
	case schema.Map:
		dst, t, err = appendMap(dst, s, v.List, depth)
		return dst, t, -1, err
	case schema.Struct:
		dst, t, err = appendStruct(dst, s, v, depth)
		return dst, t, -1, err
	}
	return dst, 0, -1, errKind
}

// appendNumber appends an integer, or the time that it counts.
func appendNumber(dst []byte, s *schema.Schema, v schema.Value, whole bool) ([]byte, bsoncore.Type, int64, error) {
	n := v.Int()
	switch s.Name {
	case nameDate, nameConnectDate:
		return bsoncore.AppendDateTime(dst, n*86_400_000), bsoncore.TypeDateTime, -1, nil
	case nameTimestamp, nameConnectStamp:
		return bsoncore.AppendDateTime(dst, n), bsoncore.TypeDateTime, -1, nil
	case nameMicroTimestamp:
		ms, us := floor(n, 1000)
		if whole && us != 0 {
			return bsoncore.AppendString(dst, time.UnixMicro(n).UTC().Format("2006-01-02T15:04:05.999999Z")), bsoncore.TypeString, -1, nil
		}
		return bsoncore.AppendDateTime(dst, ms), bsoncore.TypeDateTime, us, nil
	case nameTime, nameConnectTime:
		return bsoncore.AppendString(dst, clock(n*1000)), bsoncore.TypeString, -1, nil
	case nameMicroTime:
		return bsoncore.AppendString(dst, clock(n)), bsoncore.TypeString, -1, nil
	}
	if v.Kind == schema.Int64 {
		return bsoncore.AppendInt64(dst, n), bsoncore.TypeInt64, -1, nil
	}
	return bsoncore.AppendInt32(dst, int32(n)), bsoncore.TypeInt32, -1, nil
}

// clock writes microseconds of a day as 13:51:30.123; 24:00:00 is legal.
func clock(us int64) string {
	s, f := floor(us, 1_000_000)
	text := fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
	if f != 0 {
		text += strings.TrimRight(fmt.Sprintf(".%06d", f), "0")
	}
	return text
}

// appendText appends a string, or what it is the text of.
func appendText(dst []byte, s *schema.Schema, data []byte, whole bool) ([]byte, bsoncore.Type, int64, error) {
	switch s.Name {
	case nameUUID:
		if b, err := hex.DecodeString(strings.ReplaceAll(string(data), "-", "")); err == nil && len(b) == 16 {
			return bsoncore.AppendBinary(dst, bson.TypeBinaryUUID, b), bsoncore.TypeBinary, -1, nil
		}
	case nameZonedTimestamp:
		if n, ok := parseZoned(string(data)); ok {
			ms, us := floor(n, 1000)
			if !whole || us == 0 {
				return bsoncore.AppendDateTime(dst, ms), bsoncore.TypeDateTime, us, nil
			}
		}
	case nameJSON:
		// What BSON has no exact value for (a number of forty digits) stays text.
		if out, t, err := anyValue(dst, data, false); err == nil {
			return out, t, -1, nil
		}
	}
	if !utf8.Valid(data) {
		return dst, 0, -1, errUTF8
	}
	return bsoncore.AppendString(dst, string(data)), bsoncore.TypeString, -1, nil
}

// parseZoned reads ISO 8601 as java.time writes it, in microseconds since 1970: 2016-11-04T06:51:30.5Z,
// +21016-11-04T06:51:30Z, -4713-12-31T23:59:59Z.
func parseZoned(text string) (int64, bool) {
	sign, rest := int64(1), text
	if strings.HasPrefix(rest, "-") {
		sign, rest = -1, rest[1:]
	} else {
		rest = strings.TrimPrefix(rest, "+")
	}
	digits, rest, ok := strings.Cut(rest, "-")
	year, err := strconv.ParseInt(digits, 10, 32)
	if !ok || err != nil || len(digits) < 4 {
		return 0, false
	}
	year *= sign
	// A year of the same shape that time.Parse knows: the calendar repeats every 400 years.
	const cycle = 146_097 * 86_400 // seconds
	cycles, of := floor(year, 400)
	at, err := time.Parse("2006-01-02T15:04:05.999999999Z07:00", fmt.Sprintf("%04d-%s", 2000+of, rest))
	if err != nil || at.Nanosecond()%1000 != 0 {
		return 0, false
	}
	seconds := at.Unix() + (cycles-5)*cycle
	if seconds > 9_223_372_036_854 || seconds < -9_223_372_036_854 {
		return 0, false
	}
	return seconds*1_000_000 + int64(at.Nanosecond())/1000, true
}

// appendDecimal appends an unscaled big-endian two's complement number. Decimal128 keeps 34 digits; what has
// more is text, so that nothing of it is lost.
func appendDecimal(dst, unscaled []byte, scale int) ([]byte, bsoncore.Type, error) {
	const most = 200_000 // PostgreSQL's numeric reaches 131,072 digits before the point
	if len(unscaled) > most || scale > most || scale < -most {
		return dst, 0, errors.New("a decimal is too large")
	}
	n := new(big.Int).SetBytes(unscaled)
	if len(unscaled) > 0 && unscaled[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(unscaled))))
	}
	if d, ok := bson.ParseDecimal128FromBigInt(n, -scale); ok {
		h, l := d.GetBytes()
		return bsoncore.AppendDecimal128(dst, h, l), bsoncore.TypeDecimal128, nil
	}
	text := n.String()
	neg := strings.HasPrefix(text, "-")
	text = strings.TrimPrefix(text, "-")
	switch {
	case scale < 0:
		text += strings.Repeat("0", -scale)
	case scale > 0:
		if len(text) <= scale {
			text = strings.Repeat("0", scale-len(text)+1) + text
		}
		text = text[:len(text)-scale] + "." + text[len(text)-scale:]
	}
	if neg {
		text = "-" + text
	}
	return bsoncore.AppendString(dst, text), bsoncore.TypeString, nil
}

// appendElement appends a member with a name.
func appendElement(dst []byte, name string, s *schema.Schema, v schema.Value, whole bool, depth int) (_ []byte, us int64, err error) {
	if strings.ContainsRune(name, 0) {
		return dst, -1, errors.New("a name holds a zero byte")
	}
	head := len(dst)
	dst = append(append(append(dst, 0), name...), 0)
	dst, t, us, err := appendValue(dst, s, v, whole, depth)
	dst[head] = byte(t)
	return dst, us, err
}

func appendList(dst []byte, elem *schema.Schema, list []schema.Value, depth int) ([]byte, error) {
	start, dst := bsoncore.AppendArrayStart(dst)
	for i, v := range list {
		var err error
		if dst, _, err = appendElement(dst, strconv.Itoa(i), elem, v, true, depth+1); err != nil {
			return dst, err
		}
	}
	return bsoncore.AppendArrayEnd(dst, start)
}

// appendMap appends a document when the keys are strings, else an array of pairs, as Connect does.
func appendMap(dst []byte, s *schema.Schema, list []schema.Value, depth int) ([]byte, bsoncore.Type, error) {
	if len(list)%2 != 0 {
		return dst, 0, errKind
	}
	if s.Key == nil || s.Key.Kind != schema.String {
		start, dst := bsoncore.AppendArrayStart(dst)
		for i := 0; i < len(list); i += 2 {
			at, d := bsoncore.AppendArrayElementStart(dst, strconv.Itoa(i/2))
			d, _, err := appendElement(d, "0", s.Key, list[i], true, depth+2)
			if err == nil {
				d, _, err = appendElement(d, "1", s.Elem, list[i+1], true, depth+2)
			}
			if err != nil {
				return d, 0, err
			}
			if dst, err = bsoncore.AppendArrayEnd(d, at); err != nil {
				return dst, 0, err
			}
		}
		dst, err := bsoncore.AppendArrayEnd(dst, start)
		return dst, bsoncore.TypeArray, err
	}
	start, dst := bsoncore.AppendDocumentStart(dst)
	for i := 0; i < len(list); i += 2 {
		var err error
		if dst, _, err = appendElement(dst, string(list[i].Data), s.Elem, list[i+1], true, depth+1); err != nil {
			return dst, 0, err
		}
	}
	dst, err := bsoncore.AppendDocumentEnd(dst, start)
	return dst, bsoncore.TypeEmbeddedDocument, err
}

func appendStruct(dst []byte, s *schema.Schema, v schema.Value, depth int) ([]byte, bsoncore.Type, error) {
	if len(s.Fields) != len(v.List) {
		return dst, 0, errKind
	}
	if s.Name == nameVariable {
		scale, value := s.FieldIndex("scale"), s.FieldIndex("value")
		if scale < 0 || value < 0 || v.List[value].Kind != schema.Bytes {
			return dst, 0, errKind
		}
		return appendDecimal(dst, v.List[value].Data, int(v.List[scale].Int()))
	}
	start, dst := bsoncore.AppendDocumentStart(dst)
	for i, f := range s.Fields {
		if v.List[i].Kind == schema.Unavailable {
			continue
		}
		var err error
		if dst, _, err = appendElement(dst, f.Name, f.Schema, v.List[i], true, depth+1); err != nil {
			return dst, 0, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	dst, err := bsoncore.AppendDocumentEnd(dst, start)
	return dst, bsoncore.TypeEmbeddedDocument, err
}
