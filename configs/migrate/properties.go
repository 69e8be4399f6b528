package migrate

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// readProperties reads a file of connect-standalone: one connector, in the form of java.util.Properties. It is read as UTF-8.
func readProperties(file, text string) ([]connector, error) {
	c := connector{file: file, line: 1}
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
	for i := 0; i < len(lines); i++ {
		at := i + 1
		line := strings.TrimLeft(lines[i], " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		var whole strings.Builder // lines that end with an odd number of backslashes go on
		for {
			n := len(line) - len(strings.TrimRight(line, `\`))
			if n%2 == 0 || i+1 == len(lines) {
				whole.WriteString(strings.TrimSuffix(line, strings.Repeat(`\`, n%2)))
				break
			}
			whole.WriteString(line[:len(line)-1])
			i++
			line = strings.TrimLeft(lines[i], " \t\f")
		}
		key, value := cutProperty(whole.String())
		k, err := unescape(key)
		v, other := unescape(value)
		if err == nil {
			err = other
		}
		if err != nil {
			return nil, bad(file, at, err.Error(), "write a backslash as \\\\")
		}
		c.fields = append(c.fields, field{k, strings.TrimSpace(v), at})
	}
	return []connector{c}, nil
}

// cutProperty cuts a line at the first =, : or blank that no backslash stands before.
func cutProperty(line string) (key, value string) {
	end := len(line)
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' {
			i++
			continue
		}
		if strings.IndexByte("=: \t\f", line[i]) >= 0 {
			end = i
			break
		}
	}
	key, value = line[:end], strings.TrimLeft(line[end:], " \t\f")
	if value != "" && (value[0] == '=' || value[0] == ':') {
		value = strings.TrimLeft(value[1:], " \t\f")
	}
	return key, value
}

// unescape resolves \t, \n, \r, \f and \uXXXX; before any other letter a backslash says nothing.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			if s[i] != '\\' {
				b.WriteByte(s[i])
			}
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
			r, err := hex4(s[i+1:])
			if err != nil {
				return "", err
			}
			i += 4
			if utf16.IsSurrogate(r) {
				second := rune(utf8.RuneError)
				if strings.HasPrefix(s[i+1:], `\u`) {
					if second, err = hex4(s[i+3:]); err != nil {
						return "", err
					}
					i += 6
				}
				r = utf16.DecodeRune(r, second)
			}
			b.WriteRune(r)
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), nil
}

func hex4(s string) (rune, error) {
	if len(s) >= 4 {
		if n, err := strconv.ParseUint(s[:4], 16, 16); err == nil {
			return rune(n), nil
		}
	}
	return 0, fmt.Errorf(`\u without four hexadecimal digits behind it`)
}
