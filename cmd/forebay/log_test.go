package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/internal/vfs"
)

// A folder is repaired while no node has the directory that it lies in, and what is taken out is kept in that directory's quarantine:
// a node's data directory, one of log.dirs, or none of both.
func TestRepairLocks(t *testing.T) {
	for name, c := range map[string]struct{ mark, lock, folder, says, kept string }{
		"data directory": {"meta.json", "lock", "log/t-0", "cannot lock the data directory", "quarantine/t-0.repair-1"},
		"log directory":  {"meta.properties", ".lock", "t-0", "cannot lock the log directory", "quarantine/t-0.repair-1"},
		"neither":        {"other", "", "log/t-0", "", "log/t-0.repair-1"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			folder := filepath.Join(root, c.folder)
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{
				filepath.Join(root, c.mark):                       "",
				filepath.Join(folder, "00000000000000000000.log"): strings.Repeat("x", 100),
			} {
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			repair := func() (int, string) {
				var out, errw bytes.Buffer
				code := run(context.Background(), []string{"log", "repair", folder, "--skip"}, nil, &out, &errw)
				return code, out.String() + errw.String()
			}
			if c.says != "" {
				node, err := vfs.Disk{}.Lock(filepath.Join(root, c.lock))
				if err != nil {
					t.Fatal(err)
				}
				if code, said := repair(); code != 3 || !strings.Contains(said, c.says) || !strings.Contains(said, "stop the node first") {
					t.Errorf("beside a node: code %d, %s", code, said)
				}
				if err := node.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if code, said := repair(); code != 0 {
				t.Errorf("code %d, %s", code, said)
			}
			if _, err := os.Stat(filepath.Join(root, c.kept)); err != nil {
				t.Error(err)
			}
		})
	}
}
