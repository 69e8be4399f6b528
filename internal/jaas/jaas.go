// Package jaas reads sasl.jaas.config as Kafka's nodes and clients have it.
package jaas

import (
	"errors"
	"fmt"
	"strings"
)

// Login is one login module of a JAAS configuration, as sasl.jaas.config has it:
//
//	org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="b" user_a="b";
type Login struct {
	Module  string
	Options map[string]string
}

// Err is a configuration that cannot be read. It never has the configuration's text, which has passwords in it.
var Err = errors.New("not a JAAS configuration")

// Parse reads a configuration of one module.
func Parse(s string) (Login, error) {
	list, err := words(s)
	if err != nil {
		return Login{}, err
	}
	if len(list) < 3 || list[len(list)-1] != ";" {
		return Login{}, fmt.Errorf("%w: it is a module, a control flag and options, with ; at the end", Err)
	}
	l := Login{Module: list[0], Options: map[string]string{}}
	switch strings.ToLower(list[1]) {
	case "required", "requisite", "sufficient", "optional":
	default:
		return Login{}, fmt.Errorf("%w: the word behind the module is required, requisite, sufficient or optional", Err)
	}
	for rest := list[2 : len(list)-1]; len(rest) > 0; rest = rest[3:] {
		if len(rest) < 3 || rest[1] != "=" || rest[0] == ";" || rest[2] == ";" || rest[0] == "=" {
			return Login{}, fmt.Errorf("%w: an option is name=\"value\"", Err)
		}
		l.Options[rest[0]] = rest[2]
	}
	return l, nil
}

// words cuts into words, the signs = and ;, and what stands in quotes. A value that is a sign is only possible in quotes,
// and then nobody needs it.
func words(s string) (list []string, err error) {
	for s != "" {
		switch c := s[0]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			s = s[1:]
		case c == '=' || c == ';':
			list, s = append(list, s[:1]), s[1:]
		case c == '"' || c == '\'':
			var b strings.Builder
			i := 1
			for ; i < len(s) && s[i] != c; i++ {
				if s[i] == '\\' && i+1 < len(s) {
					i++
				}
				b.WriteByte(s[i])
			}
			if i >= len(s) {
				return nil, fmt.Errorf("%w: a quote is not closed", Err)
			}
			list, s = append(list, b.String()), s[i+1:]
		default:
			n := strings.IndexAny(s, " \t\r\n=;\"'")
			if n < 0 {
				n = len(s)
			}
			list, s = append(list, s[:n]), s[n:]
		}
	}
	return list, nil
}

// Passwords are the users of a PlainLoginModule on the server's side: user_NAME="PASSWORD".
func (l Login) Passwords() map[string]string {
	m := map[string]string{}
	for k, v := range l.Options {
		if name, ok := strings.CutPrefix(k, "user_"); ok && name != "" {
			m[name] = v
		}
	}
	return m
}
