package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forebayhub/forebay/tests/sim"
)

type options struct {
	kills, cuts   int
	seeds         int
	histories     int // of the connector runtime
	fuzz          time.Duration
	workers, rate int
	load          time.Duration
	chaos, storms time.Duration // in all, and of one run
}

type part struct {
	about string // what a reader of the report must know
	runs  func(options) ([]run, error)
	// adds: each call of the command makes new runs, and those of earlier commits stand: hours accumulate.
	adds bool
}

var parts = map[string]part{
	"kills": {
		about: "SIGKILLs of the real binary, a hundred to a log, under idempotent and transactional producers, groups that commit, compaction and retention: nothing acknowledged is lost, " +
			"nothing is there twice, no offset has two contents, no transaction is torn or seen although it was aborted, no group steps back, and each life serves by itself.",
		runs: func(o options) (runs []run, err error) {
			for _, durability := range []string{"power-safe", "relaxed"} {
				for from := 0; from < o.kills; from += 100 {
					to := min(from+100, o.kills)
					runs = append(runs, test(fmt.Sprintf("%s, kills %d to %d", durability, from+1, to), "./tests/kill", ".", 40*time.Minute,
						"-kills="+strconv.Itoa(to-from), "-durability="+durability))
				}
			}
			return runs, nil
		},
	},
	"cuts": {
		about: "Simulated power cuts of a whole broker over a disk in memory that knows what was synced; half of them keep nothing else, half keep some writes and torn sectors. " +
			"Power-safe: all that the kills hold. Relaxed promises nothing for a lost page cache but order: what is lost is lost from the end of a partition, what is left is as it was sent.",
		runs: func(o options) (runs []run, err error) {
			for _, d := range [][2]string{{"power-safe", "TestPowerSafe"}, {"relaxed", "TestRelaxed"}} {
				for from := 0; from < o.cuts; from += 100 {
					to := min(from+100, o.cuts)
					runs = append(runs, test(fmt.Sprintf("%s, cuts %d to %d", d[0], from+1, to), "./tests/power", d[1], 40*time.Minute, "-cuts="+strconv.Itoa(to-from)))
				}
			}
			return runs, nil
		},
	},
	"seeds": {
		about: "The simulator (tests/sim): histories of a cluster of the product's own code under faults, each from its seed, half of them common ones. Every promise that it checks held in every one; `go test ./tests/sim -run 'TestSeed$' -kind KIND " +
			"-seed N` gives any of them again.",
		runs: func(o options) ([]run, error) {
			commit, err := head()
			if err != nil {
				return nil, err
			}
			progress, err := filepath.Abs("bin/soak/seeds-" + strconv.Itoa(o.seeds) + "-" + commit)
			if err != nil {
				return nil, err
			}
			return []run{{
				name: fmt.Sprintf("%d seeds of all kinds", o.seeds), watches: []string{"core", "internal/vfs", "tests/sim", "go.mod"}, figure: logged,
				args: []string{"test", "./tests/sim", "-run", "TestSeeds$", "-count=1", "-v", "-timeout", "24h", "-args", "-seeds=" + strconv.Itoa(o.seeds), "-onward", "-progress=" + progress},
			}}, nil
		},
	},
	"mutations": {
		about: "The simulator's mutations (tests/sim/MUTATIONS.md): guards that are taken out, one at a time. Each is to be found by the first two thousand seeds, and the first that finds it is told; or by the test that the list names.",
		runs: func(o options) (runs []run, err error) {
			for _, m := range sim.Mutations {
				runs = append(runs, run{
					name: m.Name, watches: []string{"core", "internal/vfs", "tests/sim", "tests/mutation", "go.mod"}, figure: logged,
					args: []string{"test", "./tests/sim", "-run", "TestMutations/^" + m.Name + "$", "-count=1", "-v", "-timeout", "24h", "-args", "-search=2000"},
				})
			}
			return runs, nil
		},
	},
	"disk": {
		about: "A full disk of 48 MB for a minute: writes are refused with KAFKA_STORAGE_ERROR, reads and administration go on, and producers with Kafka's defaults go on by themselves when there is room.",
		runs: func(options) ([]run, error) {
			return []run{{name: "full for a minute", watches: goFiles, figure: logged, args: []string{"test", "./tests/faults", "-run", "TestFullDiskUnderProducers", "-count=1", "-v", "-args", "-full=1m"}}}, nil
		},
	},
	"once": {
		about: "A hundred seeded runs of seven faults each over three workers, a PostgreSQL and a log file in, files and a PostgreSQL out (tests/workers), sixty on a node's log and forty on an Apache Kafka: a worker killed and back at once, one lost and back later, " +
			"one paused past its lease, one more that comes and goes, the declaration changed, the log restarted, a neighbour's transaction that hangs while a worker begins anew. After each run everything is there once and in order, in the log, in the files and in the table.",
		runs: func(options) (runs []run, err error) {
			for from := 0; from < 100; from += 10 {
				name, args := "a node's log", []string{"-runs=10", "-faults=7"}
				if from/10%5 > 2 {
					name, args = "Apache Kafka", append(args, "-kafka")
				}
				runs = append(runs, test(fmt.Sprintf("runs %d to %d: %s", from+1, from+10, name), "./tests/workers", "TestExactlyOnce", time.Hour, args...))
			}
			return runs, nil
		},
	},
	"rates": {
		about: "5,000 lines per second into a topic, while the sink that writes them to files stands still for ten minutes (tests/rates): the source's p99 stays within 10 % of what it was, resident memory stays flat, " +
			"and when the sink goes on it catches up at five times the rate or more. Each line arrives once, in order.",
		runs: func(options) ([]run, error) {
			return []run{{name: "stopped for 10m", watches: goFiles, figure: logged, args: []string{"test", "./tests/rates", "-run", "TestStoppedSink", "-count=1", "-v", "-timeout", "40m", "-args", "-stopped=10m"}}}, nil
		},
	},
	"histories": {
		about: "Seeded histories of the connector runtime over a simulated log, in virtual time (tests/exactly): workers that die in any call, are lost, stand still past their lease and wake, come and go; declarations that change; " +
			"a log that restarts, loses requests and answers; a neighbour's transaction that hangs. Every row comes to every target once and in the order of its key, no position steps back, and who was replaced changes nothing.",
		runs: func(o options) (runs []run, err error) {
			for from := 1; from <= o.histories; from += 500 {
				to := min(from+499, o.histories)
				runs = append(runs, run{name: fmt.Sprintf("seeds %d to %d", from, to), watches: []string{"runtime", "connectors", "tests/exactly", "go.mod"}, figure: logged, args: []string{"test", "-tags", "synctests", "./tests/exactly", "-run", "TestSeeds$", "-count=1", "-v", "-timeout", "1h",
					"-args", "-from=" + strconv.Itoa(from), "-seeds=" + strconv.Itoa(to-from+1)}})
			}
			return runs, nil
		},
	},
	"uses": {
		about: "The uses of a commit log (docs/uses.md) at full size: one key of one hour out of 10 GB, and 100,000 records per second in fifty topics, sustained.",
		runs: func(options) ([]run, error) {
			return []run{
				test("replay by time, 10 GB", "./tests/uses", "TestReplayKeyByTime", time.Hour, "-log=10000000000"),
				test("activity, 100000 records/s for 30s", "./tests/uses", "TestActivityTopics", 10*time.Minute, "-rate=100000", "-for=30s", "-sustain"),
			}, nil
		},
	},
	"load": {
		about: "Mixed load: records of 100 B and 1 KB in five codecs, transactions, a group whose members come and go, a compacted topic, topics and groups created and deleted, " +
			"connections that come and go, durability power-safe. Nothing may fail; resident memory and descriptors must not grow in the last three quarters " +
			"(`judge` in tests/load says what that means); no goroutine may be left when the clients are gone.",
		runs: func(o options) ([]run, error) {
			return []run{test(fmt.Sprintf("%v at %d records/s", o.load, o.rate), "./tests/load", "TestMixedLoad", o.load+10*time.Minute, "-for="+o.load.String(), "-rate="+strconv.Itoa(o.rate))}, nil
		},
	},
	"chaos": {
		about: "Storms over real nodes in network namespaces of their own, three replicas, min.insync.replicas 2 (tests/chaos): SIGKILL of some and of all at once, SIGSTOP, SIGTERM, cuts both ways and one " +
			"way, isolation, delay and loss, full disks, elections, reassignments; under idempotent and transactional producers, groups that commit, and members that read, write and commit in transactions. After each storm " +
			"all is healed, and held against what was promised: nothing acknowledged is lost, nothing is there twice or out of order, no transaction is torn or seen although it was aborted, no offset has two contents, on " +
			"the replicas' disks neither, no committed offset and no high watermark steps back, and the cluster answers again within 15 s.",
		runs: chaosRuns,
		adds: true,
	},
	"fuzz": {
		about: "Every fuzzer of the repository, one after the other, each for the time in its name.",
		runs:  fuzzers,
	},
}

// partNames in the order in which they run: the short ones first.
func partNames() []string {
	return []string{"disk", "rates", "uses", "histories", "once", "kills", "cuts", "seeds", "mutations", "chaos", "load", "fuzz"}
}

// goFiles is what a test of the whole node depends on.
var goFiles = []string{"*.go", "go.mod"}

// test is one go test with a seed of its own.
func test(name, pkg, pattern string, timeout time.Duration, args ...string) run {
	seed := strconv.FormatUint(rand.Uint64()>>1, 10)
	return run{
		name: name, watches: goFiles, seed: seed, figure: logged,
		args: append([]string{"test", pkg, "-run", pattern, "-count=1", "-v", "-timeout", timeout.String(), "-args", "-seed=" + seed}, args...),
	}
}

// chaosRuns go on counting where the report ends: three and five nodes, both durabilities, in turn.
func chaosRuns(o options) (runs []run, err error) {
	rows, err := read("chaos")
	if err != nil {
		return nil, err
	}
	for n := len(rows); time.Duration(n-len(rows))*o.storms < o.chaos; n++ {
		nodes, durability := []int{3, 5}[n%2], []string{"power-safe", "relaxed"}[n/2%2]
		runs = append(runs, test(fmt.Sprintf("run %d: %d nodes, %s, %v of storms", n+1, nodes, durability, o.storms), "./tests/chaos", "TestChaos", o.storms*4+10*time.Minute,
			"-nodes="+strconv.Itoa(nodes), "-durability="+durability, "-for="+o.storms.String()))
	}
	return runs, nil
}

var fuzzFunc = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

// first are the rooms where a bug would be worst.
var first = []string{"core/server", "core/record", "core/commitlog", "core/wire", "core/metadata", "core/consensus", "core/group", "core/txn", "core/statelog"}

// fuzzers finds them in the sources, which is what `go test -list '^Fuzz' ./...` would compile everything for.
func fuzzers(o options) (runs []run, err error) {
	err = filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		for _, m := range fuzzFunc.FindAllStringSubmatch(string(text), -1) {
			runs = append(runs, run{
				name: fmt.Sprintf("%s %s for %v", dir, m[1], o.fuzz), watches: []string{dir}, figure: fuzzed,
				args: []string{"test", "./" + dir, "-run", "^$", "-fuzz", "^" + m[1] + "$", "-fuzztime", o.fuzz.String(), "-fuzzminimizetime", "1x", // else most of the time goes into making inputs shorter, and one that is begun is not cut off at the end
					"-parallel", strconv.Itoa(o.workers)},
			})
		}
		return nil
	})
	rank := func(r run) int {
		at := slices.IndexFunc(first, func(dir string) bool { return strings.HasPrefix(r.name, dir+" ") })
		if at < 0 {
			return len(first)
		}
		return at
	}
	slices.SortStableFunc(runs, func(a, b run) int { return rank(a) - rank(b) })
	return runs, err
}
