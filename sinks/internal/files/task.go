package files

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/forebayhub/forebay/connectors"
)

// maxSetFiles bounds the files of one commit, and with them its manifest.
const maxSetFiles = 1000

// closers bounds how many files are closed (on HDFS: acknowledged by every
// datanode) at the same time.
const closers = 8

// Task writes the partitions that it was given. Its memory is what the encoders
// of at most Config.MaxOpen files hold.
type Task struct {
	cfg    Config
	env    connectors.SinkEnv
	open   Open
	name   string
	log    *slog.Logger
	target Target
	parts  map[connectors.TopicPartition]*part
	files  []*file // open, in the order of their opening
	failed error   // what broke the task: only a new one may go on
}

func newTask(cfg Config, env connectors.SinkEnv, open Open) *Task {
	t := &Task{cfg: cfg, env: env, open: open, name: taskName(env.TaskID), log: env.Logger,
		parts: map[connectors.TopicPartition]*part{}}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	return t
}

// Open connects to the target.
func (t *Task) Open(ctx context.Context) error {
	target, err := t.open(ctx)
	if err != nil {
		return err
	}
	t.target = target
	return nil
}

// Write buffers records. What breaks a file breaks the task: its successor
// writes the file again from the log.
func (t *Task) Write(ctx context.Context, records []connectors.Record) ([]connectors.Reject, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	if len(records) == 0 {
		return nil, nil
	}
	p := t.parts[connectors.TopicPartition{Topic: records[0].Topic, Partition: records[0].Partition}]
	if p == nil {
		return nil, fmt.Errorf("write to %s-%d, which is not assigned", records[0].Topic, records[0].Partition)
	}
	var rejects []connectors.Reject
	for i := range records {
		r := &records[i]
		if r.Offset < p.next {
			return rejects, t.fail(fmt.Errorf("%s: offset %d after %d", p.id, r.Offset, p.next-1))
		}
		err := t.writeRecord(ctx, p, r)
		var bad *RecordError
		switch {
		case errors.As(err, &bad):
			rejects = append(rejects, connectors.Reject{Index: i, Reason: bad.Err})
		case err != nil:
			return rejects, t.fail(fmt.Errorf("write %s-%d at %d: %w", p.Topic, p.Partition, r.Offset, err))
		}
		p.next = r.Offset + 1
	}
	return rejects, nil
}

func (t *Task) fail(err error) error {
	if t.failed == nil {
		t.failed = err
	}
	return err
}

func (t *Task) writeRecord(ctx context.Context, p *part, r *connectors.Record) error {
	if r.RawValue == nil {
		return nil // a tombstone: left out, but its offset counts
	}
	if t.cfg.Format.Decoded() && t.env.Decode != nil {
		if err := t.env.Decode(r); err != nil {
			return &RecordError{err}
		}
	}
	dir := p.pattern.Dir(r.Timestamp)
	f := p.open[dir]
	if f != nil && (f.full(t.cfg.Rotate) || !t.cfg.Format.Fits(f.enc, r)) {
		if err := t.finish(f); err != nil {
			return err
		}
		f = nil
	}
	if f == nil {
		var err error
		if f, err = t.create(ctx, p, dir, r); err != nil {
			return err
		}
	}
	if err := f.enc.Write(r); err != nil {
		return err
	}
	if f.records == 0 {
		f.first = r.Offset
	}
	f.last = r.Offset
	f.records++
	if f.full(t.cfg.Rotate) {
		p.due = true
	}
	return nil
}

func (t *Task) create(ctx context.Context, p *part, dir string, first *connectors.Record) (*file, error) {
	for len(t.files) >= t.cfg.maxOpen() {
		if err := t.finish(t.files[0]); err != nil {
			return nil, err
		}
	}
	f := &file{part: p, dir: dir, temp: fmt.Sprintf("%s/%06d.%s", p.tmp, p.seq, t.cfg.Format.Extension())}
	p.seq++
	p.touched = true
	w, err := t.target.Create(ctx, f.temp)
	if err != nil {
		return nil, err
	}
	f.w.w = w
	if f.enc, err = t.cfg.Format.NewEncoder(&f.w, first); err != nil {
		w.Abort()
		return nil, err
	}
	p.open[dir] = f
	t.files = append(t.files, f)
	return f, nil
}

// finish ends the encoder of a file and hands the file to the next Prepare,
// which waits for the target to store it; the target may start with that now.
func (t *Task) finish(f *file) error {
	t.forget(f)
	delete(f.part.open, f.dir)
	if f.records == 0 {
		f.abort()
		return nil
	}
	if err := f.enc.Close(); err != nil {
		f.abort()
		return err
	}
	f.enc = nil
	f.part.closed = append(f.part.closed, f)
	if len(f.part.closed) >= maxSetFiles {
		f.part.due = true
	}
	// Close now, not at Prepare: a closed file costs neither memory nor a descriptor.
	if err := f.w.w.Close(); err != nil {
		return fmt.Errorf("close %s: %w", f.temp, err)
	}
	f.stored = true
	return nil
}

// forget takes a file off the list of open ones.
func (t *Task) forget(f *file) {
	for i, g := range t.files {
		if g == f {
			t.files = append(t.files[:i], t.files[i+1:]...)
			return
		}
	}
}

// Advance says that the log holds nothing readable below next beyond what was
// written: transaction markers and aborted records. See connectors.Advancer.
func (t *Task) Advance(tp connectors.TopicPartition, next int64) {
	if p := t.parts[tp]; p != nil && next > p.next {
		p.next = next
	}
}

// Tick says what is due. The age of a set counts from the first Tick after its first record.
func (t *Task) Tick(now time.Time) []connectors.TopicPartition {
	var due []connectors.TopicPartition
	for tp, p := range t.parts {
		if p.next == p.start {
			continue
		}
		if p.since.IsZero() {
			p.since = now
		}
		if p.due || t.cfg.Rotate.Interval > 0 && now.Sub(p.since) >= t.cfg.Rotate.Interval {
			due = append(due, tp)
		}
	}
	sort.Slice(due, func(i, j int) bool {
		return due[i].Topic < due[j].Topic || due[i].Topic == due[j].Topic && due[i].Partition < due[j].Partition
	})
	return due
}

// prepared is a commit whose files and manifest are stored in the temp folder.
type prepared struct {
	part     *part
	manifest *Manifest
	dir      string // of the manifest, until the rename
	tried    bool   // the rename was asked for: who knows whether it happened
	won      bool   // the rename happened
	finished bool   // the files are in place
}

// Prepare stores the open files of partitions and a manifest for each.
func (t *Task) Prepare(ctx context.Context, tps []connectors.TopicPartition, _ connectors.Cause) ([]connectors.Token, error) {
	if t.failed != nil {
		return nil, t.failed
	}
	var sets []*part
	var open []*file
	for _, tp := range tps {
		p := t.parts[tp]
		if p == nil || p.next == p.start {
			continue
		}
		sets = append(sets, p)
		for _, f := range p.open {
			t.forget(f)
			if f.records == 0 {
				f.abort()
				continue
			}
			if err := f.enc.Close(); err != nil {
				return nil, t.fail(fmt.Errorf("finish %s: %w", f.temp, err))
			}
			f.enc = nil
			p.closed = append(p.closed, f)
			open = append(open, f)
		}
		clear(p.open)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(closers)
	for _, f := range open {
		g.Go(func() error {
			if err := f.w.w.Close(); err != nil {
				return fmt.Errorf("close %s: %w", f.temp, err)
			}
			f.stored = true
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, t.fail(err)
	}
	g, gctx = errgroup.WithContext(ctx)
	g.SetLimit(closers)
	tokens := make([]connectors.Token, len(sets))
	for i, p := range sets {
		pr := p.prepare(t)
		tokens[i] = connectors.Token{TopicPartition: p.TopicPartition, Next: pr.manifest.Next, Data: pr}
		g.Go(func() error { return t.writeManifest(gctx, pr) })
	}
	if err := g.Wait(); err != nil {
		return nil, t.fail(err)
	}
	return tokens, nil
}

// Revoke forgets partitions and what was not committed.
func (t *Task) Revoke(ctx context.Context, tps []connectors.TopicPartition) error {
	var errs []error
	for _, tp := range tps {
		if p := t.parts[tp]; p != nil {
			delete(t.parts, tp)
			errs = append(errs, t.drop(ctx, p))
		}
	}
	return errors.Join(errs...)
}

// drop gives up a partition's open files and removes its temp folder, unless a
// commit that may have happened still needs what is in it: the successor decides.
func (t *Task) drop(ctx context.Context, p *part) error {
	for _, f := range p.open {
		t.forget(f)
		f.abort()
	}
	clear(p.open)
	for _, f := range p.closed {
		if !f.stored {
			f.abort()
		}
	}
	p.closed = nil
	for _, pr := range p.pending {
		if pr.tried && !pr.finished {
			return nil
		}
	}
	if !p.touched {
		return nil
	}
	return t.target.Remove(ctx, p.tmp)
}

// closeWait bounds how long Close waits for the target to remove temp files; the next task sweeps what is left.
const closeWait = 10 * time.Second

// Close gives everything up that was not committed and leaves no temp file.
func (t *Task) Close() error {
	if t.target == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	var errs []error
	for tp, p := range t.parts {
		delete(t.parts, tp)
		errs = append(errs, t.drop(ctx, p))
	}
	errs = append(errs, t.target.Close())
	t.target = nil
	return errors.Join(errs...)
}
