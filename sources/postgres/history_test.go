package postgres

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/testenv"
)

// on is the fixture's source with another server behind its address.
func (f *fixture) on(url string, positions map[connectors.PositionKey]connectors.Position) *fixture {
	f.t.Helper()
	g := &fixture{c: dial(f.t, url), col: &collect{}, src: configure(f.t, url, f.src.cfg.tables, map[string]any{"slot": f.src.cfg.slot})}
	g.logbook = newLogbook(f.t, g.src, g.col.add)
	g.positions = maps.Clone(positions)
	f.t.Cleanup(g.close)
	return g
}

// moreWAL makes the server's WAL longer by n segments.
func (f *fixture) moreWAL(n int) {
	f.t.Helper()
	for range n {
		sql(f.t, f.c, "SELECT pg_logical_emit_message(false, 'forebay-test', 'x')", "SELECT pg_switch_wal()")
	}
}

// TestServerThatIsBehind: a server whose history does not hold what the log has read
// would skip its own transactions up to there. It is refused: a volume that was
// restored, a standby that had lagged and whose WAL has passed the position since, the
// old primary. A failover that lost nothing goes on; a standby is tried again.
func TestServerThatIsBehind(t *testing.T) {
	t.Parallel()
	old := testenv.NewPostgres(t)
	f := &fixture{c: dial(t, old.URL), col: &collect{}, src: configure(t, old.URL, []string{"o"}, nil)}
	f.logbook = newLogbook(t, f.src, f.col.add)
	sql(t, f.c, "CREATE TABLE o (id int PRIMARY KEY)")
	f.sync()
	f.close()
	before := f.positions
	old.Stop()
	lagging := old.Copy()
	old.Start()
	f = f.on(old.URL, before)
	f.moreWAL(1)
	sql(t, f.c, "INSERT INTO o VALUES (1)")
	f.sync()
	f.close()
	f.col.expect(t, "old primary", "c {id=1} null -> {id=1}")

	lagging.Start()
	g := f.on(lagging.URL, f.positions)
	sql(t, g.c, "INSERT INTO o VALUES (2)")
	g.openFails("ends at")

	lagging.Stop()
	lagging.Standby()
	lagging.Start()
	g = f.on(lagging.URL, f.positions)
	if err := g.open(context.Background()); err == nil || connectors.IsFatal(err) || !strings.Contains(err.Error(), "standby") {
		t.Errorf("a standby: %v", err)
	}
	if err := (&task{source: g.src}).startStream(t.Context()); err == nil || connectors.IsFatal(err) {
		t.Errorf("a standby, once the task is open: %v", err)
	}
	if found := g.src.Validate(context.Background()); len(found) == 0 || !strings.Contains(found[0].Message, "standby") {
		t.Errorf("a standby is found to be %v", found)
	}
	sql(t, g.c, "SELECT pg_promote()")
	g.moreWAL(2)
	g.openFails("timeline")

	g = f.on(lagging.URL, before)
	g.sync()
	sql(t, g.c, "INSERT INTO o VALUES (3)")
	g.sync()
	// At the very end of WAL, of a segment that was switched early.
	end, err := ParseLSN(string(sql(t, g.c, "SELECT pg_logical_emit_message(false, 'forebay-test', 'x')", "SELECT pg_switch_wal()", "SELECT pg_current_wal_insert_lsn()")[0][0]))
	if err != nil {
		t.Fatal(err)
	}
	end &^= 16<<20 - 1
	g.runUntil(context.Background(), func() bool { return g.lsn() >= end })
	g.close()
	g.sync()
	g.close()
	g.col.expect(t, "failover", "c {id=2} null -> {id=2}", "c {id=3} null -> {id=3}")

	f = f.on(old.URL, g.positions)
	f.moreWAL(2)
	f.openFails("timeline")
}

func TestSwitchPoint(t *testing.T) {
	const history = "1\t0/3000148\tno recovery target specified\n\n# a comment\n2\t1/A0\tbefore 2026-11-30 08:00:00+00\n"
	for timeline, want := range map[uint32]LSN{1: 0x3000148, 2: 0x1000000A0, 3: 0} {
		if at, err := switchPoint(history, timeline); at != want || err != nil {
			t.Errorf("timeline %d is left at %s, %v", timeline, at, err)
		}
	}
	for _, bad := range []string{"x\t0/1\n", "1\n", "1 zero"} {
		if at, err := switchPoint(bad, 1); err == nil {
			t.Errorf("%q is taken for %s", bad, at)
		}
	}
}
