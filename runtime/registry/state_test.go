package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/runtime/hublog"
)

// topic is a state and the records that made it.
type topic struct {
	*testing.T
	*state
	records []hublog.KeyValue
}

func newTopic(t *testing.T) *topic { return &topic{T: t, state: newState()} }

// take appends what was decided.
func (o *topic) take(records []hublog.KeyValue, err error) error {
	o.Helper()
	if err != nil {
		return err
	}
	for _, r := range records {
		o.records = append(o.records, r)
		if err := o.apply(r.Key, r.Value); err != nil {
			o.Fatalf("%s: %v", r.Key, err)
		}
	}
	return nil
}

// compacted is what compaction leaves of the records, tombstones gone too.
func (o *topic) compacted() (out []hublog.KeyValue) {
	last := map[string]int{}
	for i, r := range o.records {
		last[string(r.Key)] = i
	}
	for i, r := range o.records {
		if last[string(r.Key)] == i && r.Value != nil {
			out = append(out, r)
		}
	}
	return out
}

func (o *topic) add(subject, kind, text string, refs ...Reference) (*schemaValue, error) {
	o.Helper()
	v, records, err := o.register(subject, &request{content: content{Type: kind, Schema: text, References: refs}}, false, false)
	return v, o.take(records, err)
}

// code is the error code of an answer; 0: none.
func code(err error) int {
	var f *failure
	if errors.As(err, &f) {
		return f.Code
	}
	if err != nil {
		return -1
	}
	return 0
}

func record1(fields ...string) string {
	var out []string
	for _, f := range fields {
		name, def, _ := strings.Cut(f, "=")
		text := fmt.Sprintf(`{"name":%q,"type":"int"`, name)
		if def != "" {
			text += `,"default":` + def
		}
		out = append(out, text+"}")
	}
	return `{"type":"record","name":"R","fields":[` + strings.Join(out, ",") + `]}`
}

// TestIDs: the same schema has one id wherever it is, ids rise, and versions count for each subject.
func TestIDs(t *testing.T) {
	o := newTopic(t)
	var got []string
	for _, c := range [][2]string{{"a", `"int"`}, {"b", `"int"`}, {"b", `{"type":"int"}`}, {"a", `"long"`}, {"c", `"string"`}, {"a", `"long"`}} {
		v, err := o.add(c[0], "", c[1])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s/%d=%d", v.Subject, v.Version, v.ID))
	}
	if want := []string{"a/1=1", "b/1=1", "b/1=1", "a/2=2", "c/1=3", "a/2=2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(o.records) != 4 {
		t.Errorf("%d records, want 4", len(o.records))
	}
}

// TestFormat: the records are Confluent's, byte by byte.
func TestFormat(t *testing.T) {
	o := newTopic(t)
	if _, err := o.add("s<1>", "AVRO", `"int"`); err != nil {
		t.Fatal(err)
	}
	level := "full"
	_, records, err := o.setConfig("", configRequest{Level: &level})
	err = errors.Join(err, o.take(records, nil))
	_, records, err2 := o.setConfig("s<1>", configRequest{Level: &level})
	err = errors.Join(err, err2, o.take(records, nil))
	records, err2 = o.setMode("s<1>", modeBody{Mode: "READWRITE"}, false)
	err = errors.Join(err, err2, o.take(records, nil))
	_, records, err2 = o.deleteSubject("s<1>", false)
	err = errors.Join(err, err2, o.take(records, nil))
	_, records, err2 = o.deleteVersion("s<1>", 1, true)
	err = errors.Join(err, err2, o.take(records, nil))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range o.records {
		got = append(got, string(r.Key)+" "+string(r.Value))
	}
	want := []string{
		`{"keytype":"SCHEMA","subject":"s<1>","version":1,"magic":1} {"subject":"s<1>","version":1,"id":1,"schema":"\"int\"","deleted":false}`,
		`{"keytype":"CONFIG","magic":0} {"compatibilityLevel":"FULL"}`,
		`{"keytype":"CONFIG","subject":"s<1>","magic":0} {"subject":"s<1>","compatibilityLevel":"FULL"}`,
		`{"keytype":"MODE","subject":"s<1>","magic":0} {"subject":"s<1>","mode":"READWRITE"}`,
		`{"keytype":"DELETE_SUBJECT","subject":"s<1>","magic":0} {"subject":"s<1>","version":1}`,
		`{"magic":0,"keytype":"NOOP"} {"highestId":1}`, // to Confluent's registry one of its NOOPs
		`{"keytype":"SCHEMA","subject":"s<1>","version":1,"magic":1} `,
		`{"keytype":"MODE","subject":"s<1>","magic":0} `,
		`{"keytype":"CONFIG","subject":"s<1>","magic":0} `,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestReplay: a reader of the topic, compacted or not, knows what its writer knew.
func TestReplay(t *testing.T) {
	o := newTopic(t)
	for _, text := range []string{record1("a"), record1("a", "b=1"), record1("a", "b=1", "c=1")} {
		for _, s := range []string{"x", "y"} {
			if _, err := o.add(s, "", text); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, records, err := o.deleteSubject("y", false)
	if err := o.take(records, err); err != nil {
		t.Fatal(err)
	}
	_, records, err = o.deleteVersion("x", latest, false)
	if err := o.take(records, err); err != nil {
		t.Fatal(err)
	}
	if _, err := o.add("y", "", record1("a")); err != nil { // comes back, with its id
		t.Fatal(err)
	}
	if v := o.get("y", latest, false); v.ID != 1 || v.Version != 4 || o.get("y", 1, true) != nil {
		t.Errorf("y came back as %+v", v)
	}
	for name, records := range map[string][]hublog.KeyValue{"whole": o.records, "compacted": o.compacted()} {
		again := newTopic(t)
		if err := again.take(records, nil); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again.subjects, o.subjects) || !reflect.DeepEqual(again.same, o.same) || again.last != o.last {
			t.Errorf("%s: the topic gives another state", name)
		}
	}
}

// TestLevels has what each level takes of changes to the newest schema, and to one before it.
func TestLevels(t *testing.T) {
	// v1 has a; v2 has a and b with a default. What is then added is read by, or reads, v2 alone or v1 too.
	for _, c := range []struct {
		level string
		takes []string // of the candidates below
	}{
		{"NONE", []string{"add c", "drop a", "drop b", "drop b default", "same"}},
		{"BACKWARD", []string{"drop a", "drop b", "drop b default", "same"}},
		{"BACKWARD_TRANSITIVE", []string{"drop a", "drop b", "same"}},
		{"FORWARD", []string{"add c", "drop b", "drop b default", "same"}},
		{"FORWARD_TRANSITIVE", []string{"add c", "drop b", "drop b default", "same"}},
		{"FULL", []string{"drop b", "drop b default", "same"}},
		{"FULL_TRANSITIVE", []string{"drop b", "same"}},
	} {
		t.Run(c.level, func(t *testing.T) {
			o := newTopic(t)
			for _, text := range []string{record1("a"), record1("a", "b=1")} {
				if _, err := o.add("s", "", text); err != nil {
					t.Fatal(err)
				}
			}
			_, records, err := o.setConfig("s", configRequest{Level: &c.level})
			if err := o.take(records, err); err != nil {
				t.Fatal(err)
			}
			var takes []string
			for name, text := range map[string]string{"same": record1("a", "b=2"), "add c": record1("a", "b=1", "c"), "drop a": record1("b=1"),
				"drop b": record1("a"), "drop b default": record1("a", "b")} {
				if name == "drop b" {
					text = record1("a", "d=1")
				}
				_, _, err := o.register("s", &request{content: content{Schema: text}}, false, false)
				switch code(err) {
				case 0:
					takes = append(takes, name)
				case codeIncompatible:
				default:
					t.Errorf("%s: %v", name, err)
				}
				why, err := o.check("s", &request{content: content{Schema: text}}, 0, false)
				if err != nil || (len(why) == 0) != slices.Contains(takes, name) {
					t.Errorf("%s: the check says %q %v, the registration otherwise", name, why, err)
				}
			}
			slices.Sort(takes)
			if !slices.Equal(takes, c.takes) {
				t.Errorf("takes %q, want %q", takes, c.takes)
			}
		})
	}
}

// TestRefusals has the error codes of what is refused.
func TestRefusals(t *testing.T) {
	o := newTopic(t)
	if _, err := o.add("s", "", `"int"`); err != nil {
		t.Fatal(err)
	}
	if _, err := o.add("used", "", `{"type":"fixed","name":"F","size":1}`); err != nil {
		t.Fatal(err)
	}
	if _, err := o.add("user", "", `{"type":"array","items":"F"}`, Reference{"F", "used", 1}); err != nil {
		t.Fatal(err)
	}
	one := int32(1)
	for _, c := range []struct {
		what string
		do   func() error
		want int
	}{
		{"incompatible", func() error { _, err := o.add("s", "", `"string"`); return err }, 40901},
		{"another type", func() error { _, err := o.add("s", "NIX", `"string"`); return err }, 42201},
		{"not Avro", func() error { _, err := o.add("n", "", `{`); return err }, 42201},
		{"empty", func() error { _, err := o.add("n", "", ` `); return err }, 42201},
		{"unknown reference", func() error { _, err := o.add("n", "", `"int"`, Reference{"X", "nix", 1}); return err }, 42201},
		{"an id without IMPORT", func() error {
			_, _, err := o.register("n", &request{content: content{Schema: `"int"`}, ID: &one}, false, false)
			return err
		}, 42205},
		{"unknown subject", func() error { _, err := o.one("n", 1, false); return err }, 40401},
		{"unknown version", func() error { _, err := o.one("s", 7, false); return err }, 40402},
		{"lookup of another schema", func() error {
			_, err := o.lookup("s", &request{content: content{Schema: `"long"`}}, false, false)
			return err
		}, 40403},
		{"lookup in another subject", func() error {
			_, err := o.lookup("n", &request{content: content{Schema: `"long"`}}, false, false)
			return err
		}, 40401},
		{"no config", func() error { _, err := o.config("s", false); return err }, 40408},
		{"no mode", func() error { _, err := o.modeOf("s", false); return err }, 40409},
		{"wrong level", func() error { l := "UP"; _, _, err := o.setConfig("s", configRequest{Level: &l}); return err }, 42203},
		{"wrong mode", func() error { _, err := o.setMode("s", modeBody{"UP"}, false); return err }, 42204},
		{"import over schemas", func() error { _, err := o.setMode("", modeBody{"IMPORT"}, false); return err }, 42205},
		{"referenced version", func() error { _, _, err := o.deleteVersion("used", 1, false); return err }, 42206},
		{"referenced subject", func() error { _, _, err := o.deleteSubject("used", false); return err }, 42206},
		{"permanent before soft", func() error { _, _, err := o.deleteVersion("s", 1, true); return err }, 40407},
		{"permanent subject before soft", func() error { _, _, err := o.deleteSubject("s", true); return err }, 40405},
		{"delete unknown", func() error { _, _, err := o.deleteSubject("n", false); return err }, 40401},
		{"a context", func() error { _, err := subjectOf(":.c:s"); return err }, 42208},
		{"a control character", func() error { _, err := subjectOf("a\nb"); return err }, 42208},
	} {
		if err := c.do(); code(err) != c.want {
			t.Errorf("%s: %v, want %d", c.what, err, c.want)
		}
	}
	_, records, err := o.deleteVersion("s", 1, false)
	if err := o.take(records, err); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.deleteVersion("s", 1, false); code(err) != 40406 {
		t.Errorf("deleted twice: %v", err)
	}
	if _, _, err := o.deleteSubject("s", false); code(err) != 40404 {
		t.Errorf("subject deleted twice: %v", err)
	}
	for _, mode := range []string{"READONLY", "READONLY_OVERRIDE"} {
		records, err := o.setMode("", modeBody{mode}, false)
		if err := o.take(records, err); err != nil {
			t.Fatal(err)
		}
		if _, err := o.add("n", "", `"int"`); code(err) != 42205 {
			t.Errorf("registered in mode %s: %v", mode, err)
		}
		if v, err := o.add("used", "", `{"type":"fixed","name":"F","size":1}`); err != nil || v.ID != 2 {
			t.Errorf("what is there cannot be asked for in mode %s: %v", mode, err)
		}
	}
}

// TestLatestReference: a reference to the latest version is one to the version that is the latest when the schema is registered, so its id means one schema. What
// an older registry wrote with -1 means what was the latest where its record stands in the topic.
func TestLatestReference(t *testing.T) {
	const order = `{"type":"record","name":"Order","fields":[{"name":"to","type":"Addr"}]}`
	addr := func(fields string) string { return `{"type":"record","name":"Addr","fields":[` + fields + `]}` }
	const street, city = `{"name":"street","type":"string"}`, `{"name":"city","type":"string"}`
	to := func(version int) []Reference { return []Reference{{"Addr", "addr", version}} }
	o := newTopic(t)
	if _, err := o.add("order", "", order, to(latest)...); code(err) != codeInvalidSchema {
		t.Errorf("the latest of nothing: %v", err)
	}
	asked := to(latest)
	_, err := o.add("addr", "", addr(street+","+city))
	first, err2 := o.add("order", "", order, asked...)
	same, err3 := o.add("order", "", order, to(1)...)
	_, err4 := o.add("addr", "", addr(street))
	if err := errors.Join(err, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	older := slices.Clone(o.records)
	if asked[0].Version != latest || first.References[0].Version != 1 || same.ID != first.ID {
		t.Errorf("the first is %+v, with its version named %+v", first, same)
	}
	if got := o.ids[first.ID][0].References; !slices.Equal(got, to(1)) {
		t.Errorf("id %d references %v after another version of addr", first.ID, got)
	}
	if _, err := o.lookup("order", &request{content: content{Schema: order, References: to(latest)}}, false, false); code(err) != codeSchemaNotFound {
		t.Errorf("the first is found by what it was not registered with: %v", err)
	}
	second, err := o.add("order", "", order, to(latest)...)
	if err != nil || second.ID == first.ID || !slices.Equal(second.References, to(2)) {
		t.Fatalf("the second is %+v: %v", second, err)
	}
	if _, _, err := o.deleteVersion("addr", 1, false); code(err) != codeReferenced {
		t.Errorf("what the first references is deleted: %v", err)
	}
	if found, err := o.lookup("order", &request{content: content{Schema: order, References: to(latest)}}, false, false); err != nil || found.ID != second.ID {
		t.Errorf("found %+v: %v", found, err)
	}

	again := newTopic(t)
	for i, r := range older {
		older[i].Value = []byte(strings.Replace(string(r.Value), `"subject":"addr","version":1}`, `"subject":"addr","version":-1}`, 1))
	}
	if err := again.take(older, nil); err != nil {
		t.Fatal(err)
	}
	if got := again.ids[first.ID][0].References; !strings.Contains(string(older[1].Value), "-1") || !slices.Equal(got, to(1)) {
		t.Errorf("%s is read as %v", older[1].Value, got)
	}
}

// TestReferencesAreBounded: what one schema needs is bounded in number and in bytes.
func TestReferencesAreBounded(t *testing.T) {
	o := newTopic(t)
	if _, err := o.add("small", JSON, `{}`); err != nil {
		t.Fatal(err)
	}
	if _, err := o.add("n", JSON, `{}`, slices.Repeat([]Reference{{"r", "small", 1}}, maxReferences+1)...); code(err) != codeInvalidSchema {
		t.Errorf("one reference %d times: %v", maxReferences+1, err)
	}
	var refs []Reference
	for i := range maxReferenced/maxSchema + 1 {
		subject := strconv.Itoa(i)
		if _, err := o.add(subject, JSON, `{"title":"`+strings.Repeat("x", maxSchema-100)+`"}`); err != nil {
			t.Fatal(err)
		}
		refs = append(refs, Reference{subject, subject, 1})
	}
	if _, err := o.add("n", JSON, `{}`, refs...); code(err) != codeInvalidSchema {
		t.Errorf("%d references of %d bytes each: %v", len(refs), maxSchema-100, err)
	}
	if _, err := o.add("n", JSON, `{}`, refs[1:]...); err != nil {
		t.Error(err)
	}
}

// TestTooLarge: what the topic does not take for its size is the client's fault.
func TestTooLarge(t *testing.T) {
	if f := told(fmt.Errorf("append: %w", kerr.MessageTooLarge)); f.Code != codeTooLarge || f.status() != 422 {
		t.Errorf("told as %d, %s", f.Code, f.Message)
	}
}

// TestImport: ids and versions are the importer's, and nothing is compared.
func TestImport(t *testing.T) {
	o := newTopic(t)
	records, err := o.setMode("", modeBody{"IMPORT"}, false)
	if err := o.take(records, err); err != nil {
		t.Fatal(err)
	}
	put := func(subject, text string, id, version int32) error {
		_, records, err := o.register(subject, &request{content: content{Schema: text}, ID: &id, Version: &version}, false, false)
		return o.take(records, err)
	}
	if err := errors.Join(put("s", `"int"`, 70, 3), put("s", `"string"`, 80, 9)); err != nil {
		t.Fatal(err)
	}
	if err := put("t", `"long"`, 70, 1); code(err) != 42205 {
		t.Errorf("an id got a second schema: %v", err)
	}
	if _, err := o.add("t", "", `"long"`); code(err) != 42205 {
		t.Errorf("a registration without an id: %v", err)
	}
	records, err = o.setMode("", modeBody{"READWRITE"}, false)
	if err := o.take(records, err); err != nil {
		t.Fatal(err)
	}
	if v, err := o.add("t", "", `"long"`); err != nil || v.ID != 81 {
		t.Errorf("after the import: %+v %v", v, err)
	}
	records, err = o.setMode("", modeBody{"IMPORT"}, true)
	if err := o.take(records, err); err != nil {
		t.Fatal(err)
	}
	if err := put("u", `"float"`, math.MaxInt32, 1); err != nil {
		t.Fatal(err)
	}
	records, err = o.setMode("", modeBody{"READWRITE"}, false)
	if err := o.take(records, err); err != nil {
		t.Fatal(err)
	}
	if v, err := o.add("v", "", `"double"`); code(err) != codeStore {
		t.Errorf("an id that does not fit Kafka's messages: %+v %v", v, err)
	}
}

// TestIDsOfDeletedSchemas: an id is given once, also when its schema was the newest, is gone for good, and compaction has forgotten it.
func TestIDsOfDeletedSchemas(t *testing.T) {
	overwrite := func(o *topic) error {
		records, err := o.setMode("", modeBody{"IMPORT"}, true)
		if err := o.take(records, err); err != nil {
			return err
		}
		one, three := int32(1), int32(3)
		_, records, err = o.register("b", &request{content: content{Schema: `"double"`}, ID: &three, Version: &one}, false, false)
		err = o.take(records, err)
		records, err2 := o.setMode("", modeBody{"READWRITE"}, false)
		return errors.Join(err, o.take(records, err2))
	}
	for what, remove := range map[string]func(o *topic) error{
		"version": func(o *topic) error {
			_, records, err := o.deleteVersion("b", 1, false)
			err = o.take(records, err)
			_, records, err2 := o.deleteVersion("b", 1, true)
			return errors.Join(err, o.take(records, err2))
		},
		"subject": func(o *topic) error {
			_, records, err := o.deleteSubject("b", false)
			err = o.take(records, err)
			_, records, err2 := o.deleteSubject("b", true)
			return errors.Join(err, o.take(records, err2))
		},
		"import": func(o *topic) error {
			_, records, err := o.deleteSubject("b", false)
			err = o.take(records, err)
			records, err2 := o.setMode("b", modeBody{"IMPORT"}, false)
			err = errors.Join(err, o.take(records, err2))
			records, err2 = o.setMode("b", modeBody{"READWRITE"}, false)
			return errors.Join(err, o.take(records, err2))
		},
		"overwritten": overwrite,
	} {
		t.Run(what, func(t *testing.T) {
			o := newTopic(t)
			for _, c := range [][2]string{{"a", `"int"`}, {"a", `"long"`}, {"a", `"double"`}, {"b", `"string"`}} {
				if _, err := o.add(c[0], "", c[1]); err != nil {
					t.Fatal(err)
				}
			}
			if err := remove(o); err != nil {
				t.Fatal(err)
			}
			for range 2 { // as often as it may be
				records := o.compacted()
				o = newTopic(t)
				if err := o.take(records, nil); err != nil {
					t.Fatal(err)
				}
			}
			if v, err := o.add("c", "", `"boolean"`); err != nil || v.ID != 5 {
				t.Errorf("the next schema is %+v: %v", v, err)
			}
		})
	}
}

// FuzzApply: whatever is in the topic, the state stays whole and answers.
func FuzzApply(f *testing.F) {
	f.Add(`{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}`, `{"subject":"s","version":1,"id":1,"schema":"\"int\"","deleted":false}`, `{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}`, `{"subject":"s","version":1}`)
	f.Add(`{"keytype":"CONFIG","subject":null,"magic":0}`, `{"compatibilityLevel":"FULL"}`, `{"keytype":"MODE","subject":"s","magic":0}`, `{"mode":"READONLY"}`)
	f.Add(`{"keytype":"NOOP","magic":0}`, ``, `{"keytype":"CLEAR_SUBJECT","subject":"s","magic":0}`, `{"subject":"s"}`)
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		s := newState()
		for range 2 {
			for _, r := range [][2]string{{k1, v1}, {k2, v2}} {
				value := []byte(r[1])
				if len(value) == 0 {
					value = nil
				}
				_ = s.apply([]byte(r[0]), value) // it may say that it cannot read it
			}
		}
		count := 0
		for subject, all := range s.subjects {
			for _, v := range all {
				count++
				_, _ = s.parse(v, rules{})
				if s.get(subject, v.Version, true) != v || !slices.Contains(s.ids[v.ID], v) {
					t.Fatalf("%q version %d is lost", subject, v.Version)
				}
			}
		}
		for _, all := range s.ids {
			count -= len(all)
		}
		if count != 0 {
			t.Fatalf("%d versions more than ids know", count)
		}
	})
}

// FuzzRegister: any body is answered with a version that the topic's format keeps, or an error code.
func FuzzRegister(f *testing.F) {
	f.Add(`{"schema":"\"int\""}`)
	f.Add(`{"schemaType":"JSON","schema":"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}}}"}`)
	f.Add(`{"schemaType":"PROTOBUF","schema":"syntax = \"proto3\"; message M { int32 a = 1; }"}`)
	f.Fuzz(func(t *testing.T, body string) {
		var q request
		if json.Unmarshal([]byte(body), &q) != nil {
			return
		}
		o := newTopic(t)
		v, records, err := o.register("s", &q, false, false)
		if err != nil {
			if told(err).status() >= 500 {
				t.Fatal(err)
			}
			return
		}
		if err := o.take(records, nil); err != nil {
			t.Fatal(err)
		}
		q.Version, q.ID = nil, nil
		if again, records, err := o.register("s", &q, false, false); err != nil || len(records) > 0 || again.ID != v.ID {
			t.Fatalf("the second time: %v %v", again, err)
		}
	})
}
