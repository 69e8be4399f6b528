// Package properties reads files of Java's properties.
package properties

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Property is one setting, and the line that it begins at, from 1.
type Property struct {
	Name, Value string
	Line        int
}

// Error is a line that cannot be read. It shows nothing of a value.
type Error struct {
	Line int
	What string
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.What) }

// Parse reads properties as java.util.Properties.load describes them, in their order: name=value, name:value or name value; # and ! begin
// comments; a line that ends with \ goes on with the next. The text is UTF-8, where Java reads Latin-1. The error is an *Error.
func Parse(text string) ([]Property, error) {
	var out []Property
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
	for i := 0; i < len(lines); i++ {
		at := i + 1
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		var whole strings.Builder
		for goesOn(line) {
			whole.WriteString(line[:len(line)-1])
			if i++; i >= len(lines) {
				line = ""
				break
			}
			line = strings.TrimLeft(lines[i], " \t\f")
		}
		whole.WriteString(line)
		name, value := cut(whole.String())
		name, err := unescape(name)
		if err == nil {
			value, err = unescape(value)
		}
		if err != nil {
			return nil, &Error{at, err.Error()}
		}
		out = append(out, Property{name, value, at})
	}
	return out, nil
}

// Map is properties by name; of two of one name the last counts.
func Map(all []Property) map[string]string {
	m := make(map[string]string, len(all))
	for _, p := range all {
		m[p.Name] = p.Value
	}
	return m
}

// goesOn says whether a line ends with an odd number of backslashes.
func goesOn(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// cut parts a name from its value, both still escaped.
func cut(line string) (name, value string) {
	end := 0
	for end < len(line) && strings.IndexByte("=: \t\f", line[end]) < 0 {
		if line[end] == '\\' {
			end++
		}
		end++
	}
	end = min(end, len(line))
	rest := strings.TrimLeft(line[end:], " \t\f")
	if rest != "" && (rest[0] == '=' || rest[0] == ':') {
		rest = strings.TrimLeft(rest[1:], " \t\f")
	}
	return line[:end], rest
}

func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 'f':
			b.WriteByte('\f')
		case 'u':
			r, n, err := unicodes(s[i-1:])
			if err != nil {
				return "", err
			}
			b.WriteString(r)
			i += n - 2
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

// unicodes reads escapes that follow each other, each \u and four hexadecimal digits: two of them may be one character. n is their length in s.
func unicodes(s string) (text string, n int, err error) {
	var units []uint16
	for len(s) >= n+2 && s[n] == '\\' && s[n+1] == 'u' {
		if len(s) < n+6 {
			return "", 0, fmt.Errorf(`\u without four hexadecimal digits behind it`)
		}
		u, err := strconv.ParseUint(s[n+2:n+6], 16, 16)
		if err != nil {
			return "", 0, fmt.Errorf(`\u without four hexadecimal digits behind it`)
		}
		units = append(units, uint16(u))
		n += 6
	}
	return string(utf16.Decode(units)), n, nil
}
