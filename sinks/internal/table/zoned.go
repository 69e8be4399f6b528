package table

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// What Debezium gives for a timestamp of ±infinity, in microseconds; a time
// that 64 bits of microseconds cannot hold becomes one of them too.
const (
	positiveInfinity = 9223372036825200000
	negativeInfinity = -9223372036832400000
)

// ZonedMicros reads an ISO 8601 time with a zone, as microseconds since 1970; "infinity" and "-infinity" are Debezium's numbers for them.
func ZonedMicros(p []byte) (int64, error) {
	if n, ok := plainZoned(p); ok {
		return n, nil
	}
	s := string(p)
	switch s {
	case "infinity":
		return positiveInfinity, nil
	case "-infinity":
		return negativeInfinity, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UnixMicro(), nil
	}
	return longYear(s)
}

// plainZoned reads 2026-11-22T10:20:30[.123456]Z, which is nearly all there is.
func plainZoned(p []byte) (int64, bool) {
	if len(p) < 20 || len(p) > 27 || p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' || p[16] != ':' || p[len(p)-1] != 'Z' {
		return 0, false
	}
	ok := true
	num := func(from, to int) int {
		n := 0
		for _, c := range p[from:to] {
			ok = ok && c >= '0' && c <= '9'
			n = n*10 + int(c-'0')
		}
		return n
	}
	y, mo, d, h, mi, s := num(0, 4), num(5, 7), num(8, 10), num(11, 13), num(14, 16), num(17, 19)
	micros := 0
	if len(p) > 20 {
		if p[19] != '.' || len(p) == 21 {
			return 0, false
		}
		micros = num(20, len(p)-1)
		for range 27 - len(p) {
			micros *= 10
		}
	}
	if !ok || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || s > 59 {
		return 0, false
	}
	t := time.Date(y, time.Month(mo), d, h, mi, s, 0, time.UTC)
	if t.Day() != d { // the 31st of a short month
		return 0, false
	}
	return t.Unix()*1_000_000 + int64(micros), true
}

// longYear reads years outside of 0000 to 9999, which ISO 8601 writes with a
// sign: +10000-01-01T00:00:00Z, -0044-03-15T12:00:00Z.
func longYear(s string) (int64, error) {
	fail := func() (int64, error) { return 0, fmt.Errorf("%q is no time with a zone", s) }
	sign, rest := 1, s
	switch {
	case strings.HasPrefix(s, "-"):
		sign, rest = -1, s[1:]
	case strings.HasPrefix(s, "+"):
		rest = s[1:]
	}
	digits, after, ok := strings.Cut(rest, "-")
	if !ok || len(digits) < 4 || len(digits) > 9 {
		return fail()
	}
	year := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return fail()
		}
		year = year*10 + int(c-'0')
	}
	t, err := time.Parse(time.RFC3339Nano, "2000-"+after) // a leap year: the 29th of February is checked below
	if err != nil {
		return fail()
	}
	moved := time.Date(sign*year, t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), t.Location())
	if moved.Day() != t.Day() {
		return fail()
	}
	switch sec := moved.Unix(); {
	case sec > math.MaxInt64/1_000_000-1:
		return positiveInfinity, nil
	case sec < math.MinInt64/1_000_000+1:
		return negativeInfinity, nil
	}
	return moved.UnixMicro(), nil
}
