package configs

import (
	"fmt"
	"sort"
	"strings"

	"github.com/forebayhub/forebay/internal/problem"
)

// Problem is one thing that is wrong in a file, or worth a warning.
type Problem struct {
	File      string
	Line, Col int
	Message   string
	Hint      string
	Warning   bool
}

func (p Problem) String() string {
	s := fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Col)
	if p.Warning {
		s += "warning: "
	}
	s += p.Message
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}

// Problems collects everything that is wrong, so that a user mends it in one go.
type Problems []Problem

func (p *Problems) add(file string, line, col int, message, hint string) {
	*p = append(*p, Problem{File: file, Line: max(line, 1), Col: max(col, 1), Message: message, Hint: hint})
}

// Err is nil when there are at most warnings, else one error of the class Input with every problem on a line.
func (p Problems) Err() error {
	var lines []string
	for _, x := range p {
		if !x.Warning {
			lines = append(lines, x.String())
		}
	}
	if lines == nil {
		return nil
	}
	return &problem.Error{Code: "bad-config", Class: problem.Input, What: strings.Join(lines, "\n")}
}

// sorted orders by file, line, column, as a reader goes through them.
func (p Problems) sorted() Problems {
	sort.SliceStable(p, func(i, j int) bool {
		a, b := p[i], p[j]
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Col < b.Col
	})
	return p
}
