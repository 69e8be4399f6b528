package runtime_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/position"
)

// What other splits have in a transaction that is open when a split starts is none of its business once that is committed either: it neither appends
// their letters nor answers what is asked for them.
func TestUnappendedOfOpenTransactions(t *testing.T) {
	b := newBench(t)
	b.letters = 10
	topic := unique("open")
	letters := dlq.Topic(b.group, "src")
	var open []func()
	for _, split := range []string{"B", "A/b"} {
		a, err := b.log.NewAppender(t.Context(), position.Scope{Group: b.group, Source: "src", Split: split}.TransactionalID(), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		d, next, err := dlq.LoadSource(t.Context(), b.log, a, b.group, "src", split)
		if err != nil {
			t.Fatal(err)
		}
		bury := func(number int64, key string, stage dlq.Stage) dlq.Place {
			payload, _, err := dlq.Payload{Topic: topic, Partition: -1, Timestamp: time.Now(), Key: []byte(key), Value: []byte("v")}.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			e := dlq.Entry{Place: dlq.SourcePlace(split, topic, number), Stage: stage, Connector: "src", Time: time.Now(), KeySHA256: dlq.Hash([]byte(key))}
			d.Bury(a, e, payload)
			return e.Place
		}
		commit := func() {
			if _, err := a.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		begin := func() {
			if err := a.Begin(); err != nil {
				t.Fatal(err)
			}
		}
		begin()
		first := bury(next, "k1", dlq.Transform)
		commit()
		begin()
		bury(next+1, "k2", dlq.Parked)
		ask, err := json.Marshal(map[string]any{"v": 1, "topic": first.Topic, "partition": first.Partition, "offset": first.Offset, "ask": true})
		if err != nil {
			t.Fatal(err)
		}
		a.Append(letters, 0, ask, []byte(`{"do":"drop"}`), nil, time.Time{})
		if err := a.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		open = append(open, commit)
	}
	b.split = "A"
	asked := false
	b.until(&listed{topic: topic, partitions: 1}, "A has answered what came behind them", func() bool {
		if !b.stats.Ready.Load() {
			return false
		}
		if !asked {
			for _, commit := range open {
				commit()
			}
			asked = true
			// Behind their markers, for letters are listed once no transaction is open.
			if err := b.sourceLetters().Ask(t.Context(), b.group, "src", dlq.Drop, []dlq.Place{dlq.SourcePlace("A", topic, 1)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range b.sourceLetters().Asks() {
			if p.Topic == "A/"+topic {
				return false
			}
		}
		return true
	})
	if d, n := b.sourceLetters(), len(b.committed(topic, 1)); n != 0 || d.Count() != 4 || len(d.Asks()) != 2 {
		t.Errorf("A has appended %d records of others; 4 letters and 2 requests of theirs are %d and %d", n, d.Count(), len(d.Asks()))
	}
}
