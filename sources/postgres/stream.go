package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/sources/internal/cdc"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// statusEvery is how often the server hears from us at the least; its
	// wal_sender_timeout is 60 s by default.
	statusEvery = 5 * time.Second
	// linger is how long a batch that holds something waits for more.
	linger = 200 * time.Microsecond
	// walHeader is what precedes a message in XLogData: 'w', start, end, time.
	walHeader = 25
)

// transaction is the one that the stream is in.
type transaction struct {
	commit LSN // where its commit record starts
	xid    uint32
}

// stream is the replication connection once it streams. All but the pulse
// belongs to the goroutine of Read.
type stream struct {
	w         *wire
	relations map[uint32]*streamTable // nil value: not ours
	change    change
	truncate  truncate

	in      bool // inside a transaction
	tx      transaction
	n       int64 // changes of it that were handed over or skipped
	skip    int64 // of its changes, those that the log holds
	ours    int   // events since the last mark
	lastEnd time.Time

	stop func() // of the pulse
}

// streamTable is a table as the stream's last Relation message described it.
type streamTable struct {
	*shape
	tracked *trackedTable
}

// startStream begins at the position. A slot that somebody still holds is waited for.
func (t *task) startStream(ctx context.Context) error {
	deadline := time.Now().Add(patience)
	for {
		err := t.tryStream(ctx)
		if sqlState(err) != "55006" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w; end the other reader, or name another slot in the config", err)
		}
		if err := pause.For(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func (t *task) tryStream(ctx context.Context) error {
	c, err := t.connect(ctx, true)
	if err != nil {
		return err
	}
	timeline := t.slot.Timeline
	if err = t.sameHistory(ctx, c); err == nil && t.slot.Timeline != timeline {
		err = errors.New("the server has failed over since the task was opened")
	}
	if err != nil {
		closeConn(c)
		return err
	}
	w, err := hijack(ctx, c, t.cfg.maxRow)
	if err != nil {
		closeConn(c)
		return err
	}
	sql := "START_REPLICATION SLOT " + quoteIdent(t.cfg.slot) + " LOGICAL " + LSN(t.pos.LSN).String() +
		" (proto_version '1', publication_names " + quoteLit(quoteIdent(t.cfg.publication)) + ")"
	if err := startReplication(ctx, w, sql); err != nil {
		_ = w.close()
		switch sqlState(err) {
		case "55000", "58P01": // cannot read from it any more; a WAL file is gone
			return t.lost(err.Error())
		case "42704":
			return t.lost("it is not there any more")
		}
		return ctxErr(ctx, err)
	}
	t.stream = &stream{w: w, relations: map[uint32]*streamTable{}, lastEnd: time.Now()}
	t.stream.stop = t.startPulse(w)
	return nil
}

func startReplication(ctx context.Context, w *wire, sql string) error {
	if err := w.write(&pgproto3.Query{String: sql}); err != nil {
		return err
	}
	stop := w.until(ctx)
	defer stop()
	for {
		typ, body, err := w.next()
		if err != nil {
			return err
		}
		switch typ {
		case 'W':
			return nil
		case 'E':
			return serverError(body)
		}
	}
}

func (s *stream) close() error {
	s.stop()
	return s.w.close()
}

// startPulse tells the server where we stand whenever that has moved, and often
// enough that it does not give us up while nobody reads. It ends with stop.
func (t *task) startPulse(w *wire) (stop func()) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		var sent uint64
		var at time.Time
		for {
			if now := t.flushed.Load(); now != sent || time.Since(at) >= statusEvery {
				if w.writeRaw(status(LSN(now), false)) != nil {
					return // Read will find the connection broken
				}
				sent, at = now, time.Now()
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	})
	var once sync.Once
	return func() {
		once.Do(func() { close(quit) })
		done.Wait()
	}
}

// status is a Standby status update in a CopyData message: all three LSNs are
// the same, as nothing of ours is durable before it is in the log (invariant 5).
func status(at LSN, reply bool) []byte {
	b := make([]byte, 0, 39)
	b = append(b, 'd', 0, 0, 0, 38, 'r')
	for range 3 {
		b = binary.BigEndian.AppendUint64(b, uint64(at))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(postgresEpoch).Microseconds()))
	if reply {
		return append(b, 1)
	}
	return append(b, 0)
}

// readStream fills b with changes. Whatever ends it, what was added is marked.
func (t *task) readStream(ctx context.Context, b *connectors.Batch) error {
	s := t.stream
	stop := s.w.until(ctx)
	defer stop()
	broken := false
	defer func() {
		if s.in && s.ours > 0 {
			t.pos.Tx, t.pos.N = LSNText(s.tx.commit), s.n
			t.markStream(b, false)
		}
		t.addMarks(b)
		if broken {
			t.stream = nil
			_ = s.close() // the error that broke it is the one to report
		}
	}()
	for !b.Full() && len(t.marks) == 0 && !t.snapshotOver() {
		if !s.w.ready() {
			if b.Empty() {
				s.w.wait(ctx, t.cfg.heartbeat)
			} else {
				s.w.wait(ctx, linger)
			}
		}
		typ, body, err := s.w.next()
		large := (*oversize)(nil)
		switch {
		case err == nil:
		case errors.As(err, &large):
			if err := t.largeChange(large); err != nil {
				broken = true
				return err
			}
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case !timedOut(err):
			broken = true
			return fmt.Errorf("read the change stream: %w", err)
		case b.Empty():
			// Nothing for a whole heartbeat: the answer says how far the server is.
			if err := s.w.writeRaw(status(LSN(t.flushed.Load()), true)); err != nil {
				return err
			}
			continue
		default:
			return nil
		}
		switch typ {
		case 'd':
			records, n, ours := len(b.Records), s.n, s.ours
			if err := t.copyData(ctx, b, body); err != nil {
				// As if it had not come: the mark ends before it, and the next Read
				// begins a new stream there.
				b.Records, s.n, s.ours = b.Records[:records], n, ours
				broken = true
				return ctxErr(ctx, err)
			}
		case 'E':
			err := serverError(body)
			broken = true
			if st := sqlState(err); st == "55000" || st == "58P01" {
				return t.lost(err.Error())
			} else if st == "42704" {
				return t.unpublished(ctx, err)
			}
			return serverLimit(fmt.Errorf("the change stream: %w", err), "one of the tables")
		case 'c', 'C', 'Z':
			broken = true
			return fmt.Errorf("the server has ended the change stream")
		}
	}
	return nil
}

// unpublished says why the server does not find the publication. One that is gone is made anew when the task is opened again.
func (t *task) unpublished(ctx context.Context, err error) error {
	c, cerr := t.conn(ctx)
	if cerr != nil {
		return cerr
	}
	now, cerr := t.members(ctx, c)
	if cerr != nil {
		return cerr
	}
	for _, m := range now {
		if m.publication == t.slot.Publication {
			return t.tooYoung(err)
		}
	}
	return fmt.Errorf("the change stream: %w", err)
}

// markStream adds the stream's position.
func (t *task) markStream(b *connectors.Batch, boundary bool) {
	var buf [128]byte
	b.Mark(streamKey, appendStream(buf[:0], t.pos), boundary)
	for _, tt := range t.extended {
		b.Mark(tableKey(tt.name), mustJSON(tt.pos), boundary)
	}
	t.extended = t.extended[:0]
	t.stream.ours = 0
	t.stream.lastEnd = time.Now()
}

func (t *task) copyData(ctx context.Context, b *connectors.Batch, body []byte) error {
	switch {
	case len(body) >= 18 && body[0] == 'k':
		return t.keepalive(b, LSN(binary.BigEndian.Uint64(body[1:])), body[17] == 1)
	case len(body) > walHeader && body[0] == 'w':
		return t.message(ctx, b, LSN(binary.BigEndian.Uint64(body[1:])), body[walHeader], body[walHeader+1:])
	}
	return fmt.Errorf("the change stream holds a message of the unknown kind %q", body[:min(1, len(body))])
}

// keepalive answers the server. Between transactions, what lies before its end
// of WAL has been sent in full, so the position may move there; it goes by way of
// the log like any other (invariant 5), at most once in a heartbeat.
func (t *task) keepalive(b *connectors.Batch, end LSN, reply bool) error {
	s := t.stream
	if reply {
		if err := s.w.writeRaw(status(LSN(t.flushed.Load()), false)); err != nil {
			return err
		}
	}
	if s.in || end <= LSN(t.pos.LSN) || !b.Empty() || time.Since(s.lastEnd) < t.cfg.heartbeat {
		return nil
	}
	t.pos.LSN, t.pos.Tx, t.pos.N = LSNText(end), 0, 0
	t.markStream(b, true)
	t.finishTables(b, end)
	return nil
}

// message takes one pgoutput message; at is where its change lies in the WAL.
func (t *task) message(ctx context.Context, b *connectors.Batch, at LSN, kind byte, p []byte) error {
	s := t.stream
	switch kind {
	case 'B':
		m, err := decodeBegin(p)
		if err != nil {
			return err
		}
		s.in, s.tx, s.n, s.skip = true, transaction{commit: m.commit, xid: m.xid}, 0, 0
		if LSN(t.pos.Tx) == m.commit {
			s.skip = t.pos.N // the log holds these
		}
		t.block.begin(fromMicros(m.micros), uint64(m.xid), cdc.Streamed)
	case 'C':
		m, err := decodeCommit(p)
		if err != nil {
			return err
		}
		return t.commit(b, m)
	case 'O':
		origin, name, err := decodeOrigin(p)
		if err != nil {
			return err
		}
		t.block.origin(origin, name)
	case 'R':
		m, err := decodeRelation(p)
		if err != nil {
			return err
		}
		return t.relation(ctx, m)
	case 'I', 'U', 'D':
		return t.row(ctx, b, at, kind, p)
	case 'T':
		return t.truncate(b, at, p)
	}
	return nil // Y and M: types are looked up by their oid, messages are not asked for
}

// commit ends the transaction. Only now may its end become the position's LSN: a
// slot that has confirmed it will not send the transaction again.
func (t *task) commit(b *connectors.Batch, m commit) error {
	s := t.stream
	s.in = false
	t.pos.LSN, t.pos.Tx, t.pos.N = LSNText(m.end), 0, 0
	if s.n > 0 {
		t.block.last, t.pos.Last = m.end, LSNText(m.end)
	}
	if s.ours > 0 || t.passed(m.commit) || time.Since(s.lastEnd) >= t.cfg.heartbeat {
		t.markStream(b, true)
		t.finishTables(b, m.commit)
	}
	return nil
}

// passed says whether a table's coverage is no longer needed.
func (t *task) passed(at LSN) bool {
	if t.covering > 0 && t.least == 0 { // each commit of the server asks, so the tables are not looked through each time
		for _, tt := range t.tables {
			if tt.cover != nil && (t.least == 0 || tt.cover.horizon < t.least) {
				t.least = tt.cover.horizon
			}
		}
	}
	return t.covering > 0 && at >= t.least
}

// finishTables forgets the coverage of tables whose horizon the stream has
// passed. It follows the stream's mark: a table that was done while the stream's
// durable position still lay before the horizon would have changes repeated.
func (t *task) finishTables(b *connectors.Batch, at LSN) {
	if !t.passed(at) {
		return
	}
	for _, tt := range t.tables {
		if tt.cover == nil || at < tt.cover.horizon {
			continue
		}
		tt.cover, tt.order = nil, nil
		tt.pos = tablePosition{V: 1, State: stateDone, Gen: tt.pos.Gen, Oid: tt.pos.Oid, Joined: tt.pos.Joined}
		b.Mark(tableKey(tt.name), mustJSON(tt.pos), true)
		t.covering, t.least = t.covering-1, 0
	}
}

// relation notes what a table looks like from here on. Another table under a
// tracked name, or the tracked one under another, ends the tracking: what follows is
// dropped, and the rows are read anew, later than it. A transaction that the snapshot
// saw changes nothing: there the names were others before.
func (t *task) relation(ctx context.Context, m relation) error {
	name := tableName{m.schema, m.table}
	tt := t.tables[name]
	for _, of := range t.tables {
		if of.pos.Oid != 0 && (of.pos.Oid == m.oid) != (of == tt) && of.cover.verdictOf(&t.stream.tx) != sawAll {
			t.leave(of)
			t.looked = time.Time{} // at once
		}
	}
	if tt == nil || tt.pos.Oid != m.oid {
		t.stream.relations[m.oid] = nil
		return nil
	}
	cols := make([]shapeColumn, len(m.cols))
	var key []string
	for i, c := range m.cols {
		cols[i] = shapeColumn{name: c.name, typ: c.typ, typmod: c.typmod}
		if c.key {
			key = append(key, c.name)
		}
	}
	c, err := t.conn(ctx)
	if err != nil {
		return err
	}
	info, err := t.loadTable(ctx, c, name)
	if err != nil {
		return err
	}
	const anew = "To have the table read anew, take it out of the publication (it is put back by itself), or out of the config for one start"
	if col := tt.refilled(m.cols, info); col != "" {
		t.env.Logger.Warn("ALTER TABLE has changed a column, and PostgreSQL sends no events for the rows that this has changed: the topic has them as they were. "+anew,
			"table", name.String(), "column", col, "publication", t.cfg.publication)
	}
	key = keyColumns(info, m, key)
	sh, err := t.newShape(ctx, &t.types, t.conn, name, cols, key)
	if err != nil {
		return err
	}
	if now := sh.keyNames(); tt.seen != nil && !slices.Equal(tt.key, now) {
		t.env.Logger.Warn("the table has another key: the topic has the rows of before under the old one. "+anew, "table", name.String(), "old", tt.key, "new", now, "publication", t.cfg.publication)
	}
	tt.seen, tt.key = m.cols, sh.keyNames()
	t.stream.relations[m.oid] = &streamTable{shape: sh, tracked: tt}
	return nil
}

// refilled names a column whose values ALTER TABLE may have changed since the last
// description, in rows that are there: one of another type, or a new one with a default.
func (tt *trackedTable) refilled(cols []relationColumn, info *tableInfo) string {
	for _, c := range cols {
		i := slices.IndexFunc(tt.seen, func(was relationColumn) bool { return was.name == c.name })
		switch {
		case tt.seen == nil || info == nil:
		case i >= 0 && (tt.seen[i].typ != c.typ || tt.seen[i].typmod != c.typmod):
			return c.name
		case i < 0:
			if now := info.column(c.name); now != nil && now.filled {
				return c.name
			}
		}
	}
	return ""
}

// keyColumns orders the replica identity as the primary key is. With REPLICA
// IDENTITY FULL, the message flags every column, and the primary key is in the catalog alone.
func keyColumns(info *tableInfo, m relation, flagged []string) []string {
	if info == nil { // dropped since
		if m.identity == 'f' {
			return nil
		}
		return flagged
	}
	has := map[string]bool{}
	for _, n := range flagged {
		has[n] = true
	}
	if m.identity == 'n' {
		for _, c := range m.cols {
			has[c.name] = true
		}
	}
	for _, k := range info.key {
		if !has[k] {
			if m.identity == 'f' || m.identity == 'n' {
				return nil
			}
			return flagged // the key has changed since
		}
	}
	if m.identity != 'f' && m.identity != 'n' && len(info.key) != len(flagged) {
		return flagged
	}
	return info.key
}

// next counts a change of the transaction and says whether the log holds it already.
func (s *stream) next() (held bool) {
	s.n++
	return s.n <= s.skip
}

// truncate is handed over for each of our tables. A table's runs agree on it: a
// truncate between two runs makes the snapshot begin anew.
func (t *task) truncate(b *connectors.Batch, at LSN, p []byte) error {
	s := t.stream
	if err := decodeTruncate(p, &s.truncate); err != nil {
		return err
	}
	if s.next() {
		return nil
	}
	for _, oid := range s.truncate.relations {
		st := s.relations[oid]
		if st == nil || st.tracked.cover.verdictOf(&s.tx) == sawAll {
			continue
		}
		truncated(b, st.shape, t.block.source(b, st.shape, at))
		s.ours++
	}
	return nil
}
