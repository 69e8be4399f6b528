package audit

import (
	"fmt"
	"io"

	"github.com/forebayhub/forebay/connectors"
)

// Count is what was found between two places.
type Count struct {
	Of        string `json:"of"` // shop.public.orders: source ↔ log
	Agreed    int64  `json:"agreed"`
	Missing   int64  `json:"missing"`
	Doubled   int64  `json:"doubled"`
	Different int64  `json:"different"`
	// Gone counts log lines whose file is not there any more: nothing is
	// wrong with them, but the source cannot vouch for them.
	Gone int64 `json:"gone,omitempty"`
	// Elsewhere counts log lines of other hosts' files.
	Elsewhere int64 `json:"elsewhere,omitempty"`
	// Note says why something was not compared.
	Note string `json:"note,omitempty"`
	// List holds the first differences.
	List []connectors.Difference `json:"differences,omitempty"`

	limit int
}

func (c *Count) add(d connectors.Difference) {
	switch d.Kind {
	case connectors.MissingRecord:
		c.Missing++
	case connectors.DoubledRecord:
		c.Doubled++
	default:
		c.Different++
	}
	if len(c.List) < c.limit {
		c.List = append(c.List, d)
	}
}

// Result is what an audit found.
type Result struct {
	Sources []*Count `json:"source_log"`
	Sinks   []*Count `json:"log_sink"`
	// Incomplete says what could not be compared, and why: then this is no proof from end to end.
	Incomplete []string `json:"incomplete,omitempty"`
}

// Clean says whether nothing is missing, doubled or different.
func (r *Result) Clean() bool {
	for _, c := range append(append([]*Count(nil), r.Sources...), r.Sinks...) {
		if c.Missing+c.Doubled+c.Different > 0 {
			return false
		}
	}
	return true
}

var kindNames = map[connectors.DifferenceKind]string{
	connectors.MissingRecord: "missing", connectors.DoubledRecord: "doubled", connectors.DifferentRecord: "different",
}

// Print writes the result for people; its last line is the verdict.
func (r *Result) Print(w io.Writer) error {
	var err error
	print := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format, args...)
		}
	}
	var missing, doubled, different int64
	section := func(title string, counts []*Count) {
		if len(counts) == 0 {
			return
		}
		print("%-44s %12s %9s %9s %9s\n", title, "agreed", "missing", "doubled", "different")
		for _, c := range counts {
			print("  %-42s %12d %9d %9d %9d\n", c.Of, c.Agreed, c.Missing, c.Doubled, c.Different)
			if c.Gone > 0 {
				print("    %d lines are of files that are not there any more\n", c.Gone)
			}
			if c.Elsewhere > 0 {
				print("    %d lines are of other hosts\n", c.Elsewhere)
			}
			if c.Note != "" {
				print("    %s\n", c.Note)
			}
			for _, d := range c.List {
				print("    %s: %s: %s\n", kindNames[d.Kind], d.Where, d.What)
			}
			if left := c.Missing + c.Doubled + c.Different - int64(len(c.List)); left > 0 && len(c.List) > 0 {
				print("    … and %d more\n", left)
			}
			missing, doubled, different = missing+c.Missing, doubled+c.Doubled, different+c.Different
		}
	}
	section("source ↔ log", r.Sources)
	section("log ↔ sink", r.Sinks)
	for _, why := range r.Incomplete {
		print("audit: not from end to end: %s\n", why)
	}
	print("audit: %d missing, %d doubled, %d different\n", missing, doubled, different)
	return err
}
