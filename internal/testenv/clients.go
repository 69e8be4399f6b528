package testenv

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// npm installs the packages of a recipe with npm and returns the folder that holds node_modules.
func (e *Env) npm(ctx context.Context) (node, dir string, err error) {
	if node, err = e.Tool(ctx, "node", "nodejs", "npm"); err != nil {
		return "", "", err
	}
	packages := recipe("package.json")
	dir, err = e.installed("node", packages, func(dir string) error {
		npm, err := e.Tool(ctx, "npm", "nodejs", "npm")
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, "package.json"), packages); err != nil {
			return err
		}
		e.logf("npm: installing kafkajs")
		if err := run(ctx, dir, nil, npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"); err != nil {
			return missing("the packages of Node could not be installed", "npm needs its registry, or a mirror", err)
		}
		return nil
	})
	return node, dir, err
}

// Node is Node.js and the folder of node_modules with kafkajs, for NODE_PATH.
func Node(tb testing.TB) (bin, modules string) {
	tb.Helper()
	e, ctx := forTest(tb)
	bin, dir, err := e.npm(ctx)
	must(tb, "Node.js", err)
	return bin, filepath.Join(dir, "node_modules")
}

// GoProgram builds the Go module in dir, which is none of ours, and returns the program's path.
func GoProgram(tb testing.TB, dir string) string {
	tb.Helper()
	_, ctx := forTest(tb)
	path := filepath.Join(tb.TempDir(), "program")
	must(tb, "build "+dir, run(ctx, dir, []string{"CGO_ENABLED=0"}, "go", "build", "-o", path, "."))
	return path
}

var compiling sync.Mutex

// JavaProgram compiles the Java sources in dir against the jars, into a folder of the test's.
func (t Tools) JavaProgram(tb testing.TB, dir string) Tools {
	tb.Helper()
	e, ctx := forTest(tb)
	compiling.Lock()
	defer compiling.Unlock()
	javac, err := e.Tool(ctx, "javac", "openjdk-17-jdk-headless")
	must(tb, "javac", err)
	sources, err := filepath.Glob(filepath.Join(dir, "*.java"))
	if err != nil || len(sources) == 0 {
		tb.Fatalf("no Java sources in %s: %v", dir, err)
	}
	classes := tb.TempDir()
	must(tb, "compile "+dir, run(ctx, "", nil, javac, append([]string{"-d", classes, "-cp", t.ClassPath, "-Xlint:-options", "--release", "17"}, sources...)...))
	t.ClassPath = classes + string(os.PathListSeparator) + t.ClassPath
	return t
}

// Chromium is the path of a browser.
func Chromium(tb testing.TB) string {
	tb.Helper()
	e, ctx := forTest(tb)
	path, err := e.Tool(ctx, "chromium", "chromium")
	must(tb, "Chromium", err)
	return path
}
