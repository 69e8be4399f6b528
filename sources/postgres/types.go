package postgres

import (
	"errors"
	"fmt"
	"strconv"
	"unsafe"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

// decodeFunc reads a value from PostgreSQL's text form. text lies in b's memory
// and belongs to the decoder, which may write into it and hand it on.
type decodeFunc func(b *connectors.Batch, text []byte) (schema.Value, error)

// codec is a column type: what it is called in the log, and how it is read. The
// snapshot's COPY text and the stream's tuple text are the same, so there is one.
type codec struct {
	schema *schema.Schema // optional
	decode decodeFunc
}

// Object ids of the built-in types (pg_type.dat); they never change.
const (
	oidBool, oidBytea, oidChar, oidName               = 16, 17, 18, 19
	oidInt8, oidInt2, oidInt4, oidText, oidOid        = 20, 21, 23, 25, 26
	oidJSON, oidXML, oidPoint                         = 114, 142, 600
	oidFloat4, oidFloat8, oidMoney                    = 700, 701, 790
	oidBpchar, oidVarchar, oidDate, oidTime           = 1042, 1043, 1082, 1083
	oidTimestamp, oidTimestamptz, oidInterval         = 1114, 1184, 1186
	oidTimetz, oidBit, oidVarbit, oidNumeric          = 1266, 1560, 1562, 1700
	oidUUID, oidTsvector, oidJSONB                    = 2950, 3614, 3802
	firstUserOid                               uint32 = 16384
)

// arrayElems gives the element type of the built-in array types.
var arrayElems = map[uint32]uint32{
	1000: oidBool, 1001: oidBytea, 1002: oidChar, 1003: oidName, 1016: oidInt8, 1005: oidInt2, 1007: oidInt4,
	1009: oidText, 1028: oidOid, 199: oidJSON, 143: oidXML, 1017: oidPoint, 1021: oidFloat4, 1022: oidFloat8,
	791: oidMoney, 1014: oidBpchar, 1015: oidVarchar, 1182: oidDate, 1183: oidTime, 1115: oidTimestamp,
	1185: oidTimestamptz, 1187: oidInterval, 1270: oidTimetz, 1561: oidBit, 1563: oidVarbit, 1231: oidNumeric,
	2951: oidUUID, 3643: oidTsvector, 3807: oidJSONB,
	1041: 869, 651: 650, 1040: 829, 775: 774, // inet, cidr, macaddr, macaddr8
	3905: 3904, 3907: 3906, 3909: 3908, 3911: 3910, 3913: 3912, 3927: 3926, // ranges
}

var errValue = errors.New("the value is not in its type's text form")

func text(b *connectors.Batch, t []byte) (schema.Value, error) { return schema.TextOf(t), nil }

// plainText is a type that goes into the log as PostgreSQL writes it.
var plainText = codec{cdc.Plain(schema.String), text}

// builtinCodec knows the types that every server has.
func builtinCodec(oid uint32, typmod int32) (codec, bool) {
	k, ok := builtinForm(oid, typmod)
	if !ok || k.schema.Kind == schema.Array { // an array's element has the name
		return k, ok
	}
	return named(k, typeName(oid, typmod)), true
}

// builtinForm is how the values of a type that every server has look in the log.
func builtinForm(oid uint32, typmod int32) (codec, bool) {
	switch oid {
	case oidBool:
		return codec{cdc.Plain(schema.Bool), decodeBool}, true
	case oidInt2:
		return codec{cdc.Plain(schema.Int16), decodeInt16}, true
	case oidInt4:
		return codec{cdc.Plain(schema.Int32), decodeInt32}, true
	case oidInt8, oidOid:
		return codec{cdc.Plain(schema.Int64), decodeInt64}, true
	case oidFloat4:
		return codec{cdc.Plain(schema.Float32), decodeFloat32}, true
	case oidFloat8:
		return codec{cdc.Plain(schema.Float64), decodeFloat64}, true
	case oidNumeric:
		return numericCodec(typmod), true
	case oidMoney:
		return codec{cdc.DecimalOf(0, 2), decodeMoney}, true
	case oidBytea:
		return codec{cdc.Plain(schema.Bytes), decodeBytea}, true
	case oidBit, oidVarbit:
		return bitCodec(oid, typmod), true
	case oidDate:
		return codec{cdc.Semantic(schema.Int32, cdc.Date), decodeDate}, true
	case oidTime:
		if typmod >= 0 && typmod <= 3 {
			return codec{cdc.Semantic(schema.Int32, cdc.Time), decodeTimeMillis}, true
		}
		return codec{cdc.Semantic(schema.Int64, cdc.MicroTime), decodeTimeMicros}, true
	case oidTimestamp:
		if typmod >= 0 && typmod <= 3 {
			return codec{cdc.Semantic(schema.Int64, cdc.Timestamp), decodeTimestampMillis}, true
		}
		return codec{cdc.Semantic(schema.Int64, cdc.MicroTimestamp), decodeTimestampMicros}, true
	case oidTimestamptz:
		return codec{cdc.Semantic(schema.String, cdc.ZonedTimestamp), zonedTimestamp(typmod)}, true
	case oidTimetz:
		return codec{cdc.Semantic(schema.String, cdc.ZonedTime), decodeZonedTime}, true
	case oidInterval:
		return codec{cdc.Semantic(schema.Int64, cdc.MicroDuration), decodeInterval}, true
	case oidJSON, oidJSONB:
		return codec{cdc.Semantic(schema.String, cdc.Json), text}, true
	case oidXML:
		return codec{cdc.Semantic(schema.String, cdc.Xml), text}, true
	case oidUUID:
		return codec{cdc.Semantic(schema.String, cdc.Uuid), text}, true
	case oidTsvector:
		return codec{cdc.Semantic(schema.String, cdc.TsVector), text}, true
	case oidPoint:
		return codec{cdc.PointOf(), decodePoint}, true
	}
	if elem, ok := arrayElems[oid]; ok {
		c, known := builtinCodec(elem, typmod)
		if !known {
			c = named(plainText, typeName(elem, typmod))
		}
		return arrayCodec(c, ','), true
	}
	if oid < firstUserOid {
		return plainText, true
	}
	return codec{}, false
}

// str looks at b as a string for the length of a call.
func str(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func decodeBool(_ *connectors.Batch, t []byte) (schema.Value, error) {
	if len(t) == 1 && (t[0] == 't' || t[0] == 'f') {
		return schema.BoolOf(t[0] == 't'), nil
	}
	return schema.Value{}, errValue
}

// parseInt reads a decimal integer; strconv would do, slower.
func parseInt(t []byte, bits uint) (int64, error) {
	neg := len(t) > 0 && t[0] == '-'
	d := t
	if neg {
		d = t[1:]
	}
	if len(d) == 0 || len(d) > 18 {
		n, err := strconv.ParseInt(str(t), 10, int(bits))
		if err != nil {
			return 0, errValue
		}
		return n, nil
	}
	var n int64
	for _, c := range d {
		if c -= '0'; c > 9 {
			return 0, errValue
		}
		n = n*10 + int64(c)
	}
	if neg {
		n = -n
	}
	if bits < 64 && (n >= 1<<(bits-1) || n < -1<<(bits-1)) {
		return 0, errValue
	}
	return n, nil
}

func decodeInt16(_ *connectors.Batch, t []byte) (schema.Value, error) {
	n, err := parseInt(t, 16)
	return schema.Int16Of(int16(n)), err
}

func decodeInt32(_ *connectors.Batch, t []byte) (schema.Value, error) {
	n, err := parseInt(t, 32)
	return schema.Int32Of(int32(n)), err
}

func decodeInt64(_ *connectors.Batch, t []byte) (schema.Value, error) {
	n, err := parseInt(t, 64)
	return schema.Int64Of(n), err
}

// Infinity, -Infinity and NaN are values of a float in the log too.
func decodeFloat32(_ *connectors.Batch, t []byte) (schema.Value, error) {
	f, err := strconv.ParseFloat(str(t), 32)
	if err != nil {
		return schema.Value{}, errValue
	}
	return schema.Float32Of(float32(f)), nil
}

func decodeFloat64(_ *connectors.Batch, t []byte) (schema.Value, error) {
	f, err := strconv.ParseFloat(str(t), 64)
	if err != nil {
		return schema.Value{}, errValue
	}
	return schema.Float64Of(f), nil
}

// decodeBytea reads the hex form in place.
func decodeBytea(_ *connectors.Batch, t []byte) (schema.Value, error) {
	if len(t) < 2 || t[0] != '\\' || t[1] != 'x' || len(t)%2 != 0 {
		return schema.Value{}, errValue
	}
	h := t[2:]
	for i := 0; i < len(h); i += 2 {
		hi, lo := nibble[h[i]], nibble[h[i+1]]
		if hi|lo > 15 {
			return schema.Value{}, errValue
		}
		t[i/2] = hi<<4 | lo
	}
	n := len(h) / 2
	return schema.BytesOf(t[:n:n]), nil
}

// nibble maps hex digits to their value and all else to 0xff.
var nibble = func() (m [256]byte) {
	for i := range m {
		m[i] = 0xff
	}
	for i := range byte(10) {
		m['0'+i] = i
	}
	for i := range byte(6) {
		m['a'+i], m['A'+i] = 10+i, 10+i
	}
	return m
}()

func bitCodec(oid uint32, typmod int32) codec {
	switch {
	case typmod == 1, oid == oidBit && typmod < 0:
		return codec{cdc.Plain(schema.Bool), decodeBit}
	case typmod < 0:
		typmod = 1<<31 - 1 // varbit without a length: as Debezium says it
	}
	return codec{cdc.BitsOf(int(typmod)), decodeBits}
}

func decodeBit(_ *connectors.Batch, t []byte) (schema.Value, error) {
	switch string(t) {
	case "0", "":
		return schema.BoolOf(false), nil
	case "1":
		return schema.BoolOf(true), nil
	}
	return schema.Value{}, errValue
}

// decodeBits gives little-endian bytes, as many as the highest set bit needs.
func decodeBits(b *connectors.Batch, t []byte) (schema.Value, error) {
	for len(t) > 0 && t[0] == '0' {
		t = t[1:]
	}
	out := b.Copy(t) // longer than needed: a byte for each bit
	n := (len(t) + 7) / 8
	clear(out[:n])
	for i := range t {
		c := t[len(t)-1-i]
		if c != '0' && c != '1' {
			return schema.Value{}, errValue
		}
		out[i/8] |= (c - '0') << (i % 8)
	}
	return schema.BytesOf(out[:n:n]), nil
}

// valueError names the column of a value that cannot be read.
func valueError(table tableName, column string, err error) error {
	return connectors.Fatal(fmt.Errorf("%s, column %s: %w", table, column, err),
		"the server sent text that this version of Forebay cannot read: please report the column's type")
}
