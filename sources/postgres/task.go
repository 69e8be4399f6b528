package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/jackc/pgx/v5/pgconn"
)

const splitID = "slot"

// Plan: a slot has one reader.
func (s *source) Plan(context.Context, int) ([]connectors.Split, error) {
	return []connectors.Split{{ID: splitID}}, nil
}

// Task makes the reader of the slot.
func (s *source) Task(connectors.Split) connectors.SourceTask {
	return &task{source: s, over: make(chan struct{}, 1)}
}

// task reads the tables' rows and then the slot. Its state belongs to the
// goroutine of Open and Read, but for what the pulse and Committed share: flushed.
type task struct {
	*source

	aux   *pgconn.PgConn // for the catalog, opened when needed
	types types
	block *block
	slot  slotPosition
	base  *snapshot // what a run's snapshot must see; nil: anything

	tables  map[tableName]*trackedTable
	pending []*trackedTable // to be snapshotted, in order
	current *tableRun       // the run at hand
	marks   []pendingMark   // to be made by the next Read
	first   bool            // no snapshot row has been read yet

	until    LSN // where the WAL ends that this server and the positions' have in common, see history.go
	stream   *stream
	covering int             // tables whose coverage the stream still needs
	extended []*trackedTable // those of which a longer one is to be marked, see stream_toast.go
	pos      streamPosition  // everything before it has been handed over
	looked   time.Time       // when the tracked tables were last compared with the catalog
	least    LSN             // the first of the horizons of those; 0: to be looked for
	over     chan struct{}   // has one once the log has it that initial_only has all
	flushed  atomic.Uint64   // LSN that the server may forget up to: what Committed has seen
}

// pendingMark is a position that stands without a record.
type pendingMark struct {
	key connectors.PositionKey
	pos connectors.Position
}

// trackedTable is a table of the config.
type trackedTable struct {
	name  tableName
	pos   tablePosition
	cover *coverage
	order *keyOrder
	seen  []relationColumn // of the last Relation message
	key   []string         // the key's columns then
}

// Open checks the server, adopts or makes publication and slot, and finds out
// which tables still need a snapshot.
func (t *task) Open(ctx context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	t.tables = map[tableName]*trackedTable{}
	c, err := t.conn(ctx)
	if err != nil {
		return err
	}
	if err := checkServer(ctx, c); err != nil {
		return err
	}
	names, missing, err := t.matchTables(ctx, c)
	if err != nil {
		return err
	}
	if p := positions[slotKey]; p != nil {
		if err := parsePosition(slotKey, p, &t.slot, &t.slot.V); err != nil {
			return err
		}
		if t.slot.Over && t.cfg.snapshot == "initial_only" && !slices.ContainsFunc(names, func(n tableName) bool { return positions[tableKey(n)] == nil }) {
			t.over <- struct{}{}
			return nil
		}
	}
	var gone []tableName // they are waited for
	for _, m := range missing {
		if n := patternParts(m); positions[tableKey(n)] != nil {
			gone = append(gone, n)
		} else if !wildcards(m) {
			return connectors.Fatal(fmt.Errorf("there is no table %s", m), "check tables in the config, and that the user may use the schema")
		}
	}
	if len(names) == 0 && len(gone) > 0 {
		return fmt.Errorf("none of the tables is there any more: %s", strings.Join(t.cfg.tables, ", "))
	}
	if len(names) == 0 {
		return connectors.Fatal(fmt.Errorf("no table matches %s", strings.Join(t.cfg.tables, ", ")), "check tables in the config")
	}
	rows, err := query(ctx, c, "SELECT current_database()")
	if err != nil {
		return err
	}
	db := string(rows[0][0])
	t.block = newBlock(t.env.Name, db)

	repl, err := t.connect(ctx, true)
	if err != nil {
		return err
	}
	defer closeConn(repl)
	info, err := t.slotInfo(ctx, c)
	if err != nil {
		return err
	}
	if info != nil {
		if err := t.usable(info, db); err != nil {
			return err
		}
		if mend := info.staysBehind(version(c), t.cfg.slot); mend != "" {
			t.env.Logger.Info("the slot was made without FAILOVER: a standby that takes over does not have it, and the source would have to begin anew", "slot", t.cfg.slot, "mend", mend)
		}
	}
	logf := func(format string, args ...any) { t.env.Logger.Warn(fmt.Sprintf(format, args...)) }
	resumed := positions[streamKey] != nil && !(t.slot.Over && t.cfg.snapshot == "initial_only") // a table came later: a new slot serves it
	if resumed {
		if err := t.resume(ctx, repl, positions, info); err != nil {
			return err
		}
	}
	had, err := t.ensurePublication(ctx, c, names, info != nil, logf)
	if err != nil {
		return err
	}
	now, err := t.members(ctx, c)
	if err != nil {
		return err
	}
	for _, n := range names {
		if now[n].oid == 0 {
			return fmt.Errorf("publication %s has lost %s again", t.cfg.publication, n)
		}
	}
	publication := now[names[0]].publication
	switch was := t.slot.Publication; {
	case !resumed:
		err = t.start(ctx, repl, info, had == nil, publication)
	case had == nil || was != 0 && was != publication:
		t.env.Logger.Warn("the publication is younger than what the log holds: all tables are read anew", "publication", t.cfg.publication)
		had = nil
		err = t.skip(ctx, publication)
	case was == 0 && t.slot.V != 0 || t.slot.Over:
		t.slot.Publication, t.slot.Over = publication, false
		t.mark(slotKey, mustJSON(t.slot))
	}
	if err != nil {
		return err
	}
	for _, n := range gone {
		tt := &trackedTable{name: n}
		t.tables[n] = tt
		if err := parsePosition(tableKey(n), positions[tableKey(n)], &tt.pos, &tt.pos.V); err != nil {
			return err
		}
		if tt.pos.State != stateLeft {
			t.leave(tt)
		}
	}
	return t.track(ctx, names, had, now, positions, resumed)
}

// resume takes the stream's position up and makes sure that the slot can go on from it.
func (t *task) resume(ctx context.Context, repl *pgconn.PgConn, positions map[connectors.PositionKey]connectors.Position, info *slotInfo) error {
	if err := parsePosition(streamKey, positions[streamKey], &t.pos, &t.pos.V); err != nil {
		return err
	}
	if slot := &t.slot; slot.V != 0 {
		if slot.Slot != t.cfg.slot {
			return connectors.Fatal(fmt.Errorf("the positions are of slot %s, the config names %s", slot.Slot, t.cfg.slot), "name the old slot, or reset the source's positions for a new snapshot")
		}
		if err := t.setBase(slot.Base); err != nil {
			return err
		}
	}
	if err := t.sameHistory(ctx, repl); err != nil {
		return err
	}
	at := LSN(t.pos.LSN)
	if info == nil {
		return t.lost("it is not there any more")
	}
	if info.confirmed > at {
		return connectors.Fatal(fmt.Errorf("slot %s was moved to %s by somebody else, and the log holds the changes up to %s: those between are gone", t.cfg.slot, info.confirmed, at),
			"find out who reads the slot; for a new snapshot reset the source's positions")
	}
	t.flushed.Store(uint64(at))
	t.block.last = LSN(t.pos.Last)
	return nil
}

func (t *task) setBase(text string) error {
	if text == "" {
		return nil
	}
	sn, err := parseSnapshot(text)
	if err != nil {
		return err
	}
	t.base = &sn
	return nil
}

// start makes or adopts the slot for a source without positions. made says that the publication was made just now.
func (t *task) start(ctx context.Context, repl *pgconn.PgConn, info *slotInfo, made bool, publication uint32) error {
	system, timeline, err := identify(ctx, repl)
	if err != nil {
		return err
	}
	t.first = true
	t.slot = slotPosition{System: system, Timeline: timeline, Made: info == nil}
	t.pos.V = 1
	switch {
	case info == nil:
		slot, err := createSlot(ctx, repl, t.cfg.slot, false)
		if err != nil {
			return err
		}
		base, err := t.baseSnapshot(ctx, slot)
		if err != nil {
			return err
		}
		return t.begin(slot.at, base, publication)
	case t.cfg.snapshot != "never":
		return t.skip(ctx, publication) // the snapshot has what the slot holds
	case made:
		return t.tooYoung(errors.New("it has just been made"))
	}
	c, err := t.conn(ctx)
	if err != nil {
		return err
	}
	base, err := everything(ctx, c)
	if err != nil {
		return err
	}
	return t.begin(info.confirmed, base, publication)
}

// skip has the stream begin behind what there is now. Nothing of before has been, or will be, read of it.
func (t *task) skip(ctx context.Context, publication uint32) error {
	c, err := t.conn(ctx)
	if err != nil {
		return err
	}
	at, base, err := t.settled(ctx, c)
	if err != nil {
		return err
	}
	return t.begin(at, base, publication)
}

// begin has the stream begin at a place in the WAL.
func (t *task) begin(at LSN, base string, publication uint32) error {
	t.slot.V, t.slot.Slot, t.slot.Over = 1, t.cfg.slot, false
	t.slot.From, t.slot.Base, t.slot.Publication = LSNText(at), base, publication
	t.pos.LSN, t.pos.Tx, t.pos.N = LSNText(at), 0, 0
	t.mark(slotKey, mustJSON(t.slot))
	t.mark(streamKey, appendStream(nil, t.pos))
	return t.setBase(base)
}

// tooYoung is the error for a publication of which the slot's changes know nothing, where nothing makes up for them.
func (s *source) tooYoung(err error) error {
	return connectors.Fatal(fmt.Errorf("publication %s is younger than the changes that slot %s has to send, which cannot be sent without it: %w", s.cfg.publication, s.cfg.slot, err),
		fmt.Sprintf("to begin behind them: SELECT pg_drop_replication_slot(%s);  and reset the source's positions", quoteLit(s.cfg.slot)))
}

func (t *task) mark(key connectors.PositionKey, p connectors.Position) {
	t.marks = append(t.marks, pendingMark{key, p})
}

// track decides for every table whether it is done, under way or new. had is the
// publication as it was found, now as it is since.
func (t *task) track(ctx context.Context, names []tableName, had, now map[tableName]member, positions map[connectors.PositionKey]connectors.Position, resumed bool) error {
	needBase := false
	t.looked = time.Now()
	for _, n := range names {
		tt := &trackedTable{name: n}
		t.tables[n] = tt
		p := positions[tableKey(n)]
		if p != nil {
			if err := parsePosition(tableKey(n), p, &tt.pos, &tt.pos.V); err != nil {
				return err
			}
		}
		if p != nil && tt.pos.State != stateLeft && (!tt.pos.is(had[n]) || resumed && tt.pos.horizon() > t.until) {
			t.leave(tt)
		}
		if tt.pos.State == stateCopied {
			if fits, err := t.loadOrder(ctx, tt); err != nil {
				return err
			} else if !fits {
				t.leave(tt)
			}
		}
		known := tt.pos.Oid != 0 && tt.pos.Joined != 0
		tt.pos.Joined = now[n].joined
		switch {
		case p == nil && t.cfg.snapshot == "never", tt.pos.State == stateDone && !known:
			tt.pos = tablePosition{V: 1, State: stateDone, Gen: tt.pos.Gen, Oid: now[n].oid, Joined: now[n].joined}
			t.mark(tableKey(n), mustJSON(tt.pos))
		case p == nil, tt.pos.State == stateCopying, tt.pos.State == stateLeft:
			// A table that the publication had and we did not follow: writers may
			// be between their commit record and their end, see baseSnapshot.
			needBase = needBase || resumed && had[n].oid != 0 && tt.pos.State != stateCopying
			t.pending = append(t.pending, tt)
			if tt.pos.State == stateLeft {
				tt.pos.Gen, tt.pos.Stale = tt.pos.Gen+1, true
			}
			if tt.pos.State != stateCopying { // with the stream's first position, so that no look at the two takes the table for one that is there
				tt.pos.V, tt.pos.State = 1, stateCopying
				t.mark(tableKey(n), mustJSON(tt.pos))
			}
		case tt.pos.State == stateCopied:
			if err := tt.covered(); err != nil {
				return err
			}
			t.covering, t.least = t.covering+1, 0
		}
	}
	tracked := map[connectors.PositionKey]bool{} // compared as keys, as a schema's name may hold a dot
	for n := range t.tables {
		tracked[tableKey(n)] = true
	}
	for key, p := range positions {
		if tracked[key] || !strings.HasPrefix(string(key), tablePrefix) {
			continue
		}
		var old tablePosition
		if err := parsePosition(key, p, &old, &old.V); err != nil {
			return err
		}
		if old.State != stateLeft { // its changes pass by unread from now on
			t.mark(key, mustJSON(tablePosition{V: 1, State: stateLeft, Gen: old.Gen}))
		}
	}
	if needBase {
		c, err := t.conn(ctx)
		if err != nil {
			return err
		}
		base, err := everything(ctx, c)
		if err != nil {
			return err
		}
		t.slot.Base = base
		t.mark(slotKey, mustJSON(t.slot))
		return t.setBase(base)
	}
	return nil
}

// leave gives a table up whose changes have not all been seen: its rows are to be
// taken back and read anew.
func (t *task) leave(tt *trackedTable) {
	t.env.Logger.Warn("the table is not the one that was read, or has another key, or not all of its changes are there: its rows are taken back and read anew", "table", tt.name.String())
	if tt.cover != nil {
		t.covering, t.least = t.covering-1, 0
	}
	*tt = trackedTable{name: tt.name, pos: tablePosition{V: 1, State: stateLeft, Gen: tt.pos.Gen}}
	t.mark(tableKey(tt.name), mustJSON(tt.pos))
}

// look compares the tables with the catalog, once in a heartbeat: what is not in
// the publication any more, or is another table now, says nothing in the stream. The
// error has the task opened anew, which reads such a table. One that is not there
// at all, or is no table now (a view), is waited for, and holds nobody up.
func (t *task) look(ctx context.Context) error {
	if time.Since(t.looked) < t.cfg.heartbeat {
		return nil
	}
	t.looked = time.Now()
	c, err := t.conn(ctx)
	if err != nil {
		return err
	}
	now, err := t.members(ctx, c)
	if err != nil {
		return err
	}
	var again []string
	for n, tt := range t.tables {
		if tt.pos.State != stateLeft && tt.pos.is(now[n]) {
			continue
		}
		if info, err := t.loadTable(ctx, c, n); err != nil {
			return err
		} else if info == nil {
			continue
		}
		if tt.pos.State != stateLeft {
			t.leave(tt)
		}
		again = append(again, n.String())
	}
	if len(again) > 0 {
		slices.Sort(again)
		return fmt.Errorf("%s: not the table or not the key that was read, or not in publication %s all the time; it is read anew", strings.Join(again, ", "), t.cfg.publication)
	}
	return nil
}

// horizon is how far into the WAL the rows reach that a snapshot has read.
func (p *tablePosition) horizon() (h LSN) {
	for _, r := range p.Runs {
		h = max(h, LSN(r.Horizon))
	}
	return h
}

// covered makes the coverage of a table whose rows are all read.
func (tt *trackedTable) covered() error {
	tt.cover = &coverage{horizon: tt.pos.horizon()}
	for _, r := range tt.pos.Runs {
		sn, err := parseSnapshot(r.Snap)
		if err != nil {
			return err
		}
		tt.cover.runs = append(tt.cover.runs, run{snap: sn, upto: r.Upto})
	}
	return nil
}

// loadOrder finds out how the table's keys compare, if several runs need it. Without the
// columns that the runs were read by, in that order, nothing tells what each has seen.
func (t *task) loadOrder(ctx context.Context, tt *trackedTable) (fits bool, err error) {
	if len(tt.pos.Runs) < 2 {
		return true, nil
	}
	c, err := t.conn(ctx)
	if err != nil {
		return false, err
	}
	info, err := t.loadTable(ctx, c, tt.name)
	if err != nil {
		return false, err
	}
	tt.order = &keyOrder{}
	for _, k := range tt.pos.Key {
		var col *columnInfo
		if info != nil {
			col = info.column(k)
		}
		if col == nil {
			return false, nil
		}
		tt.order.cols = append(tt.order.cols, *col)
	}
	return tt.order.was(tt.pos.Order), nil
}

// conn is the connection for questions; a broken one is replaced.
func (t *task) conn(ctx context.Context) (*pgconn.PgConn, error) {
	if t.aux != nil && !t.aux.IsClosed() {
		return t.aux, nil
	}
	c, err := t.connect(ctx, false)
	t.aux = c
	return c, err
}

// Read hands over snapshot rows until there are none left, and then changes.
func (t *task) Read(ctx context.Context, b *connectors.Batch) error {
	if len(t.marks) > 0 {
		t.addMarks(b)
		return nil
	}
	if len(t.pending) > 0 {
		return t.readSnapshot(ctx, b)
	}
	if t.snapshotOver() {
		return t.end(ctx, b)
	}
	if t.stream == nil {
		if err := t.startStream(ctx); err != nil {
			return err
		}
	}
	if err := t.look(ctx); err != nil {
		t.addMarks(b)
		return err
	}
	return t.readStream(ctx, b)
}

// snapshotOver says whether all there is to read was read: with initial_only, all rows of all tables, and the changes
// until each is what it was at one moment; for its runs are of several.
func (t *task) snapshotOver() bool {
	return t.cfg.snapshot == "initial_only" && len(t.pending) == 0 && t.covering == 0
}

// end ends the split of initial_only. The slot would hold back WAL for nobody, so it goes, once the log knows that it is not needed.
func (t *task) end(ctx context.Context, b *connectors.Batch) error {
	if t.stream != nil {
		err := t.stream.close()
		t.stream = nil
		if err != nil {
			t.env.Logger.Debug("the change stream was not closed in good order", "error", err)
		}
	}
	if !t.slot.Over && len(t.over) == 0 {
		t.slot.Over = true
		b.Mark(slotKey, mustJSON(t.slot), true)
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.over:
		t.over <- struct{}{}
	}
	if err := t.dropSlot(ctx); err != nil {
		return err
	}
	return io.EOF
}

// dropSlot drops the slot if the source has made it.
func (t *task) dropSlot(ctx context.Context) error {
	c, err := t.connect(ctx, true)
	if err != nil {
		return err
	}
	defer closeConn(c)
	system, _, err := identify(ctx, c)
	if err != nil {
		return err
	}
	info, err := t.slotInfo(ctx, c)
	if err != nil || info == nil || system != t.slot.System {
		return err
	}
	drop := "SELECT pg_catalog.pg_drop_replication_slot(" + quoteLit(t.cfg.slot) + ")"
	if !t.slot.Made {
		t.env.Logger.Warn("the snapshot is over; the slot was there before the source, and holds WAL back until it is dropped", "slot", t.cfg.slot, "mend", drop)
		return nil
	}
	for deadline := time.Now().Add(patience); ; { // a session of ours may still hold it
		err := exec(ctx, c, drop)
		if sqlState(err) != "55006" || time.Now().After(deadline) {
			return err
		}
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func (t *task) addMarks(b *connectors.Batch) {
	for _, m := range t.marks {
		b.Mark(m.key, m.pos, true)
	}
	t.marks = t.marks[:0]
}

// Committed lets the slot move: invariant 5, the positions are durable in the log.
func (t *task) Committed(_ context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	if p := positions[slotKey]; p != nil {
		var sl slotPosition
		if err := parsePosition(slotKey, p, &sl, &sl.V); err != nil {
			return err
		}
		if sl.Over && len(t.over) == 0 {
			t.over <- struct{}{}
		}
	}
	p := positions[streamKey]
	if p == nil {
		return nil
	}
	var sp streamPosition
	if err := parsePosition(streamKey, p, &sp, &sp.V); err != nil {
		return err
	}
	for {
		old := t.flushed.Load()
		if uint64(sp.LSN) <= old || t.flushed.CompareAndSwap(old, uint64(sp.LSN)) {
			return nil
		}
	}
}

// Close leaves slot and publication where they are: they hold what comes next.
func (t *task) Close() error {
	var errs []error
	if t.current != nil {
		errs = append(errs, t.current.close())
		t.current = nil
	}
	if t.stream != nil {
		errs = append(errs, t.stream.close())
		t.stream = nil
	}
	closeConn(t.aux)
	t.aux = nil
	return errors.Join(errs...)
}

// postgresEpoch is where the server's microseconds begin.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func fromMicros(us int64) time.Time { return postgresEpoch.Add(time.Duration(us) * time.Microsecond) }
