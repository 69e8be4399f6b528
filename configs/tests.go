package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/task"
)

// Test says what a connector's transforms make of some records.
type Test struct {
	Name      string
	Connector string
	Input     []task.RecordText
	Output    []task.RecordText
	Error     string // a part of the error that stops the task at the last record; "": there is none
	File      string
	Line      int
}

// TestSpec is what stands in each item under `tests`.
var TestSpec = spec.Spec{
	Doc: "A test of a connector's transforms, for `forebay test`.",
	Fields: []spec.Field{
		{Name: "name", Required: true, Doc: "What it shows.", Example: "cards are masked"},
		{Name: "connector", Required: true, Doc: "The source or sink whose transforms are tested.", Example: "shop"},
		{Name: "input", Required: true, Check: records, Doc: "Records as `forebay preview` prints them: JSON objects with topic, key, value, headers, timestamp, partition, offset."},
		{Name: "output", Check: records, Doc: "The records that come out, in order; none when there is no text. What a record here does not name is not compared."},
		{Name: "error", Doc: "A part of the error that stops the task, instead of an output."},
	},
}

func records(v any) error {
	_, err := parseRecords(v.(string)) //nolint:forcetypeassert // of a String
	return err
}

func parseRecords(text string) (out []task.RecordText, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	for {
		var r task.RecordText
		switch err := d.Decode(&r); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("record %d: %w", len(out)+1, err)
		}
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("record %d: %w", len(out)+1, err)
		}
		out = append(out, r)
	}
}

func (l *loader) testSection(path string, e spec.Entry) {
	n := e.Value
	if n.Shape == spec.Absent {
		return
	}
	if n.Shape != spec.List {
		l.problems.add(path, n.Line, n.Col, "`tests` is a list", "for example `tests: [{name: …, connector: shop, input: '…', output: '…'}]`")
		return
	}
	for i, item := range n.List {
		values, findings := TestSpec.Parse(item)
		who := fmt.Sprintf("test %d", i+1)
		if l.report(path, who, item, findings) || item.AnyUnresolved() {
			continue
		}
		t := Test{Name: values.String("name"), Connector: values.String("connector"), Error: values.String("error"), File: path, Line: item.Line}
		if values.Given("output") && t.Error != "" {
			l.problems.add(path, item.Line, item.Col, who+": `output` and `error` exclude each other", "an error stops the task")
			continue
		}
		var err, other error
		t.Input, err = parseRecords(values.String("input"))
		t.Output, other = parseRecords(values.String("output"))
		if err = errors.Join(err, other); err != nil { // both were checked
			l.problems.add(path, item.Line, item.Col, who+": "+err.Error(), "")
			continue
		}
		l.out.Tests = append(l.out.Tests, t)
		l.tests = append(l.tests, item)
	}
}

// checkTests looks for the connectors that tests name.
func (l *loader) checkTests() {
	for i, t := range l.out.Tests {
		if _, ok := l.seen[t.Connector]; ok {
			continue
		}
		var names []string
		for name := range l.seen {
			names = append(names, name)
		}
		slices.Sort(names)
		n := l.tests[i]
		if at := lookup(n, "connector"); at != nil {
			n = at.Value
		}
		l.problems.add(t.File, n.Line, n.Col, fmt.Sprintf("test '%s': no source or sink called '%s'", t.Name, t.Connector), nearestHint(t.Connector, names))
	}
}
