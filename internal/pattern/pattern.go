// Package pattern compiles the regular expressions that clients send: RE2's, of a whole name. Go's own bound, some millions of instructions, is
// seconds of work and hundreds of MB for a few KB of text; here it is milliseconds.
package pattern

import (
	"regexp"
	"regexp/syntax"
)

// What an expression may be: longer than the names of hundreds of topics.
const (
	maxLength = 16 << 10 // bytes
	maxSize   = 10_000   // instructions
)

// Compile reads an expression that has to match all of a name. Its error is a *syntax.Error, syntax.ErrLarge of one that would take too much.
func Compile(text string) (*regexp.Regexp, error) {
	if len(text) > maxLength {
		return nil, &syntax.Error{Code: syntax.ErrLarge, Expr: text[:64]}
	}
	tree, err := syntax.Parse(text, syntax.Perl) // by itself: it must not close our brackets
	if err != nil {
		return nil, err
	}
	if size(tree) > maxSize {
		return nil, &syntax.Error{Code: syntax.ErrLarge, Expr: text}
	}
	return regexp.Compile(`^(?:` + text + `)$`)
}

// size is about how many instructions an expression becomes: what is repeated is written out. syntax.Parse allows a thousand times in all, so nothing overflows.
func size(re *syntax.Regexp) int {
	n := 1
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += 1 + size(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(1, re.Min+1, re.Max)
	}
	return n
}
