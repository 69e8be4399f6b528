package crew

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
)

func attendee(t *testing.T, id string, p presence) hublog.Attendee {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return hublog.Attendee{ID: id, Metadata: text}
}

// Each is watched by two others, or by as many as there are, and never by itself.
func TestEveryWorkerIsWatched(t *testing.T) {
	var all []hublog.Attendee
	names := map[string]string{}
	for n := range 5 {
		id := string(rune('a' + n))
		names[id] = name("h", id)
		all = append(all, attendee(t, id, presence{Name: names[id]}))
		watched := map[string]int{}
		for by, text := range give(nil, all) {
			var o orders
			if err := json.Unmarshal(text, &o); err != nil {
				t.Fatal(err)
			}
			for _, w := range o.Watch {
				if w == names[by] {
					t.Errorf("of %d, %s watches itself", len(all), by)
				}
				watched[w]++
			}
		}
		for _, a := range all {
			if got := watched[names[a.ID]]; got != min(watchers, len(all)-1) {
				t.Errorf("of %d, %s is watched by %d", len(all), a.ID, got)
			}
		}
	}
}

// Two machines of one name would share one's files; workers of one machine, and of a version that does not tell, may have one name.
func TestMachinesOfOneName(t *testing.T) {
	all := []hublog.Attendee{
		attendee(t, "1", presence{Name: name("web", "a:1"), Machine: "x"}), attendee(t, "2", presence{Name: name("web", "b:1")}),
		attendee(t, "3", presence{Name: name("web", "a:2"), Machine: "x"}), attendee(t, "4", presence{Name: name("db", "c:1"), Machine: "y"}),
	}
	if got := twins(all); len(got) > 0 {
		t.Errorf("%v", got)
	}
	all = append(all, attendee(t, "5", presence{Name: name("web", "b:2"), Machine: "z"}))
	if got := twins(all); !slices.Equal(got, []string{"web"}) {
		t.Errorf("%v", got)
	}
}

func TestPipelineOfASink(t *testing.T) {
	set := declared.Set{Connectors: []declared.Connector{
		{Name: "shop", Kind: declared.Source}, {Name: "web", Kind: declared.Source, Fields: map[string]declared.Value{"topic": {Text: "access"}}},
	}}
	for glob, want := range map[string]string{"shop.public.*": "shop", "access": "web", "acc*": "web", "other": "me"} {
		d := declared.Connector{Name: "me", Kind: declared.Sink, Fields: map[string]declared.Value{"topics": {List: []string{glob}}}}
		if got := pipelineOf(d, set); got != want {
			t.Errorf("a sink of %s is a part of %s, not of %s", glob, got, want)
		}
	}
}

// Who was never seen is not missed; one lost answer is none; a watcher that stood still itself asks again first.
func TestMissed(t *testing.T) {
	at := time.Now()
	step := func(a *absent, d time.Duration) bool { at = at.Add(d); return a.missed(at.Add(-askWorker), at) }
	never := &absent{}
	for range 100 {
		if step(never, time.Second) {
			t.Fatal("one that was never seen is missed")
		}
	}
	stood := &absent{seen: true}
	if step(stood, time.Hour) {
		t.Fatal("one question is enough")
	}
	away := &absent{seen: true}
	began := at
	for !step(away, askEvery) {
		if at.Sub(began) > time.Minute {
			t.Fatal("it is never missed")
		}
	}
	if took := at.Sub(began); took < absence-askWorker || took > absence+askEvery {
		t.Errorf("missed after %v", took)
	}
}

// What members say comes from the log, and anybody may have written it.
func FuzzGive(f *testing.F) {
	f.Add([]byte(`{"name":"forebay-worker/h/1","set":1,"generation":3,"owned":["a","b"],"releasing":["c"]}`), []byte(`{"run":["a"],"watch":["x"]}`))
	f.Add([]byte(`{"owned":["a","a"],"releasing":["a"]}`), []byte(`null`))
	f.Add([]byte(`{"name":"forebay-worker/i/1","bound":["a"]}`), []byte(`{}`))
	f.Add([]byte(`{`), []byte(`[]`))
	jobs := []job{{name: "a", pipeline: "p"}, {name: "b", pipeline: "p"}, {name: "c", bound: true}}
	f.Fuzz(func(t *testing.T, metadata, told []byte) {
		mine, err := json.Marshal(presence{Name: name("h", "2"), Owned: []string{"b"}, Generation: 1})
		if err != nil {
			t.Fatal(err)
		}
		out := give(jobs, []hublog.Attendee{{ID: "1", Metadata: metadata}, {ID: "2", Metadata: mine}})
		runs := map[string]int{}
		for _, text := range out {
			var o orders
			if err := json.Unmarshal(text, &o); err != nil {
				t.Fatal(err)
			}
			for _, n := range o.Run {
				runs[n]++
			}
			if !slices.IsSorted(o.Run) || len(slices.Compact(o.Run)) != len(o.Run) {
				t.Errorf("%v", o.Run)
			}
		}
		var p presence
		_ = json.Unmarshal(metadata, &p) // what is no JSON says nothing
		for n, most := range map[string]int{"a": 1, "b": 1, "c": 2} {
			if slices.Contains(p.Bound, n) {
				most = 2
			}
			if runs[n] > most {
				t.Errorf("%s runs %d times", n, runs[n])
			}
		}
		has := ownersOf([]hublog.Told{{Name: "x", Told: told}, {Name: "x", Told: told}})
		has.of("a", "h")
	})
}
