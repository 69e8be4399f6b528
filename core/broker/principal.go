package broker

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// errRules is a list of rules that cannot be read.
var errRules = errors.New("no rule")

// mappingRule is one of ssl.principal.mapping.rules.
type mappingRule struct {
	pattern     *regexp.Regexp // nil: DEFAULT
	replacement string
	change      func(string) string // nil: none
}

// ruleText is RULE:pattern/replacement/[LU] or DEFAULT (Kafka's SslPrincipalMapper); a slash within is written \/.
var ruleText = regexp.MustCompile(`^\s*(?:(DEFAULT)|RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?))\s*(?:,|$)`)

// principalRules compiles ssl.principal.mapping.rules: the first rule whose pattern is the whole distinguished name gives the
// principal's name; without one the name is as it is.
func principalRules(s string) (func(name string) string, error) {
	var rules []mappingRule
	for rest := s; strings.TrimSpace(rest) != ""; {
		m := ruleText.FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("%w: %q", errRules, rest)
		}
		rest = rest[len(m[0]):]
		if m[1] != "" {
			rules = append(rules, mappingRule{})
			continue
		}
		unslash := strings.NewReplacer(`\/`, `/`)
		p, err := regexp.Compile(`^(?:` + unslash.Replace(m[2]) + `)$`)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errRules, err)
		}
		r := mappingRule{pattern: p, replacement: javaReplacement(unslash.Replace(m[3]))}
		switch m[4] {
		case "L":
			r.change = strings.ToLower
		case "U":
			r.change = strings.ToUpper
		}
		rules = append(rules, r)
	}
	return func(name string) string {
		for _, r := range rules {
			if r.pattern == nil {
				return name
			}
			if !r.pattern.MatchString(name) {
				continue
			}
			out := r.pattern.ReplaceAllString(name, r.replacement)
			if r.change != nil {
				out = r.change(out)
			}
			return out
		}
		return name
	}, nil
}

var groupSign = regexp.MustCompile(`\$(\d)`)

// javaReplacement writes $1 as ${1}: Go would read $1x as a name.
func javaReplacement(s string) string { return groupSign.ReplaceAllString(s, "$${$1}") }
