package transform

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

var timestampType = &Type{
	Name: "timestamp", Connect: "TimestampConverter", keyed: true,
	Spec: spec.Spec{Doc: "Writes times in another form, in UTC. What a field is, its type says where it is a database's (a time of day is one of 1 January 1970; an interval or a year is none); else a number counts `unit`, and a text is as `format` has it.", Fields: []spec.Field{
		namesField("The fields, by name or by a path with dots. One that is not there is no error.", "[created_at]"),
		{Name: "to", Type: spec.Enum, Enum: []string{"string", "unix", "timestamp", "date"}, Required: true, Doc: "A text, a number, Kafka Connect's Timestamp (milliseconds) or Date (days)."},
		{Name: "format", Default: "%Y-%m-%dT%H:%M:%SZ", Check: timeFormat, Doc: "Of texts: %Y %m %d %H %M %S, and %f for a fraction of a second with its dot, if there is one."},
		{Name: "unit", Type: spec.Enum, Enum: []string{"s", "ms", "us", "ns"}, Default: "ms", Doc: "Of numbers that have no type of their own, and of `to: unix`."}}},
	Example: "- {type: timestamp, fields: [created_at], to: string, format: '%Y-%m-%d'}",
	make:    makeTimestamp,
}

func makeTimestamp(v spec.Values, _ Side) (applier, error) {
	t := &timestamps{to: v.String("to"), format: v.String("format"), unit: units[v.String("unit")]}
	return editorOf(v, v.Strings("fields"), func(b *builder, i int, _ string) error {
		f := b.in.Fields[i]
		b.put(schema.Field{Name: f.Name, Schema: t.schema(f.Schema.Optional)}, column{from: i, convert: func(w *work, v schema.Value) (schema.Value, error) {
			if v.IsNull() || v.Kind == schema.Unavailable {
				return v, nil
			}
			at, err := t.read(connectors.Datum{Schema: f.Schema, Value: v})
			if err != nil {
				return v, err
			}
			return t.write(w, at)
		}})
		return nil
	}), nil
}

var units = map[string]time.Duration{"s": time.Second, "ms": time.Millisecond, "us": time.Microsecond, "ns": time.Nanosecond}

type timestamps struct {
	to, format string
	unit       time.Duration
}

func (t *timestamps) schema(optional bool) *schema.Schema {
	switch t.to {
	case "unix":
		return &schema.Schema{Kind: schema.Int64, Optional: optional}
	case "timestamp":
		return &schema.Schema{Kind: schema.Int64, Name: "org.apache.kafka.connect.data.Timestamp", Version: 1, Optional: optional}
	case "date":
		return &schema.Schema{Kind: schema.Int32, Name: "org.apache.kafka.connect.data.Date", Version: 1, Optional: optional}
	}
	return &schema.Schema{Kind: schema.String, Optional: optional}
}

// semantics are the types whose numbers are times, and what they count.
var semantics = map[string]time.Duration{
	"org.apache.kafka.connect.data.Timestamp": time.Millisecond, "io.debezium.time.Timestamp": time.Millisecond,
	"io.debezium.time.MicroTimestamp": time.Microsecond, "io.debezium.time.NanoTimestamp": time.Nanosecond,
	"org.apache.kafka.connect.data.Date": 24 * time.Hour, "io.debezium.time.Date": 24 * time.Hour,
	"org.apache.kafka.connect.data.Time": time.Millisecond, "io.debezium.time.Time": time.Millisecond,
	"io.debezium.time.MicroTime": time.Microsecond, "io.debezium.time.NanoTime": time.Nanosecond,
}

func (t *timestamps) read(d connectors.Datum) (time.Time, error) {
	switch v := d.Value; v.Kind {
	case schema.Int16, schema.Int32, schema.Int64:
		unit, ok := semantics[d.Schema.Name]
		if !ok {
			if strings.HasPrefix(d.Schema.Name, "io.debezium.time.") {
				return time.Time{}, fmt.Errorf("a number of type %s is no point in time", d.Schema.Name)
			}
			unit = t.unit
		}
		return fromUnits(v.Int(), unit)
	case schema.String:
		if d.Schema.Name == "io.debezium.time.ZonedTimestamp" {
			at, err := time.Parse(time.RFC3339Nano, string(v.Data))
			return at.UTC(), err
		}
		return parseTime(t.format, string(v.Data))
	}
	return time.Time{}, fmt.Errorf("%s is no time", kindName(d.Value.Kind))
}

func fromUnits(n int64, unit time.Duration) (time.Time, error) {
	if unit >= time.Second {
		per := int64(unit / time.Second)
		if most := int64(1) << 53 / per; n > most || n < -most {
			return time.Time{}, fmt.Errorf("%d is no time", n)
		}
		return time.Unix(n*per, 0).UTC(), nil
	}
	per := int64(time.Second / unit)
	return time.Unix(n/per, n%per*int64(unit)).UTC(), nil
}

func (t *timestamps) write(w *work, at time.Time) (schema.Value, error) {
	switch t.to {
	case "timestamp":
		return schema.Int64Of(at.UnixMilli()), nil
	case "date":
		day := at.Unix() / 86400
		if at.Unix()%86400 < 0 {
			day--
		}
		return integerOf(schema.Int32, day)
	case "unix":
		per := int64(time.Second / t.unit)
		if most := math.MaxInt64/per - 1; at.Unix() > most || at.Unix() < -most {
			return schema.Value{}, fmt.Errorf("the year %d does not fit a number of %v", at.Year(), t.unit)
		}
		return schema.Int64Of(at.Unix()*per + int64(at.Nanosecond())/int64(t.unit)), nil
	}
	var dst [64]byte
	return schema.TextOf(w.b.Copy(formatTime(dst[:0], t.format, at))), nil
}

func timeFormat(v any) error {
	f := v.(string) //nolint:forcetypeassert // of a String
	if strings.Contains(f, "yy") {
		return errors.New("a Java pattern; here it is %Y-%m-%d and so on")
	}
	for i := 0; i < len(f); i++ {
		if f[i] != '%' {
			continue
		}
		if i++; i == len(f) || strings.IndexByte(verbs+"f%", f[i]) < 0 {
			return errors.New("a % that says nothing: write %Y, %m, %d, %H, %M, %S or %f")
		}
	}
	return nil
}

func formatTime(dst []byte, format string, at time.Time) []byte {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			dst = append(dst, format[i])
			continue
		}
		switch i++; format[i] {
		case '%':
			dst = append(dst, '%')
		case 'f':
			dst = at.AppendFormat(dst, ".999999999")
		default:
			dst = appendTime(dst, at, format[i])
		}
	}
	return dst
}

// parseTime reads what formatTime writes.
func parseTime(format, text string) (time.Time, error) {
	var fields ['z']int
	fields['Y'], fields['m'], fields['d'] = 1970, 1, 1
	nanos, rest := 0, text
	bad := func() error { return fmt.Errorf("%q is not a time like %s", text, format) }
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) || format[i+1] == '%' {
			if rest == "" || rest[0] != format[i] {
				return time.Time{}, bad()
			}
			if rest = rest[1:]; format[i] == '%' {
				i++
			}
			continue
		}
		i++
		if format[i] == 'f' {
			nanos, rest = fraction(rest)
			continue
		}
		width := 2
		if format[i] == 'Y' {
			width = 4
		}
		if len(rest) < width {
			return time.Time{}, bad()
		}
		n := 0
		for i := range width {
			c := rest[i]
			if c < '0' || c > '9' {
				return time.Time{}, bad()
			}
			n = 10*n + int(c-'0')
		}
		fields[format[i]], rest = n, rest[width:]
	}
	at := time.Date(fields['Y'], time.Month(fields['m']), fields['d'], fields['H'], fields['M'], fields['S'], nanos, time.UTC)
	if rest != "" || int(at.Month()) != fields['m'] || at.Day() != fields['d'] || at.Hour() != fields['H'] || at.Minute() != fields['M'] || at.Second() != fields['S'] {
		return time.Time{}, bad() // 31 February is no day
	}
	return at, nil
}

// fraction reads a dot and up to nine digits, if they are there.
func fraction(text string) (nanos int, rest string) {
	if !strings.HasPrefix(text, ".") {
		return 0, text
	}
	i, unit := 1, 100_000_000
	for ; i < len(text) && text[i] >= '0' && text[i] <= '9'; i++ {
		nanos += int(text[i]-'0') * unit
		unit /= 10
	}
	return nanos, text[i:]
}
