package postgres

import (
	"maps"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors/schema"
)

// typeParam is the schema parameter that says what a column's type is called in
// PostgreSQL, as format_type writes it, where the value's kind and semantic name
// do not tell: a target that is PostgreSQL too can make the very same column.
const typeParam = "pg.type"

// named is k with the type's name.
func named(k codec, name string) codec {
	if name == "" {
		return k
	}
	s := *k.schema
	s.Params = maps.Clone(s.Params)
	if s.Params == nil {
		s.Params = map[string]string{}
	}
	s.Params[typeParam] = name
	k.schema = &s
	return k
}

// typeNames are the built-in types that share their form in the log with another.
var typeNames = map[uint32]string{
	oidOid: "oid", oidChar: `"char"`, oidName: "name", oidJSON: "json", oidMoney: "money",
	28: "xid", 650: "cidr", 869: "inet", 829: "macaddr", 774: "macaddr8",
	601: "lseg", 602: "path", 603: "box", 604: "polygon", 628: "line", 718: "circle",
	3615: "tsquery", 3220: "pg_lsn", 4072: "jsonpath",
	3904: "int4range", 3906: "numrange", 3908: "tsrange", 3910: "tstzrange", 3912: "daterange", 3926: "int8range",
	// Arrays that are not taken apart: their literal goes through as text.
	1020: "box[]", 1019: "path[]", 1027: "polygon[]", 719: "circle[]", 1018: "lseg[]", 629: "line[]", 3645: "tsquery[]", 3221: "pg_lsn[]", 4073: "jsonpath[]",
	4451: "int4multirange", 4532: "nummultirange", 4533: "tsmultirange", 4534: "tstzmultirange", 4535: "datemultirange", 4536: "int8multirange",
}

// typeName names a built-in type with its modifier; "" when kind and semantic name say it all.
func typeName(oid uint32, typmod int32) string {
	length := func(name string) string {
		if typmod < 4 {
			return name
		}
		return name + "(" + strconv.Itoa(int(typmod-4)) + ")" // the length counts its own header: VARHDRSZ
	}
	precise := func(name, zone string, natural int32) string {
		if typmod < 0 || typmod == natural {
			return ""
		}
		return name + "(" + strconv.Itoa(int(typmod)) + ")" + zone
	}
	switch oid {
	case oidVarchar:
		return length("character varying")
	case oidBpchar:
		if typmod < 4 {
			return "bpchar"
		}
		return length("character")
	case oidBit:
		if typmod <= 1 {
			return "bit(1)"
		}
		return "" // Bits with a length
	case oidVarbit:
		if typmod < 0 {
			return "bit varying"
		}
		return "bit varying(" + strconv.Itoa(int(typmod)) + ")"
	case oidTime:
		return precise("time", " without time zone", 3)
	case oidTimetz:
		return precise("time", " with time zone", -1)
	case oidTimestamp:
		return precise("timestamp", " without time zone", 3)
	case oidTimestamptz:
		return precise("timestamp", " with time zone", -1)
	}
	return typeNames[oid]
}

// plainName says whether a user's type is called by a name that needs no quotes.
func plainName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == "" && (name[0] < '0' || name[0] > '9')
}

// extensionType names a base type that an extension has brought. A target that
// does not have the extension stores it by its kind.
func extensionType(k codec, name string) codec {
	if !plainName(name) || k.schema.Kind != schema.String {
		return k
	}
	return named(k, name)
}
