package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
)

// settle reads until done says so and the log holds all that the server has now. What
// the source wants tried again is tried again, as the runtime does.
func (f *fixture) settle(done func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	at, err := ParseLSN(string(sql(f.t, f.c, "SELECT pg_current_wal_insert_lsn()")[0][0]))
	if err != nil {
		f.t.Fatal(err)
	}
	sql(f.t, f.c, "SELECT pg_logical_emit_message(false, 'forebay-test', 'x')")
	b := connectors.NewBatch(f.batch)
	for !done() || f.lsn() < at {
		if f.task == nil {
			err = f.open(ctx)
		} else {
			err = f.read(ctx, b, nil)
		}
		if ctx.Err() != nil {
			f.t.Fatalf("nothing is noticed; positions %s", f.positions)
		}
		if connectors.IsFatal(err) {
			f.t.Fatal(err)
		}
		if err != nil {
			f.close()
		}
	}
}

// again says whether a table has been read n times since its first reading, and streams.
func (f *fixture) again(table string, n int) func() bool {
	return func() bool {
		var p tablePosition
		key := tableKey(tableName{"public", table})
		if err := parsePosition(key, f.positions[key], &p, &p.V); err != nil {
			f.t.Fatal(err)
		}
		return p.Gen >= n && (p.State == stateCopied || p.State == stateDone)
	}
}

// TestAnotherTableOfTheName: a streamed table that becomes another one, or whose changes
// the publication has left out, is taken back and read anew: while the stream runs, and
// at the next start. Its changes are neither missing nor those of another table.
func TestAnotherTableOfTheName(t *testing.T) {
	t.Parallel()
	const swap = "BEGIN; ALTER TABLE @ RENAME TO @_old; ALTER TABLE @_other RENAME TO @; COMMIT"
	const drop, add = "ALTER PUBLICATION p DROP TABLE @", "ALTER PUBLICATION p ADD TABLE @"
	kinds := map[string][][]string{ // @ is the table
		"TABLE ": {
			{"BEGIN; CREATE TABLE @_new AS SELECT id + 1 AS id, v FROM @; DROP TABLE @; ALTER TABLE @_new RENAME TO @; ALTER TABLE @ ADD PRIMARY KEY (id); COMMIT", "INSERT INTO @ VALUES (7, 'new')"},
			{swap, "INSERT INTO @ VALUES (7, 'new')"},
			{drop, "INSERT INTO @ VALUES (7, 'unseen')"},
			{drop, "INSERT INTO @ VALUES (7, 'unseen')", add},
			{"ALTER TABLE @ RENAME TO @_old", "INSERT INTO @_old VALUES (7, 'unseen')", "ALTER TABLE @_old RENAME TO @"},
		},
		"ALL TABLES": {
			{"DROP TABLE @", "CREATE TABLE @ (id int PRIMARY KEY, v text)", "INSERT INTO @ VALUES (2, 'new')"},
			{swap},
			{swap, "UPDATE @ SET v = 'new'", "INSERT INTO @_old VALUES (8, 'not ours')"},
		},
	}
	for of, cases := range kinds {
		t.Run(of, func(t *testing.T) {
			t.Parallel()
			var tables []string
			var script strings.Builder
			for i := range 2 * len(cases) {
				o := fmt.Sprintf("o%d", i)
				tables = append(tables, o)
				script.WriteString(strings.ReplaceAll(`CREATE TABLE @ (id int PRIMARY KEY, v text); INSERT INTO @ VALUES (1, 'a'), (2, 'b');
					CREATE TABLE @_other (id int PRIMARY KEY, v text); INSERT INTO @_other VALUES (2, 'z'), (5, 'z');`, "@", o))
			}
			f := start(t, script.String(), tables...)
			if of == "TABLE " {
				of += strings.Join(tables, ", ")
			}
			sql(t, f.c, "CREATE PUBLICATION p FOR "+of)
			f.src.cfg.publication, f.src.cfg.heartbeat = "p", 20*time.Millisecond
			rep := newReplica(t)
			f.sink = rep.apply
			f.sync()
			change := func(o string, stmts []string) {
				for _, stmt := range stmts {
					sql(t, f.c, strings.ReplaceAll(stmt, "@", o))
				}
			}
			for i, o := range tables[:len(cases)] { // one after the other, while the source runs
				change(o, append([]string{"UPDATE @ SET v = 'bb' WHERE id = 2"}, cases[i]...))
				f.settle(f.again(o, 1))
				compare(t, f.c, rep, o, "id, v")
			}
			f.close()
			for i, o := range tables[len(cases):] {
				change(o, cases[i])
			}
			f.settle(f.again(tables[len(tables)-1], 1))
			for _, o := range tables {
				compare(t, f.c, rep, o, "id, v")
				change(o, []string{"INSERT INTO @ VALUES (9, 'last')", "UPDATE @ SET v = 'u' WHERE id = 2"})
			}
			f.settle(func() bool { return true })
			for _, o := range tables {
				compare(t, f.c, rep, o, "id, v")
				if f.again(o, 2)() {
					t.Errorf("%s was read once too often", o)
				}
			}
		})
	}
}

// TestTableThatIsGoneAndComesBack: while a table is not there the others go on; once
// there is one of its name it is read.
func TestTableThatIsGoneAndComesBack(t *testing.T) {
	t.Parallel()
	f := start(t, "CREATE TABLE o (id int PRIMARY KEY); INSERT INTO o VALUES (1); CREATE TABLE p (id int PRIMARY KEY)", "o", "p")
	f.src.cfg.heartbeat = 20 * time.Millisecond
	f.sync()
	f.col.lines = nil
	sql(t, f.c, "DROP TABLE o", "INSERT INTO p VALUES (1)")
	f.sync()
	f.col.expect(t, "gone", "c {id=1} null -> {id=1}")
	f.close()
	f.src.cfg.tables = append(f.src.cfg.tables, "q")
	sql(t, f.c, "CREATE TABLE q (id int PRIMARY KEY)", "INSERT INTO p VALUES (2)")
	if err := f.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	sql(t, f.c, "DROP TABLE q")
	f.sync()
	f.close()
	f.sync()
	f.col.expect(t, "gone at the start, and before its snapshot", "c {id=2} null -> {id=2}")
	sql(t, f.c, "CREATE TABLE o (id int PRIMARY KEY)", "INSERT INTO o VALUES (2)")
	f.settle(f.again("o", 1))
	f.col.expect(t, "back", "t - null -> null", "r {id=2} null -> {id=2}")

	// A position of an earlier version does not say which table it is of. It takes the
	// table that is there, and the next one is noticed.
	f.close()
	f.positions[tableKey(tableName{"public", "o"})] = connectors.Position(`{"v":1,"state":"done","gen":1}`)
	sql(t, f.c, "INSERT INTO o VALUES (3)")
	f.sync()
	f.close()
	f.col.expect(t, "an earlier version's", "c {id=3} null -> {id=3}")
	sql(t, f.c, "DROP TABLE o; CREATE TABLE o (id int PRIMARY KEY); ALTER PUBLICATION "+quoteIdent(f.src.cfg.publication)+" ADD TABLE o; INSERT INTO o VALUES (4)")
	f.settle(f.again("o", 2))
	f.col.expect(t, "another", "t - null -> null", "r {id=4} null -> {id=4}")
}

// TestTableThatBecomesAView: what is no table has no rows to read anew. It is waited for, as a table that is gone.
func TestTableThatBecomesAView(t *testing.T) {
	t.Parallel()
	f := start(t, "CREATE TABLE o (id int PRIMARY KEY); INSERT INTO o VALUES (1); CREATE TABLE p (id int PRIMARY KEY)", "o", "p")
	f.src.cfg.heartbeat = 20 * time.Millisecond
	f.sync()
	f.col.lines = nil
	looks := func() { // an error of the look ends the test
		t.Helper()
		since := time.Now()
		f.runUntil(t.Context(), func() bool { return f.task.(*task).looked.After(since) })
	}
	sql(t, f.c, "DROP TABLE o", "CREATE VIEW o AS SELECT 1 AS id", "INSERT INTO p VALUES (1)")
	looks()
	f.sync()
	f.close()
	sql(t, f.c, "DROP VIEW o", "CREATE MATERIALIZED VIEW o AS SELECT 1 AS id", "INSERT INTO p VALUES (2)")
	f.sync()
	looks()
	f.col.expect(t, "views", "c {id=1} null -> {id=1}", "c {id=2} null -> {id=2}")
	sql(t, f.c, "DROP MATERIALIZED VIEW o", "CREATE TABLE o (id int PRIMARY KEY)", "INSERT INTO o VALUES (2)")
	f.settle(f.again("o", 1))
	f.col.expect(t, "a table again", "t - null -> null", "r {id=2} null -> {id=2}")
}

// TestPublishedUnderAnotherName: a partition that the publication sends as its root, or a
// root that it sends as its partitions, has no rows under its own name in the stream. It is
// refused, each time, and the publication is left as it was.
func TestPublishedUnderAnotherName(t *testing.T) {
	t.Parallel()
	f := start(t, "CREATE TABLE r (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE r0 PARTITION OF r FOR VALUES IN (0)", "r")
	for pub, c := range map[string]struct{ published, viaRoot, table, want string }{
		"a": {"r", "true", "r0", "publishes public.r0 as public.r"},
		"b": {"r", "false", "r", "publishes public.r as its partitions"},
		"c": {"r0", "false", "r", "publishes public.r as its partitions"},
	} {
		sql(t, f.c, "CREATE PUBLICATION "+pub+" FOR TABLE "+c.published+" WITH (publish_via_partition_root = "+c.viaRoot+")")
		g := f.on(f.src.cfg.url, nil)
		g.src.cfg.tables, g.src.cfg.publication = []string{c.table}, pub
		g.openFails(c.want)
		g.openFails(c.want)
		var found []string
		for _, x := range g.src.Validate(context.Background()) {
			found = append(found, x.Path+": "+x.Message)
		}
		if len(found) != 1 || !strings.HasPrefix(found[0], "publication: ") || !strings.Contains(found[0], c.want) {
			t.Errorf("Validate finds %q", found)
		}
	}
	if n := sql(t, f.c, "SELECT count(*) FROM pg_publication_rel")[0][0]; string(n) != "3" {
		t.Errorf("the publications have %s tables, not 3", n)
	}
}

// TestRowsThatAlterTableChanges: PostgreSQL sends nothing for them. A warning says so, once,
// and what it advises helps.
func TestRowsThatAlterTableChanges(t *testing.T) {
	t.Parallel()
	f := start(t, "CREATE TABLE o (id int PRIMARY KEY, v int); INSERT INTO o VALUES (1, 10), (2, 20)", "o")
	f.src.cfg.heartbeat = 20 * time.Millisecond
	var log strings.Builder
	f.src.env.Logger = slog.New(slog.NewTextHandler(&log, nil))
	rep := newReplica(t)
	f.sink = rep.apply
	warned := func(change, column string) {
		t.Helper()
		sql(t, f.c, change, "UPDATE o SET v = v WHERE id = 1")
		f.sync()
		sql(t, f.c, "UPDATE o SET v = v WHERE id = 1")
		f.sync()
		want := 1
		if column == "" {
			want = 0
		}
		if n := strings.Count(log.String(), "no events"); n != want || !strings.Contains(log.String(), "column="+column) && column != "" {
			t.Errorf("after %s, %d warnings: %s", change, n, log.String())
		}
		log.Reset()
	}
	warned("SELECT 1", "")
	warned("ALTER TABLE o ADD plain text", "")
	warned("ALTER TABLE o DROP plain", "")
	warned("ALTER TABLE o ADD extra int NOT NULL DEFAULT 7", "extra")
	warned("ALTER TABLE o ALTER v TYPE text USING 'n' || v", "v")
	sql(t, f.c, "CREATE UNIQUE INDEX i ON o (v, id); ALTER TABLE o ALTER v SET NOT NULL; ALTER TABLE o REPLICA IDENTITY USING INDEX i; INSERT INTO o VALUES (3, 'n')")
	f.settle(func() bool { return strings.Contains(log.String(), "another key") })
	if !strings.Contains(log.String(), "old=[id] new=\"[v id]\"") {
		t.Errorf("another key: %s", log.String())
	}
	if row := rep.tables["shop.public.o"]["{id=2}"]; strings.Join(row, " ") != "2 20" {
		t.Errorf("the other row is %v", row)
	}
	sql(t, f.c, "ALTER PUBLICATION "+quoteIdent(f.src.cfg.publication)+" DROP TABLE o")
	f.settle(f.again("o", 1))
	compare(t, f.c, rep, "o", "*")
}
