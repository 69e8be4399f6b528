package table

import (
	"testing"
	"time"
)

func TestZonedTimestamps(t *testing.T) {
	for text, want := range map[string]int64{
		"1970-01-01T00:00:00Z":           0,
		"1970-01-01T00:00:00.5Z":         500_000,
		"1969-12-31T23:59:59.999999Z":    -1,
		"2024-02-29T12:00:00+02:00":      time.Date(2024, 2, 29, 10, 0, 0, 0, time.UTC).UnixMicro(),
		"+10000-01-01T00:00:00Z":         time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(),
		"10000-01-01T00:00:00Z":          time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro(),
		"-0044-03-15T12:00:00Z":          time.Date(-44, 3, 15, 12, 0, 0, 0, time.UTC).UnixMicro(),
		"+294276-12-31T23:59:59Z":        positiveInfinity,
		"infinity":                       positiveInfinity,
		"-infinity":                      negativeInfinity,
		"2024-01-02T03:04:05.123456789Z": time.Date(2024, 1, 2, 3, 4, 5, 123456000, time.UTC).UnixMicro(),
	} {
		if got, err := ZonedMicros([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "Z", "2023-02-29T00:00:00Z", "2024-01-01", "2024-01-01T00:00:00", "-", "+99999999999-01-01T00:00:00Z", "2024-01-01T00:00:0aZ"} {
		if n, err := ZonedMicros([]byte(text)); err == nil {
			t.Errorf("%q passes for %d", text, n)
		}
	}
}

func FuzzZonedTimestamp(f *testing.F) {
	f.Add("2024-02-29T23:59:59.000001Z")
	f.Add("-0044-03-15T12:00:00+01:30")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ZonedMicros([]byte(s))
		if want, perr := time.Parse(time.RFC3339Nano, s); perr == nil && (err != nil || n != want.UnixMicro()) {
			t.Errorf("%q: %d, %v; time.Parse has %d", s, n, err, want.UnixMicro())
		}
	})
}
