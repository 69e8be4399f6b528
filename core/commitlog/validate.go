package commitlog

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/forebayhub/forebay/core/record"
)

// maxRecordErrors bounds what a refusal tells of single records: a batch has room for a million bad ones.
const maxRecordErrors = 1000

// RecordErrors is a refused batch with what is wrong with which of its records (KIP-467). errors.Is finds
// ErrInvalidRecord, ErrInvalidTimestamp or ErrUnexpectedOffset in it.
type RecordErrors struct {
	Err     error
	Records []RecordError // by index; the first thousand
	Count   int           // of all
}

// RecordError is what is wrong with one record.
type RecordError struct {
	Index   int32 // in the batch
	Message string
}

func (e *RecordErrors) Error() string {
	if errors.Is(e.Err, ErrInvalidTimestamp) {
		return fmt.Sprintf("%v: one or more records have been rejected due to invalid timestamp", e.Err)
	}
	var first []string
	for _, r := range e.Records[:min(len(e.Records), 3)] {
		first = append(first, fmt.Sprintf("record %d: %s", r.Index, r.Message))
	}
	return fmt.Sprintf("%v: one or more records have been rejected due to %d record errors in total, and only showing the first three errors at most: %s",
		e.Err, e.Count, strings.Join(first, "; "))
}

// Unwrap gives the kind.
func (e *RecordErrors) Unwrap() error { return e.Err }

func (e *RecordErrors) add(index int32, format string, args ...any) {
	if e.Count++; len(e.Records) < maxRecordErrors {
		e.Records = append(e.Records, RecordError{index, fmt.Sprintf(format, args...)})
	}
}

// checkClient refuses what a client may not send, and puts the header's highest timestamp right. Like LogValidator.
func checkClient(h *record.Header, batch record.Batch, cfg *Config, now int64) error {
	switch {
	case h.Size() > int(cfg.MaxBatchBytes):
		return fmt.Errorf("%w: %d bytes, max.message.bytes is %d", ErrTooLarge, h.Size(), cfg.MaxBatchBytes)
	case h.Attributes.Control():
		return fmt.Errorf("%w: control batch from a client", ErrInvalidRecord)
	case h.Count == 0:
		return fmt.Errorf("%w: batch without records", ErrInvalidRecord)
	case h.LastOffsetDelta != h.Count-1:
		return fmt.Errorf("%w: %d records, last offset delta %d", ErrInvalidRecord, h.Count, h.LastOffsetDelta)
	case h.HasProducer() && (h.BaseSequence < 0 || h.ProducerEpoch < 0):
		return fmt.Errorf("%w: producer %d with epoch %d and sequence %d", ErrInvalidRecord, h.ProducerID, h.ProducerEpoch, h.BaseSequence)
	case h.Attributes.Transactional() && !h.HasProducer():
		return fmt.Errorf("%w: transactional batch without a producer id", ErrInvalidRecord)
	case h.Attributes.LogAppendTime():
		return fmt.Errorf("%w: a producer should not set the timestamp type to LogAppendTime", ErrInvalidTimestamp)
	case h.Attributes.DeleteHorizon():
		return fmt.Errorf("%w: delete horizon from a client", ErrInvalidRecord)
	}
	s, err := batch.Scan(h)
	if err != nil {
		return unsound(err)
	}
	if cfg.MaxRecordBytes > 0 && s.Largest > cfg.MaxRecordBytes && h.Attributes.Codec() != record.None {
		return fmt.Errorf("%w: record of %d bytes, max.decompressed.message.bytes is %d", ErrInvalidRecord, s.Largest, cfg.MaxRecordBytes)
	}
	if cfg.Compact && s.Keyless > 0 || !cfg.LogAppendTime && (cfg.outOfRange(s.MinTimestamp, now) || cfg.outOfRange(s.MaxTimestamp, now)) {
		if err := checkRecords(h, batch, cfg, now); err != nil {
			return err
		}
	}
	if s.MaxTimestamp != h.MaxTimestamp && !cfg.LogAppendTime {
		batch.PatchMaxTimestamp(s.MaxTimestamp)
		h.MaxTimestamp = s.MaxTimestamp
	}
	return nil
}

// unsound turns package record's errors about what lies in a batch whose CRC is right into this package's. Kafka says INVALID_RECORD, which no
// client tries again, and so does this; for undecodable bytes Kafka says UNKNOWN_SERVER_ERROR.
func unsound(err error) error {
	if errors.Is(err, record.ErrTooLarge) {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return fmt.Errorf("%w: %w", ErrInvalidRecord, err)
}

// outOfRange tells a timestamp that message.timestamp.before.max.ms or after.max.ms refuses. NoTimestamp never is.
func (c *Config) outOfRange(ts, now int64) bool {
	ms := func(d time.Duration) int64 {
		if d == 0 || d == math.MaxInt64 {
			return math.MaxInt64
		}
		return d.Milliseconds()
	}
	diff := now - ts
	return ts != record.NoTimestamp && (diff > ms(c.TimestampBefore) || -diff > ms(c.TimestampAfter))
}

// checkRecords says which records are to blame.
func checkRecords(h *record.Header, batch record.Batch, cfg *Config, now int64) error {
	bad := &RecordErrors{Err: ErrInvalidRecord}
	i := int32(0)
	for r, err := range record.All(batch, 0) {
		switch {
		case err != nil:
			return unsound(err)
		case cfg.Compact && r.Key == nil:
			bad.add(i, "a compacted topic cannot accept a record without a key")
		case !cfg.LogAppendTime && cfg.outOfRange(r.Timestamp, now):
			bad.Err = ErrInvalidTimestamp
			bad.add(i, "timestamp %d is out of range: the log's clock is at %d, message.timestamp.before.max.ms and after.max.ms allow %v before and %v after",
				r.Timestamp, now, cfg.TimestampBefore, cfg.TimestampAfter)
		}
		i++
	}
	if bad.Count == 0 {
		return nil
	}
	return bad
}
