// Package connectors is the contract between Forebay's runtime and a connector:
// what a source hands over, what a sink takes, and who owns which bytes when.
//
// The shape is Kafka Connect's position model with batches and an explicit
// two-phase commit. A Source fills batches and says after which record which
// position holds; the runtime appends records and positions to the log in one
// transaction and only then calls Committed. A Sink is told where the log
// stands and answers where it wants to resume: the target knows best.
//
// Connectors return errors of three kinds only: Fatal, a Reject of one record,
// or anything else, which the runtime retries with backoff.
package connectors

import (
	"context"
	"log/slog"
	"time"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
)

// Op is what happened to a row. Its letters are Debezium's.
type Op byte

const (
	OpNone     Op = 0   // not a change: a log line, a message
	OpRead     Op = 'r' // seen in the initial snapshot
	OpCreate   Op = 'c'
	OpUpdate   Op = 'u'
	OpDelete   Op = 'd'
	OpTruncate Op = 't'
)

// Header is a record header, as in Kafka.
type Header struct {
	Key   string
	Value []byte
}

// Datum is a value together with its type.
type Datum struct {
	Schema *schema.Schema
	Value  schema.Value
}

// Record is one record on its way into or out of the log.
//
// From a source, either RawKey/RawValue or Key/Value or Key/Change is set; the
// runtime's converter makes the bytes. To a sink, the runtime sets RawKey,
// RawValue and the coordinates; SinkEnv.Decode fills Key, Value and Change on demand.
// A nil RawValue together with no Value and no Change is a tombstone.
type Record struct {
	Topic     string
	Partition int32     // source: -1 lets the key's murmur2 hash choose; sink: where it lies
	Offset    int64     // sink only
	Timestamp time.Time // zero in a source: the time of the append
	Headers   []Header

	RawKey, RawValue []byte
	Key, Value       Datum
	Change           *Change
	// Declared says, in a sink, that a schema registry has the types of Value and Change. Types that the record's own header names are
	// declared, too; others were guessed from the text, and may change with every record.
	Declared bool

	// From is where a dead letter that is played again lies in the log; nil: where Partition and Offset say. See ReplayPartition.
	From *Place
}

// Place is where a record lies in a topic of the log.
type Place struct {
	Partition int32
	Offset    int64
}

// Place is where the record lies in the log: what a sink writes as its coordinates.
func (r *Record) Place() Place {
	if r.From != nil {
		return *r.From
	}
	return Place{r.Partition, r.Offset}
}

// SourceTime is when the record came to be at its source: when the source's transaction committed, if the envelope's source block says
// so (ts_ms), else when the connector handled the change, else the record's own time. Zero: nothing says it.
func (r *Record) SourceTime() time.Time {
	if c := r.Change; c != nil {
		if block := c.Source; block.Schema != nil {
			if i := block.Schema.FieldIndex("ts_ms"); i >= 0 && i < len(block.Value.List) && block.Value.List[i].Kind == schema.Int64 {
				return time.UnixMilli(block.Value.List[i].Int())
			}
		}
		if !c.At.IsZero() {
			return c.At
		}
	}
	return r.Timestamp
}

// ReplayPartition is added to a partition's number where its dead letters are played again: a sink writes them as
// the records of a partition of their own, whose offsets count the replays, since what it has of theirs only goes forward. No topic
// of a log has so many partitions.
const ReplayPartition int32 = 1 << 30

// Change is a row change: the content of a Debezium envelope before it is written as one.
type Change struct {
	Op     Op
	Row    *schema.Schema // Struct: the table's columns
	Before schema.Value   // Struct of Row, or null
	After  schema.Value   // Struct of Row, or null
	Source Datum          // Struct: the envelope's source block
	Update Datum          // of a document (schema.Document): what an update did, the envelope's updateDescription; else zero
	At     time.Time      // when the connector handled it: the envelope's ts_ms, ts_us, ts_ns
}

// Position is where a source stands, opaque to the runtime; nil means "nothing
// read yet" and, in a Mark, "forget this key". By convention it is a JSON
// object, so that people can read it. Source.Compare orders two of one key.
type Position []byte

// PositionKey names one of the independent positions of a split: a file, a
// slot's stream, a table's snapshot.
type PositionKey string

// Split is a unit of work that one task runs and no two tasks share.
type Split struct {
	ID   string // stable over restarts: part of the transactional id. One that names a host has it in here, too: each host has its own
	Host string // not "": only a worker on this host may run it
}

// TopicSpec is a topic that a source owns. The runtime creates it when it is not there.
type TopicSpec struct {
	Name       string
	Partitions int32             // 0: 1
	Configs    map[string]string // Kafka topic configs beside the defaults
}

// Delivery is the strongest promise that a connector can keep.
type Delivery uint8

const (
	AtLeastOnce     Delivery = iota
	IdempotentByKey          // doubles vanish at the target
	ExactlyOnce              // source: positions are exact; sink: offset and data commit together, or two-phase
)

// Capabilities are what a configured connector can do.
type Capabilities struct {
	Delivery Delivery
}

// Env is what the runtime gives to every connector.
type Env struct {
	Name   string // the connector's name in the config
	Group  string // the worker group; with Name it scopes what connectors leave in a target
	Host   string // of this worker
	Logger *slog.Logger
}

// Source is a configured source. Making one does no I/O. A worker makes one for a connector, and its tasks from it, one after the other.
// If it is an io.Closer, Close has it let go of what it holds between two tasks: when the connector is stopped, and at the end.
type Source interface {
	// Validate checks live what a config cannot show: rights, settings, reachability.
	Validate(ctx context.Context) []spec.Finding
	// Plan names the splits, at most max of them.
	Plan(ctx context.Context, max int) ([]Split, error)
	// Topics lists the topics that the source owns as far as it knows them now.
	Topics(ctx context.Context) ([]TopicSpec, error)
	// Capabilities of this configuration.
	Capabilities() Capabilities
	// Compare orders two positions of one key: negative when a is earlier.
	Compare(key PositionKey, a, b Position) int
	// Task makes the task of one split; Open starts it.
	Task(split Split) SourceTask
}

// BoundedSource is a Source that can cut what it reads, and so asks how large a record may be.
type BoundedSource interface {
	// Bound says, before each Task and each audit, how many bytes a record's key, value and headers may have together where the source's topics
	// take the least. A larger record fails the source, or becomes a dead letter. Transforms may add to it.
	Bound(bytes int)
}

// Checker is a Source or a Sink whose config somebody else has to read, a plugin's process: New, which does no I/O, cannot ask.
type Checker interface {
	// Check does no I/O but to ask. An error says that the config is wrong, and is Fatal.
	Check(ctx context.Context) error
}

// Check asks a connector that is a Checker.
func Check(ctx context.Context, connector any) error {
	if c, ok := connector.(Checker); ok {
		return c.Check(ctx)
	}
	return nil
}

// SourceTask reads one split. The runtime calls Open, then Read in a loop, then
// Close, from one goroutine; Committed may be called while a Read runs.
type SourceTask interface {
	// Open connects and seeks to the durable positions. An empty map is a first start.
	Open(ctx context.Context, positions map[PositionKey]Position) error
	// Read fills b, which is empty, and returns when b is full, or there is
	// something in it and nothing more at hand; it blocks while there is nothing.
	// io.EOF says that the split has ended for good. Records added before an
	// error count: what was not marked is read again after the next Open.
	// b belongs to the runtime once Read has returned.
	Read(ctx context.Context, b *Batch) error
	// Committed says that everything up to these positions is durable in the
	// log, and never before: only now may a slot advance or a file be forgotten. nil: the log has forgotten that key.
	Committed(ctx context.Context, positions map[PositionKey]Position) error
	Close() error
}

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

// Assignment is a partition that a sink task writes, with what the log knows of it.
type Assignment struct {
	TopicPartition
	TopicID     [16]byte // changes when a topic is deleted and created again
	StartOffset int64    // log start: earlier records are gone
	Begin       int64    // what the user wants no earlier record than
	EndOffset   int64    // last stable offset at the time of the assignment
}

// First is the offset at which a target begins that knows nothing of the partition.
func (a Assignment) First() int64 { return max(a.StartOffset, a.Begin) }

// SinkEnv is what the runtime gives to a sink task.
type SinkEnv struct {
	Env
	TaskID string // unique to this start of this task
	Epoch  int64  // rises with every start of this task: fences its predecessors
	// Decode fills Key, Value and Change of a record from its raw bytes and its
	// schema. An error means that this record cannot be read: reject it.
	Decode func(*Record) error
	// Alive returns an error once the task's lease has run out: nothing may be
	// made visible in the target after that.
	Alive func() error
}

// Sink is a configured sink. Making one does no I/O.
type Sink interface {
	Validate(ctx context.Context) []spec.Finding
	Capabilities() Capabilities
	// Topics are the globs (`*` crosses dots) of what it reads.
	Topics() []string
	Task(env SinkEnv) SinkTask
}

// SinkTask writes the partitions of its assignments. All calls come from one goroutine.
type SinkTask interface {
	// Open connects to the target.
	Open(ctx context.Context) error
	// Recover takes on partitions: it finishes what a predecessor had committed,
	// removes what it had not, and returns the offset to read next for each. A
	// partition that the target knows nothing of is answered with its First. A target that knows another topic
	// id, or an offset that the log no longer holds, is a Fatal error that names the gap.
	Recover(ctx context.Context, as []Assignment) (map[TopicPartition]int64, error)
	// Write takes records of one partition in offset order; it may buffer. It
	// must not keep the records' bytes. Rejected records go to the dead letters, or fail the task.
	// The two halves of a change of a row's key (Debezium's headers tie them) come with no Prepare between
	// them, unless the log had no second half for seconds after the first.
	Write(ctx context.Context, records []Record) ([]Reject, error)
	// Tick says which partitions are due for a commit, by size, count or time;
	// it is called after every Write and at least once a second.
	Tick(now time.Time) []TopicPartition
	// Prepare makes everything written to the partitions durable in the target but not yet visible.
	Prepare(ctx context.Context, tps []TopicPartition, cause Cause) ([]Token, error)
	// Commit makes a prepared token visible, atomically and idempotently. The
	// runtime calls it only while the lease holds.
	Commit(ctx context.Context, t Token) error
	// Revoke forgets partitions and what was written to them without a commit.
	Revoke(ctx context.Context, tps []TopicPartition) error
	Close() error
}

// Advancer is a SinkTask that wants to know how far the log was read where it
// holds nothing to write: transaction markers, aborted and compacted records. The runtime
// calls Advance after the Write of what lies below next. Without it, a topic whose last
// records are markers looks, once retention has removed them, as if records were lost.
type Advancer interface {
	Advance(tp TopicPartition, next int64)
}

// Cause says why a commit is made.
type Cause uint8

const (
	CauseDue      Cause = iota // Tick asked for it
	CauseFlush                 // somebody asked: audit, stop
	CauseShutdown              // the task ends in good order
)

// Token is a prepared commit.
type Token struct {
	TopicPartition
	Next int64 // the offset to read next once this is committed
	Data any   // the sink's own
}

// Reject is a record that the sink cannot take while the others can go on.
type Reject struct {
	Index  int // into the records of the Write
	Reason error
}

// RecordError is an error of Commit that names the one record to blame; nothing of the commit is in the target. A task
// that keeps dead letters starts again without that record, others fail.
type RecordError struct {
	TopicPartition
	Offset int64
	Err    error
}

func (e *RecordError) Error() string { return e.Err.Error() }
func (e *RecordError) Unwrap() error { return e.Err }

// SourceType and SinkType are kinds of connectors, as listed in plugins/builtin.
type SourceType struct {
	Name string // postgres
	Spec spec.Spec
	// HostBound says that splits name hosts, so every host that has workers runs its own. It is the type's word, whatever the config says: who
	// shares out the connectors may be a worker that cannot resolve that config.
	HostBound bool
	New       func(cfg spec.Values, env Env) (Source, error)
}

type SinkType struct {
	Name string
	Spec spec.Spec
	New  func(cfg spec.Values, env Env) (Sink, error)
}

// Registry is the explicit list of what can be configured.
type Registry struct {
	Sources []SourceType
	Sinks   []SinkType
}
