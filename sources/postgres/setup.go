package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/jackc/pgx/v5/pgconn"
)

const hintReplication = "ALTER ROLE <user> REPLICATION;  (on RDS: GRANT rds_replication TO <user>)"

// lockWait is how long a lock on a user's table may stand in the queue, where it
// holds others up.
const lockWait = 3 * time.Second

// patience is how long Open waits for a slot that another connection still
// holds: our own, before a kill, mostly.
const patience = 20 * time.Second

// checkServer says what a server must have before anything is made on it.
func checkServer(ctx context.Context, c *pgconn.PgConn) error {
	if v := version(c); v < 120000 {
		return connectors.Fatal(fmt.Errorf("the server is PostgreSQL %s; 12 or later is needed", c.ParameterStatus("server_version")), "")
	}
	rows, err := query(ctx, c, `SELECT current_setting('wal_level'), pg_is_in_recovery()`)
	if err != nil {
		return err
	}
	if string(rows[0][1]) == "t" {
		// A failover is under way, as a rule: it is tried again.
		return errors.New("the server is a standby, which cannot be streamed from; give the address of the primary if it stays one")
	}
	if l := string(rows[0][0]); l != "logical" {
		return connectors.Fatal(fmt.Errorf("wal_level is %s, logical decoding needs logical", l), hintWalLevel)
	}
	return nil
}

const hintWalLevel = "ALTER SYSTEM SET wal_level = logical;  then restart the server (on RDS: rds.logical_replication = 1)"

// member is a table as the publication has it now.
type member struct{ oid, joined, publication uint32 }

// is says whether a position's table is m: the same one, in the publication ever since.
func (p *tablePosition) is(m member) bool {
	return m.oid != 0 && (p.Oid == 0 || p.Oid == m.oid) && (p.Joined == 0 || p.Joined == m.joined)
}

// members are the tables that the publication has, under the names that it gives
// them: a partition that is published as its root is not among them.
func (s *source) members(ctx context.Context, c *pgconn.PgConn) (map[tableName]member, error) {
	rows, err := query(ctx, c, `SELECT t.schemaname, t.tablename, c.oid,
			coalesce((SELECT r.oid FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid), p.oid), p.oid
		FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_tables t ON t.pubname = p.pubname
			JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
			JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
		WHERE p.pubname = `+quoteLit(s.cfg.publication))
	if err != nil {
		return nil, fmt.Errorf("list the tables of publication %s: %w", s.cfg.publication, err)
	}
	now := map[tableName]member{}
	for _, r := range rows {
		oid, err1 := strconv.ParseUint(string(r[2]), 10, 32)
		joined, err2 := strconv.ParseUint(string(r[3]), 10, 32)
		publication, err3 := strconv.ParseUint(string(r[4]), 10, 32)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, err
		}
		now[tableName{string(r[0]), string(r[1])}] = member{uint32(oid), uint32(joined), uint32(publication)}
	}
	return now, nil
}

// ensurePublication adopts or creates the publication and adds the tables that
// it lacks. It returns the tables that it held before; nil when it was not there.
//
// A table joins under a lock that writers wait for: a transaction that wrote to
// it before would be decoded by the catalog of that time, without the table in the
// publication, and yet commit after the table's snapshot. Without slotExists
// the slot is yet to be made, which waits for such transactions by itself.
func (s *source) ensurePublication(ctx context.Context, c *pgconn.PgConn, tables []tableName, slotExists bool, logf func(string, ...any)) (had map[tableName]member, err error) {
	pub := s.cfg.publication
	rows, err := query(ctx, c, `SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_catalog.pg_publication WHERE pubname = `+quoteLit(pub))
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		sql := createPublication(pub, tables)
		return had, s.lockedDDL(ctx, c, sql, lockList(tables, slotExists), logf)
	}
	for i, what := range []string{"insert", "update", "delete", "truncate"} {
		if string(rows[0][1+i]) != "t" {
			logf("publication %s does not publish %s: those changes will not be seen", pub, what)
		}
	}
	if had, err = s.members(ctx, c); err != nil {
		return nil, err
	}
	var add []tableName
	for _, t := range tables {
		if had[t].oid == 0 {
			add = append(add, t)
		}
	}
	if len(add) == 0 {
		return had, nil
	}
	for _, t := range add {
		if err := s.published(ctx, c, t, had, string(rows[0][5]) == "t"); err != nil {
			return nil, err
		}
	}
	return had, s.lockedDDL(ctx, c, addTables(pub, add), lockList(add, slotExists), logf)
}

// published refuses a table whose rows the publication would not send under its
// name, even if it were put in: a partition of a table that is in it and published as
// such, and a partitioned table that is published as its partitions.
func (s *source) published(ctx context.Context, c *pgconn.PgConn, t tableName, had map[tableName]member, viaRoot bool) error {
	rows, err := query(ctx, c, `SELECT n.nspname, r.relname, r.relkind FROM pg_catalog.pg_partition_ancestors(pg_catalog.to_regclass(`+quoteLit(t.quoted())+`)) a
		JOIN pg_catalog.pg_class r ON r.oid = a.relid JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace`)
	if err != nil {
		return fmt.Errorf("look up what %s is a partition of: %w", t, err)
	}
	pub := s.cfg.publication
	set := "ALTER PUBLICATION " + quoteIdent(pub) + " SET (publish_via_partition_root = "
	for _, r := range rows { // the table itself is among them
		of := tableName{string(r[0]), string(r[1])}
		switch {
		case of == t && string(r[2]) == "p" && !viaRoot:
			return connectors.Fatal(fmt.Errorf("publication %s publishes %s as its partitions", pub, t), set+"true);  or name the partitions in tables")
		case of != t && had[of].oid != 0 && viaRoot:
			return connectors.Fatal(fmt.Errorf("publication %s publishes %s as %s, of which it is a partition", pub, t, of),
				"name "+of.String()+" in tables, or take it out of the publication, or "+set+"false)")
		}
	}
	return nil
}

func createPublication(pub string, tables []tableName) string {
	return "CREATE PUBLICATION " + quoteIdent(pub) + " FOR TABLE " + quotedList(tables) + " WITH (publish_via_partition_root = true)"
}

func addTables(pub string, tables []tableName) string {
	return "ALTER PUBLICATION " + quoteIdent(pub) + " ADD TABLE " + quotedList(tables)
}

func lockList(tables []tableName, slotExists bool) string {
	if !slotExists {
		return ""
	}
	return quotedList(tables)
}

func quotedList(tables []tableName) string {
	q := make([]string, len(tables))
	for i, t := range tables {
		q[i] = t.quoted()
	}
	return strings.Join(q, ", ")
}

// lockedDDL runs sql once the tables are locked against writers. It asks for the
// lock for a moment only, again and again, so that nobody queues behind it for long.
func (s *source) lockedDDL(ctx context.Context, c *pgconn.PgConn, sql, locked string, logf func(string, ...any)) error {
	begin := fmt.Sprintf("BEGIN; SET LOCAL lock_timeout = %d;", lockWait.Milliseconds())
	if locked != "" {
		begin += " LOCK TABLE " + locked + " IN SHARE ROW EXCLUSIVE MODE;"
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := exec(ctx, c, begin+sql+"; COMMIT")
		if err == nil {
			return nil
		}
		if rerr := exec(ctx, c, "ROLLBACK"); rerr != nil {
			return rerr
		}
		switch sqlState(err) {
		case "55P03": // lock_not_available
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: the tables are locked by long transactions (see pg_stat_activity): %w", sql, err)
			}
			logf("waiting for writers of %s", locked)
			if err := pause.For(ctx, time.Second); err != nil {
				return err
			}
		case "42501":
			return connectors.Fatal(fmt.Errorf("%s: %w", sql, err), "run it as the tables' owner or a superuser: "+sql+";")
		case "22023", "55000": // which of the tables, is in the message; why, depends on the version and is in the detail
			var p *pgconn.PgError
			errors.As(err, &p)
			return connectors.Fatal(fmt.Errorf("%w: %s", err, p.Detail), "the changes of an unlogged table are not in the WAL: ALTER TABLE <table> SET LOGGED;  or take the table out of tables in the config")
		case "42710": // made by somebody else meanwhile
			return err
		default:
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
}

// slotInfo is what pg_replication_slots says.
type slotInfo struct {
	plugin, database, walStatus, why string
	activePID                        string // "" when nobody uses it
	confirmed                        LSN
	failover                         bool // a standby that takes over has it, if it is set up for that (17 and later)
}

func (s *source) slotInfo(ctx context.Context, c *pgconn.PgConn) (*slotInfo, error) {
	status, why, failover := "'reserved'", "''", "false"
	if version(c) >= 130000 {
		status = "coalesce(wal_status, '')"
	}
	if version(c) >= 170000 {
		why, failover = "coalesce(invalidation_reason, '')", "failover"
	}
	rows, err := query(ctx, c, `SELECT coalesce(plugin,''), coalesce(database,''), coalesce(active_pid::text,''), coalesce(confirmed_flush_lsn::text,'0/0'), `+status+`, `+why+`, `+failover+
		` FROM pg_catalog.pg_replication_slots WHERE slot_name = `+quoteLit(s.cfg.slot))
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	r := rows[0]
	at, err := ParseLSN(string(r[3]))
	if err != nil {
		return nil, err
	}
	return &slotInfo{plugin: string(r[0]), database: string(r[1]), activePID: string(r[2]), confirmed: at, walStatus: string(r[4]), why: string(r[5]), failover: string(r[6]) == "t"}, nil
}

// usable says whether a slot can serve, with or without positions.
func (s *source) usable(i *slotInfo, db string) error {
	name := s.cfg.slot
	switch {
	case i.plugin != "pgoutput":
		return connectors.Fatal(fmt.Errorf("slot %s is of plugin %q, pgoutput is needed", name, i.plugin), "name another slot in the config, or drop this one")
	case i.database != db:
		return connectors.Fatal(fmt.Errorf("slot %s belongs to database %q, not to %q", name, i.database, db), "name another slot in the config")
	case i.walStatus == "lost" || i.why != "":
		return s.lost(fmt.Sprintf("the server has invalidated it (wal_status %s %s)", i.walStatus, i.why))
	}
	return nil
}

// lost is the error for changes that nobody can give us any more: never skipped in silence.
func (s *source) lost(why string) error {
	return connectors.Fatal(fmt.Errorf("slot %s is lost: %s; the changes since the last position cannot be read", s.cfg.slot, why),
		fmt.Sprintf("raise max_slot_wal_keep_size; to begin anew with a snapshot: SELECT pg_drop_replication_slot(%s);  and reset the source's positions", quoteLit(s.cfg.slot)))
}

// newSlot is a slot just made.
type newSlot struct {
	at       LSN
	snapshot string // name of the exported snapshot
}

// tooLarge is the server's answer when so many subtransactions are open that a
// snapshot cannot be exported ("initial slot snapshot too large"). It passes with them.
const tooLarge = "40001"

// createSlot makes a slot on a replication connection; the exported snapshot
// lives until that connection's next command.
func createSlot(ctx context.Context, repl *pgconn.PgConn, name string, temporary bool) (newSlot, error) {
	v := version(repl)
	var rows [][][]byte
	var err error
	for try := 1; ; try++ {
		rows, err = query(ctx, repl, slotSQL(v, name, temporary, true))
		if sqlState(err) != tooLarge || try == 20 {
			break
		}
		if try == 4 && !temporary { // the slot matters more than its snapshot, see baseSnapshot
			rows, err = query(ctx, repl, slotSQL(v, name, temporary, false))
			break
		}
		if err := pause.For(ctx, 100*time.Millisecond); err != nil {
			return newSlot{}, err
		}
	}
	if err != nil {
		switch sqlState(err) {
		case "53400":
			return newSlot{}, fmt.Errorf("make slot %s: %w (raise max_replication_slots on the server, or drop slots that nobody uses)", name, err)
		case "42501":
			return newSlot{}, connectors.Fatal(fmt.Errorf("make slot %s: %w", name, err), hintReplication)
		}
		return newSlot{}, fmt.Errorf("make slot %s: %w", name, err)
	}
	at, err := ParseLSN(string(rows[0][1]))
	return newSlot{at: at, snapshot: string(rows[0][2])}, err
}

// slotSQL is the command that makes a slot. From 17 on a slot says of itself whether standbys are to keep a
// copy, so that the source goes on after a failover; where none is set up for it this does nothing.
func slotSQL(version int, name string, temporary, export bool) string {
	sql := "CREATE_REPLICATION_SLOT " + quoteIdent(name)
	snapshot := map[bool]string{true: "export", false: "nothing"}[export]
	switch {
	case version >= 170000 && !temporary:
		return sql + " LOGICAL pgoutput (SNAPSHOT '" + snapshot + "', FAILOVER true)"
	case temporary:
		sql += " TEMPORARY"
	}
	return sql + " LOGICAL pgoutput " + map[bool]string{true: "EXPORT_SNAPSHOT", false: "NOEXPORT_SNAPSHOT"}[export]
}

// staysBehind says how a slot is mended that no standby keeps; "" where it is right, or the server knows no such thing.
func (i *slotInfo) staysBehind(version int, slot string) string {
	if i == nil || i.failover || version < 170000 {
		return ""
	}
	return `psql "<url>?replication=database" -c 'ALTER_REPLICATION_SLOT ` + quoteIdent(slot) + ` (FAILOVER true)'  while the source is stopped`
}

// importSnapshot begins a transaction on c that sees what the exported snapshot sees.
func importSnapshot(ctx context.Context, c *pgconn.PgConn, name string) error {
	return exec(ctx, c, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT "+quoteLit(name))
}

// baseSnapshot says which transactions a new slot's consistent point has behind
// it. A transaction may have its commit record in the log and still count as
// running, while it waits for its disk or for a synchronous standby: the slot
// will not send it, so a snapshot that does not see it yet must wait.
func (s *source) baseSnapshot(ctx context.Context, sl newSlot) (string, error) {
	c, err := s.connect(ctx, false)
	if err != nil {
		return "", err
	}
	defer closeConn(c)
	if sl.snapshot == "" {
		return everything(ctx, c)
	}
	if err := importSnapshot(ctx, c, sl.snapshot); err != nil {
		return "", fmt.Errorf("use the slot's snapshot: %w", err)
	}
	rows, err := query(ctx, c, "SELECT pg_catalog.pg_current_snapshot()")
	if err != nil {
		return "", err
	}
	return string(rows[0][0]), nil
}

// everything is a base that is always enough, and slower: every transaction that
// has begun by now must have ended. It serves for a slot that was there before us.
// A snapshot's xmax would not do: the newest of those that run may be above it.
func everything(ctx context.Context, c *pgconn.PgConn) (string, error) {
	rows, err := query(ctx, c, "SELECT pg_catalog.pg_current_xact_id()")
	if err != nil {
		return "", err
	}
	x := string(rows[0][0])
	return x + ":" + x + ":", nil
}

// settled gives a place in the WAL from which everything is decoded with what the catalog
// has now, and a base of what commits before it. pgoutput looks the publication up as of
// a transaction's own changes, and an error is its answer where that was not there yet:
// so all that have begun by now must have ended.
func (s *source) settled(ctx context.Context, c *pgconn.PgConn) (at LSN, base string, err error) {
	if base, err = everything(ctx, c); err != nil {
		return 0, "", err
	}
	x, err := parseSnapshot(base)
	if err != nil {
		return 0, "", err
	}
	slow := time.Now().Add(10 * time.Second)
	for {
		rows, err := query(ctx, c, "SELECT pg_catalog.pg_current_snapshot()")
		if err != nil {
			return 0, "", err
		}
		now, err := parseSnapshot(string(rows[0][0]))
		if err != nil {
			return 0, "", err
		}
		if now.xmin >= x.xmax {
			break
		}
		if time.Now().After(slow) {
			s.env.Logger.Warn("the source waits for transactions that began before its publication and its slot were there; see pg_stat_activity")
			slow = time.Now().Add(time.Minute)
		}
		if err := pause.For(ctx, 20*time.Millisecond); err != nil {
			return 0, "", err
		}
	}
	if at, err = insertLSN(ctx, c); err != nil {
		return 0, "", err
	}
	base, err = everything(ctx, c) // those of which the commit record lies before at, and which wait
	return at, base, err
}

// temporaryName is free of other processes' temporary slots.
func temporaryName(slot string) string {
	n := fmt.Sprintf("_%x", uint64(time.Now().UnixNano()))
	return slot[:min(len(slot), 63-len(n))] + n
}
