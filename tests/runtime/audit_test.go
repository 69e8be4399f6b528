package runtime_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/audit"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// builtinSource configures one of our own sources.
func builtinSource(t *testing.T, typ, name string, fields map[string]string) worker.Config {
	t.Helper()
	all := builtin.Registry().Sources
	i := slices.IndexFunc(all, func(s connectors.SourceType) bool { return s.Name == typ })
	if i < 0 {
		t.Fatalf("no source %s", typ)
	}
	return worker.Config{Name: name, Type: typ, Values: parsed(t, all[i].Spec.Join(worker.SourceFields), fields)}
}

// builtinSink configures one of our own sinks.
func builtinSink(t *testing.T, typ, name string, fields map[string]string) worker.Config {
	t.Helper()
	all := builtin.Registry().Sinks
	i := slices.IndexFunc(all, func(s connectors.SinkType) bool { return s.Name == typ })
	if i < 0 {
		t.Fatalf("no sink %s", typ)
	}
	return worker.Config{Name: name, Type: typ, Sink: true, Values: parsed(t, all[i].Spec.Join(worker.SinkFields), fields)}
}

// audited runs the worker's audit of its first source, as if it had these transforms.
func audited(t *testing.T, o worker.Options, c worker.Config) *audit.Result {
	t.Helper()
	res, err := audit.Run(t.Context(), audit.Options{Log: o.Log, Group: o.Group, Host: o.Host, Registry: o.Registry, Connectors: []worker.Config{c}, Name: c.Name, Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// counts are what an audit counted, a topic a line.
func counts(r *audit.Result) string {
	var b strings.Builder
	for _, c := range append(slices.Clone(r.Sources), r.Sinks...) {
		fmt.Fprintf(&b, "%s agreed=%d missing=%d doubled=%d different=%d\n", c.Of, c.Agreed, c.Missing, c.Doubled, c.Different)
	}
	return b.String()
}

// The rows of PostgreSQL, as the transforms leave them, are what the log holds: masked, without columns, unwrapped, under other names, or not at all.
// With other transforms than those that ran the audit finds every row that they make a difference for.
func TestAuditOfATransformedDatabase(t *testing.T) {
	db := testenv.Postgres(t)
	db.Exec(`CREATE TABLE orders (id int PRIMARY KEY, card text, n int); CREATE TABLE events (what text, card text); CREATE TABLE secrets (id int PRIMARY KEY);
		INSERT INTO orders SELECT g, (SELECT string_agg(md5(g || '-' || h), '') FROM generate_series(1, 300) h), g FROM generate_series(1, 20) g;
		INSERT INTO events SELECT 'e' || g, '4111' FROM generate_series(1, 10) g; INSERT INTO secrets VALUES (1), (2), (3)`)
	o := worker.Options{Log: openLog(t), Group: unique("g"), Host: "h", DrainTimeout: 10 * time.Second, Registry: builtin.Registry()}
	name := unique("shop")
	with := func(steps ...map[string]string) worker.Config {
		fields := map[string]string{"url": db.URL, "tables": "public.*", "heartbeat": "100ms", "slot": "s_" + db.Database, "publication": "s_" + db.Database}
		for i, step := range steps {
			for k, v := range step {
				fields[fmt.Sprintf("transforms.%d.%s", i, k)] = v
			}
		}
		return builtinSource(t, "postgres", name, fields)
	}
	mask := map[string]string{"type": "mask", "fields": "card", "with": "***"}
	unwrap := map[string]string{"type": "unwrap", "when.topic": `.*\.(orders|events)`}
	rename := map[string]string{"type": "rename", "fields": "n:number"}
	filter := map[string]string{"type": "filter", "when.topic": `.*\.secrets`}
	route := map[string]string{"type": "route", "match": `(.*)\.public\.(.*)`, "to": "$1.safe.$2"}
	c := with(mask, unwrap, rename, filter, route)
	o.Connectors = []worker.Config{c}
	_, _ = start(t, o)
	audited(t, o, c) // the snapshot is in the log
	db.Exec(`UPDATE orders SET n = n + 1 WHERE id <= 10; DELETE FROM orders WHERE id IN (5, 15); INSERT INTO orders VALUES (21, NULL, 1); INSERT INTO events VALUES ('late', NULL)`)

	orders, events := name+".safe.orders", name+".safe.events"
	res := audited(t, o, c)
	want := events + " agreed=11 missing=0 doubled=0 different=0\n" + orders + " agreed=19 missing=0 doubled=0 different=0\n"
	if got := counts(res); got != want || !res.Clean() || len(res.Incomplete) > 0 {
		t.Errorf("%s%v%v\nwant\n%s", got, res.Incomplete, res.Sources, want)
	}
	for what, x := range map[string]struct {
		as   worker.Config
		want string
	}{
		"not masked":   {with(unwrap, rename, filter, route), orders + " agreed=1 missing=0 doubled=0 different=18\n"}, // order 21 has no card
		"not renamed":  {with(mask, unwrap, filter, route), orders + " agreed=0 missing=0 doubled=0 different=19\n"},
		"not left out": {with(mask, unwrap, rename, route), name + ".safe.secrets agreed=0 missing=3 doubled=0 different=0\n"},
	} {
		if res := audited(t, o, x.as); !strings.Contains(counts(res), x.want) || res.Clean() {
			t.Errorf("%s: %s\nwant\n%s", what, counts(res), x.want)
		}
	}
	// What does not follow from the rows is said, not guessed.
	res = audited(t, o, with(mask, map[string]string{"type": "filter", "when.field": "n", "when.equals": "1"}, unwrap, rename, filter, route))
	if len(res.Incomplete) != 1 || !strings.Contains(res.Incomplete[0], "transform 2 (filter) applies to some records only") || counts(res) != name+" agreed=0 missing=0 doubled=0 different=0\n" {
		t.Errorf("%v\n%s", res.Incomplete, counts(res))
	}
	res = audited(t, o, with(map[string]string{"type": "route", "match": ".*", "to": "one"}))
	if len(res.Incomplete) != 1 || !strings.Contains(res.Incomplete[0], "are both routed to it") {
		t.Errorf("%v\n%s", res.Incomplete, counts(res))
	}
}

// Lines that are JSON are compared as the transforms leave them, too.
func TestAuditOfTransformedLines(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte("{\"card\":\"4111\",\"n\":1}\n{\"n\":2}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := worker.Options{Log: openLog(t), Group: unique("g"), Host: "h", DrainTimeout: 10 * time.Second, Registry: builtin.Registry()}
	name := unique("lines")
	with := func(mask string) worker.Config {
		return builtinSource(t, "tail", name, map[string]string{"paths": filepath.Join(dir, "*.log"), "transforms.0.type": "mask", "transforms.0.fields": "card", "transforms.0.with": mask})
	}
	o.Connectors = []worker.Config{with("***")}
	_, _ = start(t, o)
	if res := audited(t, o, o.Connectors[0]); counts(res) != name+" agreed=2 missing=0 doubled=0 different=0\n" {
		t.Error(counts(res), res.Sources[0].List)
	}
	if res := audited(t, o, with("###")); counts(res) != name+" agreed=1 missing=0 doubled=0 different=1\n" {
		t.Error(counts(res))
	}
}

// Lines that are no JSON stand in the topic as they came, whatever the source's converter is called.
func TestAuditOfPlainLines(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte("no JSON\n{neither\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := worker.Options{Log: openLog(t), Group: unique("g"), Host: "h", DrainTimeout: 10 * time.Second, Registry: builtin.Registry()}
	c := builtinSource(t, "tail", unique("lines"), map[string]string{"paths": filepath.Join(dir, "*.log")})
	o.Connectors = []worker.Config{c}
	_, _ = start(t, o)
	if res := audited(t, o, c); counts(res) != c.Name+" agreed=2 missing=0 doubled=0 different=0\n" {
		t.Error(counts(res), res.Sources[0].List)
	}
}

// What is in the dead letters of a sink is not in its target, whatever refused it: the audit says so, and goes on behind it.
func TestAuditOfWhatASinkRefuses(t *testing.T) {
	log, topic := openLog(t), unique("orders")
	l, err := hublog.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.EnsureTopic(t.Context(), connectors.TopicSpec{Name: topic}); err != nil {
		t.Fatal(err)
	}
	a, err := l.NewAppender(t.Context(), unique("orders"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Begin(); err != nil {
		t.Fatal(err)
	}
	a.Append(topic, 0, []byte("1"), []byte(`{"n":"1"}`), nil, time.Now())
	a.Append(topic, 0, []byte("2"), []byte(`{"n":"2"}`), []kgo.RecordHeader{{Key: converter.SchemaHeader, Value: []byte("none")}}, time.Now())
	a.Append(topic, 0, []byte("3"), []byte(`{"n":"three"}`), nil, time.Now())
	a.Append(topic, 0, []byte("4"), []byte(`{"n":"4"}`), nil, time.Now())
	if _, err := a.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := worker.Options{Log: log, Group: unique("g"), Host: "h", DrainTimeout: 10 * time.Second, Registry: builtin.Registry()}
	for name, more := range map[string]map[string]string{
		"types-": {},
		"casts-": {"transforms.0.type": "cast", "transforms.0.fields": "n:int64"},
	} {
		fields := map[string]string{"url": t.TempDir(), "topics": topic, "format": "parquet", "rotate.interval": "100ms", "on_error": "dlq"}
		maps.Copy(fields, more)
		o.Connectors = append(o.Connectors, builtinSink(t, "file", unique(name), fields))
	}
	_, _ = start(t, o)
	for _, c := range o.Connectors {
		res, want := audited(t, o, c), " agreed=3 missing=1 doubled=0 different=0\n"
		if strings.HasPrefix(c.Name, "casts-") {
			want = " agreed=2 missing=2 doubled=0 different=0\n"
		}
		if counts(res) != topic+"-0"+want || !strings.Contains(fmt.Sprint(res.Sinks[0].List), "the schema is not in") {
			t.Errorf("%s: %s%v", c.Name, counts(res), res.Sinks[0].List)
		}
	}
}

// An audit that begins before its source waits until the snapshot is over. It used to take the stream's position for the
// point's, which a source that begins after the point has passed at once, and to call rows missing that were on their way.
func TestAuditDuringASnapshot(t *testing.T) {
	db := testenv.Postgres(t)
	db.Exec(`CREATE TABLE clients (id int PRIMARY KEY); CREATE TABLE orders (id int PRIMARY KEY, note text);
		INSERT INTO clients VALUES (1); INSERT INTO orders SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g`)
	slot := "s_" + db.Database
	o := worker.Options{Log: openLog(t), Group: unique("g"), Host: "h", DrainTimeout: 10 * time.Second, Registry: builtin.Registry()}
	c := builtinSource(t, "postgres", unique("shop"), map[string]string{"url": db.URL, "tables": "public.*", "heartbeat": "100ms", "slot": slot, "publication": slot})
	o.Connectors = []worker.Config{c}
	var said []string
	res, err := audit.Run(t.Context(), audit.Options{Log: o.Log, Group: o.Group, Host: o.Host, Registry: o.Registry, Connectors: o.Connectors, Name: c.Name, Wait: time.Minute,
		Progress: func(what string) {
			if said = append(said, what); len(said) == 1 {
				_, _ = start(t, o)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	want := c.Name + ".public.clients agreed=1 missing=0 doubled=0 different=0\n" + c.Name + ".public.orders agreed=20000 missing=0 doubled=0 different=0\n"
	if got := counts(res); got != want || !strings.HasPrefix(said[0], "waiting until the snapshot of") {
		t.Errorf("%s\nwant\n%s\n%q", got, want, said)
	}
}

// Two machines of one image have files of the same device and inode, and so positions of the same key. The audit used to take whichever was further for this
// host's, to call the other's lines gone, and to pass. It compares this host's files with this host's positions, and says whose were not compared.
func TestAuditOfOneHostOfTwo(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte("one\ntwo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := worker.Options{Log: openLog(t), Group: unique("g"), DrainTimeout: 10 * time.Second, Registry: builtin.Registry()}
	c := builtinSource(t, "tail", unique("lines"), map[string]string{"paths": filepath.Join(dir, "*.log")})
	o.Connectors = []worker.Config{c}
	on := func(host string) worker.Options {
		o := o
		o.Host = host
		return o
	}
	run := func(host string, lines int64) (stop func()) {
		w, stop := start(t, on(host))
		eventually(t, 30*time.Second, "the lines are in the log", func() bool { s := w.Status()[0]; return s.Records == lines && s.State == worker.Running })
		return stop
	}
	run("web-1", 2)
	alone := audited(t, on("web-1"), c)
	if counts(alone) != c.Name+" agreed=2 missing=0 doubled=0 different=0\n" || len(alone.Incomplete) > 0 {
		t.Errorf("%s%v", counts(alone), alone.Incomplete)
	}
	run("web-2", 2)
	for _, host := range []string{"web-1", "web-2"} {
		res := audited(t, on(host), c)
		other := map[string]string{"web-1": "host-web-2", "web-2": "host-web-1"}[host]
		if counts(res) != c.Name+" agreed=2 missing=0 doubled=0 different=0\n" || res.Sources[0].Gone != 0 || res.Sources[0].Elsewhere != 2 ||
			len(res.Incomplete) != 1 || !strings.Contains(res.Incomplete[0], other) {
			t.Errorf("%s: %s%+v %v", host, counts(res), res.Sources[0], res.Incomplete)
		}
	}
	// web-2's position does not stand for a file that web-3 has not read.
	_, err := audit.Run(t.Context(), audit.Options{Log: o.Log, Group: o.Group, Host: "web-3", Registry: o.Registry, Connectors: o.Connectors, Name: c.Name, Wait: time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "it stands at its start") {
		t.Errorf("%v", err)
	}
}
