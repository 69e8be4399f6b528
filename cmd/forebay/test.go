package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/task"
	"github.com/forebayhub/forebay/runtime/worker"
)

func testCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "test FILE…",
		Short: "Run the tests of transforms that stand in config files; nothing is started",
		Long: "Runs the `tests` of config files: gives each test's input to the transforms of its connector and compares what comes out.\n" +
			"Exit code 1 when one fails, 2 when a file is wrong or has no test.",
		Args: cobra.MinimumNArgs(1),
	}
	addJSON(c)
	c.RunE = func(c *cobra.Command, files []string) error {
		o := configOptions()
		o.Remote = true // what ${VAR} stands for does not matter where no transform has it
		config, err := configs.Load(files, o)
		if err != nil {
			return err
		}
		if len(config.Tests) == 0 {
			return badInput(strings.Join(files, ", "), "no tests here", "add a section `tests`: see docs/transforms.md")
		}
		results := make([]testResult, 0, len(config.Tests))
		failed := 0
		for _, t := range config.Tests {
			r := testResult{Name: t.Name, Connector: t.Connector, Where: fmt.Sprintf("%s:%d", t.File, t.Line)}
			r.Differences, err = tryOut(config, t)
			if err != nil {
				return err
			}
			if r.Passed = len(r.Differences) == 0; !r.Passed {
				failed++
			}
			results = append(results, r)
		}
		if wantsJSON(c) {
			err = writeJSON(s.out, results)
		} else {
			for _, r := range results {
				fmt.Fprint(s.out, r)
			}
			fmt.Fprintf(s.out, "%d passed, %d failed\n", len(results)-failed, failed)
		}
		if err == nil && failed > 0 {
			err = &problem.Error{Code: "tests-failed", Class: problem.Runtime, What: fmt.Sprintf("%d of %d tests failed", failed, len(results))}
		}
		return err
	}
	return c
}

type testResult struct {
	Name        string   `json:"name"`
	Connector   string   `json:"connector"`
	Where       string   `json:"where"`
	Passed      bool     `json:"passed"`
	Differences []string `json:"differences,omitempty"`
}

func (r testResult) String() string {
	if r.Passed {
		return fmt.Sprintf("ok    %s\n", r.Name)
	}
	return fmt.Sprintf("FAIL  %s (%s)\n      %s\n", r.Name, r.Where, strings.ReplaceAll(strings.Join(r.Differences, "\n"), "\n", "\n      "))
}

// tryOut runs one test; the error is about the config, not about the test.
func tryOut(config *configs.Config, t configs.Test) (differences []string, err error) {
	k := config.Find(t.Connector)
	if k == nil { // something in it has no value here, and is not checked
		return nil, badInput(t.Connector, "the connector cannot be read", "see `forebay lint`")
	}
	var f converter.Format
	if !k.Sink {
		f = worker.Format(k.Values)
	}
	trial, err := task.NewTrial(k.Values.Tree("transforms"), k.Sink, f)
	if err != nil {
		return nil, badInput(t.Connector, err.Error(), "")
	}
	var got []*task.RecordText
	for i, in := range t.Input {
		out, err := trial.Apply(in)
		switch {
		case err != nil && t.Error != "" && strings.Contains(err.Error(), t.Error):
			if i < len(t.Input)-1 {
				return []string{fmt.Sprintf("record %d stops the task already: %v", i+1, err)}, nil
			}
			return nil, nil
		case err != nil && t.Error != "":
			return []string{"- error: " + t.Error, "+ error: " + err.Error()}, nil
		case err != nil:
			return []string{fmt.Sprintf("record %d: %v", i+1, err)}, nil
		case out != nil:
			got = append(got, out)
		}
	}
	if t.Error != "" {
		return []string{"- error: " + t.Error, "+ no error"}, nil
	}
	for i := range max(len(got), len(t.Output)) {
		switch {
		case i >= len(got):
			differences = append(differences, "- "+t.Output[i].String())
		case i >= len(t.Output):
			differences = append(differences, "+ "+got[i].String())
		default:
			want, have := t.Output[i], named(*got[i], t.Output[i])
			if !same(want, have) {
				differences = append(differences, "- "+want.String(), "+ "+have.String())
			}
		}
	}
	return differences, nil
}

// named is of a record what another one names.
func named(r, by task.RecordText) task.RecordText {
	out := task.RecordText{Topic: r.Topic, Value: r.Value}
	if by.Key != nil {
		out.Key = r.Key
	}
	if by.Timestamp != "" {
		out.Timestamp = r.Timestamp
	}
	if by.Headers != nil {
		out.Headers = r.Headers
	}
	return out
}

// same compares keys and values as JSON: the order of an object's members does not matter, a number's text does.
func same(want, have task.RecordText) bool {
	return want.Topic == have.Topic && want.Timestamp == have.Timestamp && (want.Headers == nil || reflect.DeepEqual(want.Headers, have.Headers)) &&
		reflect.DeepEqual(meaning(want.Key), meaning(have.Key)) && reflect.DeepEqual(meaning(want.Value), meaning(have.Value))
}

func meaning(j json.RawMessage) any {
	d := json.NewDecoder(bytes.NewReader(j))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil { // nothing at all is null
		return nil
	}
	return v
}
