package commitlog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/forebayhub/forebay/core/record"
	"github.com/forebayhub/forebay/internal/vfs"
)

// Dump writes what a file of a log holds, for people: a segment with a CRC verdict for each batch (and its records, if
// asked), an index, a transaction index, a producer snapshot, leader epochs, bounds, a recovery point, a
// manifest; or all files of a log's folder. It goes on after damage where it can, and returns an error that is
// ErrCorrupt when it has found any. It changes nothing.
func Dump(w io.Writer, f vfs.FS, name string, records bool) error {
	st, err := f.Stat(name)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return dumpFile(w, f, name, records)
	}
	entries, err := f.ReadDir(name)
	if err != nil {
		return err
	}
	var damage error
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		file := path.Join(name, e.Name())
		if err := dumpFile(w, f, file, records); errors.Is(err, errNotOurs) {
			fmt.Fprintf(w, "%s: not a file of a log\n", file)
		} else if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		} else if damage == nil {
			damage = err
		}
	}
	return damage
}

var errNotOurs = errors.New("not a segment, index or snapshot file")

func dumpFile(w io.Writer, f vfs.FS, name string, records bool) error {
	base := path.Base(name)
	d := &dumper{w: w, fs: f, name: name, records: records}
	fmt.Fprintf(w, "%s\n", name)
	switch {
	case strings.HasSuffix(base, logSuffix), strings.HasSuffix(base, logSuffix+cleanedSuffix):
		return d.segment()
	case strings.HasSuffix(base, indexSuffix), strings.HasSuffix(base, timeSuffix):
		return d.index()
	case strings.HasSuffix(base, txnSuffix):
		return d.state(d.txns)
	case strings.HasSuffix(base, snapSuffix):
		return d.state(d.snapshot)
	case strings.HasSuffix(base, swapSuffix):
		return d.state(func(b []byte) error {
			m, err := decodeManifest(b)
			if err == nil {
				fmt.Fprintf(w, "  replaces segments %d, transaction index: %v\n", m.bases, m.txns)
			}
			return err
		})
	case base == epochsName:
		return d.state(func(b []byte) error {
			list, err := decodeEpochs(b)
			for _, e := range list {
				fmt.Fprintf(w, "  leader epoch %d from offset %d\n", e.epoch, e.start)
			}
			return err
		})
	case base == boundsName:
		return d.state(func(b []byte) error {
			v, err := decodeBounds(b)
			if err == nil {
				fmt.Fprintf(w, "  log start offset %d, compacted below %d\n", v.start, v.cleaned)
			}
			return err
		})
	case base == recoveryName:
		return d.state(d.points)
	}
	return fmt.Errorf("%s: %w", name, errNotOurs)
}

type dumper struct {
	w       io.Writer
	fs      vfs.FS
	name    string
	records bool
}

// damaged is a verdict and the error for it.
func (d *dumper) damaged(pos int64, err error) error {
	fmt.Fprintf(d.w, "  DAMAGED at byte %d: %v\n", pos, err)
	return &CorruptError{File: d.name, Pos: pos, Err: err}
}

func (d *dumper) segment() error {
	file, err := d.fs.OpenFile(d.name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read only
	st, err := file.Stat()
	if err != nil {
		return err
	}
	var damage error
	w := newWalker(file, d.name, 0, st.Size(), bodyStep)
	defer w.done()
	batches, count, next := 0, int64(0), int64(-1)
	for {
		h, err := w.header()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return d.rest(w, st.Size(), err, next)
		}
		b, err := w.batch(&h)
		if err != nil {
			return err
		}
		verdict := "CRC ok"
		if err = b.Check(); err == nil && h.BaseOffset < next {
			err = fmt.Errorf("%w: offset %d after %d", ErrCorrupt, h.BaseOffset, next-1)
		}
		if err != nil {
			verdict = "DAMAGED: " + err.Error()
			if damage == nil {
				damage = &CorruptError{File: d.name, Pos: w.pos, Err: err}
			}
		}
		d.batch(&h, w.pos, verdict)
		if d.records || h.Attributes.Control() {
			if err := d.recordsOf(h, b); err != nil && damage == nil {
				damage = &CorruptError{File: d.name, Pos: w.pos, Err: err}
			}
		}
		batches++
		count += int64(h.Count)
		next = h.LastOffset() + 1
		w.skip(&h)
	}
	fmt.Fprintf(d.w, "  %d bytes, %d batches, %d records, next offset %d\n", st.Size(), batches, count, next)
	return damage
}

// rest says what lies behind a place where no batch can be read.
func (d *dumper) rest(w *walker, size int64, cause error, next int64) error {
	err := d.damaged(w.pos, cause)
	at, found, serr := wholeBatchAfter(w.f, w.pos, size, max(next, 0))
	if serr == nil && found {
		fmt.Fprintf(d.w, "  the next whole batch is at byte %d\n", at)
	} else {
		fmt.Fprintf(d.w, "  no whole batch in the %d bytes behind: a torn tail, or the end of the file is gone\n", size-w.pos)
	}
	return err
}

func (d *dumper) batch(h *record.Header, pos int64, verdict string) {
	fmt.Fprintf(d.w, "  byte %d: offsets %d-%d, %d records, %d bytes, epoch %d, %s, times %d-%d",
		pos, h.BaseOffset, h.LastOffset(), h.Count, h.Size(), h.LeaderEpoch, h.Attributes.Codec(), h.BaseTimestamp, h.MaxTimestamp)
	if h.HasProducer() {
		fmt.Fprintf(d.w, ", producer %d epoch %d sequence %d-%d", h.ProducerID, h.ProducerEpoch, h.BaseSequence, h.LastSequence())
	}
	for _, flag := range []struct {
		set  bool
		name string
	}{
		{h.Attributes.LogAppendTime(), "append time"}, {h.Attributes.Transactional(), "transactional"},
		{h.Attributes.Control(), "control"}, {h.Attributes.DeleteHorizon(), "delete horizon"},
	} {
		if flag.set {
			fmt.Fprintf(d.w, ", %s", flag.name)
		}
	}
	fmt.Fprintf(d.w, ": %s\n", verdict)
}

// dumpLimit bounds a batch's decompressed bytes.
const dumpLimit = 64 << 20

func (d *dumper) recordsOf(h record.Header, b record.Batch) error {
	if m, ok, err := record.ParseMarker(&h, b); ok && err == nil {
		what := "commit"
		if m.Type == record.Abort {
			what = "abort"
		}
		fmt.Fprintf(d.w, "    %s, coordinator epoch %d\n", what, m.CoordinatorEpoch)
		return nil
	}
	var r record.Reader
	err := r.Reset(h, b, dumpLimit)
	for err == nil && r.Next() {
		rec := r.Record()
		fmt.Fprintf(d.w, "    %d time %d key %s value %s", rec.Offset, rec.Timestamp, printable(rec.Key), printable(rec.Value))
		for v := range rec.HeaderList() {
			fmt.Fprintf(d.w, " %s=%s", v.Key, printable(v.Value))
		}
		fmt.Fprintln(d.w)
	}
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		fmt.Fprintf(d.w, "    DAMAGED: %v\n", err)
	}
	return err
}

func printable(b []byte) string {
	if b == nil {
		return "null"
	}
	return fmt.Sprintf("%q", b)
}

func (d *dumper) index() error {
	file, err := d.fs.OpenFile(d.name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // read only
	st, err := file.Stat()
	if err != nil {
		return err
	}
	h, err := readIndexHeader(file)
	if err != nil {
		return d.damaged(0, err)
	}
	if h.kind != offsetKind && h.kind != timeKind {
		return d.damaged(5, fmt.Errorf("%w: kind %q", errBadIndex, h.kind))
	}
	x := &sparse{fs: d.fs, name: d.name, kind: h.kind, base: h.base, file: file}
	x.onDisk = int(max(min((st.Size()-indexHeader)/int64(x.width()), maxIndexFile), 0))
	var damage error
	if h.sealed {
		fmt.Fprintf(d.w, "  base offset %d, sealed for a log of %d bytes\n", h.base, h.logSize)
		if int64(h.count) > int64(x.onDisk) {
			damage = d.damaged(16, fmt.Errorf("%w: %d entries, the file has %d", errBadIndex, h.count, x.onDisk))
		} else if crc, err := x.crcLocked(int(h.count)); err != nil || crc != h.crc {
			damage = d.damaged(indexHeader, fmt.Errorf("%w: CRC is %08x, should be %08x", errBadIndex, crc, h.crc))
		} else {
			x.onDisk = int(h.count)
			fmt.Fprintf(d.w, "  CRC ok\n")
		}
	} else {
		fmt.Fprintf(d.w, "  base offset %d, not sealed\n", h.base)
	}
	for i := range x.onDisk {
		a, b, err := x.entryLocked(i)
		if err != nil {
			return d.damaged(int64(indexHeader+i*x.width()), err)
		}
		if h.kind == offsetKind {
			fmt.Fprintf(d.w, "  offset %d at byte %d\n", h.base+a, b)
		} else {
			fmt.Fprintf(d.w, "  time %d up to the batch of offset %d\n", a, h.base+int64(b))
		}
	}
	return damage
}

// state reads a small file and lets fn print it.
func (d *dumper) state(fn func([]byte) error) error {
	b, err := vfs.ReadFile(d.fs, d.name, maxStateFile)
	if err != nil {
		return err
	}
	if err := fn(b); err != nil {
		return d.damaged(0, err)
	}
	return nil
}

func (d *dumper) txns(b []byte) error {
	base, ok := parseName(path.Base(d.name), txnSuffix)
	if !ok {
		return fmt.Errorf("%w: the name has no base offset", errBadState)
	}
	if len(b) == 0 {
		return nil
	}
	list, err := decodeTxns(b, base)
	for _, a := range list {
		fmt.Fprintf(d.w, "  producer %d aborted offsets %d-%d, last stable %d\n", a.ProducerID, a.FirstOffset, a.LastOffset, a.stable)
	}
	return err
}

func (d *dumper) snapshot(b []byte) error {
	t, offset, err := decodeTable(b)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.w, "  CRC ok, %d producers as of offset %d\n", len(t.byID), offset)
	l := &Log{table: t}
	for _, p := range l.Producers() {
		fmt.Fprintf(d.w, "  producer %d epoch %d, last sequence %d, last time %d, coordinator epoch %d, transaction from %d\n",
			p.ID, p.Epoch, p.LastSequence, p.LastTime, p.CoordinatorEpoch, p.TxnStart)
		q := t.byID[p.ID]
		for _, m := range q.batches[:q.n] {
			fmt.Fprintf(d.w, "    sequences %d-%d at offsets %d-%d\n", m.firstSeq, m.lastSeq, m.first, m.last)
		}
	}
	for _, v := range t.decided {
		fmt.Fprintf(d.w, "  transaction from %d decided at %d\n", v.first, v.last)
	}
	return nil
}

func (d *dumper) points(b []byte) error {
	var good int
	var last error
	for at := 0; at < 2*slotSize && at < len(b); at += slotSize {
		p, err := decodePoint(b[at:])
		if err != nil {
			last = err
			continue
		}
		good++
		fmt.Fprintf(d.w, "  slot %d: everything below offset %d was durable (segment %d, byte %d)", p.seq%2, p.synced.offset, p.synced.base, p.synced.pos)
		if p.written != p.synced {
			fmt.Fprintf(d.w, ", everything below offset %d was written (segment %d, byte %d)", p.written.offset, p.written.base, p.written.pos)
		}
		fmt.Fprintf(d.w, ", boot %q\n", strings.TrimRight(string(p.boot[:]), "\x00"))
	}
	if good == 0 {
		return fmt.Errorf("%w: no good slot: %w", errBadState, last)
	}
	return nil
}
