package audit

import (
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter"
)

// replay turns a topic's records into what the source must hold. It keeps
// hashes, no rows: some tens of bytes for each key or line.
type replay struct {
	count   *Count
	host    string // whose lines the source has; "": everybody's
	seed    maphash.Seed
	encoder *converter.Encoder
	writers map[*schema.Schema]converter.Writer
	buf     []byte

	rows  map[string]*version // keyed changes, by the key's bytes
	bag   map[uint64]int      // rows of tables without a key: how often each is there
	plain map[uint64]int      // plain records without a place in a file, by text
	lines map[uint64]logLine  // lines of files, by host, file and offset
	seen  map[uint64]struct{} // changes, by key and content, to find doubled ones
	moved *version            // the row that the first half of a key change has removed
}

// The headers of a key change's halves, a delete and a create (Debezium's
// RelationalChangeRecordEmitter). The create leaves out large columns that did not change.
const (
	headerNewKey = "__debezium.newkey"
	headerOldKey = "__debezium.oldkey"
)

// version is what the log says of one key.
type version struct {
	hash uint64
	// long holds the hashes of large columns, which PostgreSQL may leave out of a later update.
	long  []column
	there bool
	// window holds the hashes that the key had while the point was being fixed; 0: none, deleted.
	window []uint64
	read   bool // the last record was of the snapshot
	found  bool // the source has this key
}

type column struct {
	name string
	hash uint64
}

// logLine is a line of a file that the log holds.
type logLine struct {
	text  uint64 // hash
	sure  bool   // before the point for sure
	found bool   // the source has it
	other bool   // it is another host's, whose lines this one cannot have
}

func newReplay(c *Count, f converter.Format) *replay {
	return &replay{count: c, seed: maphash.MakeSeed(), encoder: converter.NewEncoder(f), writers: map[*schema.Schema]converter.Writer{},
		rows: map[string]*version{}, bag: map[uint64]int{}, plain: map[uint64]int{}, lines: map[uint64]logLine{}, seen: map[uint64]struct{}{}}
}

func (r *replay) writer(s *schema.Schema) converter.Writer {
	w, ok := r.writers[s]
	if !ok {
		if len(r.writers) > 1024 {
			clear(r.writers)
		}
		w = converter.NewWriter(s)
		r.writers[s] = w
	}
	return w
}

// longColumn is the least size of a value that can lie out of line (TOAST).
const longColumn = 32

// hash sums the hashes of a row's columns: null counts like a column that is
// not there, so that an added column changes nothing for older rows.
func (r *replay) hash(s *schema.Schema, v schema.Value, old *version) (sum uint64, long []column) {
	w := r.writer(s)
	for i := range min(len(s.Fields), len(v.List)) {
		f := &v.List[i]
		name := s.Fields[i].Name
		switch f.Kind {
		case schema.Null:
			continue
		case schema.Unavailable:
			if old != nil {
				if at := slices.IndexFunc(old.long, func(c column) bool { return c.name == name }); at >= 0 {
					sum += old.long[at].hash
					long = append(long, old.long[at])
				}
			}
			continue
		}
		r.buf = append(append(r.buf[:0], name...), 0)
		r.buf = w.AppendField(r.buf, i, f)
		h := maphash.Bytes(r.seed, r.buf)
		sum += h
		if len(f.Data) >= longColumn || len(f.List) > 0 {
			long = append(long, column{name, h})
		}
	}
	return sum, long
}

// record takes one record of the log; sure says that it lies before the window.
func (r *replay) record(rec *connectors.Record, sure bool) {
	switch {
	case rec.Change != nil:
		r.change(rec, sure)
	case rec.RawKey != nil && rec.RawValue == nil:
		r.remove(string(rec.RawKey), sure)
	case rec.RawKey != nil && rec.Value.Schema != nil && rec.Value.Schema.Kind == schema.Struct:
		r.put(string(rec.RawKey), rec.Value.Schema, rec.Value.Value, sure, false, rec)
	default:
		r.line(rec, sure)
	}
}

func (r *replay) change(rec *connectors.Record, sure bool) {
	c := rec.Change
	if c.Op == connectors.OpTruncate {
		for key := range r.rows {
			r.remove(key, sure)
		}
		clear(r.bag)
		return
	}
	if r.repeated(rec) {
		r.count.add(connectors.Difference{Kind: connectors.DoubledRecord, Where: where(rec), What: fmt.Sprintf("the change %q of key %s is there twice", c.Op, rec.RawKey)})
	}
	if rec.RawKey == nil {
		if c.Before.Kind == schema.Struct && c.Op != connectors.OpRead && c.Op != connectors.OpCreate {
			h, _ := r.hash(c.Row, c.Before, nil)
			r.bag[h]--
		}
		if c.After.Kind == schema.Struct {
			h, _ := r.hash(c.Row, c.After, nil)
			r.bag[h]++
		}
		return
	}
	if c.After.IsNull() {
		r.moved = nil
		if v := r.rows[string(rec.RawKey)]; v != nil && header(rec, headerNewKey) != "" {
			r.moved = &version{long: v.long}
		}
		r.remove(string(rec.RawKey), sure)
		return
	}
	r.put(string(rec.RawKey), c.Row, c.After, sure, c.Op == connectors.OpRead, rec)
}

// repeated says whether the same change was there before: same key, operation,
// row and place in the source.
func (r *replay) repeated(rec *connectors.Record) bool {
	c := rec.Change
	if c.Op == connectors.OpRead || c.Source.Schema == nil || rec.RawKey == nil {
		return false // rows of a snapshot are told by their keys, see put
	}
	r.buf = append(append(r.buf[:0], byte(c.Op)), rec.RawKey...)
	r.buf = r.writer(c.Row).Append(r.buf, &c.After)
	r.buf = r.writer(c.Source.Schema).Append(r.buf, &c.Source.Value)
	h := maphash.Bytes(r.seed, r.buf)
	_, again := r.seen[h]
	r.seen[h] = struct{}{}
	return again
}

func (r *replay) put(key string, s *schema.Schema, row schema.Value, sure, read bool, rec *connectors.Record) {
	v := r.rows[key]
	if v == nil {
		v = &version{}
		r.rows[key] = v
	}
	old := v
	if r.moved != nil && header(rec, headerOldKey) != "" {
		old = r.moved
	}
	r.moved = nil
	hash, long := r.hash(s, row, old)
	if read && v.there && v.read && v.hash == hash {
		r.count.add(connectors.Difference{Kind: connectors.DoubledRecord, Where: where(rec), What: fmt.Sprintf("the snapshot's row of key %s is there twice", key)})
	}
	r.keepOld(v, sure)
	v.hash, v.long, v.there, v.read = hash, long, true, read
}

func (r *replay) remove(key string, sure bool) {
	v := r.rows[key]
	if v == nil || !v.there {
		return
	}
	if sure {
		delete(r.rows, key)
		return
	}
	r.keepOld(v, false)
	v.there, v.long, v.hash = false, nil, 0
}

// keepOld remembers the version that a record of the window replaces.
func (r *replay) keepOld(v *version, sure bool) {
	switch {
	case sure:
	case v.there:
		v.window = append(v.window, v.hash)
	default:
		v.window = append(v.window, 0)
	}
}

// line takes a plain record. One with an offset is known by host, file and
// offset; one without by its text.
func (r *replay) line(rec *connectors.Record, sure bool) {
	key, placed := r.lineKey(rec)
	if !placed {
		r.plain[key]++
		return
	}
	if _, again := r.lines[key]; again {
		r.count.add(connectors.Difference{Kind: connectors.DoubledRecord, Where: where(rec),
			What: fmt.Sprintf("the line at byte %s of %s is there twice", header(rec, "offset"), fileName(rec))})
		return
	}
	host := header(rec, "host")
	r.lines[key] = logLine{text: maphash.Bytes(r.seed, rec.RawValue), sure: sure, other: r.host != "" && host != "" && host != r.host}
}

// lineKey hashes what a line is known by. A record without the header file has one path all its life.
func (r *replay) lineKey(rec *connectors.Record) (key uint64, placed bool) {
	offset := header(rec, "offset")
	if offset == "" {
		return maphash.Bytes(r.seed, rec.RawValue), false
	}
	r.buf = append(append(r.buf[:0], header(rec, "host")...), 0)
	if file := header(rec, "file"); file != "" {
		r.buf = append(append(r.buf, file...), 0)
	} else {
		r.buf = append(append(r.buf, header(rec, "path")...), 1)
	}
	r.buf = append(r.buf, offset...)
	return maphash.Bytes(r.seed, r.buf), true
}

// fileName is for people: a path may have had several files.
func fileName(rec *connectors.Record) string {
	if file := header(rec, "file"); file != "" {
		return header(rec, "path") + " (" + file + ")"
	}
	return header(rec, "path")
}

func header(rec *connectors.Record, key string) string {
	for _, h := range rec.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// row takes one row or line that the source holds, as its transforms leave it.
func (r *replay) row(rec connectors.Record) error {
	if rec.Key.Schema != nil || rec.Value.Schema != nil {
		_, e, err := r.encoder.Encode(nil, &rec)
		if err != nil {
			return err
		}
		rec.RawKey, rec.RawValue = e.Key, e.Value
	}
	if rec.Change == nil && rec.RawKey != nil && rec.Value.Schema != nil && rec.Value.Schema.Kind == schema.Struct { // as record sees it
		rec.Change = &connectors.Change{Op: connectors.OpRead, Row: rec.Value.Schema, After: rec.Value.Value}
	}
	if rec.Change == nil {
		r.rowLine(&rec)
		return nil
	}
	key := rec.RawKey
	hash, _ := r.hash(rec.Change.Row, rec.Change.After, nil)
	if key == nil {
		if r.bag[hash] > 0 {
			r.bag[hash]--
			r.count.Agreed++
			return nil
		}
		r.count.add(connectors.Difference{Kind: connectors.MissingRecord, Where: rec.Topic, What: "the log does not have a row of a table without a key"})
		return nil
	}
	v := r.rows[string(key)]
	switch {
	case v == nil || !v.there && len(v.window) == 0:
		r.count.add(connectors.Difference{Kind: connectors.MissingRecord, Where: rec.Topic, What: fmt.Sprintf("the log does not have the row of key %s", short(key))})
		return nil
	case v.found:
		return fmt.Errorf("the source gave the row of key %s twice", short(key))
	case v.there && v.hash == hash || slices.Contains(v.window, hash):
		r.count.Agreed++
	default:
		r.count.add(connectors.Difference{Kind: connectors.DifferentRecord, Where: rec.Topic, What: fmt.Sprintf("the log has another row of key %s", short(key))})
	}
	v.found = true
	return nil
}

// rowLine takes one line that the source holds.
func (r *replay) rowLine(rec *connectors.Record) {
	key, placed := r.lineKey(rec)
	l, ok := r.lines[key]
	switch {
	case !placed && r.plain[key] > 0:
		r.plain[key]--
		r.count.Agreed++
	case !ok:
		r.count.add(connectors.Difference{Kind: connectors.MissingRecord, Where: fmt.Sprintf("%s at byte %s", fileName(rec), header(rec, "offset")),
			What: fmt.Sprintf("the log does not have the line %q", short(rec.RawValue))})
	case l.text != maphash.Bytes(r.seed, rec.RawValue):
		r.count.add(connectors.Difference{Kind: connectors.DifferentRecord, Where: fmt.Sprintf("%s at byte %s", fileName(rec), header(rec, "offset")),
			What: fmt.Sprintf("the log has another line than %q", short(rec.RawValue))})
		l.found = true
	default:
		r.count.Agreed++
		l.found = true
	}
	if ok {
		r.lines[key] = l
	}
}

func short(b []byte) string {
	const most = 120
	if len(b) > most {
		return string(b[:most]) + "…"
	}
	return string(b)
}

// finish reports what the log has and the source has not.
func (r *replay) finish() {
	for key, v := range r.rows {
		if v.there && !v.found && !slices.Contains(v.window, 0) {
			r.count.add(connectors.Difference{Kind: connectors.DifferentRecord, Where: r.count.Of, What: fmt.Sprintf("the log has a row of key %s that the source does not have", short([]byte(key)))})
		}
	}
	for _, n := range r.bag {
		for range n {
			r.count.add(connectors.Difference{Kind: connectors.DoubledRecord, Where: r.count.Of, What: "the log has a row of a table without a key once more than the source"})
		}
	}
	for _, n := range r.plain {
		r.count.Gone += int64(n)
	}
	for _, l := range r.lines {
		switch {
		case l.other:
			r.count.Elsewhere++
		case l.sure && !l.found: // what came while the point was fixed may lie behind it
			r.count.Gone++
		}
	}
}
