package postgres

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors/schema"
)

// typeParam is the schema parameter by which sources/postgres says what a column's
// type is called, where the value's own kind and name do not tell.
const typeParam = "pg.type"

// The semantic names that have a type of their own in PostgreSQL
// (io.debezium.time, io.debezium.data, org.apache.kafka.connect.data).
const (
	nameDate           = "io.debezium.time.Date"
	nameTime           = "io.debezium.time.Time"
	nameMicroTime      = "io.debezium.time.MicroTime"
	nameTimestamp      = "io.debezium.time.Timestamp"
	nameMicroTimestamp = "io.debezium.time.MicroTimestamp"
	nameZonedTimestamp = "io.debezium.time.ZonedTimestamp"
	nameZonedTime      = "io.debezium.time.ZonedTime"
	nameMicroDuration  = "io.debezium.time.MicroDuration"
	nameJSON           = "io.debezium.data.Json"
	nameXML            = "io.debezium.data.Xml"
	nameUUID           = "io.debezium.data.Uuid"
	nameTsVector       = "io.debezium.data.TsVector"
	nameBits           = "io.debezium.data.Bits"
	nameVariable       = "io.debezium.data.VariableScaleDecimal"
	namePoint          = "io.debezium.data.geometry.Point"
	nameDecimal        = "org.apache.kafka.connect.data.Decimal"
	nameConnectDate    = "org.apache.kafka.connect.data.Date"
	nameConnectTime    = "org.apache.kafka.connect.data.Time"
	nameConnectStamp   = "org.apache.kafka.connect.data.Timestamp"
)

// pgType is a type as format_type writes it, taken apart.
type pgType struct {
	base  string // timestamp without time zone
	mods  []int  // of timestamp(3): 3
	array bool
}

func (t pgType) String() string {
	s := t.base
	if len(t.mods) > 0 {
		var m []string
		for _, n := range t.mods {
			m = append(m, strconv.Itoa(n))
		}
		mods := "(" + strings.Join(m, ",") + ")"
		if head, tail, ok := strings.Cut(s, " with"); ok && strings.HasPrefix(s, "time") { // the precision stands inside
			s = head + mods + " with" + tail
		} else {
			s += mods
		}
	}
	if t.array {
		s += "[]"
	}
	return s
}

// A base is one of the few names of several words, or one word; with a schema before it, maybe.
// Nothing else gets into a statement: a schema comes from the log, where others may write.
var typePattern = regexp.MustCompile(`^((?:[a-z_][a-z0-9_]*\.)?(?:[a-z_][a-z0-9_]*|"char"|bit varying|character varying|double precision))(?:\((-?\d{1,6}(?:,-?\d{1,6})?)\))?( with time zone| without time zone)?((?:\[\])?)$`)

// parseType reads what format_type writes; ok is false for what could not be put into a statement.
func parseType(s string) (t pgType, ok bool) {
	m := typePattern.FindStringSubmatch(s)
	if m == nil || m[3] != "" && m[1] != "time" && m[1] != "timestamp" {
		return pgType{base: s}, false
	}
	t = pgType{base: m[1] + m[3], array: m[4] != ""}
	if m[2] != "" {
		for p := range strings.SplitSeq(m[2], ",") {
			n, _ := strconv.Atoi(p) // digits, by the pattern
			t.mods = append(t.mods, n)
		}
	}
	return t, true
}

// coreTypes are the types that every server has and that a schema may ask for by name.
var coreTypes = setOf("boolean", "smallint", "integer", "bigint", "real", "double precision", "numeric", "money", "text", "character varying",
	"character", "bpchar", `"char"`, "name", "oid", "bytea", "bit", "bit varying", "date", "time without time zone", "time with time zone",
	"timestamp without time zone", "timestamp with time zone", "interval", "json", "jsonb", "xml", "uuid", "point", "box", "circle", "line",
	"lseg", "path", "polygon", "inet", "cidr", "macaddr", "macaddr8", "tsvector", "tsquery", "int4range", "int8range", "numrange", "tsrange",
	"tstzrange", "daterange", "pg_lsn", "jsonpath", "xid")

func setOf(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// wanted is the column type that holds every value of a schema exactly. asked
// is true when the schema named it.
func wanted(s *schema.Schema) (t pgType, asked bool) {
	if name := s.Params[typeParam]; name != "" {
		if t, ok := parseType(name); ok {
			return t, true
		}
	}
	return natural(s), false
}

// natural is the column type by kind and semantic name.
func natural(s *schema.Schema) pgType {
	of := func(base string, mods ...int) pgType { return pgType{base: base, mods: mods} }
	switch s.Name {
	case nameDate, nameConnectDate:
		return of("date")
	case nameTime, nameConnectTime:
		return of("time without time zone", 3)
	case nameMicroTime:
		return of("time without time zone")
	case nameTimestamp, nameConnectStamp:
		return of("timestamp without time zone", 3)
	case nameMicroTimestamp:
		return of("timestamp without time zone")
	case nameZonedTimestamp:
		return of("timestamp with time zone")
	case nameZonedTime:
		return of("time with time zone")
	case nameMicroDuration:
		return of("interval")
	case nameJSON:
		return of("jsonb")
	case nameXML:
		return of("xml")
	case nameUUID:
		return of("uuid")
	case nameTsVector:
		return of("tsvector")
	case namePoint:
		return of("point")
	case nameVariable:
		return of("numeric")
	case nameDecimal:
		scale, err := strconv.Atoi(s.Params["scale"])
		precision, perr := strconv.Atoi(s.Params["connect.decimal.precision"])
		if err != nil || perr != nil || precision < 1 || precision > 1000 || scale < 0 || scale > precision {
			return of("numeric")
		}
		return of("numeric", precision, scale)
	case nameBits:
		if n, err := strconv.Atoi(s.Params["length"]); err == nil && n > 0 && n <= 83886080 {
			return of("bit", n)
		}
		return of("bit varying")
	}
	switch s.Kind {
	case schema.Bool:
		return of("boolean")
	case schema.Int16:
		return of("smallint")
	case schema.Int32:
		return of("integer")
	case schema.Int64:
		return of("bigint")
	case schema.Float32:
		return of("real")
	case schema.Float64:
		return of("double precision")
	case schema.Bytes:
		return of("bytea")
	case schema.Struct, schema.Map:
		return of("jsonb")
	case schema.Array:
		if s.Elem == nil {
			return of("jsonb")
		}
		e, _ := wanted(s.Elem)
		if s.Elem.Kind == schema.Array || s.Elem.Kind == schema.Map || s.Elem.Kind == schema.Struct && s.Elem.Name != nameVariable && s.Elem.Name != namePoint || e.array {
			return of("jsonb")
		}
		e.array = true
		return e
	}
	return of("text")
}

// Numbers, each able to hold all values of those to its left.
var numberRank = map[string]int{"smallint": 1, "integer": 2, "bigint": 3, "numeric": 4}

// fits says that every value of type a can be stored in a column of type b and
// comes back as it was.
func fits(a, b pgType) bool {
	if a.array != b.array {
		return false
	}
	if a.base == b.base {
		return modsFit(a, b)
	}
	open := len(b.mods) == 0
	switch b.base {
	case "text":
		return true
	case "character varying":
		return open || len(a.mods) == 1 && (a.base == "character" || a.base == "bpchar") && a.mods[0] <= b.mods[0]
	case "citext":
		return textual[a.base]
	case "integer", "bigint", "numeric":
		r := numberRank[a.base]
		return r > 0 && r < numberRank[b.base] && open
	case "double precision":
		return a.base == "real" || a.base == "smallint" || a.base == "integer"
	case "json", "jsonb":
		return a.base == "json" || a.base == "jsonb"
	case "timestamp without time zone":
		return a.base == "date" && open
	case "inet":
		return a.base == "cidr"
	}
	return false
}

var textual = map[string]bool{"text": true, "character varying": true, "character": true, "name": true, "citext": true, "uuid": true}

// modsFit compares lengths, precisions and scales of one base.
func modsFit(a, b pgType) bool {
	if len(b.mods) == 0 {
		return !(b.base == "bit" || b.base == "character") || len(a.mods) == 0 // without a length these mean 1
	}
	if len(a.mods) == 0 {
		return full(a.base) == b.mods[0] && b.mods[0] > 0
	}
	switch a.base {
	case "numeric":
		as, bs := 0, 0
		if len(a.mods) > 1 {
			as = a.mods[1]
		}
		if len(b.mods) > 1 {
			bs = b.mods[1]
		}
		return bs >= as && b.mods[0]-bs >= a.mods[0]-as
	case "bit", "character":
		return a.mods[0] == b.mods[0]
	}
	return a.mods[0] <= b.mods[0]
}

// full is the precision that a type has when none is given.
func full(base string) int {
	if strings.HasPrefix(base, "time") || base == "interval" {
		return 6
	}
	return 0
}

// stores says that a column takes the values, if with another precision than they
// have: what somebody chose who made the column.
func stores(a, b pgType) bool {
	if fits(a, b) {
		return true
	}
	if a.array != b.array {
		return (b.base == "jsonb" || b.base == "json" || b.base == "text") && !b.array // as a JSON array
	}
	switch b.base {
	case "double precision", "real": // of two lengths of a float the column takes the longer
		return numberRank[a.base] > 0
	case "numeric":
		return len(b.mods) == 0 && (a.base == "real" || a.base == "double precision" || a.base == "money")
	case "character varying", "character", "name", "bpchar": // too long a value is an error of the server
		return textual[a.base]
	case "timestamp with time zone":
		return a.base == "timestamp without time zone" || a.base == "date"
	case "uuid", "json", "jsonb", "inet", "cidr", "xml", "ltree": // a value that is none is an error of the server
		return textual[a.base]
	case "hstore":
		return a.base == "jsonb"
	}
	return enumLike(b) && textual[a.base]
}

// enumLike: a type that we do not know, such as an enum or a domain of the target.
func enumLike(t pgType) bool {
	return !coreType(t.base)
}

// coreType says that every server has the type.
func coreType(base string) bool { return coreTypes[base] }
