package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
)

// auditFlush is how much of the replay is written to the audit's copy at once.
const auditFlush = 4 << 20

// Audit replays the log into a temporary table and holds the target against it, in
// one snapshot: the offset that was committed and the rows belong together.
//
// Where the log no longer begins at offset 0, rows that only earlier records wrote
// cannot be judged: they are left out, as are columns that no record left sent.
func (s *sink) Audit(ctx context.Context, env connectors.SinkEnv, a connectors.Assignment, end int64,
	next func() (*connectors.Record, error), report func(connectors.Difference)) (int64, error) {
	au, err := s.AuditSnapshot(ctx, env, a)
	if err != nil {
		return 0, err
	}
	defer func() { _ = au.Close() }() // nothing was changed
	if au.Next() > end {
		return 0, fmt.Errorf("the target has moved on to offset %d while the audit of the log up to %d began: stop the topic's writers, or audit again in a quiet moment", au.Next(), end)
	}
	return au.Compare(ctx, next, report)
}

// AuditSnapshot opens a transaction that sees the offset and the rows of one moment.
func (s *sink) AuditSnapshot(ctx context.Context, env connectors.SinkEnv, a connectors.Assignment) (connectors.AuditSnapshot, error) {
	t := newTask(s, env)
	c, err := t.session(ctx)
	if err != nil {
		return nil, err
	}
	au := &audit{t: t, c: c, a: a, upto: a.StartOffset}
	// The replay may leave the transaction alone for long.
	if err = exec(ctx, c, "SET idle_in_transaction_session_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ"); err != nil {
		err = classify(err, "begin the audit")
	} else {
		err = au.point(ctx)
	}
	if err != nil {
		t.hangUp()
		return nil, err
	}
	return au, nil
}

// Next is where the target stands.
func (au *audit) Next() int64 { return au.upto }

// Compare replays the log and compares.
func (au *audit) Compare(ctx context.Context, next func() (*connectors.Record, error), report func(connectors.Difference)) (int64, error) {
	au.report = report
	if err := au.replay(ctx, next); err != nil {
		return 0, err
	}
	return au.compare(ctx)
}

// Close ends the session, and with it the transaction and its temporary tables.
func (au *audit) Close() error {
	au.t.hangUp()
	return nil
}

type audit struct {
	t      *task
	c      *pgconn.PgConn
	a      connectors.Assignment
	report func(connectors.Difference)
	upto   int64 // everything before it is in the target
	shared bool  // other partitions write the table, too
	tb     *table
	there  bool // the target has the table
}

var _ connectors.SnapshotAuditor = (*sink)(nil)

// point reads how far the target is, and makes the empty copy.
func (au *audit) point(ctx context.Context) error {
	rows, err := query(ctx, au.c, "SELECT to_regclass("+quoteLit(au.t.s.offsetsTable())+") IS NOT NULL")
	if err != nil {
		return classify(err, "look for the table of offsets")
	}
	if string(rows[0][0]) == "t" {
		have, err := au.t.readOffset(ctx, au.c, au.a.TopicPartition, false)
		if err != nil {
			return err
		}
		if have != nil {
			au.upto = have.next
		}
		rows, err := query(ctx, au.c, "SELECT count(*) > 1 FROM "+au.t.s.offsetsTable()+" WHERE target = "+quoteLit(au.t.s.tableName(au.a.Topic))+" AND partition < "+strconv.Itoa(int(connectors.ReplayPartition)))
		if err != nil {
			return classify(err, "read the table of offsets")
		}
		au.shared = string(rows[0][0]) == "t"
	}
	if au.tb, err = au.t.s.loadTable(ctx, au.c, au.t.s.tableName(au.a.Topic)); err != nil {
		return err
	}
	au.there = au.tb.there
	au.tb.temp = "pg_temp._forebay_audit"
	if !au.there {
		return nil
	}
	return classify(exec(ctx, au.c, "CREATE TEMPORARY TABLE _forebay_audit AS SELECT * FROM "+au.tb.real()+" WITH NO DATA"), "make the audit's copy")
}

// replay writes the records up to the point into the copy.
func (au *audit) replay(ctx context.Context, next func() (*connectors.Record, error)) error {
	p := &part{Assignment: au.a, table: au.tb, start: au.a.StartOffset, next: au.a.StartOffset, buf: newBuffer()}
	where := func(offset int64) string { return fmt.Sprintf("%s-%d offset %d", au.a.Topic, au.a.Partition, offset) }
	indexed := false
	flush := func() error {
		if au.there && au.t.s.cfg.upsert && !indexed && len(au.tb.key) > 0 {
			indexed = true
			if err := exec(ctx, au.c, "CREATE UNIQUE INDEX ON "+au.tb.temp+" ("+au.keyList("")+")"); err != nil {
				return classify(err, "index the audit's copy")
			}
		}
		last, err := au.t.rows(ctx, au.c, &batch{part: p, bufs: p.take(newBuffer())})
		if au.tb.stage != "" {
			last += "TRUNCATE " + au.tb.stage
		}
		if err == nil && last != "" {
			err = exec(ctx, au.c, last)
		}
		au.tb.ddl = nil
		return classify(err, "replay the log")
	}
	for {
		r, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if r.Offset >= au.upto {
			if r.RawValue != nil {
				au.report(connectors.Difference{Kind: connectors.MissingRecord, Where: where(r.Offset), What: fmt.Sprintf("the target stands at offset %d", au.upto)})
			}
			continue
		}
		if err := au.t.writeRecord(ctx, p, r); err != nil {
			var bad *recordError
			if !errors.As(err, &bad) {
				return err
			}
			au.report(connectors.Difference{Kind: connectors.MissingRecord, Where: where(r.Offset), What: "it cannot be written: " + bad.Error()})
			continue
		}
		if p.size() >= auditFlush {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	au.t.settle(p)
	return flush()
}

// keyList lists the columns that rows are told apart by.
func (au *audit) keyList(prefix string) string {
	var out []string
	for _, k := range au.keys() {
		out = append(out, prefix+quoteIdent(k))
	}
	return strings.Join(out, ", ")
}

func (au *audit) keys() (names []string) {
	if !au.t.s.cfg.upsert {
		return []string{metas[metaOffset].name}
	}
	for _, k := range au.tb.key {
		names = append(names, au.tb.cols[k].name)
	}
	return names
}

// mine limits the target's rows to those that the replay speaks of.
func (au *audit) mine() string {
	if au.t.s.cfg.upsert {
		return ""
	}
	w := fmt.Sprintf(" WHERE _partition = %d AND _offset >= %d AND _offset < %d", au.a.Partition, au.a.StartOffset, au.upto)
	if au.t.s.cfg.table != "" {
		w += " AND _topic = " + quoteLit(au.a.Topic)
	}
	return w
}

// compare holds the target's rows against the copy.
func (au *audit) compare(ctx context.Context) (agreed int64, err error) {
	if len(au.tb.cols) == 0 {
		return 0, nil // the log has said nothing
	}
	where := au.tb.String() + " "
	if !au.there {
		rows, err := query(ctx, au.c, "SELECT count(*) FROM "+au.tb.temp)
		if err == nil && string(rows[0][0]) != "0" {
			au.report(connectors.Difference{Kind: connectors.MissingRecord, Where: where, What: "the table is gone, and " + string(rows[0][0]) + " rows with it"})
		}
		return 0, classify(err, "count the replay's rows")
	}
	target := "(SELECT * FROM " + au.tb.real() + au.mine() + ")"
	if !au.t.s.cfg.upsert { // a key is unique by its index
		if err := au.each(ctx, "SELECT _offset, count(*) FROM "+target+" t GROUP BY 1 HAVING count(*) > 1", func(r [][]byte) {
			au.report(connectors.Difference{Kind: connectors.DoubledRecord, Where: where + "_offset " + string(r[0]), What: "there " + string(r[1]) + " times"})
		}); err != nil {
			return 0, err
		}
	}
	partial := au.a.StartOffset > 0
	key := au.keys()
	var on, show, differs []string
	for _, k := range key {
		q := quoteIdent(k)
		on = append(on, "t."+q+" = e."+q)
		show = append(show, quoteLit(k+" ")+" || coalesce(t."+q+", e."+q+")::text")
	}
	for _, col := range au.tb.cols {
		q := quoteIdent(col.name)
		d := "t." + q + "::text IS DISTINCT FROM e." + q + "::text"
		if partial {
			d = "e." + q + " IS NOT NULL AND " + d
		}
		differs = append(differs, "CASE WHEN "+d+" THEN "+quoteLit(col.name)+" END")
	}
	one := quoteIdent(key[0])
	sql := "SELECT t." + one + " IS NULL, e." + one + " IS NULL, concat_ws(', ', " + strings.Join(show, ", ") + "), concat_ws(', ', " + strings.Join(differs, ", ") + ")" +
		" FROM " + target + " t FULL JOIN " + au.tb.temp + " e ON " + strings.Join(on, " AND ")
	count := int64(0)
	err = au.each(ctx, "SELECT * FROM ("+sql+") d (no_t, no_e, k, cols) WHERE no_t OR no_e OR cols <> ''", func(r [][]byte) {
		at := where + string(r[2])
		switch {
		case string(r[0]) == "t":
			count++
			au.report(connectors.Difference{Kind: connectors.MissingRecord, Where: at, What: "the log has this row"})
		case string(r[1]) == "t":
			if partial || au.shared && au.t.s.cfg.upsert {
				return // an earlier record, or another partition, may have written it
			}
			au.report(connectors.Difference{Kind: connectors.DoubledRecord, Where: at, What: "the log does not have this row"})
		default:
			count++
			au.report(connectors.Difference{Kind: connectors.DifferentRecord, Where: at, What: "differs in " + string(r[3])})
		}
	})
	if err != nil {
		return 0, err
	}
	rows, err := query(ctx, au.c, "SELECT count(*) FROM "+au.tb.temp)
	if err != nil {
		return 0, classify(err, "count the replay's rows")
	}
	all, err := strconv.ParseInt(string(rows[0][0]), 10, 64)
	return all - count, err
}

// each calls fn for every row of a query, without holding them all.
func (au *audit) each(ctx context.Context, sql string, fn func([][]byte)) error {
	m := au.c.Exec(ctx, sql)
	for m.NextResult() {
		r := m.ResultReader()
		for r.NextRow() {
			fn(r.Values())
		}
		if _, err := r.Close(); err != nil {
			_ = m.Close() // the same error again
			return classify(err, "compare "+au.tb.String())
		}
	}
	return classify(m.Close(), "compare "+au.tb.String())
}
