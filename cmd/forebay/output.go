package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/internal/problem"
)

// addJSON gives a command --json. Its output is {"data": …} or {"error": {code, where, message, hint}}.
func addJSON(c *cobra.Command) {
	c.Flags().Bool("json", false, "print one JSON object instead of text")
}

func wantsJSON(c *cobra.Command) bool {
	if c == nil || c.Flags().Lookup("json") == nil {
		return false
	}
	on, err := c.Flags().GetBool("json")
	return err == nil && on
}

func writeJSON(w io.Writer, data any) error {
	return json.NewEncoder(w).Encode(map[string]any{"data": data})
}

func writeJSONError(w io.Writer, err error) error {
	e := map[string]string{"code": "failed", "message": err.Error()}
	var p *problem.Error
	if errors.As(err, &p) {
		e = map[string]string{"code": p.Code, "where": p.Where, "message": p.What, "hint": p.Hint}
		if p.What == "" {
			e["message"] = p.Error()
		}
	}
	return json.NewEncoder(w).Encode(map[string]any{"error": e})
}

// table prints rows in columns under a header.
func table(w io.Writer, header string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	indent := header[:len(header)-len(strings.TrimLeft(header, " "))]
	fmt.Fprintln(t, indent+strings.Join(strings.Fields(header), "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}
