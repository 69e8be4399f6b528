package runtime_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
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
			payload, _ := dlq.Payload{Topic: topic, Partition: -1, Timestamp: time.Now(), Key: []byte(key), Value: []byte("v")}.Append(nil)
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

// At the limit the source ends with the first batch that has one letter more. What was asked for is done before that, or it would never be.
func TestUnappendedAtTheLimit(t *testing.T) {
	for _, do := range []dlq.Do{dlq.Drop, dlq.Replay} {
		t.Run(string(do), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.letters = 2
			b.refuse = map[string]string{"transforms.0.type": "extract", "transforms.0.field": "zz", "transforms.0.when.field": "name", "transforms.0.when.equals": "bad"}
			src := &listed{topic: unique("limit"), partitions: 1, records: []connectors.Record{change('c', 1, "bad", ""), change('c', 2, "bad", "")}}
			b.until(src, "the limit is reached", func() bool { return b.sourceLetters().Count() == 2 })
			src.records = append(src.records, change('c', 3, "bad", ""), change('c', 4, "ok", ""))
			if err := b.run(t.Context(), src, 0); !connectors.IsFatal(err) {
				t.Fatal(err)
			}
			b.askSource(do, all)
			appended := 1
			if do == dlq.Replay { // the two are mended, and the third is not
				b.refuse["transforms.0.when.field"], b.refuse["transforms.0.when.equals"] = "id", "3"
				appended = 3
			}
			b.until(src, "there is room again", func() bool {
				d := b.sourceLetters()
				return d.Count() == 1 && len(d.Asks()) == 0 && len(b.committed(src.topic, 1)) == appended
			})
		})
	}
}

// The parts of a move are appended together or not at all, also when one of them was not kept whole, whichever of them is asked for or dropped.
func TestUnappendedHalfOfAMoveIsCut(t *testing.T) {
	b := newBench(t)
	b.letters = 10
	tombstone := change('c', 2, "", "")
	tombstone.Change = nil
	large := connectors.Record{Partition: -1, RawKey: []byte("3"), RawValue: bytes.Repeat([]byte{'a'}, dlq.MostPayload), Headers: []connectors.Header{{Key: "__debezium.oldkey"}}}
	src := &listed{topic: unique("cut"), partitions: 1, records: []connectors.Record{change('d', 2, "gone", "__debezium.newkey"), tombstone, large}}
	b.until(src, "three letters", func() bool { return b.sourceLetters().Count() == 3 })
	first := b.sourceLetters().Waiting()[0].Place
	for _, step := range []struct {
		do   dlq.Do
		ask  func(dlq.Entry) bool
		left int
	}{
		{dlq.Replay, all, 3},
		{dlq.Drop, func(e dlq.Entry) bool { return e.Place == first }, 2},
		{dlq.Replay, all, 2},
	} {
		b.askSource(step.do, step.ask)
		b.until(src, "answered", func() bool { return len(b.sourceLetters().Asks()) == 0 })
		left := b.sourceLetters().Waiting()
		if n := len(b.committed(src.topic, 1)); n != 0 || len(left) != step.left || left[0].Stage != dlq.Gone || !strings.Contains(left[0].Reason, "the other half of its move: only its beginning was kept") {
			t.Errorf("after %s %d records of the move are in the log, and %d letters are left: %+v", step.do, n, len(left), left)
		}
	}
}

// A letter of whose record a piece is missing says so when it is to be played again; the source and the other letters go on.
func TestUnappendedOfWhichAPieceIsMissing(t *testing.T) {
	b := newBench(t)
	b.letters, b.split = 10, "dlq" // a split of this name is not ended by who asks for something
	b.refuse = map[string]string{"transforms.0.type": "extract", "transforms.0.field": "zz"}
	src := &listed{topic: unique("piece"), partitions: 1, records: []connectors.Record{change('c', 1, "x", ""), change('c', 2, "x", "")}}
	b.until(src, "two letters", func() bool { return b.sourceLetters().Count() == 2 })
	d := b.sourceLetters()
	torn := d.Waiting()[0]
	torn.Pieces++
	a, err := b.log.NewAppender(t.Context(), unique("somebody"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := d.Write(t.Context(), a, []dlq.Entry{torn}, nil); err != nil {
		t.Fatal(err)
	}
	b.refuse = nil
	b.stats.Ready.Store(false)
	asked := false
	b.until(src, "one is played again", func() bool {
		if b.stats.Ready.Load() && !asked {
			asked = true
			b.askSource(dlq.Replay, all)
		}
		d := b.sourceLetters()
		return asked && d.Count() == 1 && len(d.Asks()) == 0
	})
	left := b.sourceLetters().Waiting()[0]
	if left.Place != torn.Place || left.Stage != dlq.Gone || left.Reason != dlq.ErrNoPayload.Error() || len(b.committed(src.topic, 1)) != 1 {
		t.Errorf("%+v", left)
	}
}
