package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/jackc/pgx/v5/pgconn"
)

// identify gives the cluster's system identifier and the timeline that the server writes.
func identify(ctx context.Context, repl *pgconn.PgConn) (system string, timeline uint32, err error) {
	rows, err := query(ctx, repl, "IDENTIFY_SYSTEM")
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(string(rows[0][1]), 10, 32)
	return string(rows[0][0]), uint32(n), err
}

// sameHistory makes sure that the server's WAL holds what the positions say was read.
// One that lacks the end of it (a volume that was restored, a standby that took over
// before it had everything) would skip its own transactions up to there: it sends
// none that commits before the position. The end of WAL shows it at first; once WAL
// has passed the position, only the place where the timelines part does.
//
// It sets t.until: the end of what the positions' server and this one have in common.
func (t *task) sameHistory(ctx context.Context, repl *pgconn.PgConn) error {
	system, timeline, err := identify(ctx, repl)
	if err != nil {
		return err
	}
	if t.slot.System != "" && t.slot.System != system {
		return connectors.Fatal(fmt.Errorf("the positions are of another PostgreSQL cluster (system identifier %s, this one has %s)", t.slot.System, system),
			"a restored or copied cluster needs a new snapshot: reset the source's positions; one that pg_upgrade has made does not, see docs/operations.md")
	}
	// Where it inserts, as no sender has read further; what is flushed may lag.
	if t.until, err = insertLSN(ctx, repl); err != nil {
		return err
	}
	why := fmt.Sprintf("the server's WAL ends at %s", t.until)
	was := t.slot.Timeline
	if was != 0 && was != timeline {
		at, err := leftTimeline(ctx, repl, was, timeline)
		if err != nil {
			return err
		}
		why = fmt.Sprintf("the server, of timeline %d, has timeline %d only up to %s", timeline, was, at)
		t.until = min(t.until, at)
	}
	reached := max(LSN(t.pos.LSN), LSN(t.pos.Tx)+1) // Tx is where a record starts
	if reached > t.until {
		return connectors.Fatal(fmt.Errorf("the log holds the changes up to %s, and %s: it was restored from an older state, or has taken over before it had everything, and would skip what it commits up to there", reached, why),
			fmt.Sprintf("give the address of the server that has the rest; to begin anew with a snapshot of this one: SELECT pg_drop_replication_slot(%s);  and reset the source's positions", quoteLit(t.cfg.slot)))
	}
	if t.slot.V != 0 && was != timeline {
		t.slot.Timeline = timeline
		t.mark(slotKey, mustJSON(t.slot))
	}
	return nil
}

// leftTimeline says where the history of timeline now leaves timeline was; 0 when it has never been on it.
func leftTimeline(ctx context.Context, repl *pgconn.PgConn, was, now uint32) (LSN, error) {
	if now == 1 { // the first one has no history
		return 0, nil
	}
	rows, err := query(ctx, repl, fmt.Sprintf("TIMELINE_HISTORY %d", now))
	if err != nil {
		return 0, fmt.Errorf("read the history of timeline %d: %w", now, err)
	}
	return switchPoint(string(rows[0][1]), was)
}

// switchPoint finds a timeline in a history file: lines of a timeline, where it was left, and why.
func switchPoint(history string, timeline uint32) (LSN, error) {
	for line := range strings.Lines(history) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		n, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil || len(f) < 2 {
			return 0, fmt.Errorf("%q is not a line of a timeline's history", line)
		}
		if uint32(n) == timeline {
			return ParseLSN(f[1])
		}
	}
	return 0, nil
}

// insertLSN is where the server inserts WAL.
func insertLSN(ctx context.Context, c *pgconn.PgConn) (LSN, error) {
	rows, err := query(ctx, c, "SELECT pg_catalog.pg_current_wal_insert_lsn()")
	if err != nil {
		return 0, err
	}
	return ParseLSN(string(rows[0][0]))
}
