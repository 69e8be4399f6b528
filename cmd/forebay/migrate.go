package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/configs/migrate"
	"github.com/forebayhub/forebay/internal/problem"
)

func migrateCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "migrate", Short: "Turn the configs of other programs into Forebay's"}
	c.AddCommand(&cobra.Command{
		Use:   "connect FILE…",
		Short: "Turn connectors of Kafka Connect (JSON or properties) into YAML; nothing is started",
		Long: "Turns connectors of Kafka Connect into YAML on standard output, and says on standard error what is to be known of it: docs/migrate.md.\n" +
			"A FILE is a connector's JSON, what GET /connectors?expand=info gives, or the properties of connect-standalone.\n" +
			"Exit code 1 when something cannot be carried, 2 when a file is wrong.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, names []string) error {
			var files []migrate.File
			for _, name := range names {
				text, err := readSome(name)
				if err != nil {
					return err
				}
				files = append(files, migrate.File{Name: name, Text: text})
			}
			o := configOptions()
			r, err := migrate.Connect(files, migrate.Options{Registry: o.Registry, SourceCommon: o.SourceCommon, SinkCommon: o.SinkCommon})
			if err != nil {
				return err
			}
			for _, f := range r.Findings {
				fmt.Fprintln(s.err, f)
			}
			if _, err := io.WriteString(s.out, r.YAML); err != nil {
				return err
			}
			if n := r.Left(); n > 0 {
				return &problem.Error{Code: "not-carried", Class: problem.Runtime, What: fmt.Sprintf("not all is carried: %d above", n), Hint: "each is a comment in the YAML, too"}
			}
			return nil
		},
	})
	return c
}

// readSome reads a file that is not larger than a config may be, and a little more where it is.
func readSome(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err == nil {
		defer f.Close() //nolint:errcheck // it was read only
		var text []byte
		if text, err = io.ReadAll(io.LimitReader(f, 5<<20)); err == nil {
			return text, nil
		}
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return nil, &problem.Error{Code: "no-such-file", Class: problem.Input, Where: name, What: err.Error(), Hint: "name a file with a connector's JSON or properties"}
}
