package configs

import (
	"errors"
	"os"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/reference"
)

// expand makes out a scalar of text, its references resolved, and keeps the text as it was written.
func (r *reader) expand(out *spec.Node, text string) {
	out.Shape = spec.Scalar
	var problems []reference.Problem
	out.Text, problems = reference.Expand(text, r.getenv)
	if out.Text != text {
		out.Raw = text
	}
	for _, p := range problems {
		out.Raw, out.Unresolved = text, true
		if p.Here && r.remote {
			*r.problems = append(*r.problems, Problem{File: r.file, Line: max(out.Line, 1), Col: max(out.Col, 1),
				Message: p.Message + " here", Hint: "each node resolves it for itself, when it runs the connector", Warning: true})
			continue
		}
		r.problems.add(r.file, out.Line, out.Col, p.Message, p.Hint)
	}
}

// cause drops the operation and path of a file error: the message has them already.
func cause(err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}
