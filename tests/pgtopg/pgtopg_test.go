// Package pgtopg replicates a PostgreSQL database into another one through the
// embedded log while Forebay is killed, and holds the two against each other.
package pgtopg

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

var (
	rows  = flag.Int("rows", 6000, "row changes")
	kills = flag.Int("kills", 4, "SIGKILLs of Forebay")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of changes and kill times")
)

const config = `
sources:
  shop:
    type: postgres
    url: ${SOURCE}
    tables: [public.*]
    heartbeat: 1s
    slot: ${SLOT}
    publication: ${SLOT}
sinks:
  copy:
    type: postgres
    url: ${TARGET}
    topics: ["shop.public.*"]
    schema: copy
    flush: {interval: 200ms, size: 256KiB}
  history:
    type: postgres
    url: ${TARGET}
    topics: ["shop.public.*"]
    mode: append
    schema: history
    flush: {interval: 500ms}
`

// TestKills: random changes, during snapshot and stream, with SIGKILLs: the target equals the source.
func TestKills(t *testing.T) {
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 1))
	source, target := testenv.Postgres(t), testenv.Postgres(t)
	db := newShop(t, source.URL, rand.New(rand.NewPCG(*seed, 2)))
	dir := t.TempDir()
	file := node.WriteFile(t, dir, "job.yaml", config)
	env := []string{"SLOT=copy_" + source.Database, "SOURCE=" + source.URL, "TARGET=" + target.URL}
	n := node.New(t, file, "--data", dir+"/data")
	n.Setenv(env...)
	n.Start()
	changed := make(chan error, 1)
	go func() { changed <- db.change(*rows) }()
	for k := range *kills {
		timer := time.NewTimer(time.Duration(400+random.IntN(1800)) * time.Millisecond)
		select {
		case err := <-changed:
			changed <- err
			<-timer.C // the sinks still write
		case <-timer.C:
		}
		t.Logf("kill %d of %d", k+1, *kills)
		n.Kill()
		n.Start()
	}
	if err := <-changed; err != nil {
		t.Fatal(err)
	}
	// Once while the database goes on changing, once at rest.
	busy := make(chan error, 1)
	go func() { busy <- db.change(*rows / 3) }()
	if out, code := node.Run(t, env, "audit", file, "copy", "--bootstrap", n.Kafka, "--http", n.HTTP); code != 0 {
		t.Errorf("audit of a busy copy ended with %d:\n%s", code, out)
	}
	if err := <-busy; err != nil {
		t.Fatal(err)
	}
	for _, sink := range []string{"copy", "history"} {
		out, code := node.Run(t, env, "audit", file, sink, "--bootstrap", n.Kafka, "--http", n.HTTP)
		t.Logf("forebay audit %s:\n%s", sink, out)
		if code != 0 {
			t.Errorf("audit of %s ended with %d", sink, code)
		}
	}
	for _, table := range []string{"customers", "orders", "keyed"} {
		want, got := checksum(t, source.URL, "public", table), checksum(t, target.URL, "copy", table)
		if got != want {
			t.Errorf("%s: the target has %s, the source %s\n%s", table, got, want, difference(t, source.URL, target.URL, table))
		}
		t.Logf("%s: %s", table, got)
	}
	if got := scalar(t, target.URL, "SELECT string_agg(DISTINCT x, ',') FROM (SELECT CASE WHEN count(*) > count(DISTINCT (_partition, _offset)) THEN 'doubled' ELSE 'once' END x FROM history.orders UNION ALL SELECT CASE WHEN count(*) > count(DISTINCT (_partition, _offset)) THEN 'doubled' ELSE 'once' END FROM history.customers) t"); got != "once" {
		t.Errorf("mode append: %s", got)
	}
	if err := n.Stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// order is each table's columns; those of the target may lie in another order.
func columns(t *testing.T, url, schema, table string) string {
	return scalar(t, url, "SELECT string_agg(quote_ident(column_name), ', ' ORDER BY column_name) FROM information_schema.columns WHERE table_schema = '"+schema+"' AND table_name = '"+table+"'")
}

// checksum is the number of rows and a hash of all texts in the key's order.
func checksum(t *testing.T, url, schema, table string) string {
	t.Helper()
	cols := columns(t, url, schema, table)
	return cols + ": " + scalar(t, url, fmt.Sprintf("SELECT count(*) || ' rows ' || coalesce(md5(string_agg(r, E'\\n' ORDER BY r)), '') FROM (SELECT ROW(%s)::text COLLATE \"C\" AS r FROM %s.%s) x", cols, schema, table))
}

func difference(t *testing.T, a, b, table string) string {
	t.Helper()
	read := func(url, schema string) map[string]bool {
		out := map[string]bool{}
		for _, l := range list(t, url, fmt.Sprintf("SELECT left(ROW(%s)::text, 300) FROM %s.%s", columns(t, url, schema, table), schema, table)) {
			out[l] = true
		}
		return out
	}
	source, target := read(a, "public"), read(b, "copy")
	var out []string
	for l := range source {
		if !target[l] && len(out) < 5 {
			out = append(out, "source "+l)
		}
	}
	for l := range target {
		if !source[l] && len(out) < 10 {
			out = append(out, "target "+l)
		}
	}
	return strings.Join(out, "\n")
}

func scalar(t *testing.T, url, sql string) string {
	t.Helper()
	return strings.Join(list(t, url, sql), "\n")
}

func list(t *testing.T, url, sql string) []string {
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
	r, err := conn.Query(ctx, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	out, err := pgx.CollectRows(r, pgx.RowTo[*string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var texts []string
	for _, s := range out {
		if s != nil {
			texts = append(texts, *s)
		}
	}
	return texts
}
