package dlq

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func FuzzPlace(f *testing.F) {
	for _, s := range []string{"orders-0@17", "a-b-3@0", "x@1", "-1@1", "t-99999999999@1", "t-0@-1", "t-0@9223372036854775808", "", "s/t@1", "/t-0@1", "s/@1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePlace(s)
		if err != nil {
			return
		}
		if again, err := ParsePlace(p.String()); err != nil || again != p || p.Topic == "" || p.OfSource() != strings.Contains(p.Topic, "/") || p.Offset < 0 {
			t.Fatalf("%q is %+v and %+v: %v", s, p, again, err)
		}
	})
}

// Whatever is in the topic, the place of an entry is what its key says, and what is understood is written as it was read.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"v":1,"topic":"t","partition":2,"offset":3}`), []byte(`{"topic":"u","stage":"sink","reason":"r","state":"replayed","number":7,"time":"2026-11-30T00:00:00Z"}`))
	f.Add([]byte(`{"v":1,"topic":"t","partition":2,"offset":3,"ask":true}`), []byte(`{"do":"drop"}`))
	f.Add([]byte(`{"v":1,"open":true}`), []byte(`{}`))
	f.Add([]byte(`{"v":2}`), []byte(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		c, ok := parse(key, value)
		if !ok {
			return
		}
		again, ok := parse(c.record())
		if !ok || again.place != c.place || again.ask != c.ask || again.do != c.do || (again.entry == nil) != (c.entry == nil) {
			t.Fatalf("%+v and %+v", c, again)
		}
		if c.entry != nil && (c.entry.Place != c.place || !reflect.DeepEqual(again.entry, c.entry)) {
			t.Fatalf("%+v and %+v", c.entry, again.entry)
		}
	})
}

// Whatever pieces hold, reading them ends, and what is understood is written as it was read.
func FuzzPayload(f *testing.F) {
	f.Add([]byte("{\"v\":1,\"topic\":\"t\",\"partition\":-1,\"timestamp\":\"2026-11-30T00:00:00Z\",\"headers\":[{\"key\":\"h\",\"value\":\"AAA=\"}],\"key\":1,\"value\":2,\"typed_key\":true}\nkvv"))
	f.Add([]byte("{\"v\":1,\"key\":null,\"value\":0}\n"))
	f.Add([]byte("{\"v\":1,\"key\":9223372036854775807,\"value\":-1}\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePayload(b)
		if err != nil {
			return
		}
		text, cut := p.Append(nil)
		again, err := ParsePayload(text)
		p.Timestamp = writable(p.Timestamp) // JSON reads some that it does not write
		if err != nil || cut || !p.Timestamp.Equal(again.Timestamp) {
			t.Fatalf("%+v: %v", p, err)
		}
		again.Timestamp = p.Timestamp
		if !reflect.DeepEqual(p, again) && len(p.Headers) > 0 {
			t.Fatalf("%+v and %+v", p, again)
		}
	})
}

// What may be played again overtakes nothing that is left, and what is left is left for a reason.
func TestDueKeepsTheOrderOfKeys(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := newLetters(nil, "g", "s")
		passed := int64(r.IntN(30))
		var all []Entry
		for i := range int64(30) {
			e := Entry{Place: Place{Topic: "t", Offset: i}, Stage: Target, KeySHA256: strconv.Itoa(r.IntN(4))}
			switch r.IntN(12) {
			case 0:
				e.Across = Move
			case 1:
				e.Across, e.KeySHA256 = Truncate, ""
			case 2:
				e.KeySHA256 = ""
			case 3:
				e.State = Dropped
			}
			if r.IntN(2) == 0 {
				e.Stage = Parked
			}
			all = append(all, e)
			d.apply(change{place: e.Place, entry: &e})
			if r.IntN(2) == 0 {
				d.apply(change{place: e.Place, ask: true, do: Replay})
			}
		}
		due := map[int64]bool{}
		for _, e := range d.Due(Place{Topic: "t"}.tp(), passed) {
			due[e.Offset] = true
		}
		for i, e := range all {
			wanted := e.State == Dead && e.Offset < passed && (e.Stage == Parked || d.Asked(e.Place) == Replay)
			overtakes := false
			for _, f := range all[:i] {
				overtakes = overtakes || f.State == Dead && !due[f.Offset] && (f.Across == Truncate || e.Across != "" || f.KeySHA256 != "" && f.KeySHA256 == e.KeySHA256)
			}
			if due[e.Offset] != (wanted && !overtakes) {
				t.Fatalf("seed %d: %+v: due %v, wanted %v, overtakes %v", seed, e, due[e.Offset], wanted, overtakes)
			}
		}
	}
}

// What is counted agrees with what is there, whatever happens to entries in which order.
func TestCountsFollowTheEntries(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	d := newLetters(nil, "g", "s")
	tp := Place{Topic: "t"}.tp()
	for range 5_000 {
		e := Entry{Place: Place{Topic: "t", Offset: int64(r.IntN(20))}, KeySHA256: []string{"", "a", "b"}[r.IntN(3)], State: []State{Dead, Replaying, Replayed, Dropped}[r.IntN(4)], Across: []Across{"", Move, Truncate}[r.IntN(3)]}
		c := change{place: e.Place, entry: &e}
		if r.IntN(3) == 0 {
			c.entry = nil
		}
		d.apply(c)
		waiting, a, whole := 0, false, false
		for _, e := range d.all {
			if e.Waits() {
				waiting++
				a, whole = a || e.KeySHA256 == "a", whole || e.Across == Truncate
			}
		}
		if d.Count() != waiting || d.Blocks(tp, "a") != (a || whole) || d.Any(tp) != (waiting > 0) || d.Blocks(tp, "") != whole {
			t.Fatalf("%d of %d wait; a %v, truncate %v", d.Count(), waiting, a, whole)
		}
	}
}

// A reason that quotes a payload does not copy it, and what is written is text.
func TestExplainIsBounded(t *testing.T) {
	var err = errors.New(strings.Repeat("ä\xff", 1<<14))
	for i := range 100 {
		err = fmt.Errorf("%d: %w", i, err)
	}
	var e Entry
	e.Explain(err)
	if len(e.Reason) > 3*mostText || !utf8.ValidString(e.Reason) || len(e.Causes) != mostCauses || !strings.HasPrefix(e.Causes[0], "98: 97: ") {
		t.Errorf("reason of %d bytes, %d causes", len(e.Reason), len(e.Causes))
	}
	e.Explain(fmt.Errorf("copy: %w", errors.New("too long")))
	if e.Reason != "copy: too long" || len(e.Causes) != 1 || e.Causes[0] != "too long" {
		t.Errorf("%+v", e.Causes)
	}
}

// Whatever a record has most of, what is kept of it is bounded, and can be read.
func TestPayloadIsBounded(t *testing.T) {
	large := make([]byte, MostPayload)
	for name, p := range map[string]Payload{
		"key":          {Key: large, Value: []byte("v")},
		"value":        {Value: large, Headers: []Header{{Key: "k"}}},
		"a header":     {Value: []byte("v"), Headers: []Header{{Key: "small"}, {Key: "large", Value: large}}},
		"many headers": {Value: []byte("v"), Headers: make([]Header, 2<<20)},
	} {
		p.Timestamp = time.Date(292_277_024, 1, 1, 0, 0, 0, 0, time.UTC) // of 2^63 - 1 ms
		b, cut := p.Append(nil)
		again, err := ParsePayload(b)
		if err != nil || !cut || len(b) > 4*cutPayload || len(again.Value) == 0 || again.Timestamp.Year() != 9999 {
			t.Errorf("%s: %d bytes, cut %v, time %v: %v", name, len(b), cut, again.Timestamp, err)
		}
	}
}
