package tail

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"syscall"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/pause"
)

// chunkSize is how much is read from a file at once, and so the turn that one
// file gets before the next.
const chunkSize = 256 << 10

// retryFile is after how long a file is tried again that could not be read.
const retryFile = 5 * time.Second

// recordOverhead is what a record costs in a batch's budget beside its value and headers.
const recordOverhead = 64

// task follows the files of one host. Its memory is one buffer of a chunk, or of
// twice max_line when that is more, and about 300 bytes per file.
type task struct {
	src  *Source
	cfg  config
	log  *slog.Logger
	host []byte

	files   map[fileID]*file
	order   []*file // all files, in the order of their finding: the turns
	turn    int
	clock   uint64
	opened  int
	buf     []byte
	forget  []connectors.PositionKey // keys whose files are gone, to be marked
	first   bool                     // no position was there: start: end applies
	marked  bool                     // the start key is in the log, or not needed
	ignored map[fileID]int64         // files that are not read (compressed) with their size
	barred  map[fileID]bool          // new files that could not be opened: the log has it

	here  map[fileID]bool    // what the globs found last
	names map[string]bool    // and under which paths
	kin   map[string][]*file // files by family; nil: to be made again

	listing uint64 // how many lists of the files were begun
	scanned uint64 // the number of the list that the last whole scan went by

	folders map[string]*folder // listed since the last scan began
	dark    map[string]bool    // what could not be looked at since then
	told    map[string]bool    // and in the scan before: the log has it

	hints    *watcher
	nextScan time.Time
	scanCost time.Duration
}

func newTask(src *Source) *task {
	return &task{src: src, cfg: src.cfg, log: src.log, host: []byte(src.env.Host), files: map[fileID]*file{},
		ignored: map[fileID]int64{}, barred: map[fileID]bool{}, names: map[string]bool{}}
}

// Open takes on the positions; the first Read looks for their files.
func (t *task) Open(_ context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	t.first = len(positions) == 0
	for key, pos := range positions {
		if key == startKey {
			t.marked = true
			continue
		}
		p, err := parsePosition(pos)
		if err != nil {
			return connectors.Fatal(fmt.Errorf("%s: %w", key, err), "")
		}
		f := fileOf(p)
		f.active = time.Now()
		if f.key() != key || t.files[f.id] != nil {
			return connectors.Fatal(fmt.Errorf("position %.200q has the key %s", pos, key), "")
		}
		t.add(f)
	}
	t.src.rejoin(t, positions)
	t.hints = newWatcher(t.log)
	return t.bind()
}

func (t *task) add(f *file) {
	t.files[f.id] = f
	t.order = append(t.order, f)
	t.kin = nil
}

// drop takes a file off the list; its position stays unless forget is called too.
func (t *task) drop(f *file) {
	t.shut(f)
	delete(t.files, f.id)
	t.kin = nil
	for i, g := range t.order {
		if g == f {
			t.order = append(t.order[:i], t.order[i+1:]...)
			if t.turn > i {
				t.turn--
			}
			return
		}
	}
}

func (t *task) shut(f *file) {
	if f.fd != nil {
		f.close()
		t.opened--
	}
}

// Read gives what is there, and waits when there is nothing.
func (t *task) Read(ctx context.Context, b *connectors.Batch) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		now := time.Now()
		if !now.Before(t.nextScan) {
			if err := t.scan(now); err != nil {
				return err
			}
			if t.glimpseAll() {
				if err := t.scan(now); err != nil {
					return err
				}
			}
			t.scanCost = time.Since(now)
			t.nextScan = now.Add(max(t.cfg.poll, 10*t.scanCost))
		}
		if err := t.collect(ctx, now, b); err != nil {
			return err
		}
		t.mark(b)
		if !b.Empty() {
			return nil
		}
		if err := t.wait(ctx); err != nil {
			return err
		}
	}
}

// hintGap bounds how often hints of the system lead to a scan.
const hintGap = 5 * time.Millisecond

func (t *task) wait(ctx context.Context) error {
	timer := time.NewTimer(time.Until(t.nextScan))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-t.hints.wake:
		t.nextScan = time.Now().Add(max(hintGap, 10*t.scanCost))
		return pause.For(ctx, time.Until(t.nextScan))
	}
	return nil
}

// soon brings the next scan forward.
func (t *task) soon() {
	if at := time.Now().Add(hintGap); at.Before(t.nextScan) {
		t.nextScan = at
	}
}

// collect gives each file its turn until the batch is full or no file has more.
func (t *task) collect(ctx context.Context, now time.Time, b *connectors.Batch) error {
	for still := 0; still < len(t.order) && !b.Full() && ctx.Err() == nil; {
		if t.turn >= len(t.order) {
			t.turn = 0
		}
		f := t.order[t.turn]
		t.turn++
		n, err := t.read(f, now, b)
		if err != nil {
			return err
		}
		if n > 0 {
			still = 0
		} else {
			still++
		}
	}
	return nil
}

// mark adds the positions that changed, and forgets those of finished files.
func (t *task) mark(b *connectors.Batch) {
	if !t.marked && t.cfg.fromEnd {
		b.Mark(startKey, connectors.Position(`{"v":1,"start":"end"}`), false)
		t.marked = true
	}
	for _, key := range t.forget {
		b.Mark(key, nil, false)
	}
	t.forget = t.forget[:0]
	for _, f := range t.order {
		if f.moved {
			b.Mark(f.key(), f.position(), true)
			f.moved = false
		}
	}
}

// read takes what a file has to give now, at most a chunk, and returns how many bytes it went on.
func (t *task) read(f *file, now time.Time, b *connectors.Batch) (int, error) {
	if f.unreachable() || now.Before(f.again) {
		return 0, nil
	}
	if !f.again.IsZero() {
		f.again, f.tried = time.Time{}, 0
	}
	m := t.ahead(f, now)
	if f.idle() && m == moreComes {
		return 0, nil
	}
	if f.copyOf != "" || f.size == f.offset && f.fd == nil {
		t.finish(f, m)
		return 0, nil
	}
	if f.fd == nil && t.opened >= t.cfg.maxOpen && t.blocked(f, now) {
		return 0, nil // it waits without a descriptor, others need them
	}
	if err := t.open(f); err != nil {
		return 0, t.trouble(f, err)
	}
	st, err := f.fd.Stat()
	if err != nil {
		return 0, t.trouble(f, err)
	}
	if st.Size() != f.size {
		m = moreComes
	}
	f.sized(st.Size(), now)
	if f.size < f.offset {
		return 0, t.replaced(f)
	}
	if err := t.inherit(f); err != nil || t.blocked(f, now) {
		return 0, err
	}
	n, err := t.chunk(f, m, now, b)
	if errors.Is(err, errNotYet) {
		return 0, nil
	}
	if err != nil {
		return 0, t.trouble(f, err)
	}
	if n == 0 {
		t.finish(f, m)
	}
	return n, nil
}

// ahead says what can still come behind what is known of f.
func (t *task) ahead(f *file, now time.Time) more {
	quiet := now.Sub(f.active)
	switch {
	case f.gone() && quiet >= t.cfg.rotateWait:
		return moreNever
	case t.cfg.splitter.start != nil && quiet >= t.cfg.flush && f.size > f.offset && f.flushed != f.size:
		return moreLater
	}
	return moreComes
}

// finish ends a file that is gone and was read to its end.
func (t *task) finish(f *file, m more) {
	if m == moreLater {
		f.flushed = f.size
	}
	if m != moreNever || f.size > f.offset && f.copyOf == "" {
		return
	}
	if t.olderLives(f) || f.offset > 0 && !t.src.known(f) { // of a file that was never in the log a next task could not tell that it was forgotten
		return
	}
	for _, d := range t.order {
		if d.copyOf == f.key() {
			t.takeOver(f)
			break
		}
	}
	t.forget = append(t.forget, f.key())
	if f.deleted && f.fd != nil {
		// Its bytes go with the descriptor: kept until they are durable in the log.
		t.src.keep(t, f)
	}
	t.drop(f)
}

// olderLives says whether an older file of the same log is still followed.
// Rotated files are forgotten oldest first: what is not older than a known one and not
// known itself was not read (rotatedSince relies on it after a kill).
func (t *task) olderLives(f *file) bool {
	at, ok := f.modified()
	if !ok || f.deleted {
		return false
	}
	for _, g := range t.order {
		if g == f || g.origin != f.origin || g.deleted {
			continue
		}
		if g.unreachable() {
			return true // it may come back, as the older one
		}
		if g.matched {
			continue
		}
		if gat, ok := g.modified(); ok && (gat.Before(at) || gat.Equal(at) && g.id.ino < f.id.ino) {
			return true
		}
	}
	return false
}

// chunk reads and splits one chunk.
func (t *task) chunk(f *file, m more, now time.Time, b *connectors.Batch) (int, error) {
	want := int(min(f.size-f.offset, int64(max(chunkSize, f.need))))
	data, err := t.fill(f, want)
	if err != nil {
		return 0, err
	}
	end := m
	if int64(len(data)) < f.size-f.offset {
		m = moreComes
	}
	if f.offset == 0 {
		if ok, err := t.mayBegin(f, data, now); err != nil || !ok {
			if err == nil {
				err = errNotYet
			}
			return 0, err
		}
	}
	s := &t.cfg.splitter
	if f.offset == 0 && compressed(data) {
		t.ignore(f.id, f.path, f.size)
		t.drop(f)
		return 0, nil
	}
	used, sk := 0, f.skip
	if len(data) > 0 {
		used, sk = t.split(s, data, f, m, b)
	}
	if used > 0 {
		f.skip, f.tried, f.need, f.warned = sk, 0, 0, false
		f.advance(data[:used])
		f.flushed = 0
		return used, nil
	}
	switch {
	case f.skip == skipNone && hollow(data):
		return t.pass(f, end)
	case len(data) < want:
		f.tried = f.offset + int64(len(data)) // the file is shorter than it was a moment ago
	case int64(want) < f.size-f.offset:
		if want >= s.window() {
			return 0, fmt.Errorf("%s: no record ends within %d bytes from %d", f.path, want, f.offset)
		}
		f.need = min(2*want, s.window())
		return t.chunk(f, m, now, b)
	default:
		f.tried = f.size
	}
	return 0, nil
}

// fill reads the bytes from f's offset on, and holds those before it and the file's beginning against what was read.
func (t *task) fill(f *file, want int) ([]byte, error) {
	total := f.tailLen + want
	if cap(t.buf) < total {
		t.buf = make([]byte, max(total, chunkSize+tailMax))
	}
	buf := t.buf[:total]
	n, err := f.fd.ReadAt(buf, f.offset-int64(f.tailLen))
	if n < f.tailLen || string(buf[:f.tailLen]) != string(f.tail[:f.tailLen]) {
		if err != nil && !isEOF(err) {
			return nil, err
		}
		return nil, errChanged
	}
	if err != nil && !isEOF(err) {
		return nil, err
	}
	// After the read: lines of one length that end alike are told by the file's beginning alone, and so is a
	// file that was truncated and written again while it was read, page by page.
	var head [headMax]byte
	if f.offset > tailMax {
		if err := readFull(f.fd, head[:f.headLen], 0); err != nil {
			return nil, err
		}
		if newSum.add(head[:f.headLen]) != f.head {
			return nil, errChanged
		}
	} else { // buf begins where the file does
		k := min(n, headMax)
		if err := readFull(f.fd, head[:k], 0); err != nil {
			return nil, err
		}
		if string(head[:k]) != string(buf[:k]) {
			return nil, errChanged
		}
	}
	return buf[f.tailLen:n], nil
}

// split adds data's records to the batch until that is full.
func (t *task) split(s *splitter, data []byte, f *file, m more, b *connectors.Batch) (used int, sk skip) {
	sk = f.skip
	if _, n, _ := s.next(data, sk, m); n == 0 {
		return 0, sk // nothing to copy: a batch that stays empty must not grow
	}
	now := time.Now()
	path, ident := b.Copy([]byte(f.origin)), b.Copy([]byte(f.ident))
	// One copy of the chunk serves all its records.
	own := b.Copy(data)
	for used < len(own) && !b.Full() {
		value, n, after := s.next(own[used:], sk, m)
		if n == 0 {
			break
		}
		if value != nil {
			var digits [20]byte
			at := strconv.AppendInt(digits[:0], f.offset+int64(used), 10)
			h := b.Headers(4)
			h[0] = connectors.Header{Key: "host", Value: t.host}
			h[1] = connectors.Header{Key: "path", Value: path}
			h[2] = connectors.Header{Key: "offset", Value: b.Copy(at)}
			h[3] = connectors.Header{Key: "file", Value: ident}
			b.Add(connectors.Record{Topic: t.cfg.topic, Partition: f.part, Timestamp: now, Headers: h, RawValue: value},
				len(value)+len(t.host)+len(path)+len(at)+len(ident)+recordOverhead)
		}
		used, sk = used+n, after
	}
	return used, sk
}

// reopen is open at a start: what the last task held open is compared, too.
func (t *task) reopen(f *file) error {
	if f.fd != nil {
		return f.verify(f.fd, f.size)
	}
	return t.open(f)
}

// open opens a file that was closed, and makes sure that it is still the one that was read.
func (t *task) open(f *file) error {
	t.clock++
	f.used = t.clock
	if f.fd != nil {
		return nil
	}
	for t.opened >= t.cfg.maxOpen && t.shutOldest(f) {
	}
	fd, err := openFile(f.path)
	for (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) && t.shutOldest(f) {
		fd, err = openFile(f.path)
	}
	if err != nil {
		return err
	}
	st, err := fd.Stat()
	if err == nil {
		if id, ok := idOf(st); !ok || id != f.id {
			err = fs.ErrNotExist // another file has the name now: the next scan finds this one
		} else {
			err = f.verify(fd, st.Size())
		}
	}
	if err != nil {
		_ = fd.Close() // it was only read
		return err
	}
	f.fd = fd
	t.opened++
	return nil
}

// shutOldest closes the descriptor that was used longest ago; a deleted file's stays, it cannot be opened again.
func (t *task) shutOldest(except *file) bool {
	var oldest *file
	for _, f := range t.order {
		if f.fd != nil && f != except && !f.deleted && (oldest == nil || f.used < oldest.used) {
			oldest = f
		}
	}
	if oldest == nil {
		return false
	}
	t.shut(oldest)
	return true
}

// trouble decides what an error with one file means for it. The task's other files go on, whatever it is.
func (t *task) trouble(f *file, err error) error {
	switch {
	case errors.Is(err, errChanged):
		return t.replaced(f)
	case errors.Is(err, fs.ErrNotExist):
		t.soon() // renamed or deleted since the last scan
		return nil
	}
	if !f.deleted { // else it could not be opened again
		t.shut(f)
	}
	f.tried, f.again = f.size, time.Now().Add(retryFile)
	if !f.warned {
		f.warned = true
		t.log.Warn("a file cannot be read; it is tried again until it can", "path", f.path, "error", err)
	}
	return nil
}

// Committed lets go of deleted files whose end is durable.
func (t *task) Committed(_ context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	t.src.committed(positions)
	return nil
}

// Close ends the task; what is open waits for the next one.
func (t *task) Close() error {
	if t.hints != nil {
		t.hints.close()
		t.hints = nil
	}
	for _, all := range []bool{false, true} { // deleted ones first
		for _, f := range t.order {
			if _, deleted := f.unlinked(); f.fd != nil && (all || deleted) {
				t.src.keep(t, f)
			}
		}
	}
	t.order, t.files, t.opened = nil, map[fileID]*file{}, 0
	return nil
}
