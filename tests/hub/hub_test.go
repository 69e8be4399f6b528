// Package hub is the product's whole shape on trial: three nodes, two databases and two logs in, HDFS and a
// PostgreSQL out, and each of the processes killed once.
package hub

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	members = flag.Int("members", 3, "members of the MongoDB replica set")
	calm    = flag.Duration("calm", 2500*time.Millisecond, "how long everything runs between two kills")
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the changes")
)

const firstDocuments = 1000

func TestHub(t *testing.T) {
	began := time.Now()
	say := func(format string, args ...any) {
		t.Logf("%5.1fs  "+format, append([]any{time.Since(began).Seconds()}, args...)...)
	}
	say("seed %d", *seed)

	pg := testenv.NewPostgres(t) // source and target: its restart hits both ends
	pg.Exec(schema)
	pg.Exec("CREATE DATABASE warehouse")
	target := strings.TrimSuffix(pg.URL, pg.Database) + "warehouse"
	mongo := testenv.NewMongo(t, *members)
	if _, err := mongo.DB().Collection("events").InsertMany(t.Context(), documents(firstDocuments)); err != nil {
		t.Fatal(err)
	}
	lake := testenv.HDFS(t)
	logs := t.TempDir()
	env := []string{
		"PG_URL=" + pg.URL, "WAREHOUSE_URL=" + target, "MONGO_URL=" + mongo.URL, "MONGO_DB=" + mongo.Database, "HDFS_URL=" + lake.URL,
		"ACCESS_LOGS=" + filepath.Join(logs, "access.log*"), "ERROR_LOGS=" + filepath.Join(logs, "error.log*"),
		"ROTATE=2s", "HEARTBEAT=1s",
	}
	say("PostgreSQL, MongoDB and HDFS are there")
	config := filepath.Join(testenv.RepoRoot(t), "configs", "hub.yaml")
	for _, source := range []string{"shop", "activity"} {
		out, code := node.Run(t, env, "preview", config, source, "--records", "2")
		if code != 0 || strings.Count(out, `"topic":"`+source+`.`) < 2 || strings.Count(out, "\n") > 4 {
			t.Fatalf("preview of %s ended with %d:\n%s", source, code, out)
		}
	}
	if n := scalar(t, pg.URL, "SELECT count(*)::text FROM pg_replication_slots"); n != "0" {
		t.Errorf("a preview has left %s slots", n)
	}

	nodes := node.NewCluster(t, 3)
	for _, n := range nodes {
		n.Setenv(env...)
	}
	node.StartAll(t, nodes)
	out, code := node.Run(t, nil, "apply", config, "--http", nodes[2].HTTP) // without the variables: the nodes have them
	if code != 0 {
		t.Fatalf("apply ended with %d:\n%s", code, out)
	}
	say("three nodes, and the hub is declared:\n%s", out)

	w := &writers{stop: make(chan struct{}), written: map[string]int{}}
	w.start(func() error { return w.postgres(pg.URL, rand.New(rand.NewPCG(*seed, 1))) })
	w.start(func() error {
		return w.mongo(mongo.URL, mongo.Database, firstDocuments, rand.New(rand.NewPCG(*seed, 2)))
	})
	w.start(func() error { return w.logs(logs, "access", *seed) })
	w.start(func() error { return w.logs(logs, "error", *seed+1) })
	rest := func() {
		w.pace(*calm)
		say("%d statements, %d documents, %d lines written", w.rows.Load(), w.documents.Load(), w.lines.Load())
	}
	for i, n := range nodes {
		rest()
		say("node %d is killed", i+1)
		n.Kill()
		switch i {
		case 0:
			say("PostgreSQL is killed")
			pg.Kill()
			pg.Start()
		case 1:
			member := mongo.KillPrimary()
			say("mongod %d, the primary, was killed", member+1)
			mongo.Start(member)
		}
		w.pace(time.Second)
		n.Start()
		say("node %d is ready again after %v", i+1, n.ReadyAfter.Round(time.Millisecond))
	}
	rest()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	say("the writers have ended: %d statements, %d documents, lines %v", w.rows.Load(), w.documents.Load(), w.written)
	until(t, "all connectors run, and each node says so", func() bool {
		for _, n := range nodes {
			running := 0
			for _, s := range states(t, n) {
				if s.Connector.State == "RUNNING" {
					running++
				}
			}
			if running != 7 {
				return false
			}
		}
		return true
	})
	out, _ = node.Run(t, nil, "connectors", "list", "--http", nodes[1].HTTP)
	say("all connectors run:\n%s", out)
	var auditing sync.WaitGroup
	for i, sink := range []string{"warehouse", "lake", "logs"} {
		auditing.Go(func() {
			out, code := node.Run(t, env, "audit", config, sink, "--wait", "60s", "--bootstrap", nodes[i].Kafka, "--http", nodes[i].HTTP)
			say("forebay audit %s, asked of node %d:\n%s", sink, i+1, out)
			if code != 0 {
				t.Errorf("audit of %s ended with %d", sink, code)
			}
		})
	}
	auditing.Wait()
	for _, table := range []string{"customers", "orders"} {
		want, got := checksum(t, pg.URL, table), checksum(t, target, table)
		if got != want {
			t.Errorf("%s: the target has %s, the source %s", table, got, want)
		}
		say("%s: %s", table, got)
	}
	for i, n := range nodes {
		if err := n.Stop(); err != nil {
			t.Errorf("SIGTERM to node %d: %v", i+1, err)
		}
	}
	say("done")
}

// checksum is the number of rows and a hash of all texts in their order.
func checksum(t *testing.T, url, table string) string {
	t.Helper()
	columns := scalar(t, url, "SELECT string_agg(quote_ident(column_name), ', ' ORDER BY column_name) FROM information_schema.columns WHERE table_schema = 'public' AND table_name = '"+table+"'")
	return scalar(t, url, fmt.Sprintf(`SELECT count(*) || ' rows ' || coalesce(md5(string_agg(r, E'\n' ORDER BY r)), '') FROM (SELECT ROW(%s)::text COLLATE "C" AS r FROM public.%s) x`, columns, table))
}

func scalar(t *testing.T, url, sql string) (out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "SET TimeZone = 'UTC'; SET extra_float_digits = 3"); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(ctx, sql).Scan(&out); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}
