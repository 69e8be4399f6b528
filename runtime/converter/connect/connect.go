// Package connect is what Kafka Connect, Debezium and Confluent's converters agree on, whatever the bytes are: the names of semantic types, what stands
// for a value that was not sent, how names are made legal.
package connect

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors/schema"
)

// The semantic types of Connect, and the parameters of its decimals.
const (
	Data           = "org.apache.kafka.connect.data."
	Decimal        = Data + "Decimal"
	Date           = Data + "Date"
	Time           = Data + "Time"
	Timestamp      = Data + "Timestamp"
	ParamScale     = "scale"
	ParamPrecision = "connect.decimal.precision"
)

// The properties by which Confluent's converters know their own types again, and ours.
const (
	PropName    = "connect.name"
	PropVersion = "connect.version"
	PropParams  = "connect.parameters"
	PropType    = "connect.type"
	PropOrigin  = "forebay.name" // of a field whose name the format does not allow
)

// Placeholder is what Debezium writes in place of a value that PostgreSQL did not send (UnchangedToastedPlaceholder.java).
const Placeholder = "__debezium_unavailable_value"

// PlaceholderNumber stands in arrays of numbers: the hash that Java's String.hashCode has of the placeholder.
var PlaceholderNumber = func() int32 {
	var h int32
	for _, c := range []byte(Placeholder) {
		h = 31*h + int32(c)
	}
	return h
}()

// Absent says that the only item of an array stands for an array that was not sent.
func Absent(v schema.Value) bool {
	return v.Kind == schema.Unavailable || (v.Kind == schema.Int32 || v.Kind == schema.Int64) && v.Int() == int64(PlaceholderNumber)
}

// What a value that its type cannot hold is an error of.
var (
	ErrNull    = errors.New("null, which its type does not allow")
	ErrMissing = errors.New("its value lies out of line and was not sent, and its type has nothing to stand for that; REPLICA IDENTITY FULL has it sent")
)

// KindError says that v is no value of s.
func KindError(s *schema.Schema, v *schema.Value) error {
	return fmt.Errorf("a value of kind %s where the type is %s", v.Kind, s.Kind)
}

// Free is a name as LegalName has it, with a number behind it if taken says that another one has it.
func Free(name string, taken func(string) bool) string {
	legal := LegalName(name)
	for n, base := 2, legal; taken(legal); n++ {
		legal = base + "_" + strconv.Itoa(n)
	}
	return legal
}

// Names are columns' names as LegalName has them, no two alike by fold. Where several columns would have one name each gets a suffix by its own name alone:
// so that none takes another one's when that is dropped.
func Names(columns []string, fold func(string) string) []string {
	like, taken := map[string]int{}, map[string]bool{}
	for _, c := range columns {
		like[fold(LegalName(c))]++
	}
	var out []string
	for _, c := range columns {
		name := LegalName(c)
		if like[fold(name)] > 1 {
			h := fnv.New32a()
			h.Write([]byte(c))
			name = fmt.Sprintf("%s_%08x", name, h.Sum32())
		}
		name = Free(name, func(name string) bool { return taken[fold(name)] })
		taken[fold(name)] = true
		out = append(out, name)
	}
	return out
}

// LegalName has _ for each character that is no ASCII letter, digit or _, and before a digit at the start.
func LegalName(name string) string {
	var b strings.Builder
	for i, c := range name {
		digit := c >= '0' && c <= '9'
		switch {
		case i == 0 && digit:
			b.WriteByte('_')
			b.WriteRune(c)
		case digit || c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			b.WriteRune(c)
		default:
			b.WriteByte('_')
		}
	}
	if b.Len() == 0 {
		return "_"
	}
	return b.String()
}

// Split cuts a semantic name at its last dot, and makes its parts legal.
func Split(full string) (space, name string) {
	parts := strings.Split(full, ".")
	for i := range parts {
		parts[i] = LegalName(parts[i])
	}
	last := len(parts) - 1
	return strings.Join(parts[:last], "."), parts[last]
}
