// Package problem holds errors meant for the user: what happened, where, and how
// to mend it. Everything else is for developers and must not reach a terminal as it is.
package problem

import (
	"errors"
	"fmt"
	"strings"
)

// Class decides the exit code.
type Class int

const (
	Runtime     Class = 1 // failed while running
	Input       Class = 2 // the command line or a file was wrong
	Environment Class = 3 // a port in use, no disk, no server
)

// Error is one problem. Its text is "where: what (hint)".
type Error struct {
	Code  string // stable, lower-kebab: port-in-use
	Class Class
	Where string // file:line:col, a config path, an address; "" for none
	What  string
	Hint  string
	Err   error // the cause, kept for errors.Is; not printed unless What is ""
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Where != "" {
		b.WriteString(e.Where + ": ")
	}
	if e.What != "" {
		b.WriteString(e.What)
	} else if e.Err != nil {
		b.WriteString(e.Err.Error())
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// ExitCode is the process's exit code for err: 0 for nil, 1 for an error of no class.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	var p *Error
	if errors.As(err, &p) && p.Class != 0 {
		return int(p.Class)
	}
	return int(Runtime)
}
