package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
)

// Commit writes a batch and moves its partition's offset in one transaction. When
// the connection breaks, the offset's row says whether the transaction happened.
func (t *task) Commit(ctx context.Context, token connectors.Token) error {
	b, ok := token.Data.(*batch)
	if !ok {
		return fmt.Errorf("a token of another sink for %s-%d", token.Topic, token.Partition)
	}
	if b.done {
		return nil
	}
	if t.failed != nil {
		return t.failed
	}
	for attempt := 0; ; attempt++ {
		err := t.write(ctx, b)
		if err == nil {
			b.finish(t)
			return nil
		}
		old := t.conn
		t.hangUp() // the transaction ends with its session
		var lost *sessionLost
		if !errors.As(err, &lost) || attempt == 1 || ctx.Err() != nil {
			return t.fail(err)
		}
		t.log.Warn("the connection broke during a commit", "topic", token.Topic, "partition", token.Partition, "error", err)
		c, cerr := t.session(ctx)
		if cerr != nil {
			return t.fail(errors.Join(err, cerr))
		}
		t.endSession(ctx, c, old)
		// With the row's lock: a commit that the server still works on decides first.
		have, cerr := t.readOffset(ctx, c, b.part.TopicPartition, true)
		if cerr != nil {
			return t.fail(errors.Join(err, cerr))
		}
		if !t.owns(have) {
			return t.fail(t.fenced(b.part.TopicPartition, have))
		}
		if have.next == b.next {
			t.committed(b)
			b.finish(t)
			return nil
		}
	}
}

// endSession ends what the server may still hold of a session whose connection has
// broken, so that its locks go now and not when the server notices by itself.
func (t *task) endSession(ctx context.Context, c, old *pgconn.PgConn) {
	if old == nil {
		return
	}
	err := exec(ctx, c, "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity a WHERE pid = "+strconv.FormatUint(uint64(old.PID()), 10)+" AND "+t.sessions("a"))
	if err != nil { // it is ended by idle_in_transaction_session_timeout, then
		t.log.Debug("end the old session", "error", err)
	}
}

// finish notes that the batch is in the target.
func (b *batch) finish(t *task) {
	for _, buf := range b.bufs {
		t.giveBack(buf)
	}
	b.done, b.bufs = true, nil
}

// sessionLost is an error that leaves open what became of the transaction.
type sessionLost struct{ err error }

func (e *sessionLost) Error() string { return e.err.Error() }
func (e *sessionLost) Unwrap() error { return e.err }

// owns says that the row was last claimed by this very task.
func (t *task) owns(have *offsetRow) bool {
	return have != nil && have.epoch == t.env.Epoch && have.task == t.env.TaskID
}

// doubt marks an error after which nobody knows whether the server has committed.
func doubt(c *pgconn.PgConn, err error) error {
	var p *pgconn.PgError
	// 57P01…3: the server was told to end this session; 08…: the connection.
	if errors.As(err, &p) && !strings.HasPrefix(p.Code, "57P0") && !strings.HasPrefix(p.Code, "08") {
		return err
	}
	if c.IsClosed() || p != nil {
		return &sessionLost{err}
	}
	return err
}

func (t *task) alive() error {
	if t.env.Alive == nil {
		return nil
	}
	return t.env.Alive()
}

func (t *task) write(ctx context.Context, b *batch) error {
	if err := t.alive(); err != nil {
		return err
	}
	c, err := t.session(ctx)
	if err != nil {
		return err
	}
	moved, err := t.fence(ctx, c, b)
	if err != nil {
		return doubt(c, err)
	}
	if !moved {
		if err := exec(ctx, c, "ROLLBACK"); err != nil {
			return doubt(c, err)
		}
		have, err := t.readOffset(ctx, c, b.part.TopicPartition, true)
		if err != nil {
			return doubt(c, err)
		}
		if t.owns(have) && have.next == b.next {
			t.committed(b) // by an earlier try
			return nil
		}
		return t.fenced(b.part.TopicPartition, have)
	}
	last, err := t.rows(ctx, c, b)
	if err != nil {
		return doubt(c, err)
	}
	if err := t.alive(); err != nil { // nothing becomes visible before the COMMIT
		return err
	}
	if err := exec(ctx, c, last+"COMMIT"); err != nil {
		return doubt(c, classify(err, "write "+b.part.table.String()))
	}
	t.committed(b)
	return nil
}

// committed notes what the transaction has made of the table.
func (t *task) committed(b *batch) {
	b.part.table.ddl = nil
}

// rows does everything but the end of a commit's transaction, and returns the statements to end it with.
func (t *task) rows(ctx context.Context, c *pgconn.PgConn, b *batch) (string, error) {
	tb := b.part.table
	do := ""
	for _, ddl := range tb.ddl {
		do += ddl + ";"
	}
	for _, buf := range b.bufs {
		if buf.truncate && (tb.there || len(tb.ddl) > 0) {
			do += "TRUNCATE " + tb.quoted() + ";"
		}
		if len(buf.rows) == 0 {
			continue
		}
		stage, wider := "", tb.wider[buf.wider:]
		switch {
		case len(wider) > 0:
			stage = t.newStage()
			do += tb.stageDDL(stage, t.s.cfg.upsert, wider)
		case t.s.cfg.upsert && tb.stage == "":
			tb.stage = t.newStage()
			do += tb.stageDDL(tb.stage, true, nil)
			fallthrough
		case t.s.cfg.upsert:
			stage = tb.stage
		}
		if do != "" {
			if err := exec(ctx, c, do); err != nil {
				return "", classify(err, "prepare "+tb.String())
			}
		}
		into := stage
		if stage == "" {
			into = tb.quoted() + " (" + tb.columns() + ")"
		}
		if err := t.copy(ctx, c, b, buf, into); err != nil {
			return "", err
		}
		do = tb.widenStage(stage, wider)
		switch {
		case t.s.cfg.upsert:
			do += tb.merge(buf, stage)
		case stage != "":
			do += "INSERT INTO " + tb.quoted() + " (" + tb.columns() + ") OVERRIDING SYSTEM VALUE SELECT * FROM " + stage + ";"
		}
	}
	return do, nil
}

func (t *task) newStage() string {
	t.stages++
	return "_forebay_stage_" + strconv.Itoa(t.stages)
}

func (t *task) copy(ctx context.Context, c *pgconn.PgConn, b *batch, buf *buffer, into string) error {
	r := &copyReader{b: buf, tb: b.part.table, upsert: t.s.cfg.upsert}
	_, err := c.CopyFrom(ctx, r, "COPY "+into+" FROM STDIN")
	if err == nil {
		return nil
	}
	what, at := "copy into "+b.part.table.String(), r.offset(err)
	if at < 0 {
		return classify(err, what)
	}
	err = classify(err, what+fmt.Sprintf(", record at offset %d", at))
	if !connectors.IsFatal(err) {
		return err
	}
	return &connectors.RecordError{TopicPartition: b.part.TopicPartition, Offset: at, Err: err}
}

// columns lists the table's columns that the sink writes.
func (tb *table) columns() string {
	names := make([]string, len(tb.cols))
	for i, c := range tb.cols {
		names[i] = quoteIdent(c.name)
	}
	return strings.Join(names, ", ")
}

// stageDDL makes the temporary table that a batch is copied into: the columns, the
// group of statements that write the line, and the key of the row that it has moved from. With wider it is for one
// batch, and those columns have the types that they had.
func (tb *table) stageDDL(stage string, upsert bool, wider []widening) string {
	keep := "DELETE ROWS"
	if len(wider) > 0 {
		keep = "DROP"
	}
	col := func(c *column) string {
		for _, w := range wider {
			if w.col == c {
				return "NULL::" + w.from.String()
			}
		}
		return "t." + quoteIdent(c.name)
	}
	var defs []string
	for _, c := range tb.cols {
		defs = append(defs, col(c)+" AS "+quoteIdent(c.name))
	}
	if upsert {
		defs = append(defs, "NULL::integer AS _forebay_group")
		for i, k := range tb.key {
			defs = append(defs, col(tb.cols[k])+" AS _forebay_from_"+strconv.Itoa(i))
		}
	}
	return "CREATE TEMPORARY TABLE " + stage + " ON COMMIT " + keep + " AS SELECT " + strings.Join(defs, ", ") + " FROM " + tb.quoted() + " t WITH NO DATA;"
}

// widenStage does with the stage what was done with the table.
func (tb *table) widenStage(stage string, wider []widening) string {
	out := ""
	for _, w := range wider {
		alter := func(name string) {
			out += "ALTER TABLE " + stage + " ALTER COLUMN " + name + " TYPE " + w.to.String() + ";"
		}
		alter(quoteIdent(w.col.name))
		for i, k := range tb.key {
			if tb.cols[k] == w.col {
				alter("_forebay_from_" + strconv.Itoa(i))
			}
		}
	}
	return out
}

// inKey says whether rows are found by the column.
func (tb *table) inKey(c *column) bool {
	return slices.ContainsFunc(tb.key, func(k int) bool { return tb.cols[k] == c })
}

// sameKey joins two aliases by the key; from: the second by where the row came from.
func (tb *table) sameKey(a, b string, from bool) string {
	parts := make([]string, len(tb.key))
	for i, k := range tb.key {
		col := b + "." + quoteIdent(tb.cols[k].name)
		if from {
			col = b + "._forebay_from_" + strconv.Itoa(i)
		}
		parts[i] = a + "." + quoteIdent(tb.cols[k].name) + " = " + col
	}
	return strings.Join(parts, " AND ")
}

// deleteGroup marks the stage's lines that only delete; the others carry the place of their group.
const deleteGroup = -1

// merge writes the stage into the table:
//
//  1. Rows that have moved get what was not sent from where they were.
//  2. Deleted rows go.
//  3. Rows with columns that were not sent change the others only.
//  4. Complete rows are inserted, or take the place of what is there.
func (tb *table) merge(b *buffer, stage string) string {
	var out strings.Builder
	stmt := func(format string, args ...any) { fmt.Fprintf(&out, format+";", args...) }
	where := func(id int) string { return "s._forebay_group = " + strconv.Itoa(id) }
	for id, g := range b.groups {
		if !g.moved {
			continue
		}
		var set []string
		for i, c := range tb.cols {
			if i >= len(g.present) || g.present[i] == 0 {
				set = append(set, quoteIdent(c.name)+" = t."+quoteIdent(c.name))
			}
		}
		stmt("UPDATE %s s SET %s FROM %s t WHERE %s AND %s", stage, strings.Join(set, ", "), tb.quoted(), where(id), tb.sameKey("t", "s", true))
	}
	stmt("DELETE FROM %s t USING %s s WHERE %s AND %s", tb.quoted(), stage, where(deleteGroup), tb.sameKey("t", "s", false))
	for id, g := range b.groups {
		if !g.partly || g.moved {
			continue
		}
		names, rest := tb.present(g.present)
		if len(rest) > 0 {
			stmt("UPDATE %s t SET %s FROM %s s WHERE %s AND %s", tb.quoted(), sets(rest, "s."), stage, where(id), tb.sameKey("t", "s", false))
		}
		stmt("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s s WHERE %s AND NOT EXISTS (SELECT FROM %s t WHERE %s)",
			tb.quoted(), strings.Join(names, ", "), prefixed("s.", names), stage, where(id), tb.quoted(), tb.sameKey("t", "s", false))
	}
	for id, g := range b.groups {
		if g.partly && !g.moved {
			continue
		}
		present := g.present
		if g.moved {
			present = strings.Repeat("\x01", len(tb.cols))
		}
		names, rest := tb.present(present)
		do := "NOTHING"
		if len(rest) > 0 {
			do = "UPDATE SET " + sets(rest, "EXCLUDED.")
		}
		var key []string
		for _, k := range tb.key {
			key = append(key, quoteIdent(tb.cols[k].name))
		}
		stmt("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s s WHERE %s ON CONFLICT (%s) DO %s",
			tb.quoted(), strings.Join(names, ", "), prefixed("s.", names), stage, where(id), strings.Join(key, ", "), do)
	}
	return out.String()
}

// present lists the quoted columns of a set, and those of them that are not in the key.
func (tb *table) present(set string) (names, rest []string) {
	for i, c := range tb.cols {
		if i >= len(set) || set[i] == 0 {
			continue
		}
		names = append(names, quoteIdent(c.name))
		if !tb.inKey(c) {
			rest = append(rest, quoteIdent(c.name))
		}
	}
	return names, rest
}

func sets(names []string, prefix string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = n + " = " + prefix + n
	}
	return strings.Join(out, ", ")
}

func prefixed(prefix string, names []string) string {
	return prefix + strings.Join(names, ", "+prefix)
}

// copyReader gives the lines of a buffer as COPY reads them.
type copyReader struct {
	b      *buffer
	tb     *table
	upsert bool
	row    int  // the next one
	second bool // … whose delete is written, and whose line is not
	out    []byte
	chunk  []byte
}

const copyChunk = 64 << 10

func (r *copyReader) Read(p []byte) (int, error) {
	if len(r.out) == 0 {
		r.chunk = r.chunk[:0]
		for len(r.chunk) < copyChunk && r.row < len(r.b.rows) {
			r.chunk = r.next(r.chunk)
		}
		if r.out = r.chunk; len(r.out) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// next appends the next line.
func (r *copyReader) next(dst []byte) []byte {
	l := &r.b.rows[r.row]
	if r.upsert && l.del && !r.second {
		if r.second = l.live; !r.second {
			r.row++
		}
		return r.deleted(dst, l)
	}
	r.second = false
	r.row++
	dst = append(dst, r.b.arena[l.at:l.at+l.n]...)
	for i := l.cols; i < len(r.tb.cols); i++ {
		if i > 0 {
			dst = append(dst, '\t')
		}
		dst = append(dst, `\N`...)
	}
	if !r.upsert {
		return append(dst, '\n')
	}
	dst = strconv.AppendInt(append(dst, '\t'), int64(l.group), 10)
	if l.from != "" {
		return append(append(append(dst, '\t'), l.from...), '\n')
	}
	for range r.tb.key {
		dst = append(dst, `	\N`...)
	}
	return append(dst, '\n')
}

// deleted appends the line of a delete: the key, and nothing else.
func (r *copyReader) deleted(dst []byte, l *line) []byte {
	parts := strings.Split(l.key, "\t")
	for i := range r.tb.cols {
		if i > 0 {
			dst = append(dst, '\t')
		}
		text := `\N`
		for n, k := range r.tb.key {
			if k == i && n < len(parts) {
				text = parts[n]
			}
		}
		dst = append(dst, text...)
	}
	dst = strconv.AppendInt(append(dst, '\t'), deleteGroup, 10)
	for range r.tb.key {
		dst = append(dst, `	\N`...)
	}
	return append(dst, '\n')
}

var copyLine = regexp.MustCompile(`^COPY [^,]+, line (\d+)`)

// offset finds the record of the line that the server complains about; -1 when it names none.
func (r *copyReader) offset(err error) int64 {
	var p *pgconn.PgError
	if !errors.As(err, &p) {
		return -1
	}
	m := copyLine.FindStringSubmatch(p.Where)
	if m == nil {
		return -1
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return -1
	}
	again := &copyReader{b: r.b, tb: r.tb, upsert: r.upsert}
	for again.row < len(r.b.rows) {
		at := r.b.rows[again.row].offset
		again.chunk = again.next(again.chunk[:0])
		if n--; n == 0 {
			return at
		}
	}
	return -1
}
