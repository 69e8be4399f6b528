package files

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"sort"
	"strconv"

	"github.com/forebayhub/forebay/connectors"
)

// Audit holds the partition's files against the log. The files are those in the topic's folder,
// whoever put them there; the manifests that were not pruned yet say what must be there.
//
// Records that retention has removed from the log cannot be compared: files that
// begin before the first record are checked against their manifest only.
func (s *Sink) Audit(ctx context.Context, env connectors.SinkEnv, a connectors.Assignment, end int64,
	next func() (*connectors.Record, error), report func(connectors.Difference)) (int64, error) {
	target, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	v := &view{sink: s, target: target, env: env, a: a, end: end}
	defer func() { _ = v.Close() }() // it was only read
	return v.Compare(ctx, func() (*connectors.Record, error) {
		r, err := next()
		if err == nil && r.Offset >= end {
			return nil, io.EOF
		}
		return r, err
	}, report)
}

// AuditSnapshot looks at the commits up to the newest one whose files are in their places: those of the one that is being made may not be there yet.
// A sink that goes on writing commits beyond any point of the log that was chosen before,
// and what it commits at once is in one file: so it is compared up to the end of a commit.
func (s *Sink) AuditSnapshot(ctx context.Context, env connectors.SinkEnv, a connectors.Assignment) (connectors.AuditSnapshot, error) {
	target, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	v := &view{sink: s, target: target, env: env, a: a, end: math.MaxInt64}
	id := partitionID(a.TopicID, a.Partition)
	starts, err := listCommits(ctx, target, id)
	for _, start := range slices.Backward(starts) {
		name := commitName(id, start)
		if _, err = target.Stat(ctx, name+"/"+doneFile); errors.Is(err, fs.ErrNotExist) {
			v.end, err = start, nil // not in place, or pruned meanwhile, and then so are those before it
			continue
		}
		if err != nil {
			break
		}
		var m *Manifest
		if m, err = readManifest(ctx, target, name); errors.Is(err, errNoManifest) {
			v.end, err = start, nil
			continue
		}
		if err == nil {
			v.next, v.end = m.Next, m.Next
		}
		err = nil // Compare reports it
		break
	}
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// view is what the target holds in files that begin before an offset.
type view struct {
	sink      *Sink
	target    Target
	env       connectors.SinkEnv
	a         connectors.Assignment
	next, end int64 // up to where there are commits, 0: there is none that can be read; files that begin at end or later are not looked at
}

func (v *view) Next() int64  { return v.next }
func (v *view) Close() error { return v.target.Close() }

func (v *view) Compare(ctx context.Context, next func() (*connectors.Record, error), report func(connectors.Difference)) (int64, error) {
	pattern, err := ParsePattern(v.sink.cfg.Pattern)
	if err != nil {
		return 0, err
	}
	au := &audit{target: v.target, format: v.sink.cfg.Format, env: v.env, a: v.a, end: v.end, pattern: pattern, report: report}
	if err := au.files(ctx); err != nil {
		return 0, err
	}
	if err := au.manifests(ctx); err != nil {
		return 0, err
	}
	if err := au.records(ctx, next); err != nil {
		return 0, err
	}
	return au.agreed, nil
}

var _ connectors.SnapshotAuditor = (*Sink)(nil)

type audit struct {
	target  Target
	format  Format
	env     connectors.SinkEnv
	a       connectors.Assignment
	end     int64 // files that begin there or later are not looked at
	pattern *Pattern
	report  func(connectors.Difference)

	byDir  map[string][]*auditFile // by folder under the topic's, ordered by first offset
	byName map[string]*auditFile
	agreed int64
}

type auditFile struct {
	dataFile
	compare *comparison // nil before the first record and after the last
	done    bool
	skip    bool // begins before the log does
}

func (au *audit) differ(kind connectors.DifferenceKind, where, what string) {
	au.report(connectors.Difference{Kind: kind, Where: where, What: what})
}

// maxAuditDepth bounds the folders under a topic's folder: a pattern makes a few.
const maxAuditDepth = 16

// files finds the partition's data files.
func (au *audit) files(ctx context.Context) error {
	au.byDir, au.byName = map[string][]*auditFile{}, map[string]*auditFile{}
	if err := au.walk(ctx, "", 0); err != nil {
		return err
	}
	for _, fs := range au.byDir {
		sort.Slice(fs, func(i, j int) bool { return fs[i].first < fs[j].first })
		for i := 1; i < len(fs); i++ {
			if fs[i].first <= fs[i-1].last {
				au.differ(connectors.DoubledRecord, fs[i].name, fmt.Sprintf("overlaps with %s", fs[i-1].name))
			}
		}
	}
	return nil
}

func (au *audit) walk(ctx context.Context, dir string, depth int) error {
	if depth > maxAuditDepth {
		return fmt.Errorf("folders under %s nest deeper than %d", au.a.Topic, maxAuditDepth)
	}
	entries, err := au.target.ReadDir(ctx, path.Join(au.a.Topic, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name)
		if e.Dir {
			if err := au.walk(ctx, name, depth+1); err != nil {
				return err
			}
			continue
		}
		d, ok := parseDataName(au.a.Topic, e.Name)
		if !ok || d.partition != au.a.Partition || d.first >= au.end {
			continue
		}
		d.name, d.size = path.Join(au.a.Topic, name), e.Size
		f := &auditFile{dataFile: d}
		au.byDir[dir] = append(au.byDir[dir], f)
		au.byName[d.name] = f
	}
	return nil
}

// manifests checks the chain of commits and the files that they name.
func (au *audit) manifests(ctx context.Context) error {
	id := partitionID(au.a.TopicID, au.a.Partition)
	starts, err := listCommits(ctx, au.target, id)
	if err != nil {
		return err
	}
	var first, last *Manifest
	known := map[string]bool{}
	for _, s := range starts {
		m, err := readManifest(ctx, au.target, commitName(id, s))
		if errors.Is(err, errNoManifest) {
			continue // pruned meanwhile
		}
		if err != nil {
			au.differ(connectors.DifferentRecord, commitName(id, s), err.Error())
			continue
		}
		switch {
		case last == nil:
			first = m
		case m.Start > last.Next:
			au.differ(connectors.MissingRecord, commitName(id, s), fmt.Sprintf("offsets %d to %d are in no commit", last.Next, m.Start-1))
		case m.Start < last.Next:
			au.differ(connectors.DoubledRecord, commitName(id, s), fmt.Sprintf("offsets %d to %d are in two commits", m.Start, last.Next-1))
		}
		last = m
		for i := range m.Files {
			f := &m.Files[i]
			known[f.Name] = true
			if f.First < au.end {
				if err := au.checkFile(ctx, f); err != nil {
					return err
				}
			}
		}
	}
	if last == nil {
		for name := range au.byName {
			au.differ(connectors.DoubledRecord, name, "no manifest names it")
		}
		return nil
	}
	for name, f := range au.byName { // files older than the oldest manifest are judged by their records alone
		if f.first >= first.Start && !known[name] {
			au.differ(connectors.DoubledRecord, name, "no manifest names it")
		}
	}
	return nil
}

func (au *audit) checkFile(ctx context.Context, f *File) error {
	have := au.byName[f.Name]
	if have == nil {
		au.differ(connectors.MissingRecord, f.Name, fmt.Sprintf("a committed file of %d records is gone", f.Records))
		return nil
	}
	if have.size != f.Size {
		au.differ(connectors.DifferentRecord, f.Name, fmt.Sprintf("%d bytes, but its manifest says %d", have.size, f.Size))
		return nil
	}
	r, err := au.target.Open(ctx, f.Name)
	if err != nil {
		return err
	}
	h := crc32.New(castagnoli)
	_, err = io.Copy(h, r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Name, err)
	}
	if h.Sum32() != f.CRC32C {
		au.differ(connectors.DifferentRecord, f.Name, fmt.Sprintf("checksum %08x, but its manifest says %08x", h.Sum32(), f.CRC32C))
	}
	return nil
}

// records walks the log and hands each record to the comparison of its file.
func (au *audit) records(ctx context.Context, next func() (*connectors.Record, error)) error {
	var active []*auditFile
	defer func() {
		for _, f := range active {
			if f.compare != nil {
				_ = f.end(au) // an earlier error is reported
			}
		}
	}()
	first := true
	for {
		r, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if first {
			first = false
			for _, f := range au.byName {
				f.skip = f.first < r.Offset && f.first < au.a.StartOffset
			}
		}
		if r.RawValue == nil {
			continue // a tombstone has no row
		}
		if au.format.Decoded() && au.env.Decode != nil {
			if err := au.env.Decode(r); err != nil {
				au.missing(r, Refused(r, err))
				continue
			}
		}
		f := au.fileOf(r)
		switch {
		case f == nil:
			what := "no file covers this offset"
			if err := au.refused(r); err != nil {
				what = Refused(r, err)
			}
			au.missing(r, what)
			continue
		case f.skip:
			continue
		case f.compare == nil:
			if err := f.begin(ctx, au); err != nil {
				return err
			}
			active = append(active, f)
		}
		f.compare.give(r)
		if r.Offset == f.last {
			active = remove(active, f)
			if err := f.end(au); err != nil {
				return err
			}
		}
	}
	for _, f := range active {
		if err := f.end(au); err != nil {
			return err
		}
	}
	active = nil
	for name, f := range au.byName {
		if !f.done && !f.skip && f.first >= au.a.StartOffset {
			au.differ(connectors.DoubledRecord, name, "the log has no record for this file")
		}
	}
	return nil
}

func remove(fs []*auditFile, f *auditFile) []*auditFile {
	for i := range fs {
		if fs[i] == f {
			return append(fs[:i], fs[i+1:]...)
		}
	}
	return fs
}

// fileOf finds the file that a record must be in.
func (au *audit) fileOf(r *connectors.Record) *auditFile {
	fs := au.byDir[au.pattern.Dir(r.Timestamp)]
	i := sort.Search(len(fs), func(i int) bool { return fs[i].last >= r.Offset })
	if i < len(fs) && fs[i].first <= r.Offset {
		return fs[i]
	}
	return nil
}

func (au *audit) missing(r *connectors.Record, what string) {
	au.differ(connectors.MissingRecord, au.a.Topic+"-"+strconv.Itoa(int(au.a.Partition))+"@"+strconv.FormatInt(r.Offset, 10), what)
}

// Refused is what an audit says of a record that a writer refuses: it is in the dead letters, or was dropped from them.
func Refused(r *connectors.Record, why error) string {
	return fmt.Sprintf("the sink cannot take offset %d: %v (`forebay dlq list` shows what waits)", r.Place().Offset, why)
}

// refused is why a writer would refuse the record, nil when it would not.
func (au *audit) refused(r *connectors.Record) error {
	e, err := au.format.NewEncoder(io.Discard, r)
	if err == nil {
		err = e.Write(r)
		if d, ok := e.(Discarder); ok {
			d.Discard()
		}
	}
	var bad *RecordError
	if errors.As(err, &bad) {
		return bad.Err
	}
	return nil
}

// comparison runs Format.Compare, which pulls records, against the log's walk, which pushes them.
// A record is borrowed: give returns when the comparison asks for the next one.
type comparison struct {
	reader  Reader
	in      chan *connectors.Record
	asked   chan struct{}
	done    chan struct{}
	given   int64
	err     error
	diffs   []connectors.Difference
	dropped int64
}

// maxDiffs bounds what is kept of one file's differences.
const maxDiffs = 100

func (f *auditFile) begin(ctx context.Context, au *audit) error {
	r, err := au.target.Open(ctx, f.name)
	if err != nil {
		return err
	}
	c := &comparison{reader: r, in: make(chan *connectors.Record), asked: make(chan struct{}), done: make(chan struct{})}
	f.compare = c
	go func() {
		defer close(c.done)
		ended := false
		c.err = au.format.Compare(r, func() (*connectors.Record, error) {
			c.asked <- struct{}{}
			rec, ok := <-c.in
			if !ok {
				ended = true
				return nil, io.EOF
			}
			return rec, nil
		}, func(row int, what string) {
			kind := connectors.DifferentRecord
			switch {
			case ended:
				kind = connectors.DoubledRecord
			case row < 0:
				kind = connectors.MissingRecord
			}
			if len(c.diffs) == maxDiffs {
				c.dropped++
				return
			}
			c.diffs = append(c.diffs, connectors.Difference{Kind: kind, Where: fmt.Sprintf("%s row %d", f.name, row), What: what})
		})
	}()
	select {
	case <-c.asked:
	case <-c.done:
	}
	return nil
}

// give hands over a record and waits until the comparison is through with it, or has ended early.
func (c *comparison) give(r *connectors.Record) {
	c.given++
	select {
	case <-c.done:
		return
	case c.in <- r:
	}
	select {
	case <-c.asked:
	case <-c.done:
	}
}

// end lets the comparison see the end and takes its result.
func (f *auditFile) end(au *audit) error {
	c := f.compare
	f.compare, f.done = nil, true
	close(c.in)
	for ended := false; !ended; {
		select {
		case <-c.asked: // a Format that asks again after the end
		case <-c.done:
			ended = true
		}
	}
	err := c.err
	if cerr := c.reader.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("compare %s: %w", f.name, err)
	}
	for _, d := range c.diffs {
		au.report(d)
	}
	if c.dropped > 0 {
		au.differ(connectors.DifferentRecord, f.name, fmt.Sprintf("%d more differences", c.dropped))
	}
	au.agreed += max(0, c.given-int64(len(c.diffs))-c.dropped)
	return nil
}
