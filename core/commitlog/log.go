// Package commitlog stores one partition's records on disk.
//
// STUB: the signatures are the contract; the storage room replaces the bodies.
package commitlog

import (
	"errors"
	"log/slog"
	"time"

	"github.com/forebayhub/forebay/internal/vfs"
)

// Durability says what an acknowledged append has survived.
type Durability uint8

const (
	PowerSafe Durability = iota // fdatasync before the durable offset rises
	Relaxed                     // the page cache is enough
)

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
	LogAppendTime    bool          // message.timestamp.type
	TombstoneAge     time.Duration // delete.retention.ms; 0: 24 h
	MinCompactionLag time.Duration // min.compaction.lag.ms
	FileDeleteDelay  time.Duration // file.delete.delay.ms; 0: 60 s
}

// Options open a Log.
type Options struct {
	FS         vfs.FS
	Dir        string // data/<topic>-<partition>; created at the first append
	Name       string // topic-partition, for messages
	Config     Config
	Durability Durability
	Syncer     *Syncer          // shared by all logs of a data directory
	Now        func() time.Time // nil: time.Now
	Logger     *slog.Logger
	// Advanced is called, never with a lock of the Log held, after the durable
	// offset has risen. It must not block.
	Advanced       func()
	ProducerExpiry time.Duration // producer.id.expiration.ms; 0: 24 h
	Clean          bool          // the data directory was shut down in good order: trust the tail
}

// Log is one partition's log. All methods may be called concurrently.
type Log struct{}

// Open recovers a log. Nothing on disk is a new, empty log that starts at offset 0.
func Open(o Options) (*Log, error) { panic("stub") }

// Origin says who made the batches of an Append.
type Origin uint8

const (
	FromClient      Origin = iota // checked in full: sequence, size, magic, offsets assigned here
	FromCoordinator               // our own: control batches and coordinator records; no sequence check
	FromLeader                    // a follower's append: offsets and epochs are already in the batches
)

// Appended says where a set of batches lies.
type Appended struct {
	Base, Last int64 // of the first batch's first and the last batch's last record
	AppendTime int64 // ms; -1 unless LogAppendTime
	LogStart   int64
	Duplicate  bool // an idempotent producer's retry: nothing was written, the offsets are the first try's
}

// Append writes whole RecordBatches (v2), one after the other in b, and
// patches base offset and leader epoch into b. It returns once they are in the page
// cache; DurableOffset tells when they are safe. It does not keep b.
func (l *Log) Append(b []byte, leaderEpoch int32, origin Origin) (Appended, error) { panic("stub") }

// Verified are the batches of an Append whose CRC and shape have been checked
// by Verify, outside of every lock.

// Errors that a caller tells apart with errors.Is; the server maps them to Kafka's codes.
var (
	ErrCorrupt            = errors.New("corrupt record batch")          // CORRUPT_MESSAGE
	ErrTooLarge           = errors.New("record batch too large")        // MESSAGE_TOO_LARGE
	ErrInvalidRecord      = errors.New("invalid record")                // INVALID_RECORD
	ErrOldMagic           = errors.New("unsupported message format")    // UNSUPPORTED_FOR_MESSAGE_FORMAT
	ErrOutOfOrderSequence = errors.New("out of order sequence number")  // OUT_OF_ORDER_SEQUENCE_NUMBER
	ErrUnknownProducer    = errors.New("unknown producer id")           // UNKNOWN_PRODUCER_ID
	ErrProducerFenced     = errors.New("producer epoch fenced")         // INVALID_PRODUCER_EPOCH
	ErrInvalidTxnState    = errors.New("no transaction for this batch") // INVALID_TXN_STATE
	ErrOffsetOutOfRange   = errors.New("offset out of range")           // OFFSET_OUT_OF_RANGE
	ErrFailed             = errors.New("log directory failed")          // KAFKA_STORAGE_ERROR
	ErrDiskFull           = errors.New("disk full")                     // KAFKA_STORAGE_ERROR, reads go on
	ErrClosed             = errors.New("log closed")
)

// Slice is a region of one segment file that holds whole batches; empty when Len is 0.
type Slice struct {
	File    vfs.File
	Pos     int64
	Len     int
	release func()
}

// Release lets the file be closed and deleted; once, when the bytes are sent.
func (s *Slice) Release() {
	if s.release != nil {
		s.release()
		s.release = nil
	}
}

// Read finds whole batches from the one that contains offset from, up to limit
// (exclusive offset), at most max bytes, but at least one batch when minOne. from == limit or end gives an
// empty Slice; below the start or above the end is ErrOffsetOutOfRange.
func (l *Log) Read(from, limit int64, max int, minOne bool) (Slice, error) { panic("stub") }

// StartOffset is the first offset that can be read; EndOffset the next to be
// assigned (LEO); DurableOffset the LEO that survives what Durability promises.
func (l *Log) StartOffset() int64   { panic("stub") }
func (l *Log) EndOffset() int64     { panic("stub") }
func (l *Log) DurableOffset() int64 { panic("stub") }

// LastStable is min(hw, first offset of the oldest transaction that is not
// decided below hw): what read_committed may see.
func (l *Log) LastStable(hw int64) int64 { panic("stub") }

// Aborted lists the aborted transactions that overlap [from, to).
func (l *Log) Aborted(from, to int64) []AbortedTxn { panic("stub") }

// AbortedTxn is one aborted transaction of a producer.
type AbortedTxn struct{ ProducerID, FirstOffset, LastOffset int64 }

// OffsetForTime finds the first record whose timestamp is ts (ms) or later; offset -1 when there is none.
func (l *Log) OffsetForTime(ts int64) (offset, timestamp int64, epoch int32, err error) {
	panic("stub")
}

// MaxTimestamp is the record with the highest timestamp; -1 when empty.
func (l *Log) MaxTimestamp() (offset, timestamp int64, epoch int32, err error) { panic("stub") }

// EpochEnd answers OffsetForLeaderEpoch: the largest epoch ≤ epoch and the end of it (KIP-101, KIP-279).
func (l *Log) EpochEnd(epoch int32) (found int32, end int64) { panic("stub") }

// LatestEpoch is the epoch of the last batch, or of BeginEpoch; -1 when empty. EpochAt is the epoch at an offset.
func (l *Log) LatestEpoch() int32         { panic("stub") }
func (l *Log) EpochAt(offset int64) int32 { panic("stub") }

// BeginEpoch notes that a leader of this epoch starts at the current end.
func (l *Log) BeginEpoch(epoch int32) error { panic("stub") }

// Producers are the producers that the log remembers (DescribeProducers, fencing).
func (l *Log) Producers() []Producer { panic("stub") }

// ProducerState finds one; ok is false when it is unknown.
func (l *Log) ProducerState(id int64) (p Producer, ok bool) { panic("stub") }

// Producer is what the log remembers of an idempotent producer.
type Producer struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1: none
	LastTime         int64 // ms
	CoordinatorEpoch int32 // of the last marker; -1: none
	TxnStart         int64 // first offset of its open transaction; -1: none
}

// TruncateTo drops everything at offset and after, durably.
func (l *Log) TruncateTo(offset int64) error { panic("stub") }

// DeleteBefore raises the start offset (DeleteRecords), durably, to at most the given limit.
func (l *Log) DeleteBefore(offset int64) error { panic("stub") }

// Maintain does what retention and compaction ask for below hw; called from time to time by the owner.
func (l *Log) Maintain(hw int64) error { panic("stub") }

// SetConfig changes the configuration.
func (l *Log) SetConfig(c Config) { panic("stub") }

// Size is the bytes of all segments.
func (l *Log) Size() int64 { panic("stub") }

// Close flushes and writes what a clean start needs. Destroy closes and removes the log's folder.
func (l *Log) Close() error   { panic("stub") }
func (l *Log) Destroy() error { panic("stub") }

// Syncer makes logs durable by group commit: a bounded pool of fdatasyncs that
// takes every dirty log at once. One per data directory.
type Syncer struct{}

// NewSyncer makes a Syncer; failed is called once if a sync fails, which is final.
func NewSyncer(parallel int, failed func(error)) *Syncer { panic("stub") }

// Close waits for what is under way and stops the pool.
func (s *Syncer) Close() { panic("stub") }
