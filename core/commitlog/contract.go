package commitlog

import (
	"errors"

	"github.com/forebayhub/forebay/internal/vfs"
)

// Origin says who made the batches of an Append.
type Origin uint8

const (
	FromClient      Origin = iota // checked in full: sequence, size, magic, offsets assigned here
	FromCoordinator               // our own: control batches and coordinator records; no sequence check
	FromLeader                    // a follower's append: offsets and epochs are already in the batches
	// FromBump is FromCoordinator, of the marker of a transaction whose end has raised the producer's epoch (KIP-890): when the epoch has an open
	// transaction already, it is the next one's, and the marker comes late, for a second time (KIP-1228).
	FromBump
)

// Appended says where a set of batches lies.
type Appended struct {
	Base, Last int64 // of the first batch's first and the last batch's last record
	AppendTime int64 // ms; -1 unless LogAppendTime
	Epoch      int32 // leader epoch; a Partition's, for its WhenAcked
	LogStart   int64
	Duplicate  bool // an idempotent producer's retry: nothing was written, the offsets are the first try's
}

// Errors that a caller tells apart with errors.Is; the server maps them to Kafka's codes.
var (
	ErrCorrupt            = errors.New("corrupt record batch")           // CORRUPT_MESSAGE
	ErrTooLarge           = errors.New("record batch too large")         // MESSAGE_TOO_LARGE
	ErrInvalidRecord      = errors.New("invalid record")                 // INVALID_RECORD
	ErrInvalidTimestamp   = errors.New("invalid timestamp")              // INVALID_TIMESTAMP
	ErrUnexpectedOffset   = errors.New("stale expected offset")          // POLICY_VIOLATION
	ErrOldMagic           = errors.New("unsupported message format")     // UNSUPPORTED_FOR_MESSAGE_FORMAT
	ErrOutOfOrderSequence = errors.New("out of order sequence number")   // OUT_OF_ORDER_SEQUENCE_NUMBER
	ErrUnknownProducer    = errors.New("unknown producer id")            // UNKNOWN_PRODUCER_ID
	ErrCoordinatorFenced  = errors.New("transaction coordinator fenced") // TRANSACTION_COORDINATOR_FENCED
	ErrProducerFenced     = errors.New("producer epoch fenced")          // INVALID_PRODUCER_EPOCH
	ErrInvalidTxnState    = errors.New("no transaction for this batch")  // INVALID_TXN_STATE
	ErrOffsetOutOfRange   = errors.New("offset out of range")            // OFFSET_OUT_OF_RANGE
	ErrFailed             = errors.New("log directory failed")           // KAFKA_STORAGE_ERROR
	ErrDiskFull           = errors.New("disk full")                      // KAFKA_STORAGE_ERROR, reads go on
	ErrNoFiles            = errors.New("no file descriptors left")       // KAFKA_STORAGE_ERROR, passes
	ErrNewerEpoch         = errors.New("batch of a newer leader epoch")  // to a follower
	ErrClosed             = errors.New("log closed")
)

// Slice is a region of one segment file that holds whole batches; empty when Len is 0.
type Slice struct {
	File    vfs.File
	Pos     int64
	Len     int
	More    bool // the limit of bytes, or the segment's end, has cut it short: there is more below the offset's limit
	release func()
	end     bool // ends with the segment
}

// Release lets the file be closed and deleted; once, when the bytes are sent.
func (s *Slice) Release() {
	if s.release != nil {
		s.release()
		s.release = nil
	}
}
