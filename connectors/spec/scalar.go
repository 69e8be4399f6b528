package spec

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

type unit struct {
	name  string
	bytes int64
}

// binaryUnits and decimalUnits are ordered from the largest.
var (
	binaryUnits  = []unit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}
	decimalUnits = []unit{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1}}
)

// ParseSize reads a size: 4096, 128MiB (1024s), 1GB (1000s), 1.5GiB.
func ParseSize(text string) (ByteSize, error) {
	number, factor := strings.TrimSpace(text), int64(1)
	lower := strings.ToLower(number)
	for _, units := range [][]unit{binaryUnits, decimalUnits} {
		cut := false
		for _, u := range units {
			if strings.HasSuffix(lower, strings.ToLower(u.name)) {
				number, factor, cut = strings.TrimSpace(number[:len(number)-len(u.name)]), u.bytes, true
				break
			}
		}
		if cut {
			break
		}
	}
	bad := fmt.Errorf("%q is not a size; write it like 128MiB, 1GB or 4096", text)
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/factor {
			return 0, bad
		}
		return ByteSize(n * factor), nil
	}
	if strings.ContainsAny(number, "eExXpPiInN_") {
		return 0, bad
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f < 0 || f*float64(factor) > 1<<62 || factor == 1 {
		return 0, bad
	}
	return ByteSize(f * float64(factor)), nil
}

// ParseDuration reads a duration as Go does (30s, 1h30m, 250ms) and days: 7d, 1d12h. Negative ones are refused.
func ParseDuration(text string) (time.Duration, error) {
	s := strings.TrimSpace(text)
	bad := fmt.Errorf("%q is not a duration; write it like 30s, 10m, 1h30m or 7d", text)
	if s == "0" {
		return 0, nil
	}
	var days time.Duration
	if i := strings.IndexByte(s, 'd'); i > 0 {
		n, err := strconv.ParseInt(s[:i], 10, 64)
		if err != nil || n < 0 || n > 100_000 {
			return 0, bad
		}
		days, s = time.Duration(n)*24*time.Hour, s[i+1:]
		if s == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > math.MaxInt64-days {
		return 0, bad
	}
	return days + d, nil
}

// parseScalar reads text as f says.
func (f *Field) parseScalar(text string) (any, error) {
	switch f.Type {
	case String:
		return text, nil
	case Secret:
		return SecretText(text), nil
	case Int:
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			if errors.Is(err, strconv.ErrRange) {
				return nil, fmt.Errorf("%s does not fit into 64 bits", text)
			}
			return nil, fmt.Errorf("%q is not a whole number", text)
		}
		return n, nil
	case Bool:
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, fmt.Errorf("%q is neither true nor false", text)
	case Duration:
		return ParseDuration(text)
	case Size:
		return ParseSize(text)
	case Enum:
		for _, e := range f.Enum {
			if e == text {
				return text, nil
			}
		}
		return nil, &enumError{text: text, allowed: f.Enum}
	case Strings:
		return []string{text}, nil
	}
	return nil, fmt.Errorf("a field of this type has no value of its own")
}

// enumError says what is allowed and which of it was probably meant.
type enumError struct {
	text    string
	allowed []string
}

func (e *enumError) Error() string {
	return fmt.Sprintf("%q is not one of %s", e.text, strings.Join(e.allowed, ", "))
}

// zero is the value of a field that has neither text nor default.
func (f *Field) zero() any {
	switch f.Type {
	case Secret:
		return SecretText("")
	case Int:
		return int64(0)
	case Bool:
		return false
	case Duration:
		return time.Duration(0)
	case Size:
		return ByteSize(0)
	case Strings:
		return []string(nil)
	case Tree:
		return Node{}
	}
	return ""
}

// defaultValue parses Default. A Default that does not parse is a mistake in
// the Spec: it panics, and Spec.Check finds it in a test.
func (f *Field) defaultValue() any {
	if f.Default == "" {
		return f.zero()
	}
	if f.Type == Strings {
		return SplitList(strings.TrimSuffix(strings.TrimPrefix(f.Default, "["), "]"))
	}
	v, err := f.parseScalar(f.Default)
	if err != nil {
		panic(fmt.Sprintf("spec: default of field %s: %v", f.Name, err))
	}
	return v
}

// SplitList reads a list that is written with commas, as in the flat map of REST.
func SplitList(text string) []string {
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.Trim(strings.TrimSpace(part), `"'`); part != "" {
			out = append(out, part)
		}
	}
	return out
}
