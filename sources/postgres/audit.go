package postgres

import (
	"context"
	"fmt"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sources/internal/cdc"
	"github.com/jackc/pgx/v5/pgconn"
)

// auditBatch is how many bytes of rows Rows holds at a time.
const auditBatch = 1 << 20

// auditPoint is the database as a temporary slot's exported snapshot shows it. The
// transaction that imported it keeps it; the slot is not needed after that.
type auditPoint struct {
	*source
	at     LSN
	conn   *pgconn.PgConn // in the snapshot's transaction
	types  types
	tables []*tableInfo
}

// Copying names a table whose snapshot is not over.
func (s *source) Copying(positions map[connectors.PositionKey]connectors.Position) string {
	return cdc.Copying(positions, tablePrefix)
}

// AuditPoint makes a temporary slot: its consistent point and its snapshot belong
// together, so a log that has the stream up to the one holds the other.
func (s *source) AuditPoint(ctx context.Context) (connectors.AuditPoint, error) {
	repl, err := s.connect(ctx, true)
	if err != nil {
		return nil, err
	}
	defer closeConn(repl)
	sl, err := createSlot(ctx, repl, temporaryName(s.cfg.slot), true)
	if err != nil {
		return nil, err
	}
	c, err := s.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	a := &auditPoint{source: s, at: sl.at, conn: c}
	if err := a.load(ctx, sl); err != nil {
		closeConn(c)
		return nil, err
	}
	return a, nil
}

func (a *auditPoint) load(ctx context.Context, sl newSlot) error {
	if err := importSnapshot(ctx, a.conn, sl.snapshot); err != nil {
		return fmt.Errorf("use the slot's snapshot: %w", err)
	}
	names, _, err := a.matchTables(ctx, a.conn)
	if err != nil {
		return err
	}
	for _, n := range names {
		t, err := a.loadTable(ctx, a.conn, n)
		if err != nil {
			return err
		}
		if t != nil {
			a.tables = append(a.tables, t)
		}
	}
	return nil
}

// Positions: the stream has passed the point when its LSN is not before it.
func (a *auditPoint) Positions() map[connectors.PositionKey]connectors.Position {
	return map[connectors.PositionKey]connectors.Position{
		streamKey: appendStream(nil, streamPosition{V: 1, LSN: LSNText(a.at)}),
	}
}

func (a *auditPoint) Topics() []string {
	var out []string
	for _, t := range a.tables {
		out = append(out, a.topic(t.name))
	}
	return out
}

// Rows yields a topic's rows in key order, made by the same decoders as the
// task's. A record and its bytes are valid during fn only.
func (a *auditPoint) Rows(ctx context.Context, topic string, fn func(connectors.Record) error) error {
	for _, t := range a.tables {
		if a.topic(t.name) == topic {
			return a.rows(ctx, t, fn)
		}
	}
	return fmt.Errorf("the audit does not cover topic %s", topic)
}

func (a *auditPoint) rows(ctx context.Context, info *tableInfo, fn func(connectors.Record) error) error {
	cols := make([]shapeColumn, len(info.columns))
	for i, c := range info.columns {
		cols[i] = shapeColumn{name: c.name, typ: c.typ, typmod: c.typmod}
	}
	conn := func(context.Context) (*pgconn.PgConn, error) { return a.conn, nil }
	sh, err := a.newShape(ctx, &a.types, conn, info.name, cols, info.key)
	if err != nil {
		return err
	}
	sql := copySQL(info)
	if len(sh.keyCols) > 0 {
		var o keyOrder
		for _, i := range sh.keyCols {
			o.cols = append(o.cols, info.columns[i])
		}
		sql += " ORDER BY " + o.by()
	}
	c := rowCopy{t: &task{source: a.source, block: newBlock(a.env.Name, "")}, b: connectors.NewBatch(auditBatch), fn: fn}
	c.t.block.base[cdc.FieldSnapshot] = cdc.SnapshotTrue.Value()
	c.r = &tableRun{tt: &trackedTable{name: info.name}, shape: sh, lsn: a.at, texts: make([][]byte, len(cols))}
	if _, err := a.conn.CopyTo(ctx, &c, "COPY ("+sql+") TO STDOUT"); err != nil {
		return fmt.Errorf("read %s: %w", info.name, err)
	}
	return c.flush()
}

// rowCopy takes COPY's rows: pgconn writes one CopyData message at a time, which is one row.
type rowCopy struct {
	t  *task
	r  *tableRun
	b  *connectors.Batch
	fn func(connectors.Record) error
}

func (c *rowCopy) Write(line []byte) (int, error) {
	if _, err := c.t.addRow(c.b, c.r, line); err != nil {
		return 0, err
	}
	if c.b.Full() {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	return len(line), nil
}

func (c *rowCopy) flush() error {
	for _, r := range c.b.Records {
		if err := c.fn(r); err != nil {
			return err
		}
	}
	c.b.Reset()
	return nil
}

func (a *auditPoint) Close() error {
	closeConn(a.conn)
	return nil
}

var _ connectors.SourceAuditor = (*source)(nil)
