package declared

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

func types() Types {
	fields := spec.Spec{Fields: []spec.Field{
		{Name: "url", Type: spec.Secret, Required: true, Doc: "."},
		{Name: "topics", Type: spec.Strings, Doc: "."},
		{Name: "rotate", Type: spec.Group, Doc: ".", Fields: []spec.Field{{Name: "interval", Type: spec.Duration, Default: "1m", Doc: "."}}},
	}}
	return Types{Registry: connectors.Registry{
		Sources: []connectors.SourceType{{Name: "both", Spec: fields, New: func(v spec.Values, _ connectors.Env) (connectors.Source, error) {
			if v.Secret("url").Reveal() == "impossible" {
				return nil, errors.New("that cannot be")
			}
			return nil, nil
		}}},
		Sinks: []connectors.SinkType{{Name: "both", Spec: fields, New: func(spec.Values, connectors.Env) (connectors.Sink, error) { return nil, nil }}},
	}}
}

func getenv(name string) (string, bool) {
	v, ok := map[string]string{"URL": "db://secret", "EVERY": "5s"}[name]
	return v, ok
}

func source(fields map[string]Value) Connector {
	return Connector{Name: "c", Kind: Source, Type: "both", Fields: fields}
}

func TestFieldsKeepReferences(t *testing.T) {
	n := spec.Node{Shape: spec.Mapping, Map: []spec.Entry{
		{Key: "type", Value: spec.Node{Shape: spec.Scalar, Text: "both"}},
		{Key: "url", Value: spec.Node{Shape: spec.Scalar, Text: "db://secret", Raw: "${URL}"}},
		{Key: "topics", Value: spec.Node{Shape: spec.Scalar, Text: "a,b"}}, // YAML: one name with a comma
		{Key: "rotate", Value: spec.Node{Shape: spec.Mapping, Map: []spec.Entry{{Key: "interval", Value: spec.Node{Shape: spec.Scalar, Text: "5s", Raw: "${EVERY}"}}}}},
	}}
	got := types().Fields(Source, "both", n, "type")
	if len(got) != 3 || got["url"].Text != "${URL}" || len(got["topics"].List) != 1 || got["rotate.interval"].Text != "${EVERY}" {
		t.Errorf("%v", got)
	}
	flat := types().Fields(Sink, "both", spec.FlatNode(map[string]string{"topics": "a, b", "url": "${URL}"}))
	if l := flat["topics"].List; len(l) != 2 || l[1] != "b" {
		t.Errorf("%v", flat)
	}
}

func TestResolve(t *testing.T) {
	c := source(map[string]Value{"url": {Text: "${URL}"}, "topics": {List: []string{"${EVERY}", "b"}}, "rotate.interval": {Text: "${EVERY}"}})
	r, err := types().Resolve(c, getenv)
	if err != nil || r.Values.Secret("url").Reveal() != "db://secret" || r.Values.Strings("topics")[0] != "5s" || r.Values.Duration("rotate.interval") != 5*time.Second {
		t.Errorf("%v %v", r, err)
	}
	c.Fields["url"] = Value{Text: "${NOWHERE}"}
	c.Fields["rotate.interval"] = Value{Text: "soon"}
	r, err = types().Resolve(c, getenv)
	if err == nil || !strings.Contains(err.Error(), "NOWHERE is not set") || !strings.Contains(err.Error(), "rotate.interval") {
		t.Error(err)
	}
	if e := r.Written.Map; len(e) != 3 || e[2].Value.Text != "${NOWHERE}" {
		t.Errorf("%v", e)
	}
	if _, err = types().Resolve(Connector{Name: "c", Kind: Source, Type: "later"}, getenv); err == nil {
		t.Error("an unknown type is resolved")
	}
}

func TestCheck(t *testing.T) {
	for _, x := range []struct {
		c    Connector
		want string
	}{
		{source(map[string]Value{"url": {Text: "${NOWHERE}"}}), ""}, // another machine may have it
		{source(map[string]Value{"url": {Text: "${NOWHERE"}}), "`${` without `}`"},
		{source(map[string]Value{"url": {Text: "u"}, "rotate.interval": {Text: "${EVERYWHERE}"}}), ""},
		{source(map[string]Value{"url": {Text: "u"}, "rotate.interval": {Text: "soon"}}), "rotate.interval"},
		{source(map[string]Value{"url": {Text: "impossible"}}), "that cannot be"},
		{source(map[string]Value{"topics": {List: []string{"a"}}}), "'url' is required"},
		{source(map[string]Value{"url": {Text: "u"}, "topcs": {Text: "a"}}), "did you mean 'topics'"},
		{Connector{Name: "../c", Kind: Source, Type: "both"}, "cannot be a connector's name"},
		{Connector{Name: "c", Kind: "pipe", Type: "both"}, "neither"},
		{Connector{Name: "c", Kind: Sink, Type: "none"}, "no such type"},
		{Connector{Name: "c", Kind: Source, Type: "io.debezium.connector.postgresql.PostgresConnector"}, "forebay migrate connect"},
	} {
		err := types().Check(x.c)
		if x.want == "" && err != nil || x.want != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%v: %v", x.c, err)
		}
	}
}

func TestPlanHidesSecrets(t *testing.T) {
	have := []Connector{source(map[string]Value{"url": {Text: "db://old-secret"}, "rotate.interval": {Text: "1m"}})}
	want := []Connector{source(map[string]Value{"url": {Text: "db://new-secret"}, "topics": {List: []string{"a"}}})}
	text, err := json.Marshal(types().Compare(have, want))
	if err != nil || strings.Contains(string(text), "-secret") {
		t.Errorf("%s %v", text, err)
	}
	if got := string(text); !strings.Contains(got, `{"name":"rotate.interval","from":"1m"},{"name":"topics","to":"[a]"},{"name":"url","from":"******","to":"******"}`) {
		t.Error(got)
	}
	// A reference says where a secret is, and nothing of it; its default may be one.
	want[0].Fields["url"] = Value{Text: "${URL}"}
	if text, err = json.Marshal(types().Compare(nil, want)); err != nil || !strings.Contains(string(text), "${URL}") {
		t.Errorf("%s %v", text, err)
	}
	want[0].Fields["url"] = Value{Text: "${URL:-db://new-secret}"}
	if text, err = json.Marshal(types().Compare(nil, want)); err != nil || strings.Contains(string(text), "-secret") {
		t.Errorf("%s %v", text, err)
	}
	if flat := types().Flat(want[0]); flat["url"] != "******" || flat["topics"] != "a" || flat["connector.class"] != "both" {
		t.Errorf("%v", flat)
	}
	// The same name with another type: all that is secret in either is.
	other := want[0]
	other.Type, other.Fields = "later", map[string]Value{"url": {Text: "db://new-secret"}, "password": {Text: "new-secret"}}
	if text, err = json.Marshal(types().Compare(have, []Connector{other})); err != nil || strings.Contains(string(text), "-secret") {
		t.Errorf("%s %v", text, err)
	}
}

func TestRecord(t *testing.T) {
	set := Set{Version: 3, At: time.UnixMilli(1_795_400_000_000), Host: "n1", Connectors: []Connector{source(map[string]Value{"url": {Text: "${URL}"}, "topics": {List: []string{}}})}}
	text, err := set.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeSet(text)
	if err != nil || got.Version != 3 || !got.At.Equal(set.At) || got.Host != "n1" || types().fields(set.Connectors[0], got.Connectors[0]) != nil {
		t.Errorf("%s became %+v %v", text, got, err)
	}
	for _, bad := range []string{``, `[]`, `{"version":"x"}`, `{"version":1,"paused":[]}`, `{"connectors":[{"fields":{"a":null}}]}`, `{"connectors":[{"fields":{"a":{}}}]}`} {
		if _, err := decodeSet([]byte(bad)); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
	for _, bad := range []string{``, `{"v":2,"group":"g"}`, `x`} {
		if _, err := parseKey([]byte(bad)); err == nil {
			t.Errorf("key %s is read", bad)
		}
	}
	set.Connectors[0].Fields["url"] = Value{Text: strings.Repeat("x", maxSetBytes)}
	if _, err := set.encode(); !errors.Is(err, ErrInvalid) {
		t.Error("a set that no reader could hold:", err)
	}
}

func FuzzDecodeSet(f *testing.F) {
	f.Add([]byte(`{"version":7,"at":1,"host":"h","connectors":[{"name":"shop","kind":"source","type":"both","fields":{"url":"${URL}","topics":["a"]}}]}`))
	f.Add([]byte(`{"connectors":[{"fields":{"a":["b",""]}},{"name":"x"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := decodeSet(text)
		if err != nil {
			return
		}
		again, err := set.encode()
		if err != nil {
			return
		}
		if _, err := decodeSet(again); err != nil {
			t.Errorf("%s became %s, which is not read: %v", text, again, err)
		}
		for _, c := range set.Connectors {
			_, _ = types().Resolve(c, getenv)
		}
		types().Compare(set.Connectors, nil)
	})
}

// A list of mappings is declared flat and comes back as it was, its references unresolved until it runs.
func TestTreesComeBack(t *testing.T) {
	var seen spec.Node
	ts := types()
	ts.SourceCommon = spec.Spec{Fields: []spec.Field{{Name: "steps", Type: spec.Tree, Doc: ".", Read: func(n spec.Node) []spec.Finding { seen = n; return nil }}}}
	scalar := func(text string) spec.Node { return spec.Node{Shape: spec.Scalar, Text: text} }
	item := func(es ...spec.Entry) spec.Node { return spec.Node{Shape: spec.Mapping, Map: es} }
	list := spec.Node{Shape: spec.List}
	for i := range 12 { // the order of the numbers is not that of their texts
		list.List = append(list.List, item(spec.Entry{Key: "type", Value: scalar(string(rune('a' + i)))}))
	}
	list.List[11].Map = append(list.List[11].Map,
		spec.Entry{Key: "names", Value: spec.Node{Shape: spec.List, List: []spec.Node{scalar("x"), scalar("y,z")}}},
		spec.Entry{Key: "when", Value: item(spec.Entry{Key: "topic", Value: spec.Node{Shape: spec.Scalar, Text: "5s", Raw: "${EVERY}"}})})
	fields := ts.Fields(Source, "both", item(spec.Entry{Key: "url", Value: scalar("u")}, spec.Entry{Key: "steps", Value: list}))
	if fields["steps.11.when.topic"].Text != "${EVERY}" || len(fields["steps.11.names"].List) != 2 || len(fields) != 15 {
		t.Fatal(fields)
	}
	r, err := ts.Resolve(source(fields), getenv)
	if err != nil {
		t.Fatal(err)
	}
	got := r.Values.Tree("steps")
	if len(seen.List) != 12 || len(got.List) != 12 {
		t.Fatal(got)
	}
	for i, step := range got.List {
		at := len(step.Map) - 1 // by the order of the names, type stands before when
		if i == 11 {
			at = 1
			if step.Map[0].Value.List[1].Text != "y,z" || step.Map[2].Key != "when.topic" || step.Map[2].Value.Text != "5s" {
				t.Error(step)
			}
		}
		if step.Map[at].Key != "type" || step.Map[at].Value.Text != string(rune('a'+i)) {
			t.Errorf("step %d: %v", i, step)
		}
	}
}
