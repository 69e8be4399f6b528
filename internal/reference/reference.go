// Package reference resolves ${VAR}, ${VAR:-default} and ${file:PATH} in a text; $$ is one dollar sign.
// Where a text is resolved decides what it means: what is stored for others keeps its references, so that
// no secret is stored in clear and each machine may have its own.
package reference

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// maxFileBytes bounds a file that stands for a value.
const maxFileBytes = 4 << 20

// Problem is what is wrong with a text.
type Problem struct {
	Message, Hint string
	// Here says that the text is sound and only this machine cannot resolve it.
	Here bool
}

// pure is a text that is one reference and nothing else, with nothing in it that could be a secret.
var pure = regexp.MustCompile(`^\$\{(file:[^}]+|[^}:]+)\}$`)

// Pure says that text is one reference without a default: it tells where a value is and nothing of it.
func Pure(text string) bool { return pure.MatchString(text) }

// Expand resolves text. The text of a file loses one newline at its end, as secrets are mounted with one.
// A nil getenv is os.LookupEnv.
func Expand(text string, getenv func(string) (string, bool)) (string, []Problem) {
	if !strings.Contains(text, "$") {
		return text, nil
	}
	if getenv == nil {
		getenv = os.LookupEnv
	}
	var problems []Problem
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i+1 == len(text) {
			b.WriteString(text)
			return b.String(), problems
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
			return b.String(), append(problems, Problem{Message: "`${` without `}`", Hint: "write $$ for a dollar sign"})
		}
		value, p := variable(text[2:end], getenv)
		if p != nil {
			problems = append(problems, *p)
		}
		b.WriteString(value)
		text = text[end+1:]
	}
}

func variable(name string, getenv func(string) (string, bool)) (string, *Problem) {
	if path, ok := strings.CutPrefix(name, "file:"); ok {
		text, err := file(path)
		if err != nil {
			return "", &Problem{Message: fmt.Sprintf("cannot read ${file:%s}: %v", path, err), Here: true}
		}
		return text, nil
	}
	name, fallback, hasFallback := strings.Cut(name, ":-")
	if name == "" {
		return "", &Problem{Message: "`${}` names no variable"}
	}
	if v, ok := getenv(name); ok && (v != "" || !hasFallback) {
		return v, nil
	}
	if !hasFallback {
		return "", &Problem{Message: fmt.Sprintf("environment variable %s is not set", name), Hint: fmt.Sprintf("set it, or write ${%s:-default}", name), Here: true}
	}
	return fallback, nil
}

func file(path string) (string, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFileBytes {
		err = fmt.Errorf("larger than %d bytes", maxFileBytes)
	}
	var content []byte
	if err == nil {
		content, err = os.ReadFile(path)
	}
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		err = p.Err // the message has operation and path already
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r"), nil
}
