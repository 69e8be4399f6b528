package testenv

import (
	"context"
	"path/filepath"
	"testing"
)

// python is the interpreter of a virtual environment with pyarrow, duckdb, fsspec, confluent-kafka and grpcio.
func (e *Env) python(ctx context.Context) (string, error) {
	req := recipe("requirements.txt")
	dir, err := e.installed("python", req, func(dir string) error {
		python, err := e.Tool(ctx, "python3", "python3", "python3-venv", "python3-pip")
		if err != nil {
			return err
		}
		e.logf("python: making a virtual environment")
		if err := run(ctx, dir, nil, python, "-m", "venv", dir); err != nil {
			// Debian splits venv off.
			if err := e.apt(ctx, "Python's venv", "python3-venv", "python3-pip"); err != nil {
				return err
			}
			if err := run(ctx, dir, nil, python, "-m", "venv", "--clear", dir); err != nil {
				return missing("a Python virtual environment could not be made", "install python3-venv", err)
			}
		}
		file := filepath.Join(dir, "requirements.txt")
		if err := writeFile(file, req); err != nil {
			return err
		}
		e.logf("python: installing pyarrow, duckdb, fsspec, confluent-kafka, grpcio")
		err = run(ctx, dir, nil, filepath.Join(dir, "bin", "python"), "-m", "pip", "install", "-q", "--only-binary=:all:", "-r", file)
		if err != nil {
			return missing("the Python packages could not be installed", "pip needs its index, or a mirror", err)
		}
		return nil
	})
	return filepath.Join(dir, "bin", "python"), err
}

// Python is an interpreter that can import pyarrow, duckdb, fsspec, confluent_kafka and grpc.
func Python(tb testing.TB) string {
	tb.Helper()
	e, ctx := forTest(tb)
	path, err := e.python(ctx)
	must(tb, "Python", err)
	return path
}
