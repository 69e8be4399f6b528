package runtime_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// listed is a source of these records, each with a position of its own.
type listed struct {
	topic      string
	partitions int32
	records    []connectors.Record
	next       int
}

func (s *listed) Validate(context.Context) []spec.Finding { return nil }
func (s *listed) Plan(context.Context, int) ([]connectors.Split, error) {
	return []connectors.Split{{ID: "0"}}, nil
}
func (s *listed) Topics(context.Context) ([]connectors.TopicSpec, error) {
	return []connectors.TopicSpec{{Name: s.topic, Partitions: s.partitions}}, nil
}
func (s *listed) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}
func (s *listed) Compare(_ connectors.PositionKey, a, b connectors.Position) int {
	return int(nextOf(a) - nextOf(b))
}
func (s *listed) Task(connectors.Split) connectors.SourceTask { return s }
func (s *listed) Open(_ context.Context, at map[connectors.PositionKey]connectors.Position) error {
	s.next = int(nextOf(at["n"]))
	return nil
}
func (s *listed) Read(ctx context.Context, b *connectors.Batch) error {
	if s.next == len(s.records) {
		<-ctx.Done()
		return ctx.Err()
	}
	for _, r := range s.records[s.next:] {
		r.Topic = s.topic
		b.Add(r, 100)
	}
	s.next = len(s.records)
	b.Mark("n", positionOf(int64(s.next)), true)
	return nil
}
func (s *listed) Committed(context.Context, map[connectors.PositionKey]connectors.Position) error {
	return nil
}
func (s *listed) Close() error { return nil }

// committed are the records of a topic that are committed now, by partition and in their order.
func (b *bench) committed(topic string, partitions int32) (out []connectors.Record) {
	b.t.Helper()
	for p := range partitions {
		tp := connectors.TopicPartition{Topic: topic, Partition: p}
		var ends map[connectors.TopicPartition]hublog.Offsets
		eventually(b.t, 30*time.Second, "the last transaction's marker is there", func() bool { // the end of one is answered before
			var err error
			ends, err = b.log.Offsets(b.t.Context(), tp)
			return err == nil && ends[tp].LSO >= ends[tp].End // a topic that was made a moment ago may have no leader yet
		})
		poller, err := b.log.NewPoller()
		if err != nil {
			b.t.Fatal(err)
		}
		poller.Add(map[connectors.TopicPartition]int64{tp: 0})
		for at := int64(0); at < ends[tp].LSO; {
			runs, err := poller.Poll(b.t.Context(), time.Second)
			if err != nil {
				b.t.Fatal(err)
			}
			for _, run := range runs {
				for _, r := range run.Records {
					r.RawKey, r.RawValue = bytes.Clone(r.RawKey), bytes.Clone(r.RawValue)
					out = append(out, r)
				}
				at = run.Next
			}
		}
		poller.Close()
	}
	return out
}

func (b *bench) sourceLetters() *dlq.Letters {
	b.t.Helper()
	d, err := dlq.List(b.t.Context(), b.log, b.group, "src")
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// askSource asks for something for the letters that are chosen.
func (b *bench) askSource(do dlq.Do, choose func(e dlq.Entry) bool) {
	b.t.Helper()
	d := b.sourceLetters()
	var places []dlq.Place
	for _, e := range d.Waiting() {
		if choose(e) {
			places = append(places, e.Place)
		}
	}
	if err := d.Ask(b.t.Context(), b.group, "src", do, places); err != nil {
		b.t.Fatal(err)
	}
}

func all(dlq.Entry) bool { return true }

// until runs a source until ok says true.
func (b *bench) until(s connectors.Source, what string, ok func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- b.run(ctx, s, 10*time.Second) }()
	ended := false
	eventually(b.t, 30*time.Second, what, func() bool {
		select {
		case err := <-done:
			done <- err
			ended = true
		default:
		}
		return ended || ok()
	})
	cancel()
	if err := <-done; err != nil || ended {
		b.t.Fatalf("before %s: %v", what, err)
	}
}

// struck is numbers whose task is struck when it begins its work.
type struck struct {
	*numbers
	strike func()
}

func (s struck) Task(split connectors.Split) connectors.SourceTask {
	s.strike()
	return s.numbers.Task(split)
}

// Tasks are killed at any moment, while they write letters and while they play them again: each record is in the log once or in the letters once, and
// those of a key are in their order.
func TestUnappendedThroughKills(t *testing.T) {
	b := newBench(t)
	b.letters = 10_000
	const n, more = 3_000, 100
	bad := []int64{1_001, 1_007}
	src := &numbers{topic: unique("numbers"), n: n - more, typed: true, keys: 10}
	b.refuse = map[string]string{}
	for i, id := range bad {
		at := fmt.Sprintf("transforms.%d.", i)
		maps.Copy(b.refuse, map[string]string{at + "type": "extract", at + "field": "zz", at + "when.field": "id", at + "when.equals": fmt.Sprint(id)})
	}
	killed := func(times int) {
		for range times {
			life, kill := context.WithCancel(t.Context())
			_ = b.run(life, struck{src, func() { time.AfterFunc(rand.N(40*time.Millisecond), kill) }}, 0) // an error is what a kill leaves behind
			kill()
		}
	}
	check := func(bad []int64) {
		t.Helper()
		decoder := converter.NewDecoder(func(id string) (converter.Entry, error) { return b.schemas.Lookup(t.Context(), id) })
		last, got := map[int64]int64{}, []int64(nil)
		for _, id := range bad { // and all that is parked behind it
			for ; id < n; id += 10 {
				got = append(got, id)
			}
		}
		for _, r := range b.committed(src.topic, 1) {
			if err := decoder.Decode(&r); err != nil {
				t.Fatal(err)
			}
			id := r.Change.After.List[0].Int()
			if before, ok := last[id%10]; ok && before > id {
				t.Fatalf("%d is behind %d", id, before)
			}
			last[id%10], got = id, append(got, id)
		}
		exactly(t, got, n)
	}
	killed(6)
	src.more(more) // for a kill may come between a commit and its acknowledgement
	b.until(src, "everything is read", func() bool { return src.acknowledged() == n })
	check(bad)
	letters := b.sourceLetters().Waiting()
	first := slices.DeleteFunc(slices.Clone(letters), func(e dlq.Entry) bool { return e.Stage != dlq.Transform })
	if len(letters) != len(bad)*200 || len(first) != len(bad) || !strings.Contains(first[0].Reason, "which has two rows") || letters[len(letters)-1].Stage != dlq.Parked ||
		first[0].Topic != "0/"+src.topic || first[0].Partition != -1 {
		t.Fatalf("%d letters: %+v", len(letters), first[:min(2, len(first))])
	}
	b.askSource(dlq.Replay, func(e dlq.Entry) bool { return e.Place == first[0].Place })
	b.until(src, "it is refused once more", func() bool { return len(b.sourceLetters().Asks()) == 0 })
	check(bad)
	b.refuse = nil
	for i, e := range first {
		b.askSource(dlq.Replay, func(f dlq.Entry) bool { return f.Place == e.Place })
		killed(2)
		b.until(src, "all have followed", func() bool { return b.sourceLetters().Count() == len(letters)-200*(i+1) })
		check(bad[i+1:])
	}
	if src.doubted != nil {
		t.Error(src.doubted)
	}
}

// kinds are records of every kind that sources give.
func kinds() []connectors.Record {
	text, long := &schema.Schema{Kind: schema.String, Optional: true}, &schema.Schema{Kind: schema.Int64}
	block := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "lsn", Schema: long}}}
	row := &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "id", Schema: long}, {Name: "big", Schema: text}, {Name: "bytes", Schema: &schema.Schema{Kind: schema.Bytes, Optional: true}},
		{Name: "list", Schema: &schema.Schema{Kind: schema.Array, Elem: &schema.Schema{Kind: schema.Float64}}}}}
	at := time.Date(2026, 11, 30, 8, 0, 0, 123456000, time.UTC)
	key := func(n int64) connectors.Datum {
		return connectors.Datum{Schema: numberKey, Value: schema.StructOf(schema.Int64Of(n))}
	}
	values := func(n int64, big schema.Value) schema.Value {
		return schema.StructOf(schema.Int64Of(n), big, schema.BytesOf([]byte{0, 255}), schema.Value{Kind: schema.Array, List: []schema.Value{schema.Float64Of(0.1)}})
	}
	source := connectors.Datum{Schema: block, Value: schema.StructOf(schema.Int64Of(77))}
	return []connectors.Record{
		{Partition: -1, Key: key(1), Change: &connectors.Change{Op: connectors.OpUpdate, Row: row, Before: values(1, schema.StringOf("a")), After: values(1, schema.Missing), Source: source, At: at}},
		{Partition: -1, Key: key(1), Change: &connectors.Change{Op: connectors.OpDelete, Row: row, Before: values(1, schema.Value{}), Source: source, At: at}},
		{Partition: -1, Key: key(1)}, // a tombstone
		{Partition: -1, RawKey: []byte("k"), RawValue: []byte{0xff, 0}, Headers: []connectors.Header{{Key: "host", Value: []byte("h")}, {Key: "none"}}},
		{Partition: -1, RawValue: []byte(`{"like":"json"}`)},
		{Partition: 2, RawKey: []byte{}, RawValue: []byte{}},
		{Partition: -1, RawKey: []byte("raw"), Value: connectors.Datum{Schema: text, Value: schema.StringOf("typed")}},
		{Partition: -1, Key: key(9), RawValue: []byte("line")},
		{Partition: -1, Key: key(4), Change: &connectors.Change{Op: connectors.OpCreate, Row: schema.DocumentOf(text), After: schema.StructOf(schema.StringOf("4"), schema.StringOf(`{"_id": 4}`)), Source: source, At: at}},
		{Partition: -1, Change: &connectors.Change{Op: connectors.OpTruncate, Row: row, Source: source, At: at}},
	}
}

// What is played again is, byte for byte, what would have been appended at once.
func TestUnappendedAreKeptWhole(t *testing.T) {
	b := newBench(t)
	b.letters = 100
	show := func(s *listed) (out []string) {
		for _, r := range b.committed(s.topic, 3) {
			headers := ""
			for _, h := range r.Headers {
				headers += fmt.Sprintf(" %s=%s", h.Key, h.Value)
			}
			out = append(out, fmt.Sprintf("%d %q %v %q %v%s", r.Partition, r.RawKey, r.RawKey == nil, r.RawValue, r.RawValue == nil, headers))
		}
		slices.Sort(out)
		return out
	}
	direct, late := &listed{topic: unique("direct"), partitions: 3, records: kinds()}, &listed{topic: unique("late"), partitions: 3, records: kinds()}
	b.until(direct, "all are appended", func() bool { return len(show(direct)) == len(direct.records) })
	b.group = unique("g")
	b.refuse = map[string]string{"transforms.0.type": "header", "transforms.0.name": "x", "transforms.0.value": "y", "transforms.1.type": "route", "transforms.1.match": "late.*", "transforms.1.to": "not a topic"}
	b.until(late, "all are refused", func() bool { return b.sourceLetters().Count() == len(late.records) })
	if got := show(late); len(got) > 0 {
		t.Fatalf("%s", got)
	}
	b.refuse = nil
	b.askSource(dlq.Replay, all)
	b.until(late, "all are played again", func() bool { return b.sourceLetters().Count() == 0 })
	if got, want := show(late), show(direct); !slices.Equal(got, want) {
		t.Errorf("\n%s\ninstead of\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// change is a change of a row of key, whose new key it moves to or whose old key it comes from are said by a header.
func change(op connectors.Op, key int64, name, header string) connectors.Record {
	c := &connectors.Change{Op: op, Row: numberRow}
	r := connectors.Record{Partition: -1, Change: c}
	if op != connectors.OpTruncate {
		r.Key = connectors.Datum{Schema: numberKey, Value: schema.StructOf(schema.Int64Of(key))}
		c.After = schema.StructOf(schema.Int64Of(key), schema.StringOf(name))
	}
	if header != "" {
		r.Headers = []connectors.Header{{Key: header, Value: []byte("{}")}}
	}
	return r
}

// What comes behind a letter of its key waits, and so do changes of keys, and truncates with all that is behind them; nothing else does.
func TestUnappendedKeepTheOrder(t *testing.T) {
	tombstone := change(connectors.OpCreate, 2, "", "")
	tombstone.Change = nil
	move := []connectors.Record{change(connectors.OpDelete, 2, "gone", "__debezium.newkey"), tombstone, change(connectors.OpCreate, 3, "ok", "__debezium.oldkey")}
	refused := slices.Clone(move)
	refused[2] = change(connectors.OpCreate, 3, "bad", "__debezium.oldkey")
	for name, c := range map[string]struct {
		records []connectors.Record
		letters []int // by their number in records
		stages  []dlq.Stage
	}{
		"all": {slices.Concat([]connectors.Record{change('c', 1, "bad", ""), change('u', 1, "ok", ""), change('c', 2, "ok", "")}, move,
			[]connectors.Record{change('u', 3, "ok", ""), change('c', 4, "ok", ""), change('t', 0, "", ""), change('c', 5, "ok", "")}),
			[]int{0, 1, 3, 4, 5, 6, 8, 9}, []dlq.Stage{dlq.Transform, dlq.Parked, dlq.Parked, dlq.Parked, dlq.Parked, dlq.Parked, dlq.Parked, dlq.Parked}},
		"second half": {slices.Concat(refused, []connectors.Record{change('c', 7, "ok", ""), change('u', 3, "ok", "")}),
			[]int{0, 1, 2, 4}, []dlq.Stage{dlq.Transform, dlq.Parked, dlq.Parked, dlq.Parked}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.letters = 100
			src := &listed{topic: unique("order"), partitions: 1, records: slices.Clone(c.records)}
			for i := range src.records { // each says which one it is
				src.records[i].Headers = append(slices.Clone(src.records[i].Headers), connectors.Header{Key: "i", Value: []byte{byte(i)}})
			}
			in := func() (out []int) {
				for _, r := range b.committed(src.topic, 1) {
					for _, h := range r.Headers {
						if h.Key == "i" {
							out = append(out, int(h.Value[0]))
						}
					}
				}
				return out
			}
			b.refuse = map[string]string{"transforms.0.type": "extract", "transforms.0.field": "zz", "transforms.0.when.field": "name", "transforms.0.when.equals": "bad"}
			b.until(src, "the letters are there", func() bool { return b.sourceLetters().Count() == len(c.letters) })
			first := b.sourceLetters().Waiting()
			for i, e := range first {
				if e.Stage != c.stages[i] {
					t.Errorf("letter %d: %s: %s", i, e.Stage, e.Reason)
				}
			}
			var want []int
			for i := range src.records {
				if !slices.Contains(c.letters, i) {
					want = append(want, i)
				}
			}
			if got := in(); !slices.Equal(got, want) {
				t.Fatalf("%v instead of %v", got, want)
			}
			b.askSource(dlq.Replay, all)
			b.until(src, "refused once more", func() bool { return len(b.sourceLetters().Asks()) == 0 })
			if got := in(); !slices.Equal(got, want) {
				t.Fatalf("after a replay that changes nothing %v instead of %v", got, want)
			}
			b.refuse = nil
			b.askSource(dlq.Replay, func(e dlq.Entry) bool { return e.Place == first[0].Place })
			b.until(src, "all have followed", func() bool { return b.sourceLetters().Count() == 0 })
			if got, want := in(), append(want, c.letters...); !slices.Equal(got, want) {
				t.Errorf("%v instead of %v", got, want)
			}
		})
	}
}

// Demand 26: a record that is larger than its topic takes does not stop the source. It is kept, whole up to 32 MiB, and played again once it may be that large.
func TestUnappendedAreAsLargeAsTheyAre(t *testing.T) {
	o := openLog(t)
	b := benchOn(t, o)
	src := &listed{topic: unique("large"), partitions: 1}
	if _, err := b.log.EnsureTopic(t.Context(), connectors.TopicSpec{Name: src.topic, Configs: map[string]string{"max.message.bytes": "1048576"}}); err != nil {
		t.Fatal(err)
	}
	line := func(key string, n int) {
		src.records = append(src.records, connectors.Record{Partition: -1, RawKey: []byte(key), RawValue: bytes.Repeat([]byte{'a' + byte(n%23)}, n)})
	}
	line("a", 2<<20)
	line("a", 7)
	line("b", 8)
	line("c", dlq.MostPayload+1)
	if err := b.run(t.Context(), src, 0); !connectors.IsFatal(err) || !strings.Contains(err.Error(), "has 2097153 bytes; the log takes 1047552") {
		t.Fatal(err)
	}
	b.letters = 10
	b.until(src, "the letters are there", func() bool { return b.sourceLetters().Count() == 3 })
	values := func() (out []int) {
		for _, r := range b.committed(src.topic, 1) {
			out = append(out, len(r.RawValue))
		}
		return out
	}
	d := b.sourceLetters()
	large := d.Waiting()
	if large[0].Stage != dlq.Size || large[0].Cut || large[1].Stage != dlq.Parked || large[2].Stage != dlq.Size || !large[2].Cut || !slices.Equal(values(), []int{8}) {
		t.Fatalf("%v and %+v", values(), large)
	}
	kept, err := d.Payloads(t.Context(), large)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{2 << 20, 7, 1 << 20} {
		p, err := dlq.ParsePayload(kept[large[i].Place])
		if err != nil || len(p.Value) != want || len(p.Key) != 1 {
			t.Errorf("of letter %d there are %d bytes: %v", i, len(p.Value), err)
		}
	}
	b.askSource(dlq.Replay, all)
	b.until(src, "they are too large as before", func() bool { return len(b.sourceLetters().Asks()) == 0 })
	if got := b.sourceLetters().Waiting(); len(got) != 3 || got[0].Stage != dlq.Size || got[2].Stage != dlq.Gone || !strings.Contains(got[2].Reason, "only its beginning") {
		t.Errorf("%+v", got)
	}
	most := "16777216"
	if _, err := admin(t, o).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &most}}, src.topic); err != nil {
		t.Fatal(err)
	}
	b.askSource(dlq.Replay, func(e dlq.Entry) bool { return e.Place == large[0].Place })
	b.askSource(dlq.Drop, func(e dlq.Entry) bool { return e.Place == large[2].Place })
	b.until(src, "nothing is left", func() bool { return b.sourceLetters().Count() == 0 })
	if got := values(); !slices.Equal(got, []int{8, 2 << 20, 7}) {
		t.Errorf("%v", got)
	}
}

// What Avro cannot say, a number that the database did not send, is kept, and played again by a source that writes JSON.
func TestUnappendedOfTheConverter(t *testing.T) {
	at := httptest.NewServer(&lameRegistry{})
	defer at.Close()
	bad := change('u', 1, "x", "")
	bad.Change.After.List[0] = schema.Missing
	src := &listed{topic: unique("avro"), partitions: 1, records: []connectors.Record{bad, change('c', 2, "x", "")}}
	log := openLog(t)
	o := options(log, src, nil)
	o.Connectors[0].Values = parsed(t, worker.SourceFields, map[string]string{"on_error": "dlq", "value.converter": "avro", "registry.url": at.URL})
	w, stop := start(t, o)
	eventually(t, 30*time.Second, "one is kept", func() bool { s := w.Status()[0]; return s.Dead == 1 && s.Records == 1 })
	stop()
	b := benchOn(t, log)
	b.group = o.Group
	kept := b.sourceLetters().Waiting()
	if kept[0].Stage != dlq.Converter || !strings.Contains(kept[0].Reason, "was not sent") {
		t.Errorf("%+v", kept[0])
	}
	b.askSource(dlq.Replay, all)
	o.Connectors[0].Values = parsed(t, worker.SourceFields, map[string]string{"on_error": "dlq"})
	w, stop = start(t, o)
	eventually(t, 30*time.Second, "it is played again", func() bool { s := w.Status()[0]; return s.Dead == 0 && s.Records == 1 })
	stop()
	got := b.committed(src.topic, 1)
	for _, r := range got { // the first of them had the types of the record that was refused before it
		for _, h := range r.Headers {
			if h.Key != converter.SchemaHeader {
				continue
			}
			if _, err := b.schemas.Lookup(t.Context(), string(h.Value)); err != nil {
				t.Error(err)
			}
		}
	}
	if len(got) != 2 || !bytes.Contains(got[1].RawValue, []byte(`"after":{"id":"__debezium_unavailable_value","name":"x"}`)) {
		t.Errorf("%s", got[len(got)-1].RawValue)
	}
}

// Splits of a source share a topic of letters, and none sees or settles another's; each one's limit is its own.
func TestUnappendedOfTwoSplits(t *testing.T) {
	b := newBench(t)
	b.letters = 2
	b.refuse = map[string]string{"transforms.0.type": "extract", "transforms.0.field": "zz"}
	src := &listed{topic: unique("splits"), partitions: 1, records: []connectors.Record{change('c', 1, "x", ""), change('u', 1, "x", "")}}
	for n, split := range []string{"0", "00"} {
		b.split = split
		b.until(src, "the letters are there", func() bool { return b.sourceLetters().Count() == 2*(n+1) })
	}
	b.split, b.refuse = "0", nil
	b.askSource(dlq.Replay, all)
	b.until(src, "its own are played again", func() bool { return b.sourceLetters().Count() == 2 && len(b.sourceLetters().Asks()) == 2 })
	for _, e := range b.sourceLetters().Waiting() {
		if !strings.HasPrefix(e.Topic, "00/") {
			t.Errorf("%s is left", e.Place)
		}
	}
	b.split = "00"
	b.until(src, "the other's, too", func() bool { return b.sourceLetters().Count() == 0 && len(b.sourceLetters().Asks()) == 0 })
	if got := len(b.committed(src.topic, 1)); got != 4 {
		t.Errorf("%d records", got)
	}
}

// At the limit the source fails, and what it says leads to the letters; nothing of that batch is in the log.
func TestUnappendedHaveALimit(t *testing.T) {
	b := newBench(t)
	b.letters = 3
	b.refuse = map[string]string{"transforms.0.type": "extract", "transforms.0.field": "zz"}
	src := &listed{topic: unique("limit"), partitions: 1}
	for i := range int64(4) {
		src.records = append(src.records, change('c', i, "x", ""))
	}
	if err := b.run(t.Context(), src, 0); !connectors.IsFatal(err) || !strings.Contains(err.Error(), "dlq.limit") || len(b.committed(src.topic, 1)) > 0 || b.sourceLetters().Count() > 0 {
		t.Errorf("%v; %d letters", err, b.sourceLetters().Count())
	}
}
