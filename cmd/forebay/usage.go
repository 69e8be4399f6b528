package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/problem"
)

// unknownCommand is an error where a word stands in the place of a command and is none. Cobra asks only of the first
// word: behind it (`topics lst`) it prints the help and ends with 0, so that a script goes on.
func unknownCommand(root *cobra.Command, args []string) error {
	c, rest, _ := root.Find(args) // its error says the same in three lines
	if c.Runnable() || len(rest) == 0 || rest[0] == "" || rest[0] == "help" || strings.HasPrefix(rest[0], "-") || strings.HasPrefix(rest[0], cobra.ShellCompRequestCmd) {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	hint := "see `" + c.CommandPath() + " --help`"
	if n := spec.Nearest(rest[0], names); n != "" {
		hint = "did you mean `" + c.CommandPath() + " " + n + "`?"
	}
	return badInput("", "`"+c.CommandPath()+"` has no command '"+rest[0]+"'", hint)
}

// speakOfArguments has every command that minds its arguments show how it is written, in place of cobra's counts.
func speakOfArguments(c *cobra.Command) {
	for _, sub := range c.Commands() {
		speakOfArguments(sub)
	}
	check := c.Args
	if check == nil {
		return
	}
	c.Args = func(c *cobra.Command, given []string) error {
		if check(c, given) == nil {
			return nil
		}
		what := "an argument is missing"
		if len(given) > 0 {
			what = "wrong arguments: " + strings.Join(given, " ")
		}
		return badInput("", what, "write `"+c.UseLine()+"`, and see `"+c.CommandPath()+" --help`")
	}
}

// flagError says what is wrong with a flag, without the words of the parser.
func flagError(c *cobra.Command, err error) error {
	e := &problem.Error{Code: "bad-flag", Class: problem.Input, What: err.Error(), Hint: "see `" + c.CommandPath() + " --help`", Err: err}
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if n := spec.Nearest(unknown.GetSpecifiedName(), names); n != "" {
			e.Hint = "did you mean --" + n + "? See `" + c.CommandPath() + " --help`"
		}
	case errors.As(err, &value):
		e.Where = fmt.Sprintf("--%s %s", value.GetFlag().Name, value.GetValue())
		e.What = value.Unwrap().Error()
		var number *strconv.NumError
		if errors.As(err, &number) {
			if e.What = "not a number"; errors.Is(err, strconv.ErrRange) {
				e.What = "too large a number, or too small a one"
			}
			if value.GetFlag().Value.Type() == "bool" {
				e.What = "neither true nor false"
			}
		} else if value.GetFlag().Value.Type() == "duration" {
			e.What = "not a duration; write it like 30s, 10m or 1h30m"
		}
	}
	return e
}
