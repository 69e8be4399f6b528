// Package position keeps where sources stand, in the compacted topic
// _forebay.positions: one record per position key, appended in the same log
// transaction as the records that it covers.
//
// A record's key is JSON, {"v":1,"group":…,"source":…,"split":…,"key":…}; its
// value is the connector's position, and a null value forgets the key. Besides,
// each start of a task leaves a record with "open":true: its offset ends the
// loading and is the task's epoch.
package position

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// Topic is where positions are.
const Topic = "_forebay.positions"

// TopicSpec is how it is made: small segments, so that compaction keeps the
// start of a task short.
func TopicSpec() connectors.TopicSpec {
	return connectors.TopicSpec{Name: Topic, Partitions: 1, Configs: map[string]string{
		"cleanup.policy":            "compact",
		"segment.bytes":             "8388608",
		"min.cleanable.dirty.ratio": "0.2",
		"segment.ms":                "3600000",
	}}
}

// Scope is whose positions: one split of one source of one worker group.
type Scope struct {
	Group, Source, Split string
}

// TransactionalID is the id under which the scope's task appends.
func (s Scope) TransactionalID() string {
	id := "forebay." + s.Group + "." + s.Source
	if s.Split != "" {
		id += "." + s.Split
	}
	return id
}

// keyLead is how the key of every record of this format begins.
const keyLead = `{"v":1,`

type recordKey struct {
	V      int    `json:"v"`
	Group  string `json:"group"`
	Source string `json:"source"`
	Split  string `json:"split"`
	Key    string `json:"key"`
	Open   bool   `json:"open,omitempty"`
}

// Key is the record key of one position.
func (s Scope) Key(key connectors.PositionKey) []byte {
	return s.appendKey(nil, string(key), false)
}

func (s Scope) appendKey(dst []byte, key string, open bool) []byte {
	dst = append(dst, keyLead...)
	for i, f := range [...][2]string{{"group", s.Group}, {"source", s.Source}, {"split", s.Split}, {"key", key}} {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), f[0]...), `":`...)
		dst = schema.AppendQuoted(dst, []byte(f[1]))
	}
	if open {
		dst = append(dst, `,"open":true`...)
	}
	return append(dst, '}')
}

// Renew proves that the scope's appender has not been fenced: it commits a
// record that says who is at work. A fenced one gets hublog.ErrFenced.
func Renew(ctx context.Context, a *hublog.Appender, s Scope, host string) (epoch int64, err error) {
	if err := a.Begin(); err != nil {
		return 0, err
	}
	who, err := json.Marshal(map[string]string{"host": host})
	if err != nil {
		return 0, err
	}
	a.AppendTracked(Topic, 0, s.appendKey(nil, "", true), who)
	return a.Commit(ctx)
}

// Write puts the scope's positions where nobody works on it; a nil one is forgotten. A task that is at work all the same is fenced, and so ends (invariant 7).
func Write(ctx context.Context, l *hublog.Log, s Scope, positions map[connectors.PositionKey]connectors.Position) error {
	if _, err := l.EnsureTopic(ctx, TopicSpec()); err != nil {
		return err
	}
	a, err := l.NewAppender(ctx, s.TransactionalID(), 0)
	if err != nil {
		return err
	}
	defer a.Close()
	if err := a.Begin(); err != nil {
		return err
	}
	for key, p := range positions {
		a.Append(Topic, 0, s.Key(key), p, nil, time.Time{})
	}
	_, err = a.Commit(ctx)
	return err
}

// prefix is what the keys of all positions of the scope begin with.
func (s Scope) prefix() []byte {
	key := s.appendKey(nil, "", false)
	return key[:len(key)-len(`""}`)]
}

// Loaded is what Load found.
type Loaded struct {
	Positions map[connectors.PositionKey]connectors.Position
	Epoch     int64 // higher than that of every earlier Load of the scope
}

// Load reads the durable positions of the scope whose appender has just been
// opened, which fenced every earlier one.
//
// A read_committed read would not do: another task's open transaction on this
// topic holds its last stable offset down, maybe below my own committed
// position, and resuming there would double records. So: my predecessor is
// fenced and its transactions are settled; I commit a barrier record, read up to
// it with the transaction markers, and resolve them here.
func Load(ctx context.Context, l *hublog.Log, a *hublog.Appender, s Scope, host string) (Loaded, error) {
	barrier, err := Renew(ctx, a, s, host)
	if err != nil {
		return Loaded{}, fmt.Errorf("load positions: %w", err)
	}
	tp := connectors.TopicPartition{Topic: Topic}
	ends, err := l.Offsets(ctx, tp)
	if err != nil {
		return Loaded{}, fmt.Errorf("load positions: %w", err)
	}
	at, ok := ends[tp]
	if !ok {
		return Loaded{}, fmt.Errorf("load positions: topic %s is gone", Topic)
	}
	r := resolver{prefix: s.prefix(), keys: map[string]recordKey{}, done: map[connectors.PositionKey]connectors.Position{}}
	r.txns = hublog.NewTransactions(r.apply)
	if _, err := l.Scan(ctx, Topic, 0, at.Start, barrier+1, r.entry); err != nil {
		return Loaded{}, fmt.Errorf("load positions: %w", err)
	}
	// Above the last stable offset nothing of this scope can be: its predecessors were fenced.
	if err := r.txns.Finish(at.LSO, func(producer, offset int64, p pending) error {
		return fmt.Errorf("position %q at offset %d of %s belongs to a transaction of producer %d that is still open after its task was fenced", p.key, offset, Topic, producer)
	}); err != nil {
		return Loaded{}, err
	}
	return Loaded{Positions: r.done, Epoch: barrier}, nil
}

// resolver applies the records of one scope as their transactions end.
type resolver struct {
	prefix []byte // of the scope's keys
	keys   map[string]recordKey
	done   map[connectors.PositionKey]connectors.Position
	txns   *hublog.Transactions[pending]
}

type pending struct {
	key   connectors.PositionKey
	value connectors.Position
}

func (r *resolver) entry(e hublog.Entry) error {
	if r.txns.Marker(e) {
		return nil
	}
	// Most records are of other scopes, or of few keys again and again.
	if !bytes.HasPrefix(e.Key, r.prefix) {
		if !bytes.HasPrefix(e.Key, []byte(keyLead)) {
			return fmt.Errorf("offset %d of %s has a key that this version cannot read: %q", e.Offset, Topic, e.Key)
		}
		return nil
	}
	k, ok := r.keys[string(e.Key)]
	if !ok {
		if err := json.Unmarshal(e.Key, &k); err != nil {
			return fmt.Errorf("offset %d of %s has a key that this version cannot read: %q", e.Offset, Topic, e.Key)
		}
		r.keys[string(e.Key)] = k
	}
	if k.Open {
		return nil
	}
	r.txns.Add(e, pending{connectors.PositionKey(k.Key), e.Value})
	return nil
}

func (r *resolver) apply(p pending) {
	if p.value == nil {
		delete(r.done, p.key)
	} else {
		r.done[p.key] = p.value
	}
}
