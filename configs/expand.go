package configs

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// expand replaces ${VAR}, ${VAR:-default} and ${file:PATH} in a scalar; $$ is
// one dollar sign. The text of a file loses one newline at its end, as secrets
// are mounted with one.
func (r *reader) expand(text string, line, col int) string {
	if !strings.Contains(text, "$") {
		return text
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i+1 == len(text) {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:i])
		text = text[i:]
		switch text[1] {
		case '$':
			b.WriteByte('$')
			text = text[2:]
			continue
		case '{':
		default:
			b.WriteByte('$')
			text = text[1:]
			continue
		}
		end := strings.IndexByte(text, '}')
		if end < 0 {
			r.problems.add(r.file, line, col, "`${` without `}`", "write $$ for a dollar sign")
			return b.String()
		}
		b.WriteString(r.variable(text[2:end], line, col))
		text = text[end+1:]
	}
}

func (r *reader) variable(name string, line, col int) string {
	if path, ok := strings.CutPrefix(name, "file:"); ok {
		info, err := os.Stat(path)
		if err == nil && info.Size() > maxFileBytes {
			err = fmt.Errorf("larger than %d bytes", maxFileBytes)
		}
		var content []byte
		if err == nil {
			content, err = os.ReadFile(path)
		}
		if err != nil {
			r.problems.add(r.file, line, col, fmt.Sprintf("cannot read ${file:%s}: %v", path, cause(err)), "")
			return ""
		}
		return strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	}
	name, fallback, hasFallback := strings.Cut(name, ":-")
	if name == "" {
		r.problems.add(r.file, line, col, "`${}` names no variable", "")
		return ""
	}
	if v, ok := r.getenv(name); ok && (v != "" || !hasFallback) {
		return v
	}
	if !hasFallback {
		r.problems.add(r.file, line, col, fmt.Sprintf("environment variable %s is not set", name), fmt.Sprintf("set it, or write ${%s:-default}", name))
	}
	return fallback
}

// cause drops the operation and path of a file error: the message has them already.
func cause(err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}
