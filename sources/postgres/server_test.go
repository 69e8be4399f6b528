package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/jackc/pgx/v5/pgconn"
)

// collect is a sink that keeps every record as a line.
type collect struct{ lines []string }

func (c *collect) add(r connectors.Record) { c.lines = append(c.lines, describe(r)) }

func (c *collect) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	if got, w := strings.Join(c.lines, "\n"), strings.Join(want, "\n"); got != w {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, w)
	}
	c.lines = nil
}

// fixture is a database with a source on it and a log.
type fixture struct {
	c   *pgconn.PgConn
	src *source
	col *collect
	*logbook
}

func start(t *testing.T, schemaSQL string, tables ...string) *fixture {
	t.Helper()
	url := testURL(t)
	f := &fixture{c: dial(t, url), col: &collect{}}
	sql(t, f.c, schemaSQL)
	f.src = configure(t, url, tables, nil)
	f.logbook = newLogbook(t, f.src, f.col.add)
	t.Cleanup(f.close)
	return f
}

func (f *fixture) sync() { f.t.Helper(); f.catchUp(context.Background(), f.c) }

func TestChangeEvents(t *testing.T) {
	f := start(t, `CREATE TABLE o (id int PRIMARY KEY, name text, big text); ALTER TABLE o ALTER big SET STORAGE EXTERNAL;
		INSERT INTO o VALUES (1, 'a', 'x'), (2, 'b', NULL)`, "o")
	f.sync()
	f.col.expect(t, "snapshot", "r {id=1} null -> {id=1 name=a big=x}", "r {id=2} null -> {id=2 name=b big=null}")

	sql(t, f.c, "INSERT INTO o VALUES (3, 'c', repeat('y', 9000))", "UPDATE o SET name = 'cc' WHERE id = 3", "UPDATE o SET big = 'z' WHERE id = 1")
	f.sync()
	f.col.expect(t, "insert, update", "c {id=3} null -> {id=3 name=c big="+strings.Repeat("y", 9000)+"}",
		"u {id=3} null -> {id=3 name=cc big=missing}", "u {id=1} null -> {id=1 name=a big=z}")

	sql(t, f.c, "UPDATE o SET id = 30 WHERE id = 3", "DELETE FROM o WHERE id = 1", "TRUNCATE o")
	f.sync()
	f.col.expect(t, "key change, delete, truncate", "d {id=3} {id=3 name=null big=null} -> null", "tombstone {id=3}", "c {id=30} null -> {id=30 name=cc big=missing}",
		"d {id=1} {id=1 name=null big=null} -> null", "tombstone {id=1}", "t - null -> null")

	sql(t, f.c, "ALTER TABLE o REPLICA IDENTITY FULL", "INSERT INTO o VALUES (5, 'e', repeat('w', 4000))", "UPDATE o SET name = 'ee'", "DELETE FROM o")
	f.sync()
	w := strings.Repeat("w", 4000)
	f.col.expect(t, "identity full", "c {id=5} null -> {id=5 name=e big="+w+"}",
		"u {id=5} {id=5 name=e big="+w+"} -> {id=5 name=ee big="+w+"}", "d {id=5} {id=5 name=ee big="+w+"} -> null", "tombstone {id=5}")

	sql(t, f.c, "ALTER TABLE o ADD extra int DEFAULT 7", "ALTER TABLE o DROP name", "INSERT INTO o VALUES (6, 'q', 8)")
	f.sync()
	f.col.expect(t, "other columns", "c {id=6} null -> {id=6 big=q extra=8}")
}

func TestSourceBlock(t *testing.T) {
	var recs []string
	f := start(t, "CREATE TABLE o (id int PRIMARY KEY); CREATE TABLE p (id int PRIMARY KEY); INSERT INTO o VALUES (1), (2), (3); INSERT INTO p VALUES (1), (2)", "o", "p")
	f.sink = func(r connectors.Record) {
		s := r.Change.Source
		var names []string
		for _, fl := range s.Schema.Fields {
			names = append(names, fl.Name)
		}
		if got := strings.Join(names, " "); got != "version connector name ts_ms snapshot db sequence ts_us ts_ns schema table txId lsn xmin origin origin_lsn" {
			t.Errorf("fields %s", got)
		}
		v := s.Value.List
		if v[1].Text() != "postgresql" || v[2].Text() != "shop" || v[9].Text() != "public" {
			t.Errorf("source %s", show(s.Schema, s.Value))
		}
		if d := time.Since(time.UnixMilli(v[3].Int())); d < -time.Minute || d > time.Minute || v[7].Int()/1000 != v[3].Int() || v[8].Int() != v[7].Int()*1000 {
			t.Errorf("times %s", show(s.Schema, s.Value))
		}
		if seq := v[6].Text(); !strings.HasSuffix(seq, fmt.Sprintf(`"%d"]`, v[12].Int())) {
			t.Errorf("sequence %s of lsn %d", seq, v[12].Int())
		}
		recs = append(recs, string(r.Change.Op)+" "+v[10].Text()+" "+v[4].Text())
	}
	f.sync()
	sql(t, f.c, "INSERT INTO p VALUES (3)")
	f.sync()
	want := "r o first, r o true, r o last_in_data_collection, r p first_in_data_collection, r p last, c p false"
	if got := strings.Join(recs, ", "); got != want {
		t.Errorf("snapshot fields: %s\nwant %s", got, want)
	}
}

// interrupt reads snapshot rows until at least n are durable and kills the task.
func (f *fixture) interrupt(n int) {
	f.t.Helper()
	f.batch = 1 // a row at a time
	f.runUntil(context.Background(), func() bool { return len(f.col.lines) >= n })
	f.kill()
}

// TestTruncateBetweenRuns: the snapshot takes back what a truncate has removed
// between two runs; so it does when a rewrite hides the rows from old snapshots.
func TestTruncateBetweenRuns(t *testing.T) {
	for name, change := range map[string]string{
		"truncate": "TRUNCATE o; INSERT INTO o SELECT g, 'new' FROM generate_series(3, 6) g",
		"rewrite":  "ALTER TABLE o ALTER id TYPE bigint; DELETE FROM o WHERE id < 3 OR id > 6; UPDATE o SET v = 'new'",
		"recreate": "DROP TABLE o; CREATE TABLE o (id int PRIMARY KEY, v text); ALTER PUBLICATION %s ADD TABLE o; INSERT INTO o SELECT g, 'new' FROM generate_series(3, 6) g",
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, "CREATE TABLE o (id int PRIMARY KEY, v text); INSERT INTO o SELECT g, 'old' FROM generate_series(1, 50) g", "o")
			f.src.cfg.chunkRows = 5
			f.interrupt(4)
			if strings.Contains(change, "%s") {
				change = fmt.Sprintf(change, quoteIdent(f.src.cfg.publication))
			}
			sql(t, f.c, change)
			f.col.lines = nil
			f.sync()
			f.col.expect(t, name, "t - null -> null", "r {id=3} null -> {id=3 v=new}", "r {id=4} null -> {id=4 v=new}",
				"r {id=5} null -> {id=5 v=new}", "r {id=6} null -> {id=6 v=new}")
		})
	}
}

// TestMovedBetweenRuns: a row that moves from the later run's range to the
// earlier one's was seen by neither, and comes whole all the same.
func TestMovedBetweenRuns(t *testing.T) {
	f := start(t, `CREATE TABLE o (id int PRIMARY KEY, v text, big text); ALTER TABLE o ALTER big SET STORAGE EXTERNAL;
		INSERT INTO o SELECT g*10, 'v', repeat('b', 3000) FROM generate_series(1, 8) g`, "o")
	f.interrupt(4)
	sql(t, f.c, "UPDATE o SET id = 5 WHERE id = 80", "UPDATE o SET id = 85 WHERE id = 10", "UPDATE o SET id = 7 WHERE id = 70; UPDATE o SET id = 8 WHERE id = 7", "DELETE FROM o WHERE id = 60")
	f.col.lines = nil
	f.sync()
	b := strings.Repeat("b", 3000)
	row := func(op string, id int) string {
		return fmt.Sprintf("%s {id=%d} null -> {id=%d v=v big=%s}", op, id, id, b)
	}
	gone := func(id int) []string {
		return []string{fmt.Sprintf("d {id=%d} {id=%d v=null big=null} -> null", id, id), fmt.Sprintf("tombstone {id=%d}", id)}
	}
	want := []string{row("r", 50), row("r", 85), row("c", 5)}
	want = append(want, gone(10)...)
	want = append(want, "c {id=7} null -> {id=7 v=v big=missing}")
	want = append(want, gone(7)...)
	want = append(want, row("c", 8))
	f.col.expect(t, "moved", want...)
}

// TestTableWithoutKey: null keys, and a snapshot that was interrupted begins anew.
func TestTableWithoutKey(t *testing.T) {
	f := start(t, "CREATE TABLE o (v int); ALTER TABLE o REPLICA IDENTITY FULL; INSERT INTO o VALUES (1), (2), (2)", "o")
	f.interrupt(2)
	f.sync()
	f.col.expect(t, "no key", "r - null -> {v=1}", "r - null -> {v=2}", "t - null -> null", "r - null -> {v=1}", "r - null -> {v=2}", "r - null -> {v=2}")
	sql(t, f.c, "UPDATE o SET v = 3 WHERE v = 1", "DELETE FROM o WHERE v = 3")
	f.sync()
	f.col.expect(t, "no key", "u - {v=1} -> {v=3}", "d - {v=3} -> null")
}

// TestDeferrableKey: a statement may pass through states in which two rows have such a key, so that no row can be told by it.
func TestDeferrableKey(t *testing.T) {
	f := start(t, "CREATE TABLE o (id int PRIMARY KEY DEFERRABLE); ALTER TABLE o REPLICA IDENTITY FULL; INSERT INTO o VALUES (1), (2)", "o")
	f.sync()
	sql(t, f.c, "UPDATE o SET id = id + 1")
	f.sync()
	f.col.expect(t, "deferrable", "r - null -> {id=1}", "r - null -> {id=2}", "u - {id=1} -> {id=2}", "u - {id=2} -> {id=3}")
}

// TestAddedTable: a table that joins the config gets its own snapshot, the others
// none; one that left and returns is taken back first.
func TestAddedTable(t *testing.T) {
	f := start(t, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)", "a")
	f.sync()
	f.col.expect(t, "first", "r {id=1} null -> {id=1}")
	sql(t, f.c, "INSERT INTO a VALUES (2)", "INSERT INTO b VALUES (2)")
	f.close()
	f.src.cfg.tables = []string{"a", "b"}
	sql(t, f.c, "INSERT INTO a VALUES (3)")
	f.sync()
	f.col.expect(t, "added", "r {id=1} null -> {id=1}", "r {id=2} null -> {id=2}", "c {id=2} null -> {id=2}", "c {id=3} null -> {id=3}")
	sql(t, f.c, "INSERT INTO b VALUES (3)")
	f.sync()
	f.col.expect(t, "streamed", "c {id=3} null -> {id=3}")
	f.close()
	f.src.cfg.tables = []string{"a"}
	sql(t, f.c, "DELETE FROM b WHERE id < 3")
	f.sync()
	f.col.expect(t, "left")
	f.close()
	f.src.cfg.tables = []string{"a", "b"}
	// It is being copied from the first mark on, whatever a kill cuts off, and taken back once.
	b := connectors.NewBatch(f.batch)
	copying := func(want string) {
		t.Helper()
		if got := f.src.Copying(f.positions); got != want {
			t.Errorf("%q is being copied, not %q; positions %s", got, want, f.positions)
		}
	}
	copying("")
	for _, until := range []int{0, 1} { // killed behind the marks of the start, and behind the truncate
		if err := f.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		for again := true; again; again = len(f.col.lines) < until {
			if err := f.read(t.Context(), b, func(n int) int { return min(n, 1) }); err != nil {
				t.Fatal(err)
			}
		}
		copying("public.b")
		f.kill()
	}
	f.sync()
	copying("")
	f.col.expect(t, "returned", "t - null -> null", "r {id=3} null -> {id=3}")
	sql(t, f.c, "CREATE UNLOGGED TABLE u (id int PRIMARY KEY)")
	f.close()
	f.src.cfg.tables = []string{"*"}
	f.sync()
	f.col.expect(t, "an unlogged table is passed over")
	f.src.cfg.tables = []string{"a", "u"}
	f.openFails("unlogged")
}

// TestInitialOnly: the rows are those of one moment, though they were read in several runs; then the slot is gone, also
// after a kill, and a start has nothing to do. A table that is added is read alone.
func TestInitialOnly(t *testing.T) {
	f := start(t, "CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1, 1), (2, 2), (3, 3); INSERT INTO b VALUES (1)", "a")
	f.src.cfg.snapshot, f.src.cfg.chunkRows, f.src.cfg.runTime = "initial_only", 1, 0
	b := connectors.NewBatch(1)
	slots := func(want string) {
		t.Helper()
		if got := string(sql(t, f.c, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '"+f.src.cfg.slot+"'")[0][0]); got != want {
			t.Errorf("%s slots, want %s", got, want)
		}
	}
	read := func(until func() bool) (err error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := f.open(ctx); err != nil {
			t.Fatal(err)
		}
		for err == nil && !until() {
			sql(t, f.c, "SELECT pg_logical_emit_message(true, 'forebay-test', 'x')") // an idle server takes its time to write out what the stream waits for
			err = f.read(ctx, b, nil)
		}
		return err
	}
	over := func() bool { return strings.Contains(string(f.positions[slotKey]), `"over":true`) }
	if err := read(func() bool { return len(f.col.lines) > 0 }); err != nil {
		t.Fatal(err)
	}
	sql(t, f.c, "UPDATE a SET id = 0 WHERE id = 3") // from the last run's range into the first's
	f.kill()
	if err := read(over); err != nil {
		t.Fatal(err)
	}
	f.kill()
	f.col.expect(t, "rows and what was missed between", "r {id=1} null -> {id=1 v=1}", "r {id=2} null -> {id=2 v=2}", "c {id=0} null -> {id=0 v=3}")
	slots("1")
	sql(t, f.c, "INSERT INTO a VALUES (4, 4)")
	for range 2 {
		if err := read(func() bool { return false }); !errors.Is(err, io.EOF) {
			t.Fatalf("%v", err)
		}
		slots("0")
		f.close()
	}
	f.src.cfg.tables = []string{"a", "b"}
	if err := read(func() bool { return false }); !errors.Is(err, io.EOF) {
		t.Fatalf("%v", err)
	}
	slots("0")
	f.close()
	f.col.expect(t, "added", "r {id=1} null -> {id=1}")
	f.src.cfg.snapshot = "initial"
	f.openFails("is lost")
}

// TestAnotherClusterWithTheSameRows is what docs/operations.md has one do after pg_upgrade, with and without a slot that came along.
func TestAnotherClusterWithTheSameRows(t *testing.T) {
	f := start(t, "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)", "a")
	f.sync()
	f.col.expect(t, "before", "r {id=1} null -> {id=1}")
	for i, slot := range []bool{true, false} {
		f.close()
		if !slot {
			for { // the server may not have noticed the end of the stream yet
				_, err := query(t.Context(), f.c, "SELECT pg_drop_replication_slot('"+f.src.cfg.slot+"')")
				if err == nil {
					break
				}
				if sqlState(err) != "55006" {
					t.Fatal(err)
				}
			}
		}
		clear(f.positions)
		f.src.cfg.snapshot = "never"
		f.sync()
		f.close()
		f.src.cfg.snapshot = "initial"
		sql(t, f.c, fmt.Sprintf("INSERT INTO a VALUES (%d)", i+2))
		f.sync()
		f.col.expect(t, "after", fmt.Sprintf("c {id=%d} null -> {id=%[1]d}", i+2))
	}
}

// TestTwoSourcesShareADatabase: tables are shared out among two sources with slots of their own; each has its own tables, all of them, and
// does not wait for the other.
func TestTwoSourcesShareADatabase(t *testing.T) {
	f := start(t, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)", "a")
	other := &collect{}
	l := newLogbook(t, configure(t, f.src.cfg.url, []string{"b"}, nil), other.add)
	t.Cleanup(l.close)
	f.sync() // the other one has not begun
	sql(t, f.c, "INSERT INTO a VALUES (2)", "INSERT INTO b VALUES (2)", "UPDATE a SET id = 4 WHERE id = 2")
	f.sync()
	l.catchUp(t.Context(), f.c)
	sql(t, f.c, "INSERT INTO b VALUES (3)")
	l.catchUp(t.Context(), f.c)
	f.col.expect(t, "one", "r {id=1} null -> {id=1}", "c {id=2} null -> {id=2}", "d {id=2} {id=2} -> null", "tombstone {id=2}", "c {id=4} null -> {id=4}")
	other.expect(t, "the other", "r {id=1} null -> {id=1}", "r {id=2} null -> {id=2}", "c {id=3} null -> {id=3}")
}

// TestIdleSlot: WAL of tables that are not ours does not pile up.
func TestIdleSlot(t *testing.T) {
	f := start(t, "CREATE TABLE o (id int PRIMARY KEY); CREATE TABLE noise (x text)", "o")
	f.sync()
	sql(t, f.c, "INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
	at, err := ParseLSN(string(sql(t, f.c, "SELECT pg_current_wal_lsn()")[0][0]))
	if err != nil {
		t.Fatal(err)
	}
	f.runUntil(context.Background(), func() bool {
		info, err := f.src.slotInfo(context.Background(), f.c)
		if err != nil {
			t.Fatal(err)
		}
		return info.confirmed >= at
	})
	f.col.expect(t, "idle")
}

// TestConfirmedNeverAhead (invariant 5): the slot does not move for what was read
// and not committed.
func TestConfirmedNeverAhead(t *testing.T) {
	f := start(t, "CREATE TABLE o (id int PRIMARY KEY)", "o")
	f.sync()
	before := f.lsn()
	sql(t, f.c, "INSERT INTO o VALUES (1)")
	b := connectors.NewBatch(f.batch)
	for len(b.Records) == 0 {
		b.Reset()
		if err := f.task.Read(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	tick := time.NewTicker(300 * time.Millisecond) // longer than the pulse
	defer tick.Stop()
	<-tick.C
	info, err := f.src.slotInfo(context.Background(), f.c)
	if err != nil || info.confirmed > before {
		t.Errorf("confirmed %s, the log stands at %s (%v)", info.confirmed, before, err)
	}
	f.kill()
	f.sync()
	f.col.expect(t, "again", "c {id=1} null -> {id=1}")
}

func (f *fixture) openFails(want string) {
	f.t.Helper()
	if f.task != nil {
		f.kill()
	}
	err := f.open(context.Background())
	if err == nil {
		err = f.task.Read(context.Background(), connectors.NewBatch(1))
		f.close()
	}
	if !connectors.IsFatal(err) || !strings.Contains(err.Error(), want) {
		f.t.Errorf("error %v, want a fatal one with %q", err, want)
	}
}

// TestSlotTrouble: changes that nobody can give us are never skipped in silence.
func TestSlotTrouble(t *testing.T) {
	wait := func(f *fixture) { // until the server has noticed the kill
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			if info, err := f.src.slotInfo(context.Background(), f.c); err == nil && info.activePID == "" {
				return
			}
		}
		f.t.Fatal("the slot stays active")
	}
	t.Run("dropped", func(t *testing.T) {
		f := start(t, "CREATE TABLE o (id int PRIMARY KEY)", "o")
		f.sync()
		f.close()
		wait(f)
		sql(t, f.c, "SELECT pg_drop_replication_slot('"+f.src.cfg.slot+"')")
		f.openFails("not there any more")
	})
	t.Run("moved", func(t *testing.T) {
		f := start(t, "CREATE TABLE o (id int PRIMARY KEY)", "o")
		f.sync()
		f.close()
		wait(f)
		sql(t, f.c, "INSERT INTO o VALUES (1)", "SELECT pg_replication_slot_advance('"+f.src.cfg.slot+"', pg_current_wal_lsn())")
		f.openFails("was moved to")
	})
	t.Run("lost", func(t *testing.T) {
		pg := testenv.NewPostgres(t, "max_slot_wal_keep_size=1MB", "max_wal_size=32MB", "min_wal_size=32MB")
		c := dial(t, pg.URL)
		sql(t, c, "CREATE TABLE o (id int PRIMARY KEY)", "CREATE TABLE junk (x text)")
		f := &fixture{c: c, col: &collect{}, src: configure(t, pg.URL, []string{"o"}, nil)}
		f.logbook = newLogbook(t, f.src, f.col.add)
		f.sync()
		f.close()
		wait(f)
		for range 4 {
			sql(t, c, "INSERT INTO junk SELECT repeat('x', 1000) FROM generate_series(1, 10000)", "SELECT pg_switch_wal()", "CHECKPOINT")
		}
		f.openFails("is lost")
	})
}

// TestYoungPublication: where the publication is younger than the slot, the server cannot send what lies between. It is passed over and the tables are read
// anew, whenever the publication was lost and whoever made it again, and also when Open is cut off between making it and saying so.
func TestYoungPublication(t *testing.T) {
	t.Parallel()
	f := start(t, "CREATE TABLE o (id int PRIMARY KEY); CREATE TABLE other (id int)", "o")
	rep := newReplica(t)
	f.sink = rep.apply
	pub := quoteIdent(f.src.cfg.publication)
	sql(t, f.c, "SELECT pg_create_logical_replication_slot('"+f.src.cfg.slot+"', 'pgoutput')", "INSERT INTO o VALUES (1)")
	f.sync() // a slot that was there, a publication that was not

	sql(t, f.c, "INSERT INTO o VALUES (2); DROP PUBLICATION "+pub, "INSERT INTO o VALUES (3)")
	f.settle(f.again("o", 1))
	f.close()
	sql(t, f.c, "INSERT INTO o VALUES (4)", "DROP PUBLICATION "+pub, "INSERT INTO o VALUES (5)")
	w := dial(t, f.src.cfg.url)
	sql(t, w, "BEGIN", "INSERT INTO other VALUES (1)")
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error)
	go func() { opened <- f.open(ctx) }()
	for len(sql(t, f.c, "SELECT FROM pg_publication WHERE pubname = '"+f.src.cfg.publication+"'")) == 0 && t.Context().Err() == nil {
	}
	cancel()
	if err := <-opened; err == nil {
		t.Error("a transaction that began without the publication is not waited for")
	}
	f.close()
	sql(t, w, "COMMIT")
	sql(t, f.c, "INSERT INTO o VALUES (6)")
	f.settle(f.again("o", 2))
	sql(t, f.c, "UPDATE o SET id = 60 WHERE id = 6")
	f.sync()
	compare(t, f.c, rep, "o", "*")
	f.close()
	sql(t, f.c, "DELETE FROM o WHERE id = 1", "BEGIN; DROP PUBLICATION "+pub+"; CREATE PUBLICATION "+pub+" FOR TABLE o; COMMIT")
	f.settle(f.again("o", 3))
	compare(t, f.c, rep, "o", "*")

	// Without a snapshot nothing makes up for what the slot holds.
	f.close()
	g := f.on(f.src.cfg.url, nil)
	g.src.cfg.snapshot, g.src.cfg.slot, g.src.cfg.publication = "never", f.src.cfg.slot+"_", "young"
	sql(t, f.c, "SELECT pg_create_logical_replication_slot('"+g.src.cfg.slot+"', 'pgoutput')", "INSERT INTO o VALUES (7)")
	g.openFails("younger")
	h := f.on(f.src.cfg.url, map[connectors.PositionKey]connectors.Position{})
	h.src.cfg = g.src.cfg
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := h.open(ctx)
	for b := connectors.NewBatch(h.batch); err == nil; {
		err = h.read(ctx, b, nil)
	}
	if !connectors.IsFatal(err) || !strings.Contains(err.Error(), "younger") {
		t.Errorf("a slot that holds changes of before its publication: %v", err)
	}
}

// TestCommitThatWaits: a transaction whose commit is in the WAL, and passed by, but waits for a standby, is waited for by the snapshot that has to see it.
// It is the newest of all, so that no snapshot lists it among those that run.
func TestCommitThatWaits(t *testing.T) {
	t.Parallel()
	pg := testenv.NewPostgres(t, "synchronous_standby_names=nobody", "synchronous_commit=local")
	f := &fixture{c: dial(t, pg.URL), col: &collect{}, src: configure(t, pg.URL, []string{"a"}, map[string]any{"publication": "p"})}
	f.logbook = newLogbook(t, f.src, f.col.add)
	t.Cleanup(f.close)
	sql(t, f.c, "CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR TABLE a, b")
	f.sync()
	w := dial(t, pg.URL)
	committed := make(chan error)
	go func() {
		committed <- exec(context.Background(), w, "SET synchronous_commit = on; INSERT INTO b VALUES (1)")
	}()
	for len(sql(t, f.c, "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'")) == 0 && t.Context().Err() == nil {
	}
	f.sync()
	f.close()
	f.src.cfg.tables = []string{"a", "b"}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := f.open(t.Context())
	for b := connectors.NewBatch(f.batch); err == nil && len(f.task.(*task).pending) > 0; {
		err = f.read(ctx, b, nil)
	}
	if ctx.Err() == nil || err == nil {
		t.Errorf("not waited for: %v", err)
	}
	sql(t, f.c, "SELECT pg_cancel_backend("+strconv.FormatUint(uint64(w.PID()), 10)+")")
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	f.close()
	f.sync()
	f.col.expect(t, "waited", "r {id=1} null -> {id=1}")
}

// TestServerRestart: after the server's death the task reports an error that is
// tried again, and a new one goes on.
func TestServerRestart(t *testing.T) {
	pg := testenv.NewPostgres(t)
	c := dial(t, pg.URL)
	sql(t, c, "CREATE TABLE o (id int PRIMARY KEY)")
	f := &fixture{c: c, col: &collect{}, src: configure(t, pg.URL, []string{"o"}, nil)}
	f.logbook = newLogbook(t, f.src, f.col.add)
	defer f.close()
	f.sync()
	sql(t, c, "INSERT INTO o VALUES (1)")
	pg.Kill()
	b := connectors.NewBatch(f.batch)
	var err error
	for err == nil {
		err = f.read(context.Background(), b, nil)
	}
	if connectors.IsFatal(err) {
		t.Errorf("fatal: %v", err)
	}
	f.kill()
	pg.Start()
	f.c = dial(t, pg.URL)
	sql(t, f.c, "INSERT INTO o VALUES (2)")
	f.sync()
	f.col.expect(t, "restarted", "c {id=1} null -> {id=1}", "c {id=2} null -> {id=2}")
}

// TestAudit: the audit's rows are what the log's replay gives.
func TestAudit(t *testing.T) {
	f := start(t, "CREATE TABLE o (id int PRIMARY KEY, n numeric(8,2)); INSERT INTO o SELECT g, g / 3.0 FROM generate_series(1, 500) g", "o")
	rep := newReplica(t)
	f.sink = rep.apply
	f.sync()
	sql(t, f.c, "UPDATE o SET n = n + 1 WHERE id % 2 = 0", "DELETE FROM o WHERE id % 3 = 0")
	a, err := f.src.AuditPoint(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	sql(t, f.c, "CREATE TABLE later (x int)")
	f.runUntil(context.Background(), func() bool { return f.src.Compare(streamKey, f.positions[streamKey], a.Positions()[streamKey]) >= 0 })
	n := 0
	for _, topic := range a.Topics() {
		err := a.Rows(context.Background(), topic, func(r connectors.Record) error {
			n++
			row := rep.tables[topic][show(r.Key.Schema, r.Key.Value)]
			if got, want := strings.Join(row, " "), strings.Join(texts(r.Change, r.Change.After), " "); got != want {
				t.Errorf("%s: the log has %q, the source %q", describe(r), got, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n != 334 {
		t.Errorf("%d rows", n)
	}
}

func TestValidate(t *testing.T) {
	url := testURL(t)
	c := dial(t, url)
	role := "r" + strings.TrimPrefix(defaultName(time.Now().Format("150405.000000000")), "forebay_")
	sql(t, c, "CREATE TABLE ok (id int PRIMARY KEY)", "CREATE TABLE nokey (id int)", "CREATE TABLE later (id int PRIMARY KEY DEFERRABLE)", "CREATE UNLOGGED TABLE fast (id int PRIMARY KEY)",
		"CREATE ROLE "+role+" LOGIN PASSWORD 'secret'")
	defer sql(t, c, "DROP ROLE "+role)
	text := func(s *source) string {
		var out []string
		for _, f := range s.Validate(context.Background()) {
			out = append(out, fmt.Sprintf("%v %s: %s (%s)", f.Warning, f.Path, f.Message, f.Hint))
		}
		return strings.Join(out, "\n")
	}
	if got := text(configure(t, url, []string{"ok"}, nil)); got != "" {
		t.Errorf("a good config: %s", got)
	}
	all := text(configure(t, url, []string{"ok", "nokey", "later", "fast", "public.nix"}, nil))
	for _, want := range []string{"no table matches public.nix", "true tables: public.nokey has no primary key", "true tables: public.later has no primary key (a DEFERRABLE", "REPLICA IDENTITY FULL", "public.fast is unlogged"} {
		if !strings.Contains(all, want) {
			t.Errorf("findings lack %q:\n%s", want, all)
		}
	}
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	low := fmt.Sprintf("postgres://%s:secret@%s:%d/%s", role, cfg.Host, cfg.Port, cfg.Database)
	lowly := text(configure(t, low, []string{"ok"}, nil))
	for _, want := range []string{"may not replicate", "ALTER ROLE", "may not read public.ok", "GRANT SELECT", "may not create it"} {
		if !strings.Contains(lowly, want) {
			t.Errorf("findings lack %q:\n%s", want, lowly)
		}
	}
	if gone := text(configure(t, "postgres://x:topsecret@127.0.0.1:1/x", []string{"ok"}, nil)); !strings.Contains(gone, "false url: ") || strings.Contains(gone, "topsecret") {
		t.Errorf("unreachable: %s", gone)
	}
}
