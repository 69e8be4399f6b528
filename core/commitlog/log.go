// Package commitlog stores one partition's records on disk: segments of RecordBatches
// exactly as they came, sparse indexes beside them, and the little that must be known to go on after a crash.
//
// Promises, by the numbers of docs/DESIGN.md's invariants: what DurableOffset has passed survives what Durability says (1);
// an offset that was readable keeps its content (2); damage is found before it is served, and named by file and
// byte (10); a full disk refuses appends and nothing else (11). DESIGN.md in this folder says why it is built this way,
// docs/formats/ what lies on disk.
//
// Locks, in this order: Log.w (one writer: appends, truncation, maintenance), Log.flushing, Log.saving, Log.mu (what readers see; held for
// moments), segment.io, sparse.mu. No fsync runs under mu; under w only those of truncation, DeleteBefore, compaction and Close.
package commitlog

import (
	"fmt"
	"log/slog"
	"math"
	"sort"
	"sync"
	"time"

	"github.com/forebayhub/forebay/internal/vfs"
)

// Durability says what an acknowledged append has survived.
type Durability uint8

const (
	PowerSafe Durability = iota // fdatasync before the durable offset rises
	Relaxed                     // the page cache is enough
)

func (d Durability) String() string {
	if d == PowerSafe {
		return "power-safe"
	}
	return "relaxed"
}

// Config is a topic's configuration as far as the log is concerned; it can be
// changed while the log is open.
type Config struct {
	SegmentBytes     int64         // segment.bytes; 0: 1 GiB
	SegmentAge       time.Duration // segment.ms; 0: 7 days
	IndexBytes       int64         // index.interval.bytes; 0: 4096
	RetentionBytes   int64         // retention.bytes; -1 or 0: unlimited
	RetentionAge     time.Duration // retention.ms; -1: unlimited; 0: 7 days
	Delete, Compact  bool          // cleanup.policy; neither: Delete
	MaxBatchBytes    int32         // max.message.bytes; 0: 1 MiB + 12
	MaxRecordBytes   int32         // of a record in a compressed batch, max.decompressed.message.bytes; 0: as many as a batch may become
	LogAppendTime    bool          // message.timestamp.type
	TombstoneAge     time.Duration // delete.retention.ms; 0: 24 h
	MinCompactionLag time.Duration // min.compaction.lag.ms
	FileDeleteDelay  time.Duration // file.delete.delay.ms; 0: 60 s
	TimestampBefore  time.Duration // message.timestamp.before.max.ms; 0: no bound
	TimestampAfter   time.Duration // message.timestamp.after.max.ms; 0: no bound
	Compression      Compression   // compression.type and its level
	Conditional      bool          // forebay.append.condition: the header ExpectedOffset counts
	SegmentJitter    time.Duration // segment.jitter.ms: at most so much is taken off SegmentAge, by chance
	IndexFileBytes   int64         // segment.index.bytes: a segment ends when one of its indexes is that large; 0: 10 MiB
	MinDirtyRatio    float64       // min.cleanable.dirty.ratio; 0: 0.5
	MaxCompactionLag time.Duration // max.compaction.lag.ms; 0: no bound
	FlushMessages    int64         // flush.messages: a Relaxed append that makes it so many since the last sync waits for one; 0: never
	FlushAge         time.Duration // flush.ms: a Relaxed log is synced so long after an append; 0: never
}

// Options open a Log.
type Options struct {
	FS         vfs.FS
	Dir        string // data/<topic>-<partition>; created at the first append
	Name       string // topic-partition, for messages
	Config     Config
	Durability Durability
	Ran        Durability       // of the runs that have written what is there; Relaxed of one of them is Relaxed of all
	Syncer     *Syncer          // shared by all logs of a data directory
	Files      *Files           // shared by all logs of a node; nil: one of its own
	Now        func() time.Time // nil: time.Now
	Logger     *slog.Logger
	// Advanced is called, never with a lock of the Log held, after the durable
	// offset has risen. It must not block.
	Advanced       func()
	ProducerExpiry time.Duration // producer.id.expiration.ms; 0: 24 h
	// Clean says that the data directory was shut down in good order. It is not
	// needed: the recovery point of a log that was closed lies at its end, and no other log's tail is to be trusted.
	Clean bool
	// Suspect says that a write or a sync in the directory has failed in an earlier run. What was not synced then may be in the page cache alone, where the kernel
	// takes it for written: nothing of it is vouched for by the boot, and it is written again.
	Suspect bool
	// BootID names the machine's boot; empty: /proc/sys/kernel/random/boot_id. Tests of power cuts set it.
	BootID string
	// Failed is told once that the log takes no more writes because of an error of its own. Locks of the Log are held: it must not block, nor
	// call the Log. Nil: nobody.
	Failed func(error)
	// Damaged is told whenever a *CorruptError of this log's own files is met once it is open. Locks of the Log may be held: it must not block, nor
	// call the Log. Nil: nobody.
	Damaged func(error)
}

// Log is one partition's log. All methods may be called concurrently.
type Log struct {
	o      Options
	fs     vfs.FS
	dir    string
	log    *slog.Logger
	syncer *Syncer
	files  *Files
	boot   [16]byte

	pointEvery int64 // the constant, smaller in tests

	// w serialises those who change the log. What mu guards down to epochs is changed with both held, so
	// holding either is enough to read it. What the Syncer changes (durable, and from epochsDirty on) needs mu, or flushing
	// for synced and saving for saved.
	w      sync.Mutex
	made   bool    // the folder is there
	bounds bounds  // as they are on disk
	snaps  []int64 // offsets of the snapshot files

	mu          sync.RWMutex
	cfg         Config
	segs        []*segment
	start       int64 // log start offset
	leo         int64
	durable     int64
	cleaned     int64     // compaction has seen everything below
	cleanAt     time.Time // of the last pass, or of Open
	cleanMore   bool      // that pass did not get to its end
	seen        int64     // highest watermark that a caller has named
	table       *table
	guards      uint64       // given out by Verify
	aborted     []abortedTxn // by marker offset
	abortedDisk int64        // those with a marker below are in the .txnindex files
	epochs      []epochEntry
	epochsDirty bool
	synced      position    // everything before is durable
	saved       point       // the newest recovery-point slot
	unsynced    int64       // bytes written since the last sync
	syncAsked   bool        // a Relaxed log is to be synced for flush.ms
	syncTimer   *time.Timer // of flush.ms; nil: none is running
	folderNew   bool        // the folder's own entry is not synced
	namesNew    bool        // files were made or removed that the folder's sync does not cover
	failed      error
	closed      bool
	cuts        int64 // truncations so far, also to nothing

	compacting sync.Mutex // one pass at a time
	flushing   sync.Mutex // one sync at a time, and none during a truncation
	saving     sync.Mutex // one writer of the recovery point and of what it vouches for
}

// StartOffset is the first offset that can be read; EndOffset the next to be
// assigned (LEO); DurableOffset the LEO that survives what Durability promises.
func (l *Log) StartOffset() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.start
}

// EndOffset is the LEO; see StartOffset.
func (l *Log) EndOffset() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.leo
}

// DurableOffset is the LEO that survives what Durability promises; see StartOffset.
func (l *Log) DurableOffset() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.durable
}

// LastStable is min(hw, first offset of the oldest transaction that is not
// decided below hw): what read_committed may see. It is never before the log's start, which DeleteRecords may have moved
// into such a transaction.
func (l *Log) LastStable(hw int64) int64 {
	l.mu.RLock()
	stable, prune := hw, hw > l.seen && len(l.table.decided) > 0 && l.table.decided[0].last < hw
	if first, ok := l.table.firstUnstable(hw); ok {
		stable = min(hw, max(first, l.start))
	}
	l.mu.RUnlock()
	if prune {
		l.mu.Lock()
		l.sawLocked(hw)
		l.mu.Unlock()
	}
	return stable
}

// sawLocked notes a high watermark. It never falls for readers (invariant 3), so what it has decided stays decided.
func (l *Log) sawLocked(hw int64) {
	if hw > l.seen {
		l.seen = hw
		l.table.forget(hw)
	}
}

// Aborted lists the aborted transactions that overlap [from, to).
func (l *Log) Aborted(from, to int64) []AbortedTxn {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var list []AbortedTxn
	for _, a := range l.aborted[sort.Search(len(l.aborted), func(i int) bool { return l.aborted[i].LastOffset >= from }):] {
		if a.FirstOffset < to {
			list = append(list, a.AbortedTxn)
		}
		if a.stable >= to {
			break // every later marker's transaction began at or after this one's stable offset
		}
	}
	return list
}

// AbortedTxn is one aborted transaction of a producer.
type AbortedTxn struct{ ProducerID, FirstOffset, LastOffset int64 }

// Producers are the producers that the log remembers (DescribeProducers, fencing).
func (l *Log) Producers() []Producer {
	l.mu.RLock()
	defer l.mu.RUnlock()
	list := make([]Producer, 0, len(l.table.byID))
	for _, p := range l.table.byID {
		list = append(list, p.public())
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list
}

// ProducerState finds one; ok is false when it is unknown.
func (l *Log) ProducerState(id int64) (p Producer, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if q := l.table.byID[id]; q != nil {
		return q.public(), true
	}
	return p, false
}

// Producer is what the log remembers of an idempotent producer.
type Producer struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1: none
	LastTime         int64 // ms
	CoordinatorEpoch int32 // of the last marker; -1: none
	TxnStart         int64 // first offset of its open transaction; -1: none
}

func (p *producer) public() Producer {
	return Producer{ID: p.id, Epoch: p.epoch, LastSequence: p.lastSequence(), LastTime: p.time, CoordinatorEpoch: p.coord, TxnStart: p.txnStart}
}

// SetConfig changes the configuration.
func (l *Log) SetConfig(c Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg = c.withDefaults()
}

// Size is the bytes of all segments.
func (l *Log) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.sizeLocked()
}

// sizeOf is a segment's size beside whoever cuts.
func (l *Log) sizeOf(s *segment) int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return s.size
}

func (l *Log) sizeLocked() (n int64) {
	for _, s := range l.segs {
		n += s.size
	}
	return n
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	age := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.SegmentBytes, 1<<30)
	c.SegmentBytes = min(c.SegmentBytes, math.MaxInt32)
	age(&c.SegmentAge, 7*24*time.Hour)
	def(&c.IndexBytes, 4096)
	age(&c.RetentionAge, 7*24*time.Hour)
	age(&c.TombstoneAge, 24*time.Hour)
	age(&c.FileDeleteDelay, time.Minute)
	if c.MaxBatchBytes == 0 {
		c.MaxBatchBytes = 1<<20 + 12
	}
	def(&c.IndexFileBytes, 10<<20)
	if c.MinDirtyRatio == 0 {
		c.MinDirtyRatio = 0.5
	}
	if !c.Delete && !c.Compact {
		c.Delete = true
	}
	return c
}

func (l *Log) now() time.Time { return l.o.Now() }

// writable says why the log cannot be written, if so; w is held.
func (l *Log) writable() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return fmt.Errorf("%s: %w", l.o.Name, ErrClosed)
	}
	return l.failed
}

// fail makes the log fail for good: after a failed write or sync nobody knows what the disk holds.
func (l *Log) fail(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failLocked(err)
}

func (l *Log) failLocked(err error) error {
	if l.failed == nil {
		l.failed = fmt.Errorf("%s: %w: %w", l.o.Name, ErrFailed, err)
		l.log.Error("log has failed and takes no more writes", "log", l.o.Name, "dir", l.dir, "error", err)
		if l.o.Failed != nil {
			l.o.Failed(err)
		}
	}
	return l.failed
}

// abandon is called by the Syncer when another log of the directory has failed.
func (l *Log) abandon(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = fmt.Errorf("%s: %w: %w", l.o.Name, ErrFailed, err)
	}
}

// Abandon makes the log take no more writes: its directory has failed.
func (l *Log) Abandon(err error) { l.abandon(err) }

// Failed is why the log takes no more writes; nil when it does.
func (l *Log) Failed() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.failed
}
