// Command services starts and ends the real servers that the tests and the demo use.
//
//	services up [postgres hdfs kafka mongo python tools]   install what is missing, start what is not running
//	services down [NAME …]                           end what was started here, by process id
//	services status                                  what runs where
//	services env                                     the addresses as shell variables: eval "$(services env)"
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/testenv"
)

const usage = "usage: services up|down|status|env [postgres hdfs kafka mongo python tools]"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "services:", err)
		os.Exit(problem.ExitCode(err))
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return &problem.Error{Code: "usage", Class: problem.Input, What: usage}
	}
	began := time.Now()
	e, err := testenv.Default(func(format string, a ...any) {
		fmt.Fprintf(os.Stderr, "%5.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, a...))
	})
	if err != nil {
		return err
	}
	switch args[0] {
	case "up":
		if err := e.Up(ctx, args[1:]...); err != nil {
			return err
		}
		return status(e)
	case "down":
		return e.Down(args[1:]...)
	case "status":
		return status(e)
	case "env":
		return env(e)
	}
	return &problem.Error{Code: "usage", Class: problem.Input, What: usage}
}

func status(e *testenv.Env) error {
	list, err := e.Status()
	if err != nil {
		return err
	}
	for _, s := range list {
		state := "stopped"
		if s.Running {
			state = "running"
		}
		var where []string
		for _, key := range []string{"url", "webhdfs", "bootstrap"} {
			if a := s.Addresses[key]; a != "" {
				where = append(where, key+"="+a)
			}
		}
		fmt.Printf("%-9s %-8s %-7s %s pids=%v\n", s.Name, state, s.Version, strings.Join(where, " "), s.PIDs)
	}
	return nil
}

func env(e *testenv.Env) error {
	list, err := e.Status()
	if err != nil {
		return err
	}
	names := map[string]string{"postgres.url": "PG_URL", "hdfs.url": "HDFS_URL", "hdfs.webhdfs": "WEBHDFS", "kafka.bootstrap": "KAFKA_BOOTSTRAP", "mongo.url": "MONGO_URL"}
	for _, s := range list {
		for _, key := range []string{"url", "webhdfs", "bootstrap"} {
			if v := names[s.Name+"."+key]; v != "" && s.Running && s.Addresses[key] != "" {
				fmt.Printf("export %s='%s'\n", v, s.Addresses[key])
			}
		}
	}
	if pythons, _ := filepath.Glob(filepath.Join(e.Dir, "python-*", "bin", "python")); len(pythons) > 0 {
		fmt.Printf("export FOREBAY_PYTHON='%s'\n", pythons[0])
	}
	return nil
}
