package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/sources/internal/cdc"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// gone is how long a run that nobody reads keeps its lock, in the middle of a COPY; between two, the keepalives end it.
const gone = 5 * time.Minute

// errGone says that a table to be read is not there.
var errGone = errors.New("the table is gone")

// tableRun reads rows of one table under one snapshot, in key order, chunk by
// chunk. While it lasts, a share lock keeps truncates and rewrites away: their
// effects are not bound to a snapshot.
type tableRun struct {
	tt    *trackedTable
	w     *wire
	shape *shape
	order keyOrder
	sql   string // of a chunk, up to the WHERE
	limit int
	begun time.Time
	lsn   LSN

	copying bool
	inChunk int
	texts   [][]byte
	lastKey [][]byte // of the last row that was handed over
	nextKey [][]byte
}

func (r *tableRun) close() error { return r.w.close() }

// readSnapshot fills b with rows of the pending tables. Whatever ends it, what
// was added is marked.
func (t *task) readSnapshot(ctx context.Context, b *connectors.Batch) error {
	var last []schema.Value // source block of the latest row in b
	unmarked := false
	defer func() {
		if unmarked {
			t.markCopying(b)
		}
	}()
	for len(t.pending) > 0 {
		tt := t.pending[0]
		if t.current == nil {
			switch err := t.beginRun(ctx, b, tt); {
			case errors.Is(err, errGone): // look waits for its return
				t.pending = t.pending[1:]
				t.leave(tt)
				t.addMarks(b)
				continue
			case err != nil:
				return err
			}
			last = nil
		}
		r := t.current
		if !r.copying {
			if err := r.ask(); err != nil {
				if unmarked {
					t.markCopying(b)
					unmarked = false
				}
				t.current = nil
				_ = r.close()
				return err
			}
		}
		n, done, err := t.readChunk(ctx, b, r, &last)
		unmarked = unmarked || n > 0
		switch {
		case err != nil:
			if unmarked {
				t.markCopying(b)
				unmarked = false
			}
			t.current = nil // the next Read begins a run behind the mark
			_ = r.close()
			return ctxErr(ctx, err)
		case !done: // b is full
			return nil
		case r.limit > 0 && r.inChunk == r.limit && time.Since(r.begun) < t.cfg.runTime:
			r.inChunk = 0
		case r.limit > 0 && r.inChunk == r.limit:
			// A new run sees newer rows, and lets vacuum and ALTER TABLE pass.
			t.markCopying(b)
			unmarked = false
			if err := t.endRun(ctx); err != nil {
				return err
			}
		default:
			t.markLast(last)
			t.finishTable(b, tt)
			unmarked = false
			if err := t.endRun(ctx); err != nil {
				return err
			}
			if b.Full() {
				return nil
			}
		}
	}
	return nil
}

// markLast says in the source block that no row of the table, or of the whole snapshot, follows.
func (t *task) markLast(block []schema.Value) {
	if block == nil {
		return
	}
	snap := cdc.SnapshotLastInCollection
	if len(t.pending) == 1 {
		snap = cdc.SnapshotLast
	}
	block[cdc.FieldSnapshot] = snap.Value()
}

// markCopying sets the table's position behind the last row in b.
func (t *task) markCopying(b *connectors.Batch) {
	r := t.current
	p := &r.tt.pos
	if len(r.lastKey) > 0 {
		upto := make([]string, len(r.lastKey))
		for i, k := range r.lastKey {
			upto[i] = string(k)
		}
		p.Runs[len(p.Runs)-1].Upto = upto
	}
	b.Mark(tableKey(r.tt.name), mustJSON(p), true)
}

// finishTable says that all rows are read; the stream goes on with the coverage.
func (t *task) finishTable(b *connectors.Batch, tt *trackedTable) {
	tt.pos.State = stateCopied
	tt.pos.Runs[len(tt.pos.Runs)-1].Upto = nil
	b.Mark(tableKey(tt.name), mustJSON(tt.pos), true)
	if len(tt.pos.Runs) > 1 {
		order := t.current.order
		tt.order = &order
	}
	if err := tt.covered(); err != nil {
		panic("postgres: a snapshot that was parsed before: " + err.Error())
	}
	t.covering, t.least = t.covering+1, 0
	t.pending = t.pending[1:]
}

func (t *task) endRun(ctx context.Context) error {
	r := t.current
	t.current = nil
	err := r.w.exec(ctx, "COMMIT")
	return errors.Join(err, r.close())
}

// beginRun opens a transaction, fixes what it sees, and decides where to go on.
func (t *task) beginRun(ctx context.Context, b *connectors.Batch, tt *trackedTable) error {
	c, err := t.connect(ctx, false)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			closeConn(c)
		}
	}()
	sn, snapText, horizon, err := t.fixSnapshot(ctx, c, tt.name)
	if err != nil {
		return err
	}
	info, err := t.loadTable(ctx, c, tt.name)
	if err != nil {
		return err
	}
	if info == nil {
		return errGone
	}
	files, err := relfilenodes(ctx, c, info.oid)
	if err != nil {
		return err
	}
	set := "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off"
	if len(info.key) > 0 { // the next run goes on behind it, also when it was only the log that took nothing for so long
		set += fmt.Sprintf("; SET LOCAL tcp_user_timeout = %d", gone.Milliseconds())
	}
	if err := exec(ctx, c, set); err != nil {
		return err
	}
	cols := make([]shapeColumn, len(info.columns))
	for i, ci := range info.columns {
		cols[i] = shapeColumn{name: ci.name, typ: ci.typ, typmod: ci.typmod}
	}
	sh, err := t.newShape(ctx, &t.types, t.conn, tt.name, cols, info.key)
	if err != nil {
		return err
	}
	r := &tableRun{tt: tt, shape: sh, begun: time.Now(), lsn: horizon, texts: make([][]byte, len(cols))}
	for _, i := range sh.keyCols {
		r.order.cols = append(r.order.cols, info.columns[i])
	}
	t.block.begin(time.Now(), sn.xmax, cdc.SnapshotTrue)
	t.continueAt(b, r, info, files)
	p := &tt.pos
	if n := len(p.Runs); n > 0 && p.Runs[n-1].Upto == nil {
		p.Runs = p.Runs[:n-1] // it read nothing
	}
	p.Runs = append(p.Runs, runPosition{Snap: snapText, Horizon: LSNText(horizon)})
	if len(sh.keyCols) > 0 {
		r.limit = t.cfg.chunkRows
	}
	r.sql = copySQL(info)
	if r.w, err = hijack(ctx, c, t.cfg.maxRow); err != nil {
		return err
	}
	keep = true
	t.current = r
	return nil
}

// continueAt keeps what is in the log of the table if this run can go on behind
// it, and otherwise begins anew: with a truncate first, which takes back the rows
// that were handed over. That is so when the table was truncated or rewritten
// between two runs, when its key is another or has another order, and for a table without a key.
func (t *task) continueAt(b *connectors.Batch, r *tableRun, info *tableInfo, files []uint32) {
	p := &r.tt.pos
	keys := r.shape.keyNames()
	same := p.State == stateCopying && p.Oid == info.oid && len(keys) > 0 && slices.Equal(p.Key, keys) && r.order.was(p.Order) && containsAll(files, p.Files)
	if same {
		p.Files = files
		return
	}
	again := p.Stale || p.Rows > 0
	gen := p.Gen
	if p.Rows > 0 { // a new generation; one that begins stale has been counted
		gen++
	}
	if again {
		src := t.block.source(b, r.shape, r.lsn)
		truncated(b, r.shape, src)
	}
	*p = tablePosition{V: 1, State: stateCopying, Gen: gen, Oid: info.oid, Joined: p.Joined, Key: keys, Order: r.order.names(), Files: files}
	if again {
		b.Mark(tableKey(r.tt.name), mustJSON(p), true)
	}
}

func containsAll(have, want []uint32) bool {
	for _, w := range want {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// fixSnapshot locks the table against truncates and rewrites and only then takes
// the transaction's snapshot. horizon is read after it: what the snapshot saw has
// committed before that place.
func (t *task) fixSnapshot(ctx context.Context, c *pgconn.PgConn, name tableName) (snapshot, string, LSN, error) {
	fail := func(err error) (snapshot, string, LSN, error) { return snapshot{}, "", 0, err }
	slow := time.Now().Add(10 * time.Second)
	for {
		err := exec(ctx, c, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL lock_timeout = '10s'; LOCK TABLE "+name.quoted()+" IN ACCESS SHARE MODE")
		switch sqlState(err) {
		case "":
		case "42501":
			return fail(connectors.Fatal(fmt.Errorf("read %s: %w", name, err), grantSelect(name)))
		case "42P01", "3F000":
			return fail(errGone)
		}
		if err != nil {
			return fail(fmt.Errorf("lock %s for reading: %w", name, err))
		}
		rows, err := query(ctx, c, "SELECT pg_catalog.pg_current_snapshot(), pg_catalog.pg_current_wal_insert_lsn()")
		if err != nil {
			return fail(err)
		}
		sn, err1 := parseSnapshot(string(rows[0][0]))
		at, err2 := ParseLSN(string(rows[0][1]))
		if err := errors.Join(err1, err2); err != nil {
			return fail(err)
		}
		// From its xmax on a snapshot lists nothing, and the newest of those that run may be there.
		if t.base == nil || sn.xmax >= t.base.xmax && !slices.ContainsFunc(sn.xip, t.base.sawFull) {
			return sn, string(rows[0][0]), at, nil
		}
		if time.Now().After(slow) {
			t.env.Logger.Warn("the snapshot waits for transactions that began before the slot was there; see pg_stat_activity", "table", name.String())
			slow = time.Now().Add(time.Minute)
		}
		if err := exec(ctx, c, "ROLLBACK"); err != nil {
			return fail(err)
		}
		if err := pause.For(ctx, 20*time.Millisecond); err != nil {
			return fail(err)
		}
	}
}

func grantSelect(name tableName) string {
	return "GRANT SELECT ON " + name.quoted() + " TO <user>;  GRANT USAGE ON SCHEMA " + quoteIdent(name.schema) + " TO <user>;"
}

// relfilenodes are the files of a table or of its partitions: a truncate or a
// rewrite gives it new ones.
func relfilenodes(ctx context.Context, c *pgconn.PgConn, oid uint32) ([]uint32, error) {
	o := strconv.FormatUint(uint64(oid), 10)
	rows, err := query(ctx, c, `SELECT pg_catalog.pg_relation_filenode(f) FROM
		(SELECT relid::oid AS f FROM pg_catalog.pg_partition_tree(`+o+`) WHERE isleaf UNION SELECT `+o+`::oid) x
		WHERE pg_catalog.pg_relation_filenode(f) IS NOT NULL ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	out := make([]uint32, 0, len(rows))
	for _, r := range rows {
		n, err := strconv.ParseUint(string(r[0]), 10, 32)
		if err != nil {
			return nil, err
		}
		out = append(out, uint32(n))
	}
	return out, nil
}

// copySQL is the SELECT of a chunk without its WHERE, ORDER BY and LIMIT.
func copySQL(info *tableInfo) string {
	names := info.columnNames()
	for i, n := range names {
		names[i] = quoteIdent(n)
	}
	sql := "SELECT " + strings.Join(names, ",") + " FROM " + info.from() + " WHERE true"
	if info.filter != "" {
		sql += " AND (" + info.filter + ")"
	}
	return sql
}

// ask sends for the next chunk.
func (r *tableRun) ask() error {
	sql := r.sql
	if r.limit > 0 {
		var after []string
		if runs := r.tt.pos.Runs; len(r.lastKey) > 0 {
			for _, k := range r.lastKey {
				after = append(after, string(k))
			}
		} else if len(runs) > 1 {
			after = runs[len(runs)-2].Upto
		}
		if after != nil {
			sql += " AND (" + r.order.greater(r.order.columns(), r.order.literals(after)) + ")"
		}
		sql += " ORDER BY " + r.order.by() + " LIMIT " + strconv.Itoa(r.limit)
	}
	r.copying = true
	return r.w.write(&pgproto3.Query{String: "COPY (" + sql + ") TO STDOUT"})
}

// readChunk takes rows until b is full or the chunk ends.
func (t *task) readChunk(ctx context.Context, b *connectors.Batch, r *tableRun, last *[]schema.Value) (n int, done bool, err error) {
	stop := r.w.until(ctx)
	defer stop()
	var failed error
	for {
		typ, body, err := r.w.peek()
		if large := (*oversize)(nil); errors.As(err, &large) {
			which := ""
			if len(r.lastKey) > 0 {
				which = fmt.Sprintf(" (the next after the key %q)", r.lastKey)
			}
			return n, false, t.rowTooLarge(r.tt.name, which, large)
		}
		if err != nil {
			return n, false, err
		}
		if typ == 'd' && b.Full() {
			return n, false, nil
		}
		r.w.r += 5 + len(body)
		switch typ {
		case 'd':
			block, err := t.addRow(b, r, body)
			if err != nil {
				return n, false, err
			}
			*last = block
			n++
		case 'E':
			failed = serverLimit(serverError(body), r.tt.name.String())
		case 'Z':
			r.copying = false
			return n, failed == nil, failed
		}
	}
}

// addRow adds one row of a COPY.
func (t *task) addRow(b *connectors.Batch, r *tableRun, line []byte) ([]schema.Value, error) {
	size := len(line)
	if err := splitCopyRow(b.Copy(line), r.texts); err != nil {
		return nil, fmt.Errorf("%s: %w", r.tt.name, err)
	}
	if len(r.nextKey) == 0 {
		r.nextKey = make([][]byte, len(r.shape.keyCols))
	}
	for i, c := range r.shape.keyCols {
		r.nextKey[i] = append(r.nextKey[i][:0], r.texts[c]...)
	}
	row, err := r.shape.decode(b, r.texts)
	if err != nil {
		return nil, err
	}
	src := t.block.source(b, r.shape, r.lsn)
	if r.tt.pos.Rows == 0 {
		snap := cdc.SnapshotFirstInCollection
		if t.first {
			snap = cdc.SnapshotFirst
		}
		src[cdc.FieldSnapshot] = snap.Value()
		t.first = false
	}
	emit(b, r.shape, connectors.OpRead, r.shape.keyOf(b, row), nil, row, src, size)
	r.lastKey, r.nextKey = r.nextKey, r.lastKey
	r.tt.pos.Rows++
	r.inChunk++
	return src, nil
}
