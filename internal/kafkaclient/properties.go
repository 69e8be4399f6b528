package kafkaclient

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
)

// ParseProperties reads Java's properties, as java.util.Properties.load describes them: name=value, name:value or name value; # and ! begin
// comments; a line that ends with \ goes on with the next. The text is UTF-8, where Java reads Latin-1. The error shows nothing of a value.
func ParseProperties(text string) (map[string]string, error) {
	m := map[string]string{}
	lines := strings.Split(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"), "\n")
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
			return nil, fmt.Errorf("line %d: %w", at, err)
		}
		m[name] = value // the last one counts
	}
	return m, nil
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
			return "", 0, fmt.Errorf(`\u wants four hexadecimal digits`)
		}
		u, err := strconv.ParseUint(s[n+2:n+6], 16, 16)
		if err != nil {
			return "", 0, fmt.Errorf(`\u wants four hexadecimal digits`)
		}
		units = append(units, uint16(u))
		n += 6
	}
	return string(utf16.Decode(units)), n, nil
}
