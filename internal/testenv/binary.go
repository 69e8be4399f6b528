package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Binary builds ./cmd/forebay, once per test process, and returns the program's path.
func Binary(tb testing.TB) string {
	tb.Helper()
	path, err := buildOnce()
	must(tb, "build ./cmd/forebay", err)
	return path
}

var buildOnce = sync.OnceValues(func() (string, error) {
	e, err := Default(nil)
	if err != nil {
		return "", err
	}
	root, err := repoRoot()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	dir := e.path("bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	tmp := filepath.Join(dir, "build-"+randomName())
	defer os.Remove(tmp)
	goTool, err := exec.LookPath("go")
	if err != nil {
		return "", err
	}
	if err := run(ctx, root, []string{"CGO_ENABLED=0"}, goTool, "build", "-o", tmp, "./cmd/forebay"); err != nil {
		return "", err
	}
	sum, err := fileHash(tmp)
	if err != nil {
		return "", err
	}
	// Named by its content: test processes share a build, and none pulls it from under another.
	path := filepath.Join(dir, "forebay-"+sum)
	sweepBuilds(dir, path)
	return path, os.Rename(tmp, path)
})

func fileHash(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)[:6]), nil
}

// sweepBuilds removes builds that are older than a day.
func sweepBuilds(dir, keep string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*")) // only a bad pattern is an error
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && f != keep && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.Remove(f) // in use or gone: the next build tries again
		}
	}
}
