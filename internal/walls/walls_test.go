package walls

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/forebayhub/forebay"

// floors gives a room's floor; the longest prefix of a package's path counts. Imports fall: each
// floor imports only floors below it, and packages of one room may import each other.
var floors = map[string]int{
	"cmd":     9,
	"configs": 8, "plugins": 8, "console": 8,
	"runtime/api": 7, "runtime/crew": 7, "runtime/audit": 7, "core/broker": 7,
	"core/server": 6, "runtime/worker": 6,
	"core/group": 5, "core/txn": 5, "runtime/task": 5,
	"core/replica": 4, "runtime/position": 4, "runtime/dlq": 4, "runtime/schemas": 4, "runtime/declared": 4, "runtime/registry": 4,
	"core/partition": 3, "core/controller": 3, "sources": 3, "sinks": 3,
	"core/commitlog": 2, "core/consensus": 2, "runtime/converter": 2, "runtime/transform": 2, "runtime/hublog": 2,
	"sources/internal": 2, "sinks/internal": 2,
	"connectors": 1, "core/record": 1, "core/wire": 1, "core/metadata": 1, "core/membership": 1, "core/auth": 1, "core/quota": 1,
	"internal": 0, "connectors/spec": 0, "connectors/schema": 0,
	// Schemas as texts, which the registry keeps and the converters read and write: they know of neither.
	"runtime/registry/avro": 1, "runtime/registry/jsonschema": 1, "runtime/registry/protobuf": 1, "runtime/registry/tree": 0,
	// The coordinators' common ground: one internal topic's partitions replayed into memory.
	"core/statelog": 4,
}

// apart are rooms of one floor's number that stand on one another, with the reason. Short, and it should stay so.
var apart = map[[2]string]string{}

// roomOf finds the room of a package; "" when nobody has given it a floor.
func roomOf(pkg string) (room string, floor int) {
	for p := pkg; p != "."; p = path.Dir(p) {
		if f, ok := floors[p]; ok {
			return p, f
		}
	}
	return "", -1
}

// tool says that a package is for tests and tools: it may look at everything and nobody but
// tests and tools may look at it.
func tool(pkg string) bool {
	return pkg == "internal/walls" || pkg == "internal/testenv" || strings.HasPrefix(pkg, "internal/testenv/") ||
		pkg == "tests" || strings.HasPrefix(pkg, "tests/") || pkg == "bench" || strings.HasPrefix(pkg, "bench/")
}

// in says whether pkg is dir or below it.
func in(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// complain says why an import is wrong and what to do instead; "" when it is right.
func complain(from, to string) string {
	if tool(from) || from == to {
		return ""
	}
	if tool(to) {
		return "it is for tests and tools; move what is needed to internal/, where programs may use it"
	}

	// Wall 1.
	if in(from, "core") && in(to, "runtime") || in(from, "runtime") && in(to, "core") {
		return "wall 1: core and runtime never import each other, so that the runtime works on any Kafka and each wing is " +
			"tested against a real one. Say it over the Kafka protocol instead: runtime/hublog is the runtime's side, core/server the core's"
	}
	// Wall 2.
	for _, wing := range []string{"sources", "sinks"} {
		if in(from, wing) && !in(to, wing) && !in(to, "connectors") && !in(to, "internal") {
			return "wall 2: sources and sinks know only connectors, their own internal and internal/, so that a connector can be " +
				"written, tested and thrown away alone. Put what is missing into the contract (connectors), or let the runtime do it"
		}
	}
	if c, other := connectorOf(from), connectorOf(to); c != "" && other != "" && c != other {
		return "wall 2: a connector does not know another one. Put what both need into " + path.Dir(c) + "/internal"
	}
	// Wall 3.
	if c := connectorOf(to); c != "" && connectorOf(from) != c && from != "plugins/builtin" {
		return "wall 3: only plugins/builtin names our sources and sinks, so that the list of them is in one place and anybody " +
			"can build a program with another list. Take a connectors.Registry instead"
	}
	// Wall 4.
	if in(from, "configs") || in(from, "cmd") {
		return fell(from, to)
	}
	if sees(from, "core") && in(to, "runtime") || sees(from, "runtime") && in(to, "core") {
		return "wall 4: only cmd and configs see both wings, so that either can be used without the other. Take an interface, and let cmd join them"
	}
	return fell(from, to)
}

// sees says that a package outside both wings belongs to one: console and plugins to runtime.
func sees(pkg, wing string) bool {
	return wing == "runtime" && (in(pkg, "plugins") || in(pkg, "console") || in(pkg, "connectors"))
}

// connectorOf is the connector that a package belongs to: sources/postgres.
func connectorOf(pkg string) string {
	parts := strings.SplitN(pkg, "/", 3)
	if len(parts) < 2 || parts[0] != "sources" && parts[0] != "sinks" || parts[1] == "internal" {
		return ""
	}
	return parts[0] + "/" + parts[1]
}

func fell(from, to string) string {
	fromRoom, fromFloor := roomOf(from)
	toRoom, toFloor := roomOf(to)
	switch {
	case fromRoom == "" || toRoom == "":
		room := from
		if fromRoom != "" {
			room = to
		}
		return room + " has no floor: give it one in internal/walls, and say in docs/DESIGN.md what it is for"
	case fromRoom == toRoom, fromFloor > toFloor:
		return ""
	case apart[[2]string{fromRoom, toRoom}] != "":
		return ""
	}
	return fmt.Sprintf("imports fall: %s is on floor %d, %s on floor %d, and a room stands only on floors below it: otherwise neither can be "+
		"understood, tested or replaced without the other. Pass a function or an interface down, or move what both need to a lower floor", fromRoom, fromFloor, toRoom, toFloor)
}

// TestWalls reads the imports of every Go file, tests too, whatever their build tags.
func TestWalls(t *testing.T) {
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if base := e.Name(); name != root && (strings.HasPrefix(base, ".") || base == "testdata" || base == "node_modules") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		from := filepath.ToSlash(rel)
		if from == "." {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		seen++
		for _, spec := range file.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			to, ours := strings.CutPrefix(to, module+"/")
			if !ours {
				continue
			}
			if strings.HasSuffix(name, "_test.go") && tool(to) {
				continue
			}
			if why := complain(from, to); why != "" {
				t.Errorf("%s imports %s:\n\t%s", filepath.ToSlash(strings.TrimPrefix(name, root+string(filepath.Separator))), to, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Errorf("only %d files: the test looks at the wrong place", seen)
	}
}

// TestWallsStand checks that the test itself would see.
func TestWallsStand(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"core/server", "runtime/hublog", "wall 1"},
		{"runtime/task", "core/record", "wall 1"},
		{"sources/postgres", "runtime/hublog", "wall 2"},
		{"sinks/hdfs", "core/record", "wall 2"},
		{"sources/postgres", "sources/mongodb", "wall 2"},
		{"runtime/worker", "sources/tail", "wall 3"},
		{"cmd/forebay", "sinks/hdfs", "wall 3"},
		{"plugins/process", "core/broker", "wall 4"},
		{"console", "core/server", "wall 4"},
		{"core/partition", "core/replica", "imports fall"},
		{"core/group", "core/txn", "imports fall"},
		{"core/attic", "core/wire", "has no floor"},
		{"core/server", "internal/testenv", "tests and tools"},
		{"core/broker", "core/server", ""},
		{"cmd/forebay", "core/broker", ""},
		{"cmd/forebay", "runtime/api", ""},
		{"configs", "core/broker", ""},
		{"plugins/builtin", "sinks/hdfs", ""},
		{"sources/postgres", "sources/internal/cdc", ""},
		{"sinks/hdfs", "connectors/spec", ""},
		{"core/txn", "core/replica", ""},
		{"connectors", "connectors/schema", ""},
	} {
		got := complain(c.from, c.to)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s → %s: %q, want %q", c.from, c.to, got, c.want)
		}
	}
	for room := range floors {
		if slices.Contains([]string{"runtime", "core"}, room) {
			t.Errorf("%s is a wing, not a room", room)
		}
	}
}
