package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/transform"
	"github.com/forebayhub/forebay/runtime/worker"
)

func fieldsCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "fields TYPE", Short: "Show the config fields of a connector type or a transform; `transforms` lists those", Args: cobra.MaximumNArgs(1)}
	c.RunE = func(c *cobra.Command, args []string) error {
		registry := builtin.Registry()
		var known []string
		for _, t := range registry.Sources {
			if known = append(known, t.Name); len(args) == 1 && t.Name == args[0] {
				if err := t.Spec.Join(worker.SourceFields).Print(s.out, "source "+t.Name); err != nil {
					return err
				}
			}
		}
		for _, t := range registry.Sinks {
			if known = append(known, t.Name); len(args) == 1 && t.Name == args[0] {
				if err := t.Spec.Join(worker.SinkFields).Print(s.out, "sink "+t.Name); err != nil {
					return err
				}
			}
		}
		for _, t := range transform.Types() {
			if len(args) == 1 && t.Name == args[0] {
				known = append(known, t.Name)
				if err := t.Fields().Print(s.out, "transform "+t.Name); err != nil {
					return err
				}
			}
		}
		if len(args) == 1 && args[0] == "transforms" {
			for _, t := range transform.Types() {
				fmt.Fprintf(s.out, "%-12s %s\n", t.Name, t.Spec.Doc)
			}
			return nil
		}
		if len(args) == 0 {
			fmt.Fprintln(s.out, strings.Join(known, "\n"))
			return nil
		}
		for _, k := range known {
			if k == args[0] {
				return nil
			}
		}
		known = append(known, transform.Names()...)
		hint := "one of " + strings.Join(known, ", ")
		if n := spec.Nearest(args[0], known); n != "" {
			hint = "did you mean '" + n + "'?"
		}
		return badInput(args[0], "no such connector type", hint)
	}
	return c
}
