package postgres

import (
	"bytes"
	"math"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

const (
	secondMicros = 1_000_000
	daySeconds   = 86400
	dayMicros    = daySeconds * secondMicros
	// monthSeconds is a twelfth of 365.25 days: MicroDuration.DAYS_PER_MONTH_AVG.
	monthSeconds = 2629800
)

// What Debezium gives for ±infinity, in microseconds (PGStatement.DATE_POSITIVE_INFINITY).
const (
	positiveInfinity = 9223372036825200000
	negativeInfinity = -9223372036832400000
)

// infinite reads infinity and -infinity.
func infinite(t []byte) int {
	switch string(t) {
	case "infinity":
		return 1
	case "-infinity":
		return -1
	}
	return 0
}

// clock reads numbers and separators from the front of a text.
type clock struct {
	p   []byte
	bad bool
}

// number reads digits, at least min and at most 18.
func (c *clock) number(min int) int64 {
	var n int64
	i := 0
	for i < len(c.p) && i < 18 && c.p[i] >= '0' && c.p[i] <= '9' {
		n = n*10 + int64(c.p[i]-'0')
		i++
	}
	if i < min {
		c.bad = true
	}
	c.p = c.p[i:]
	return n
}

func (c *clock) skip(sep byte) bool {
	if len(c.p) > 0 && c.p[0] == sep {
		c.p = c.p[1:]
		return true
	}
	return false
}

func (c *clock) expect(sep byte) {
	if !c.skip(sep) {
		c.bad = true
	}
}

// fraction reads up to six digits after a point as microseconds.
func (c *clock) fraction() int64 {
	if !c.skip('.') {
		return 0
	}
	before := len(c.p)
	n := c.number(1)
	digits := before - len(c.p)
	if digits > 6 {
		c.bad = true
	}
	for ; digits < 6; digits++ {
		n *= 10
	}
	return n
}

// timeOfDay reads 13:51:30.123 as microseconds.
func (c *clock) timeOfDay() int64 {
	h := c.number(2)
	c.expect(':')
	m := c.number(2)
	c.expect(':')
	s := c.number(2)
	f := c.fraction()
	if h > 24 || m > 59 || s > 60 {
		c.bad = true
		return 0
	}
	return (h*3600+m*60+s)*secondMicros + f
}

// date reads 2024-01-31; the year before Christ is set by era.
func (c *clock) date() (year, month, day int64) {
	year = c.number(4)
	c.expect('-')
	month = c.number(2)
	c.expect('-')
	day = c.number(2)
	if month < 1 || month > 12 || day < 1 || day > 31 || year > 5_874_897 {
		c.bad = true
	}
	return year, month, day
}

// era reads " BC" at the end: 4713 BC is the year -4712.
func (c *clock) era(year int64) int64 {
	if bytes.Equal(c.p, []byte(" BC")) {
		c.p = nil
		return 1 - year
	}
	return year
}

func (c *clock) ok() bool { return !c.bad && len(c.p) == 0 }

// epochDays counts days since 1970-01-01 in the proleptic Gregorian calendar.
func epochDays(y, m, d int64) int64 {
	if m <= 2 {
		y--
	}
	era := y / 400
	if y < 0 {
		era = (y - 399) / 400
	}
	yoe := y - era*400
	mp := (m + 9) % 12
	doy := (153*mp+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 719468
}

func decodeDate(_ *connectors.Batch, t []byte) (schema.Value, error) {
	switch infinite(t) {
	case 1:
		return schema.Int32Of(math.MaxInt32), nil
	case -1:
		return schema.Int32Of(math.MinInt32), nil
	}
	c := clock{p: t}
	y, m, d := c.date()
	y = c.era(y)
	if !c.ok() {
		return schema.Value{}, errValue
	}
	return schema.Int32Of(int32(epochDays(y, m, d))), nil
}

// micros are seconds and a rest in microseconds as microseconds, or as many as there can be.
func micros(seconds, rest int64) int64 {
	switch {
	case seconds > math.MaxInt64/secondMicros:
		return math.MaxInt64
	case seconds < math.MinInt64/secondMicros:
		return math.MinInt64
	}
	switch n := seconds * secondMicros; {
	case rest > 0 && n > math.MaxInt64-rest:
		return math.MaxInt64
	case rest < 0 && n < math.MinInt64-rest:
		return math.MinInt64
	default:
		return n + rest
	}
}

// timestamp reads a finite one: the days since 1970 and the time of the day in microseconds.
func timestamp(t []byte) (days, tod int64, err error) {
	c := clock{p: t}
	y, m, d := c.date()
	c.expect(' ')
	tod = c.timeOfDay()
	y = c.era(y)
	if !c.ok() {
		return 0, 0, errValue
	}
	return epochDays(y, m, d), tod, nil
}

// decodeTimestampMicros gives a year that microseconds since 1970 do not reach, from 294247 on, as infinity: there it
// stands behind all others. timestamp itself goes to the end of 294276, a date that some use for "for ever".
func decodeTimestampMicros(_ *connectors.Batch, t []byte) (schema.Value, error) {
	switch infinite(t) {
	case 1:
		return schema.Int64Of(positiveInfinity), nil
	case -1:
		return schema.Int64Of(negativeInfinity), nil
	}
	days, tod, err := timestamp(t)
	return schema.Int64Of(min(micros(days*daySeconds+tod/secondMicros, tod%secondMicros), positiveInfinity)), err
}

// decodeTimestampMillis gives every year as it is: milliseconds reach further.
func decodeTimestampMillis(_ *connectors.Batch, t []byte) (schema.Value, error) {
	switch infinite(t) {
	case 1:
		return schema.Int64Of(positiveInfinity / 1000), nil
	case -1:
		return schema.Int64Of(negativeInfinity / 1000), nil
	}
	days, tod, err := timestamp(t)
	return schema.Int64Of(days*daySeconds*1000 + tod/1000), err
}

func decodeTimeMicros(_ *connectors.Batch, t []byte) (schema.Value, error) {
	c := clock{p: t}
	us := c.timeOfDay()
	if !c.ok() {
		return schema.Value{}, errValue
	}
	return schema.Int64Of(us), nil
}

func decodeTimeMillis(_ *connectors.Batch, t []byte) (schema.Value, error) {
	c := clock{p: t}
	us := c.timeOfDay()
	if !c.ok() {
		return schema.Value{}, errValue
	}
	return schema.Int32Of(int32(us / 1000)), nil
}

// zonedTimestamp writes ISO 8601 in UTC with as many digits of a second as the
// column has, six by default: 2024-01-31T11:51:30.120000Z. Years beyond 9999
// have a plus, and years before 1 a minus, as in java.time.
func zonedTimestamp(typmod int32) decodeFunc {
	digits := 6
	if typmod >= 0 && typmod < 6 {
		digits = int(typmod)
	}
	return func(b *connectors.Batch, t []byte) (schema.Value, error) {
		if infinite(t) != 0 {
			return schema.TextOf(t), nil
		}
		c := clock{p: t}
		y, _, _ := c.date()
		yearLen := bytes.IndexByte(t, '-')
		c.expect(' ')
		c.timeOfDay()
		if c.bad || !bytes.HasPrefix(c.p, []byte("+00")) {
			return schema.Value{}, errValue // the session's TimeZone is UTC
		}
		body := t[yearLen : len(t)-len(c.p)]
		c.p = c.p[3:]
		bc := len(c.p) > 0
		if y = c.era(y); !c.ok() {
			return schema.Value{}, errValue
		}
		var buf [48]byte
		out := appendYear(buf[:0], y, t[:yearLen], bc)
		n := len(out)
		out = append(out, body...)
		out[n+len("-01-31")] = 'T'
		out = padFraction(out, digits)
		return schema.TextOf(b.Copy(append(out, 'Z'))), nil
	}
}

// appendYear writes a proleptic year with four digits or more.
func appendYear(dst []byte, y int64, written []byte, bc bool) []byte {
	if !bc {
		if y > 9999 {
			dst = append(dst, '+')
		}
		return append(dst, written...)
	}
	if y < 0 {
		dst, y = append(dst, '-'), -y
	}
	for pow := int64(1000); pow > 1 && y < pow; pow /= 10 {
		dst = append(dst, '0')
	}
	return appendInt(dst, y)
}

func appendInt(dst []byte, n int64) []byte {
	if n < 0 {
		dst, n = append(dst, '-'), -n
	}
	var buf [20]byte
	i := len(buf)
	for {
		i--
		buf[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return append(dst, buf[i:]...)
		}
	}
}

// padFraction gives the seconds at the end of out that many digits.
func padFraction(out []byte, digits int) []byte {
	have := 0
	if i := bytes.LastIndexByte(out, '.'); i >= 0 {
		have = len(out) - i - 1
	} else if digits > 0 {
		out = append(out, '.')
	}
	for ; have < digits; have++ {
		out = append(out, '0')
	}
	return out
}

// decodeZonedTime moves a time with a zone to UTC: 13:51:30.123+02 is
// 11:51:30.123Z, with no more digits than it needs. 24:00:00+00 stays what it is.
func decodeZonedTime(b *connectors.Batch, t []byte) (schema.Value, error) {
	c := clock{p: t}
	us := c.timeOfDay()
	sign := int64(1)
	if !c.skip('+') {
		c.expect('-')
		sign = -1
	}
	off := c.number(2) * 3600
	if c.skip(':') {
		off += c.number(2) * 60
		if c.skip(':') {
			off += c.number(2)
		}
	}
	if !c.ok() || off >= 86400 {
		return schema.Value{}, errValue
	}
	if us != dayMicros || off != 0 {
		us = ((us-sign*off*secondMicros)%dayMicros + dayMicros) % dayMicros
	}
	var buf [24]byte
	out := buf[:0]
	s := us / secondMicros
	for i, n := range [3]int64{s / 3600, s / 60 % 60, s % 60} {
		if i > 0 {
			out = append(out, ':')
		}
		out = append(out, byte('0'+n/10), byte('0'+n%10))
	}
	if f := us % secondMicros; f != 0 {
		out = append(out, '.')
		for pow := int64(secondMicros / 10); f > 0; pow /= 10 {
			out = append(out, byte('0'+f/pow))
			f %= pow
		}
	}
	return schema.TextOf(b.Copy(append(out, 'Z'))), nil
}

// farSeconds is more than any interval has: PostgreSQL's end at 178,956,970 years.
const farSeconds = 1 << 56

// decodeInterval reads ISO 8601 (P1Y2M3DT4H5M6.7S, each part with its own sign)
// as microseconds; a month counts a twelfth of 365.25 days. More than they can
// count, 292,000 years, is their end, as with Debezium.
func decodeInterval(_ *connectors.Batch, t []byte) (schema.Value, error) {
	switch infinite(t) {
	case 1:
		return schema.Int64Of(math.MaxInt64), nil
	case -1:
		return schema.Int64Of(math.MinInt64), nil
	}
	c := clock{p: t}
	c.expect('P')
	var seconds, rest int64
	var seen, inTime bool
	for len(c.p) > 0 && !c.bad {
		if c.skip('T') {
			if inTime {
				break
			}
			inTime = true
		}
		sign := int64(1)
		if c.skip('-') {
			sign = -1
		}
		n := c.number(1)
		f := c.fraction()
		if len(c.p) == 0 {
			c.bad = true
			break
		}
		unit := c.p[0]
		c.p = c.p[1:]
		var per int64
		switch {
		case unit == 'Y' && !inTime:
			per = 12 * monthSeconds
		case unit == 'M' && !inTime:
			per = monthSeconds
		case unit == 'D' && !inTime:
			per = daySeconds
		case unit == 'H' && inTime:
			per = 3600
		case unit == 'M' && inTime:
			per = 60
		case unit == 'S' && inTime:
			per = 1
		default:
			c.bad = true
		}
		if per == 0 || n > farSeconds/per {
			c.bad = true
			break
		}
		seconds += sign * n * per
		rest += sign * f // only seconds have a fraction
		if seconds > farSeconds || seconds < -farSeconds {
			c.bad = true
		}
		seen = true
	}
	if !c.ok() || !seen {
		return schema.Value{}, errValue
	}
	return schema.Int64Of(micros(seconds, rest)), nil
}
