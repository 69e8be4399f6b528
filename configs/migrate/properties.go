package migrate

import (
	"errors"
	"strings"

	"github.com/forebayhub/forebay/internal/properties"
)

// readProperties reads a file of connect-standalone: one connector.
func readProperties(file, text string) ([]connector, error) {
	all, err := properties.Parse(text)
	var at *properties.Error
	if errors.As(err, &at) {
		return nil, bad(file, at.Line, at.What, "write a backslash as \\\\")
	}
	c := connector{file: file, line: 1}
	for _, p := range all {
		c.fields = append(c.fields, field{p.Name, strings.TrimSpace(p.Value), p.Line})
	}
	return []connector{c}, err
}
