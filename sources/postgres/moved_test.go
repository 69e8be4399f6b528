package postgres

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

// TestMovedAgain: a row that two runs have missed, and that has moved on by the time that the stream brings it, comes whole at its last move, whatever
// happens between the moves: other commits, a kill, a lost connection, another row with its key, another form of its table.
func TestMovedAgain(t *testing.T) {
	f := start(t, `CREATE EXTENSION ltree; CREATE TABLE o (id ltree PRIMARY KEY, rev int DEFAULT 1, big text, more bytea, less text);
		ALTER TABLE o ALTER big SET STORAGE EXTERNAL, ALTER more SET STORAGE EXTERNAL, ALTER less SET STORAGE EXTERNAL;
		INSERT INTO o SELECT l::ltree, 1, repeat(l, 3000), convert_to(repeat(l, 3000), 'UTF8'), repeat(l, 3000) FROM (SELECT chr(96 + generate_series(1, 8)) AS l) x`, "o")
	rep := newReplica(t)
	f.sink = func(r connectors.Record) { f.col.add(r); rep.apply(r) }
	read := func(line string) {
		t.Helper()
		f.runUntil(t.Context(), func() bool { return strings.HasPrefix(f.col.lines[len(f.col.lines)-1], line) })
	}
	f.interrupt(4)
	sql(t, f.c, "UPDATE o SET id = 'b1' WHERE id = 'g'")
	f.runUntil(t.Context(), func() bool { return len(f.task.(*task).pending) == 0 })
	sql(t, f.c, "INSERT INTO o VALUES ('x')", // its commit lies behind all that the runs saw
		"UPDATE o SET id = 'b2' WHERE id = 'b1'", "INSERT INTO o VALUES ('b1', 1, repeat('c', 3000))",
		"INSERT INTO o VALUES ('y')", "UPDATE o SET id = 'b3' WHERE id = 'b2'", "ALTER TABLE o DROP less, ALTER more TYPE text USING 'no bytes'")
	heartbeat := f.src.cfg.heartbeat
	f.src.cfg.heartbeat = time.Minute // only what is looked up for the row uses the connection
	read("c {id=b1}")
	f.kill()
	read("c {id=b2}")

	pid := strconv.FormatUint(uint64(f.task.(*task).aux.PID()), 10)
	sql(t, f.c, "SELECT pg_terminate_backend("+pid+")")
	for len(sql(t, f.c, "SELECT FROM pg_stat_activity WHERE pid = "+pid)) > 0 && t.Context().Err() == nil {
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var err error
	for b := connectors.NewBatch(f.batch); err == nil; {
		err = f.read(ctx, b, nil)
	}
	if ctx.Err() != nil {
		t.Error("nothing was looked up")
	}
	f.src.cfg.heartbeat = heartbeat
	f.sync()
	rows := rep.tables["shop.public.o"]
	for key := range rows {
		rows[key] = rows[key][:3] // what ALTER TABLE rewrites is not in the stream
	}
	compare(t, f.c, rep, "o", "id, rev, coalesce(big, 'null')")
}
