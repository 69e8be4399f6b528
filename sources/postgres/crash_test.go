package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/jackc/pgx/v5/pgconn"
)

// replica replays change events and refuses what cannot follow: a create of a row
// that is there, an update or delete of one that is not, an update that is not
// newer. So a change that comes twice, or a gap, shows at once.
type replica struct {
	t      testing.TB
	tables map[string]map[string][]string // topic, key: the row's columns as text
	bags   map[string]map[string]int      // topics without a key: rows and how often
	trace  map[string][]string            // what happened to a key
	bad    int
	events int
	ops    map[connectors.Op]int
}

func newReplica(t testing.TB) *replica {
	return &replica{t: t, tables: map[string]map[string][]string{}, bags: map[string]map[string]int{}, trace: map[string][]string{}, ops: map[connectors.Op]int{}}
}

func (p *replica) fail(r connectors.Record, why string) {
	if p.bad++; p.bad < 6 {
		k := r.Topic + show(r.Key.Schema, r.Key.Value)
		p.t.Errorf("%s %s: %s\nbefore it:\n%s", r.Topic, why, describe(r), strings.Join(p.trace[k], "\n"))
	}
}

func texts(c *connectors.Change, v schema.Value) []string {
	out := make([]string, len(v.List))
	for i := range v.List {
		out[i] = show(c.Row.Fields[i].Schema, v.List[i])
	}
	return out
}

func (p *replica) apply(r connectors.Record) {
	if r.Change == nil {
		return
	}
	p.events++
	c := r.Change
	p.ops[c.Op]++
	if c.Op == connectors.OpTruncate {
		p.tables[r.Topic], p.bags[r.Topic] = nil, nil
		return
	}
	if r.Key.Schema == nil {
		p.applyBag(r)
		return
	}
	key := show(r.Key.Schema, r.Key.Value)
	if len(p.trace[r.Topic+key]) < 50 {
		src := c.Source.Value.List
		p.trace[r.Topic+key] = append(p.trace[r.Topic+key], fmt.Sprintf("%s @%d tx%d", describe(r), src[fieldLSN].Int(), src[fieldTxID].Int()))
	}
	rows := p.tables[r.Topic]
	if rows == nil {
		rows = map[string][]string{}
		p.tables[r.Topic] = rows
	}
	old, there := rows[key]
	switch c.Op {
	case connectors.OpRead, connectors.OpCreate:
		if there {
			p.fail(r, "row is there already")
		}
		row := texts(c, c.After)
		for i, v := range row {
			if v != "missing" {
				continue
			}
			// A moved row keeps what was not sent: the old key's header says whose.
			var from []string
			for _, h := range r.Headers {
				if h.Key == headerOldKey {
					from = rows["gone "+string(h.Value)]
				}
			}
			// Without one the row was on its way between two runs and has moved on
			// or gone since; if it has not, the comparison at the end finds it.
			if from != nil {
				row[i] = from[i]
			}
		}
		rows[key] = row
	case connectors.OpUpdate:
		if !there {
			p.fail(r, "no such row")
			return
		}
		row := texts(c, c.After)
		for i, v := range row {
			if v == "missing" {
				row[i] = old[i]
			}
		}
		if i := c.Row.FieldIndex("rev"); i >= 0 && !newer(old[i], row[i]) {
			p.fail(r, "update is not newer")
		}
		rows[key] = row
	case connectors.OpDelete:
		if !there {
			p.fail(r, "no such row")
		}
		for _, h := range r.Headers {
			if h.Key == headerNewKey {
				rows["gone "+keyObject(r)] = old
			}
		}
		delete(rows, key)
	}
}

// keyObject is the key as the headers write it.
func keyObject(r connectors.Record) string {
	out := []byte{'{'}
	for i, f := range r.Key.Schema.Fields {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(schema.AppendQuoted(out, []byte(f.Name)), ':')
		if v := r.Key.Value.List[i]; v.Kind == schema.String {
			out = schema.AppendQuoted(out, v.Data)
		} else {
			out = append(out, show(f.Schema, v)...)
		}
	}
	return string(append(out, '}'))
}

func newer(a, b string) bool {
	x, err1 := strconv.Atoi(a)
	y, err2 := strconv.Atoi(b)
	return err1 == nil && err2 == nil && y > x
}

func (p *replica) applyBag(r connectors.Record) {
	bag := p.bags[r.Topic]
	if bag == nil {
		bag = map[string]int{}
		p.bags[r.Topic] = bag
	}
	c := r.Change
	if c.Before.Kind == schema.Struct {
		k := strings.Join(texts(c, c.Before), "|")
		if bag[k]--; bag[k] < 0 {
			p.fail(r, "no such row")
		}
		if bag[k] == 0 {
			delete(bag, k)
		}
	}
	if c.After.Kind == schema.Struct {
		bag[strings.Join(texts(c, c.After), "|")]++
	}
}

// rows gives a table's rows as sorted-by-nobody text lines.
func (p *replica) rows(topic string) map[string]int {
	out := map[string]int{}
	for k, n := range p.bags[topic] {
		out[k] = n
	}
	for k, row := range p.tables[topic] {
		if !strings.HasPrefix(k, "gone ") {
			out[strings.Join(row, "|")]++
		}
	}
	return out
}

// load changes the tables at random until n changes have been made.
type load struct {
	t    testing.TB
	url  string
	made atomic.Int64
	stop atomic.Bool
	wg   sync.WaitGroup

	mu     sync.Mutex
	grown  *sync.Cond
	budget int64 // changes that may have been made by now
}

// allow lets the load go on to n changes: the reader sets the pace, so that
// changes fall into every phase of its work.
func (w *load) allow(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.budget = max(w.budget, n); w.grown != nil {
		w.grown.Broadcast()
	}
}

func (w *load) wait() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.made.Load() >= w.budget && !w.stop.Load() {
		w.grown.Wait()
	}
}

func (w *load) end() {
	w.stop.Store(true)
	w.allow(1 << 62)
	w.wg.Wait()
}

const loadTables = `
CREATE TABLE nums (id int PRIMARY KEY, rev int NOT NULL, txt text, big text);
ALTER TABLE nums ALTER big SET STORAGE EXTERNAL;
CREATE TABLE words (part text, n int, rev int NOT NULL, big text, PRIMARY KEY (part, n));
ALTER TABLE words ALTER big SET STORAGE EXTERNAL;
CREATE TABLE wide (id uuid PRIMARY KEY, rev int NOT NULL, big text);
ALTER TABLE wide ALTER big SET STORAGE EXTERNAL;
ALTER TABLE wide REPLICA IDENTITY FULL;
CREATE TABLE bag (rev int, txt text);
ALTER TABLE bag REPLICA IDENTITY FULL;
CREATE TABLE parts (id int, day int, rev int NOT NULL, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
CREATE TABLE parts0 PARTITION OF parts FOR VALUES IN (0);
CREATE TABLE parts1 PARTITION OF parts FOR VALUES IN (1);
INSERT INTO nums SELECT g, 1, 'start '||g, CASE WHEN g % 3 = 0 THEN repeat(md5(g::text), 100) END FROM generate_series(1, 4000) g;
INSERT INTO words SELECT chr(97 + g % 26)||chr(65 + g % 7), g, 1, repeat(md5(g::text), 90) FROM generate_series(1, 2000) g;
INSERT INTO wide SELECT md5(g::text)::uuid, 1, repeat(md5(g::text), 90) FROM generate_series(1, 2000) g;
INSERT INTO bag SELECT g, 'b'||g%50 FROM generate_series(1, 1000) g;
INSERT INTO parts SELECT g, g % 2, 1 FROM generate_series(1, 1000) g;`

func (w *load) run(n int64, seed uint64) {
	w.grown = sync.NewCond(&w.mu)
	for i := range uint64(4) {
		w.wg.Go(func() {
			c, err := pgconn.Connect(context.Background(), w.url)
			if err != nil {
				w.t.Error(err)
				return
			}
			defer closeConn(c)
			rnd := rand.New(rand.NewPCG(seed, i))
			for w.made.Load() < n && !w.stop.Load() {
				w.wait()
				if err := w.transaction(c, rnd); err != nil {
					w.t.Errorf("load: %v", err)
					return
				}
			}
		})
	}
}

// transaction makes one, with savepoints, and commits or rolls back.
func (w *load) transaction(c *pgconn.PgConn, rnd *rand.Rand) error {
	ctx := context.Background()
	n := 1 + rnd.IntN(12)
	if rnd.IntN(50) == 0 {
		n = 300 // spans batches
	}
	if err := exec(ctx, c, "BEGIN"); err != nil {
		return err
	}
	for range n {
		err := exec(ctx, c, "SAVEPOINT s; "+w.statement(rnd))
		switch {
		case err == nil:
		case sqlState(err) == "40P01", sqlState(err) == "40001": // deadlock; row moved to another partition
			return exec(ctx, c, "ROLLBACK")
		case sqlState(err) == "23505":
			if err := exec(ctx, c, "ROLLBACK TO s"); err != nil {
				return err
			}
		default:
			return err
		}
		if rnd.IntN(10) == 0 {
			if err := exec(ctx, c, "ROLLBACK TO s"); err != nil {
				return err
			}
		}
	}
	if rnd.IntN(12) == 0 {
		return exec(ctx, c, "ROLLBACK")
	}
	w.made.Add(int64(n))
	return exec(ctx, c, "COMMIT")
}

func (w *load) statement(rnd *rand.Rand) string {
	id, other := 1+rnd.IntN(5000), 1+rnd.IntN(5000)
	big := fmt.Sprintf("repeat(md5('%d'), 100)", rnd.IntN(1e9))
	word := func(n int) string {
		return fmt.Sprintf("part = chr(97 + %d %% 26)||chr(65 + %d %% 7) AND n = %d", n, n, n)
	}
	switch k := rnd.IntN(100); {
	case k < 14:
		return fmt.Sprintf("INSERT INTO nums VALUES (%d, 1, 'new', %s) ON CONFLICT DO NOTHING", id, big)
	case k < 26:
		return fmt.Sprintf("UPDATE nums SET rev = rev + 1, txt = 'upd %d' WHERE id = %d", other, id)
	case k < 32:
		return fmt.Sprintf("UPDATE nums SET rev = rev + 1, big = %s WHERE id = %d", big, id)
	case k < 42:
		return fmt.Sprintf("UPDATE nums SET rev = rev + 1, id = %d WHERE id = %d", other, id)
	case k < 49:
		return fmt.Sprintf("DELETE FROM nums WHERE id = %d", id)
	case k < 55:
		return fmt.Sprintf("UPDATE words SET rev = rev + 1 WHERE %s", word(id%2000))
	case k < 59:
		return fmt.Sprintf("UPDATE words SET rev = rev + 1, part = chr(97 + %d), n = n + %d WHERE %s", rnd.IntN(26), rnd.IntN(3), word(id%2000))
	case k < 62:
		return fmt.Sprintf("DELETE FROM words WHERE %s", word(id%2000))
	case k < 65:
		return fmt.Sprintf("INSERT INTO words VALUES (chr(97 + %d %% 26)||chr(65 + %d %% 7), %d, 1, %s) ON CONFLICT DO NOTHING", id%2000, id%2000, id%2000, big)
	case k < 72:
		return fmt.Sprintf("UPDATE wide SET rev = rev + 1 WHERE id = md5('%d')::uuid", id)
	case k < 77:
		return fmt.Sprintf("UPDATE wide SET rev = rev + 1, id = md5('%d')::uuid WHERE id = md5('%d')::uuid", other, id)
	case k < 82:
		return fmt.Sprintf("INSERT INTO wide VALUES (md5('%d')::uuid, 1, %s) ON CONFLICT DO NOTHING", id, big)
	case k < 86:
		return fmt.Sprintf("INSERT INTO bag VALUES (%d, 'b%d')", id, other%50)
	case k < 88:
		return fmt.Sprintf("DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE rev = %d LIMIT 1)", id)
	case k < 90:
		return fmt.Sprintf("UPDATE bag SET txt = 'u%d' WHERE rev = %d", other%50, id)
	case k < 94:
		return fmt.Sprintf("UPDATE parts SET rev = rev + 1, day = 1 - day WHERE id = %d", id)
	case k < 97:
		return fmt.Sprintf("INSERT INTO parts VALUES (%d, %d, 1) ON CONFLICT DO NOTHING", id, other%2)
	case k < 99 || rnd.IntN(60) != 0:
		return fmt.Sprintf("DELETE FROM parts WHERE id = %d", id)
	}
	return "TRUNCATE " + []string{"nums", "wide", "bag", "words"}[rnd.IntN(4)]
}

// TestGate3 is the gate: random changes during snapshot and streaming,
// ten kills; the replay is the table exactly and no change comes twice.
// FOREBAY_CRASH_CHANGES makes it longer, FOREBAY_SEED repeats one.
func TestGate3(t *testing.T) {
	changes := int64(20_000)
	if s := os.Getenv("FOREBAY_CRASH_CHANGES"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		changes = n
	}
	seed := rand.Uint64()
	if s := os.Getenv("FOREBAY_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("FOREBAY_SEED=%d", seed)
	url := testURL(t)
	c := dial(t, url)
	sql(t, c, loadTables)
	src := configure(t, url, []string{"public.*"}, nil)
	src.cfg.chunkRows, src.cfg.runTime = 150, 15*time.Millisecond
	rep := newReplica(t)
	l := newLogbook(t, src, rep.apply)
	l.batch = 16 << 10
	w := &load{t: t, url: url}
	w.run(changes, seed)
	defer w.end()
	rnd := rand.New(rand.NewPCG(seed, 99))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	b := connectors.NewBatch(l.batch)
	snapshotKills, reads, runs := 0, 0, 0
	const kills = 10
	for w.made.Load() < changes || l.kills < kills {
		if t.Failed() {
			return
		}
		if l.task == nil {
			if err := l.open(ctx); err != nil {
				t.Fatal(err)
			}
		}
		reads++
		snap := len(l.task.(*task).pending) > 0
		var now bool
		if snap {
			// Two fifths of the changes and half of the kills fall into the snapshot.
			w.allow(min(int64(reads)*changes/120, changes*2/5))
			now = reads%13 == 0 && l.kills < kills/2
		} else {
			made := w.made.Load()
			w.allow(made + changes/20)
			now = l.kills < kills && made > changes*2/5+int64(l.kills-kills/2+1)*changes/10 || made >= changes
		}
		readCtx, done := context.WithTimeout(ctx, time.Second)
		var err error
		if now {
			mode := rnd.IntN(3)
			err = l.read(readCtx, b, func(n int) int {
				switch {
				case mode == 0 || n == 0:
					return 0 // nothing became durable
				case mode == 1:
					return rnd.IntN(n + 1) // a part did
				}
				return n // all did, and the slot was told
			})
			l.kill()
			if snap {
				snapshotKills++
			}
		} else {
			err = l.read(readCtx, b, nil)
		}
		done()
		for _, tt := range l.positions {
			runs = max(runs, strings.Count(string(tt), `"snap"`))
		}
		if err != nil && (!errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil) {
			t.Fatal(err)
		}
	}
	w.wg.Wait()
	l.catchUp(ctx, c)
	defer l.close()
	t.Logf("%d changes asked, %d events %v, %d kills, %d of them in the snapshot", w.made.Load(), rep.events, ops(rep.ops), l.kills, snapshotKills)
	if snapshotKills < 3 || runs < 3 {
		t.Errorf("only %d kills hit the snapshot, and no table was read in more than %d runs", snapshotKills, runs)
	}
	compare(t, c, rep, "nums", "id, rev, coalesce(txt, 'null'), coalesce(big, 'null')")
	compare(t, c, rep, "words", "part, n, rev, coalesce(big, 'null')")
	compare(t, c, rep, "wide", "id, rev, coalesce(big, 'null')")
	compare(t, c, rep, "bag", "rev, txt")
	compare(t, c, rep, "parts", "id, day, rev")
}

func ops(m map[connectors.Op]int) string {
	var out []string
	for _, o := range []connectors.Op{'r', 'c', 'u', 'd', 't'} {
		out = append(out, fmt.Sprintf("%c=%d", o, m[o]))
	}
	return strings.Join(out, " ")
}

// compare asks the server itself, past our decoders.
func compare(t *testing.T, c *pgconn.PgConn, rep *replica, table, cols string) {
	t.Helper()
	want := map[string]int{}
	for _, r := range sql(t, c, "SELECT "+cols+" FROM "+table) {
		parts := make([]string, len(r))
		for i := range r {
			parts[i] = string(r[i])
		}
		want[strings.Join(parts, "|")]++
	}
	got := rep.rows("shop.public." + table)
	bad := 0
	short := func(s string) string { return s[:min(len(s), 120)] }
	for k, n := range want {
		if got[k] != n {
			if bad++; bad < 5 {
				t.Errorf("%s: the table has %d of %q, the replay %d", table, n, short(k), got[k])
			}
		}
	}
	for k, n := range got {
		if want[k] == 0 {
			if bad++; bad < 10 {
				t.Errorf("%s: the replay has %d of %q, the table none", table, n, short(k))
			}
		}
	}
	t.Logf("%s: %d different rows, %d wrong", table, len(want), bad)
}
