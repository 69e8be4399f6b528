package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
)

// keyOrders makes tables whose key has an order of its own. For most an operator that is written without its schema is another one, or none: the
// connection's search_path is empty.
const keyOrders = `
CREATE EXTENSION citext;
CREATE TABLE citexts (k citext COLLATE "C" PRIMARY KEY, rev int DEFAULT 1);
CREATE EXTENSION ltree;
CREATE TABLE ltrees (k ltree PRIMARY KEY, rev int DEFAULT 1);
CREATE DOMAIN word AS text COLLATE "C";
CREATE TABLE domains (k word COLLATE "und-x-icu" PRIMARY KEY, rev int DEFAULT 1);
CREATE DOMAIN caseless AS citext COLLATE "C";
CREATE TABLE alike (k caseless, l citext COLLATE "C" DEFAULT 'x', rev int DEFAULT 1, PRIMARY KEY (l, k));
CREATE TABLE mixed (k citext COLLATE "C", l int DEFAULT 1, m citext DEFAULT 'x', rev int DEFAULT 1, PRIMARY KEY (l, k, m));
CREATE TABLE bytes (k text COLLATE "und-x-icu" NOT NULL, rev int DEFAULT 1);
CREATE UNIQUE INDEX i ON bytes (k text_pattern_ops);
ALTER TABLE bytes REPLICA IDENTITY USING INDEX i;
CREATE FUNCTION backwards(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT pg_catalog.btint4cmp($2, $1)';
CREATE OPERATOR CLASS down FOR TYPE int USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 backwards(int, int);
CREATE TABLE backwards (k text, n int GENERATED ALWAYS AS IDENTITY NOT NULL, rev int DEFAULT 1);
CREATE UNIQUE INDEX j ON backwards (n down);
ALTER TABLE backwards REPLICA IDENTITY USING INDEX j`

// TestKeyOrders: chunks, runs and changes agree about the order of a key, whatever its type is and wherever its operators are.
func TestKeyOrders(t *testing.T) {
	tables := []string{"citexts", "ltrees", "domains", "alike", "mixed", "bytes", "backwards"}
	f := start(t, keyOrders, tables...)
	rep := newReplica(t)
	f.sink = rep.apply
	f.batch, f.src.cfg.chunkRows, f.src.cfg.runTime = 1, 2, 0 // a row at a time, a run for two of them
	change := func(s string) {
		var all []string
		for _, table := range tables {
			all = append(all, fmt.Sprintf(s, table))
		}
		sql(t, f.c, strings.Join(all, ";"))
	}
	change("INSERT INTO %s (k) VALUES ('a'), ('B'), ('c'), ('D'), ('e'), ('F'), ('g'), ('H'), ('i'), ('J'), ('k'), ('L')")
	changes := []string{
		"INSERT INTO %s (k) VALUES ('Ab'), ('X'), ('y')",
		"UPDATE %[1]s SET k = 'aA', rev = rev + 1 WHERE k = 'F'; UPDATE %[1]s SET k = 'Z', rev = rev + 1 WHERE k = 'D'",
		"UPDATE %s SET rev = rev + 1",
		"DELETE FROM %s WHERE k IN ('Ab', 'y', 'B')",
		"UPDATE %[1]s SET k = 'D', rev = rev + 1 WHERE k = 'Z'; UPDATE %[1]s SET k = 'F', rev = rev + 1 WHERE k = 'aA'",
		"DELETE FROM %[1]s WHERE k = 'X'; INSERT INTO %[1]s (k) VALUES ('B')",
	}
	pending := true
	for n := 0; pending && !t.Failed(); n++ {
		f.runUntil(t.Context(), func() bool {
			pending = len(f.task.(*task).pending) > 0
			return !pending || rep.events > 4*n
		})
		change(changes[n%len(changes)])
	}
	f.batch = 64 << 10
	f.sync()
	for _, table := range tables {
		compare(t, f.c, rep, table, "*")
	}
}

// TestOrderChanged: a key that gets another order between two runs is read from the start. So is one whose runs can no longer be told apart once they are
// all there: it has got another order, another name, or other columns, whose values in the stream say nothing of what a run has seen. Others go on.
func TestOrderChanged(t *testing.T) {
	for name, c := range map[string]struct {
		between, after string
		restart        bool
		again          int // how often the table is read anew
	}{
		"order":   {`ALTER TABLE o ALTER k TYPE text COLLATE "und-x-icu"`, `ALTER TABLE o ALTER k TYPE text COLLATE "C"`, true, 2},
		"name":    {"", "ALTER TABLE o RENAME k TO named", true, 1},
		"columns": {"", "ALTER TABLE o DROP CONSTRAINT o_pkey; ALTER TABLE o ADD PRIMARY KEY (n)", false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, `CREATE TABLE o (k text COLLATE "C" PRIMARY KEY, n text COLLATE "C" NOT NULL UNIQUE, rev int DEFAULT 1); ALTER TABLE o REPLICA IDENTITY FULL;
				INSERT INTO o SELECT k, 'z' || k FROM unnest('{a,B,c,D,e,F}'::text[]) k; CREATE TABLE other (id int PRIMARY KEY)`, "o", "other")
			rep := newReplica(t)
			f.sink = func(r connectors.Record) { f.col.add(r); rep.apply(r) }
			f.src.cfg.chunkRows = 2
			f.interrupt(2)
			sql(t, f.c, "UPDATE o SET rev = 2 WHERE k = 'B';"+c.between) // the later runs have it, that of B does not
			f.interrupt(2 + 1 + 2)
			f.runUntil(t.Context(), func() bool { return len(f.task.(*task).pending) == 0 })
			if c.between != "" {
				compare(t, f.c, rep, "o", "*")
			}
			if c.restart {
				f.kill()
			}
			sql(t, f.c, "INSERT INTO other VALUES (1);"+c.after)
			f.settle(f.again("o", c.again))
			compare(t, f.c, rep, "o", "*")
			compare(t, f.c, rep, "other", "*")
		})
	}
}
