// Command forebay is the one binary: a node of the log, a worker that runs
// connectors, and the client commands for both.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/internal/problem"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	s := streams{in, out, errw}
	root := &cobra.Command{
		Use:           "forebay",
		Short:         "A log that speaks Kafka, and connectors that stream databases and log files through it",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		upCommand(s), serverCommand(s), workerCommand(s), applyCommand(s), lintCommand(s), testCommand(s), previewCommand(s), auditCommand(s), migrateCommand(s),
		topicsCommand(s), groupsCommand(s), connectorsCommand(s), dlqCommand(s), nodesCommand(s), metadataCommand(s),
		produceCommand(s), consumeCommand(s),
		fieldsCommand(s), logCommand(s), doctorCommand(s), tlsCommand(s), versionCommand(s),
	)
	root.SetArgs(args)
	root.InitDefaultHelpCmd()
	speakOfArguments(root)
	cmd, err := root, unknownCommand(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	if err == nil {
		return 0
	}
	if wantsJSON(cmd) {
		_ = writeJSONError(out, err) // stdout is gone: the exit code still tells
	} else {
		fmt.Fprintln(errw, "forebay: "+strings.ReplaceAll(err.Error(), "\n", "\nforebay: "))
	}
	return problem.ExitCode(err)
}

// badInput is an error of the command line or a file: exit code 2.
func badInput(where, what, hint string) error {
	return &problem.Error{Code: "bad-input", Class: problem.Input, Where: where, What: what, Hint: hint}
}
