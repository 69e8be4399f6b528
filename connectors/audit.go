package connectors

import "context"

// SourceAuditor is a Source that can show what it holds at one point.
type SourceAuditor interface {
	// AuditPoint fixes a point of the source: a consistent view of its rows or
	// lines, and the positions that a task has reached when the log holds all of it.
	AuditPoint(ctx context.Context) (AuditPoint, error)
}

// AuditPoint is a consistent view of a source.
type AuditPoint interface {
	// Positions that the durable positions must have reached before the log is compared.
	Positions() map[PositionKey]Position
	// Topics that the view covers.
	Topics() []string
	// Rows calls fn for every row or line that a replay of the topic up to the
	// point must give. A change topic's item has the key's bytes and the row
	// (Change.After) as the source's task would have appended them; a
	// plain topic's item has RawValue and the headers.
	Rows(ctx context.Context, topic string, fn func(Record) error) error
	Close() error
}

// SnapshotSource is a SourceAuditor that reads what its source has before, or beside, the changes. What the log holds
// of a table can be compared from the end of its snapshot on.
type SnapshotSource interface {
	SourceAuditor
	// Copying names what, by these durable positions, is still being copied; "" when the log holds all of it.
	Copying(positions map[PositionKey]Position) string
}

// ReachedPoint is an AuditPoint whose rows depend on how the task came to read them.
type ReachedPoint interface {
	AuditPoint
	// Reached is called once before Rows, with the durable positions that have reached the point.
	Reached(positions map[PositionKey]Position) error
}

// SinkAuditor is a Sink that can compare what it holds with the log.
type SinkAuditor interface {
	// Audit reads back everything that was committed to the target for the partition
	// and compares it with the log's records, which next yields in offset order,
	// up to end (exclusive), and then io.EOF. It reports each difference and returns how many records agreed.
	Audit(ctx context.Context, env SinkEnv, a Assignment, end int64, next func() (*Record, error), report func(Difference)) (agreed int64, err error)
}

// SnapshotAuditor is a SinkAuditor whose target can only be compared at the offset at which it was looked at, wherever that
// is by then: it changes in place, or holds many records in one piece.
type SnapshotAuditor interface {
	SinkAuditor
	// AuditSnapshot fixes a view of what the target holds of a partition.
	AuditSnapshot(ctx context.Context, env SinkEnv, a Assignment) (AuditSnapshot, error)
}

// AuditSnapshot is a view of a target that does not move on.
type AuditSnapshot interface {
	// Next is the offset up to which (exclusive) records are in the view.
	Next() int64
	// Compare is SinkAuditor's Audit for the view.
	Compare(ctx context.Context, next func() (*Record, error), report func(Difference)) (agreed int64, err error)
	Close() error
}

// Difference is one thing that an audit found.
type Difference struct {
	Kind  DifferenceKind
	Where string // topic and offset, or file and row, or table and key
	What  string
}

// DifferenceKind sorts differences as the audit's report counts them.
type DifferenceKind uint8

const (
	MissingRecord DifferenceKind = iota
	DoubledRecord
	DifferentRecord
)
