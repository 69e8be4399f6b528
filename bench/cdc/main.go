// Command cdc measures the way from PostgreSQL into the log by the method that
// docs/benchmarks.md states for Debezium: a snapshot of a table of two million
// rows of about 200 bytes, then the drain of a million inserts that were
// committed, a hundred at a time, before Forebay started. A rate is rows over the time from
// the start of `forebay up` to the last record that a consumer can read; CPU
// is user and system time of Forebay (log and connector together) and of PostgreSQL.
//
//	go run ./bench/cdc -forebay bin/forebay
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/figures"
	"github.com/forebayhub/forebay/internal/testenv"
)

var (
	binary = flag.String("forebay", "bin/forebay", "the binary")
	rows   = flag.Int("rows", 2_000_000, "rows of the snapshot")
	drain  = flag.Int("drain", 1_000_000, "inserts to drain")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	env, err := testenv.Default(func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err != nil {
		return err
	}
	if err := env.Up(ctx, "postgres"); err != nil {
		return err
	}
	list, err := env.Status()
	if err != nil {
		return err
	}
	var admin string
	var postmaster int
	for _, s := range list {
		if s.Name == "postgres" && len(s.PIDs) > 0 {
			admin, postmaster = s.Addresses["url"], s.PIDs[0]
		}
	}
	dir, err := os.MkdirTemp("", "forebay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, done, err := newDatabase(ctx, admin)
	if err != nil {
		return err
	}
	defer done()
	config := filepath.Join(dir, "bench.yaml")
	if err := os.WriteFile(config, []byte("sources:\n  bench:\n    type: postgres\n    url: ${PG_URL}\n    tables: [public.items]\n"), 0o644); err != nil {
		return err
	}
	fmt.Println("| work | rows/s | CPU-s per million rows: Forebay / PostgreSQL | RSS at the end, peak MiB |\n|---|---|---|---|")
	if err := fill(ctx, db, *rows); err != nil {
		return err
	}
	if err := measure(ctx, "snapshot", dir, config, db, postmaster, *rows, *rows); err != nil {
		return err
	}
	if err := insert(ctx, db, *rows, *drain); err != nil {
		return err
	}
	return measure(ctx, "drain", dir, config, db, postmaster, *drain, *rows+*drain)
}

// measure runs Forebay until the topic holds total records, and prints one line for the n new ones.
func measure(ctx context.Context, name, dir, config, db string, postmaster, n, total int) error {
	cmd := exec.Command(*binary, "up", config, "--data", filepath.Join(dir, "data"), "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "PG_URL="+db)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	pgBefore := figures.CPU(append(figures.Children(postmaster), postmaster)...)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Process.Kill() //nolint:errcheck // it has ended by then unless something failed
	var kafka, http string
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscanf(line, "ready kafka=%s http=%s", &kafka, &http)
	}
	if err != nil {
		return fmt.Errorf("forebay was not ready: %w", err)
	}
	go io.Copy(io.Discard, out) //nolint:errcheck // until it ends
	readable, err := await(ctx, kafka, total)
	if err != nil {
		return err
	}
	wall := readable.Sub(began).Seconds()
	pid := cmd.Process.Pid
	cpu := figures.CPU(pid)
	pg := figures.CPU(append(figures.Children(postmaster), postmaster)...) - pgBefore
	now, peak := figures.RSS(pid)
	million := float64(n) / 1e6
	fmt.Printf("| %s of %d rows | %.0f | %.2f / %.2f | %.0f, %.0f |\n", name, n, float64(n)/wall, cpu/million, pg/million, now, peak)
	if err := count(ctx, kafka, total); err != nil {
		return err
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return cmd.Wait()
}

const topic = "bench.public.items"

// await returns when the last of total records became readable: the moment after which the last
// stable offset, which counts transaction markers too, did not move for half a second.
func await(ctx context.Context, addr string, total int) (time.Time, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return time.Time{}, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	last, moved := int64(-1), time.Now()
	for last < int64(total) || time.Since(moved) < 500*time.Millisecond {
		at, err := admin.ListCommittedOffsets(ctx, topic)
		if o, ok := at.Lookup(topic, 0); err == nil && ok && o.Err == nil && o.Offset != last {
			last, moved = o.Offset, time.Now()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return moved, nil
}

// count reads the topic to its end and fails unless it holds total records.
func count(ctx context.Context, addr string, total int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	n := 0
	for n < total {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("only %d of %d records could be read", n, total)
		}
		n += fetches.NumRecords()
	}
	if n > total {
		return fmt.Errorf("%d records in the place of %d", n, total)
	}
	return nil
}

func newDatabase(ctx context.Context, admin string) (string, func(), error) {
	name := fmt.Sprintf("bench_%d", time.Now().UnixNano())
	if err := exec1(ctx, admin, "CREATE DATABASE "+name); err != nil {
		return "", nil, err
	}
	u, err := url.Parse(admin)
	if err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	return u.String(), func() {
		_ = exec1(ctx, u.String(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active") // best effort: the database stays then
		_ = exec1(ctx, admin, "DROP DATABASE "+name+" WITH (FORCE)")
	}, exec1(ctx, u.String(), "CREATE TABLE items (id bigint PRIMARY KEY, name text, category int, price numeric(10,2), stock int, note text, updated timestamptz DEFAULT now())")
}

func exec1(ctx context.Context, url, sql string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // the statement's own error counts
	_, err = conn.Exec(ctx, sql)
	return err
}

const row = "%d, 'item number %d', %d, %d.99, %d, '" + "%s" + "'"

func fill(ctx context.Context, db string, n int) error {
	return exec1(ctx, db, fmt.Sprintf("INSERT INTO items SELECT i, 'item number ' || i, i %% 100, i %% 1000 + 0.99, i %% 50, repeat('n', 110) FROM generate_series(0, %d) i; ANALYZE items", n-1))
}

// insert makes n single-row inserts, committed by hundreds.
func insert(ctx context.Context, db string, from, n int) error {
	conn, err := pgx.Connect(ctx, db)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // the statements' own errors count
	note := strings.Repeat("n", 110)
	for i := from; i < from+n; {
		var b strings.Builder
		b.WriteString("BEGIN;")
		for range 100 {
			fmt.Fprintf(&b, "INSERT INTO items VALUES ("+row+");", i, i, i%100, i%1000, i%50, note)
			i++
		}
		b.WriteString("COMMIT")
		if _, err := conn.PgConn().Exec(ctx, b.String()).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}
