package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestBrokenConfigs lints every file of configs/testdata/broken: exit code 2, and exactly the golden messages.
func TestBrokenConfigs(t *testing.T) {
	t.Setenv("PG_URL", "postgres://localhost/shop")
	dir := filepath.Join("..", "..", "configs", "testdata", "broken")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) < 40 {
		t.Fatalf("%d broken files: %v", len(files), err)
	}
	t.Chdir(dir)
	for _, f := range files {
		name := filepath.Base(f)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			var out, errw bytes.Buffer
			if code := run(context.Background(), []string{"lint", name}, nil, &out, &errw); code != 2 {
				t.Errorf("exit code %d", code)
			}
			golden := strings.TrimSuffix(name, ".yaml") + ".golden"
			got := out.String() + errw.String()
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// TestExamples lints every file that README and the demo name.
func TestExamples(t *testing.T) {
	for name, value := range map[string]string{"PG_URL": "postgres://u:p@localhost/shop", "HDFS_URL": "hdfs://localhost:8020/lake", "LOGS": "/var/log/*.log"} {
		t.Setenv(name, value)
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "configs", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, f := range files {
		var out, errw bytes.Buffer
		if code := run(context.Background(), []string{"lint", f}, nil, &out, &errw); code != 0 || out.Len()+errw.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s%s", f, code, out.String(), errw.String())
		}
	}
}
