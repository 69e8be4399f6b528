// Package testenv gives tests and the demo real servers: PostgreSQL, HDFS, Apache
// Kafka, MongoDB, a Python with the readers that other people use, Kafka's own tools.
//
// Everything comes from package registries and lives in one folder, <repository>/.services
// ($FOREBAY_SERVICES overrides it): what was installed, the data, the logs, and state.json, which says what
// runs where. Servers listen on free loopback ports and outlive the process
// that started them, so that the next test finds them warm. `make services` (go run
// ./internal/testenv/services up) starts all of them, `… down` ends them; a test that finds a server missing
// starts it itself. File locks let many test processes ask at once.
//
//	testenv.Postgres(t).URL            a fresh database on the shared server
//	testenv.HDFS(t).URL                a fresh folder on the shared HDFS
//	testenv.Kafka(t)                   the shared broker's address
//	testenv.Mongo(t).URL, .Database    a fresh database on the shared replica set
//	testenv.NewPostgres(t) …           a server of the test's own, which it may kill
//	testenv.NewMongo(t, members) …     a replica set of the test's own
//	testenv.Python(t), KafkaTools(t), Kcat(t), Binary(t)
//
// A server that cannot be had fails the test and says why; nothing is skipped.
package testenv

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/forebayhub/forebay/internal/problem"
)

// startTimeout bounds the installation and the start of one server in a test.
const startTimeout = 10 * time.Minute

// Env is one services folder.
type Env struct {
	Dir string
	// Log takes a line of progress; nil is silent.
	Log func(format string, args ...any)
}

// Default is the services folder of this repository.
func Default(log func(format string, args ...any)) (*Env, error) {
	dir := os.Getenv("FOREBAY_SERVICES")
	if dir == "" {
		root, err := repoRoot()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(root, ".services")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, &problem.Error{Code: "services-folder", Class: problem.Environment, Where: dir,
			What: "the services folder cannot be made: " + err.Error(), Hint: "set FOREBAY_SERVICES to a folder that you may write", Err: err}
	}
	return &Env{Dir: dir, Log: log}, nil
}

func (e *Env) logf(format string, args ...any) {
	if e.Log != nil {
		e.Log(format, args...)
	}
}

func (e *Env) path(parts ...string) string {
	return filepath.Join(append([]string{e.Dir}, parts...)...)
}

// repoRoot finds the module's folder: upward from the working directory, else from this source file.
func repoRoot() (string, error) {
	var starts []string
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	if _, file, _, ok := runtime.Caller(0); ok {
		starts = append(starts, filepath.Dir(file))
	}
	for _, dir := range starts {
		for d := dir; ; d = filepath.Dir(d) {
			if _, err := os.Stat(filepath.Join(d, "internal", "testenv", "testenv.go")); err == nil {
				return d, nil
			}
			if d == filepath.Dir(d) {
				break
			}
		}
	}
	return "", &problem.Error{Code: "no-repository", Class: problem.Environment, What: "the repository's folder was not found",
		Hint: "run inside the repository, or set FOREBAY_SERVICES"}
}

// RepoRoot is the module's folder.
func RepoRoot(tb testing.TB) string {
	tb.Helper()
	root, err := repoRoot()
	if err != nil {
		tb.Fatal(err)
	}
	return root
}

// forTest is the Env of a test, with a context that bounds what is started for it.
func forTest(tb testing.TB) (*Env, context.Context) {
	tb.Helper()
	e, err := Default(tb.Logf)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	tb.Cleanup(cancel)
	return e, ctx
}

func must(tb testing.TB, what string, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("%s: %v\nStart the test servers by hand with `make services` (go run ./internal/testenv/services up) to see more.", what, err)
	}
}

func randomName() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // documented to never fail
	return hex.EncodeToString(b[:])
}
