package mongodb

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/forebayhub/forebay/connectors/schema"
)

// style is a dialect of extended JSON, with the spaces that MongoDB's Java driver puts.
// Debezium writes three of them (its JsonSerialization, json.serialization.mode=legacy), and keys
// must be the same bytes for compaction and partitions to go on after a change to Forebay.
type style struct {
	strict bool   // v1 strict: tells int32, int64 and double apart; else v2 relaxed
	comma  string // between members
}

var (
	documentStyle = style{strict: true, comma: ","} // before, after, lsid
	keyStyle      = style{comma: ","}               // the key's id
	updateStyle   = style{comma: ", "}              // updatedFields
)

// maxNesting is above what the server lets in (100, and 200 with what it wraps around).
const maxNesting = 256

var errBSON = errors.New("not a BSON document")

// document appends a document.
func (s style) document(dst, doc []byte) ([]byte, error) { return s.members(dst, doc, false, 0) }

// value appends one value.
func (s style) value(dst []byte, v bson.RawValue) ([]byte, error) {
	dst, rest, err := s.one(dst, bsoncore.Type(v.Type), v.Value, 0)
	if err == nil && len(rest) > 0 {
		err = errBSON
	}
	return dst, err
}

func (s style) members(dst, doc []byte, array bool, depth int) ([]byte, error) {
	n, rest, ok := bsoncore.ReadLength(doc)
	if !ok || n < 5 || int(n) != len(doc) || doc[n-1] != 0 || depth > maxNesting {
		return dst, errBSON
	}
	rest = rest[:len(rest)-1]
	open, end := byte('{'), byte('}')
	if array {
		open, end = '[', ']'
	}
	dst = append(dst, open)
	for first := true; len(rest) > 0; first = false {
		t, after, ok := bsoncore.ReadType(rest)
		if !ok {
			return dst, errBSON
		}
		name, after, ok := bsoncore.ReadKeyBytes(after)
		if !ok {
			return dst, errBSON
		}
		if !first {
			dst = append(dst, s.comma...)
		}
		if !array {
			dst = append(schema.AppendQuoted(dst, name), ": "...)
		}
		var err error
		if dst, rest, err = s.one(dst, t, after, depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, end), nil
}

// one appends the value that src begins with and returns what follows it.
func (s style) one(dst []byte, t bsoncore.Type, src []byte, depth int) (out, rest []byte, err error) {
	v, rest, ok := bsoncore.ReadValue(src, t)
	if !ok || !sound(v) {
		return dst, nil, errBSON
	}
	switch t {
	case bsoncore.TypeEmbeddedDocument, bsoncore.TypeArray:
		dst, err = s.members(dst, v.Data, t == bsoncore.TypeArray, depth)
	case bsoncore.TypeDouble:
		dst = appendDouble(dst, v.Double())
	case bsoncore.TypeString:
		dst = schema.AppendQuoted(dst, []byte(v.StringValue()))
	case bsoncore.TypeInt32:
		dst = strconv.AppendInt(dst, int64(v.Int32()), 10)
	case bsoncore.TypeInt64:
		dst = s.int64(dst, v.Int64())
	case bsoncore.TypeBoolean:
		dst = strconv.AppendBool(dst, v.Boolean())
	case bsoncore.TypeNull:
		dst = append(dst, "null"...)
	case bsoncore.TypeObjectID:
		id := v.ObjectID()
		dst = append(hex.AppendEncode(append(dst, `{"$oid": "`...), id[:]), `"}`...)
	case bsoncore.TypeDateTime:
		dst = s.date(dst, v.DateTime())
	case bsoncore.TypeBinary:
		dst = s.binary(dst, v)
	case bsoncore.TypeDecimal128:
		h, l := v.Decimal128()
		dst = append(append(append(dst, `{"$numberDecimal": "`...), bson.NewDecimal128(h, l).String()...), `"}`...)
	case bsoncore.TypeTimestamp:
		at, i := v.Timestamp()
		dst = strconv.AppendUint(append(dst, `{"$timestamp": {"t": `...), uint64(at), 10)
		dst = strconv.AppendUint(append(append(dst, s.comma...), `"i": `...), uint64(i), 10)
		dst = append(dst, "}}"...)
	default:
		dst, err = s.rare(dst, v, depth)
	}
	return dst, rest, err
}

// sound says whether a value of measured length has the right inside: the accessors panic otherwise.
func sound(v bsoncore.Value) (ok bool) {
	switch v.Type {
	case bsoncore.TypeString:
		_, ok = v.StringValueOK()
	case bsoncore.TypeSymbol:
		_, ok = v.SymbolOK()
	case bsoncore.TypeJavaScript:
		_, ok = v.JavaScriptOK()
	case bsoncore.TypeBinary:
		_, _, ok = v.BinaryOK()
	case bsoncore.TypeCodeWithScope:
		_, _, ok = v.CodeWithScopeOK()
	case bsoncore.TypeRegex:
		_, _, ok = v.RegexOK()
	case bsoncore.TypeDBPointer:
		_, _, ok = v.DBPointerOK()
	case bsoncore.TypeEmbeddedDocument, bsoncore.TypeArray:
		return true // looked at member by member
	default:
		return v.Validate() == nil
	}
	return ok
}

// rare appends the types that hardly any document has.
func (s style) rare(dst []byte, v bsoncore.Value, depth int) ([]byte, error) {
	text := func(name, t string) []byte {
		return schema.AppendQuoted(append(append(append(dst, `{"$`...), name...), `": `...), []byte(t))
	}
	switch v.Type {
	case bsoncore.TypeRegex:
		p, o := v.Regex()
		if s.strict {
			dst = append(append(text("regex", p), s.comma...), `"$options": `...)
			return append(schema.AppendQuoted(dst, []byte(o)), '}'), nil
		}
		dst = schema.AppendQuoted(append(dst, `{"$regularExpression": {"pattern": `...), []byte(p))
		dst = append(append(dst, s.comma...), `"options": `...)
		return append(schema.AppendQuoted(dst, []byte(o)), "}}"...), nil
	case bsoncore.TypeJavaScript:
		return append(text("code", v.JavaScript()), '}'), nil
	case bsoncore.TypeSymbol:
		return append(text("symbol", v.Symbol()), '}'), nil
	case bsoncore.TypeCodeWithScope:
		code, scope := v.CodeWithScope()
		dst = append(append(text("code", code), s.comma...), `"$scope": `...)
		dst, err := s.members(dst, scope, false, depth)
		return append(dst, '}'), err
	case bsoncore.TypeDBPointer:
		ns, id := v.DBPointer()
		dst = schema.AppendQuoted(append(dst, `{"$dbPointer": {"$ref": `...), []byte(ns))
		dst = append(append(dst, s.comma...), `"$id": {"$oid": "`...)
		return append(hex.AppendEncode(dst, id[:]), `"}}}`...), nil
	case bsoncore.TypeUndefined:
		return append(dst, `{"$undefined": true}`...), nil
	case bsoncore.TypeMinKey:
		return append(dst, `{"$minKey": 1}`...), nil
	case bsoncore.TypeMaxKey:
		return append(dst, `{"$maxKey": 1}`...), nil
	}
	return dst, fmt.Errorf("a value of the unknown BSON type 0x%02x", byte(v.Type))
}

func (s style) int64(dst []byte, n int64) []byte {
	if !s.strict {
		return strconv.AppendInt(dst, n, 10)
	}
	return append(strconv.AppendInt(append(dst, `{"$numberLong": "`...), n, 10), `"}`...)
}

// lastRelaxedDate is the end of the year 9999 in milliseconds.
const lastRelaxedDate = 253402300799999

func (s style) date(dst []byte, ms int64) []byte {
	switch {
	case s.strict:
		return append(strconv.AppendInt(append(dst, `{"$date": `...), ms, 10), '}')
	case ms < 0 || ms > lastRelaxedDate:
		return append(strconv.AppendInt(append(dst, `{"$date": {"$numberLong": "`...), ms, 10), `"}}`...)
	}
	// Java's ISO_OFFSET_DATE_TIME has no more digits of a second than it needs.
	dst = time.UnixMilli(ms).UTC().AppendFormat(append(dst, `{"$date": "`...), "2006-01-02T15:04:05.999Z")
	return append(dst, `"}`...)
}

func (s style) binary(dst []byte, v bsoncore.Value) []byte {
	subtype, data := v.Binary()
	lead, between, end := `{"$binary": {"base64": "`, `"subType": "`, `"}}`
	if s.strict {
		lead, between, end = `{"$binary": "`, `"$type": "`, `"}`
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, lead...), data)
	dst = append(append(append(dst, '"'), s.comma...), between...)
	const digits = "0123456789ABCDEF"
	dst = append(dst, digits[subtype>>4], digits[subtype&15])
	return append(dst, end...)
}

// appendDouble writes a number as Java's Double.toString does, with a + before a positive
// exponent (the driver's JsonDoubleHelper): always with a point, so that it is no integer. What JSON has no
// number for is v2's $numberDouble; Java's strict mode writes a bare NaN, which is no JSON.
func appendDouble(dst []byte, f float64) []byte {
	special := ""
	switch {
	case math.IsNaN(f):
		special = "NaN"
	case math.IsInf(f, 1):
		special = "Infinity"
	case math.IsInf(f, -1):
		special = "-Infinity"
	}
	if special != "" {
		return append(append(append(dst, `{"$numberDouble": "`...), special...), `"}`...)
	}
	if a := math.Abs(f); a == 0 || a >= 1e-3 && a < 1e7 {
		start := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
		for _, c := range dst[start:] {
			if c == '.' {
				return dst
			}
		}
		return append(dst, ".0"...)
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	dst = append(dst, mantissa...)
	if !strings.Contains(mantissa, ".") {
		dst = append(dst, ".0"...)
	}
	digits := strings.TrimLeft(exponent[1:], "0")
	return append(append(append(dst, 'E'), exponent[0]), digits...)
}
