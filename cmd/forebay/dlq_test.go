package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/plugins/builtin"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

// TestDLQ: of a batch for PostgreSQL the rows that do not fit, and those behind them, are dead letters, and nothing else; they are listed, shown with what the
// log still has of them, replayed once they fit, and dropped.
func TestDLQ(t *testing.T) {
	db := testenv.Postgres(t)
	db.Exec(`CREATE TABLE t (id text NOT NULL, name varchar(5))`)
	kafka, _ := startUp(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	const schema = `{"schema":{"type":"struct","name":"t.%s","optional":false,"fields":[%s]},"payload":%s}`
	id, text := `{"field":"id","type":"string","optional":false}`, `{"field":"name","type":"string","optional":true}`
	for i := range 30 { // ten keys; the names of 3 and 5 are too long once
		name, key := fmt.Sprintf("n%d", i), fmt.Appendf(nil, schema, "Key", id, fmt.Sprintf(`{"id":"%d"}`, i%10))
		switch i {
		case 3, 15:
			name = "much too long"
		}
		r := &kgo.Record{Key: key, Value: fmt.Appendf(nil, schema, "Value", id+","+text, fmt.Sprintf(`{"id":"%d","name":"%s"}`, i%10, name))}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var config worker.Config
	for _, s := range builtin.Registry().Sinks {
		if s.Name == "postgres" {
			v, findings := s.Spec.Join(worker.SinkFields).Parse(spec.FlatNode(map[string]string{"url": db.URL, "topics": "t", "mode": "append", "table": "t", "on_error": "dlq"}))
			if len(findings) > 0 {
				t.Fatal(findings)
			}
			config = worker.Config{Name: "wh", Type: "postgres", Sink: true, Values: v}
		}
	}
	work := func() (*worker.Worker, func()) {
		t.Helper()
		return startWorker(t, kafka, config)
	}
	w, stop := work()
	tick, late := time.NewTicker(20*time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for w.Status()[0].Dead != 5 || w.Status()[0].Lag != 0 {
		_, _ = w.Flush(t.Context(), "wh") // it fails while the task starts again
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%+v", w.Status()[0])
		}
	}
	stop()
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	rows := func(want string) {
		t.Helper()
		var got string
		if err := conn.QueryRow(t.Context(), `SELECT string_agg(name, ' ' ORDER BY _partition, _offset) FROM t`).Scan(&got); err != nil || got != want {
			t.Errorf("the table has %s (%v)", got, err)
		}
	}
	rows("n0 n1 n2 n4 n5 n6 n7 n8 n9 n10 n11 n12 n14 n16 n17 n18 n19 n20 n21 n22 n24 n26 n27 n28 n29")
	cli := func(code int, args ...string) string {
		t.Helper()
		return dlqAt(t, kafka, code, args...)
	}
	has := func(text string, words ...string) {
		t.Helper()
		hasAll(t, text, words...)
	}
	list := cli(0, "list", "wh")
	if strings.Count(list, "\n") != 6 {
		t.Errorf("%s", list)
	}
	has(list, "t-0@3 ", "t-0@13 ", "t-0@15 ", "t-0@23 ", "t-0@25 ", "parked", "22001")
	has(cli(0, "list", "wh", "--json"), `{"data":[{"topic":"t","partition":0,"offset":3,"stage":"sink","reason":"`, `"causes":["`, `"connector":"wh"`, `"key_sha256":"`)
	has(cli(0, "show", "wh", "t-0@15"), "because: ", "22001", `"payload":{"id":"5","name":"much too long"}`)
	has(cli(2, "show", "wh", "t-0@4"), "not among the dead letters")
	has(cli(2, "show", "wh", "t0@x"), "TOPIC-PARTITION@OFFSET")
	has(cli(2, "drop", "wh"), "--all")
	has(cli(2, "replay", "wh", "t-0@13"), "would overtake t-0@3")
	has(cli(0, "replay", "wh", "t-0@3", "--wait", "0s"), "1 not done yet")
	has(cli(0, "list", "wh"), "to replay")
	has(cli(1, "replay", "wh", "t-0@3", "--wait", "1ms"), "as soon as it runs")
	_, stop = work()
	has(cli(1, "replay", "wh", "t-0@3"), "1 dead again", "not be handled this time either")
	if _, err := conn.Exec(t.Context(), `ALTER TABLE t ALTER name TYPE text`); err != nil {
		t.Fatal(err)
	}
	has(cli(0, "replay", "wh", "t-0@3", "t-0@13", "t-0@23"), "3 replayed", "wh has 2 dead letters")
	rows("n0 n1 n2 much too long n4 n5 n6 n7 n8 n9 n10 n11 n12 n13 n14 n16 n17 n18 n19 n20 n21 n22 n23 n24 n26 n27 n28 n29")
	if _, err := kadm.NewClient(client).DeleteRecords(t.Context(), kadm.OffsetsFromRecords(kgo.Record{Topic: "t", Offset: 20})); err != nil {
		t.Fatal(err)
	}
	has(cli(0, "show", "wh", "t-0@15", "--json"), `"record":null`, "retention has removed")
	has(cli(1, "replay", "wh", "--all"), "2 dead again")
	has(cli(0, "list", "wh"), "t-0@15  log", "retention has removed", "t-0@25  parked")
	has(cli(0, "drop", "wh", "t-0@15", "--json"), `"dropped":1`)
	has(cli(0, "replay", "wh", "--all"), "wh has 0 dead letters") // it has followed, or does now
	stop()
	rows("n0 n1 n2 much too long n4 n5 n6 n7 n8 n9 n10 n11 n12 n13 n14 n16 n17 n18 n19 n20 n21 n22 n23 n24 n25 n26 n27 n28 n29")
	has(cli(0, "list", "wh", "--all"), "t-0@3 ", "replayed", "t-0@15 ", "dropped")
	for _, args := range [][]string{{"list", "never"}, {"replay", "never", "--all"}, {"drop", "never", "--all"}, {"show", "never", "t-0@1"}} {
		has(cli(1, args...), "never: it has never had dead letters in group default (see `forebay connectors list`)")
	}
}

// dlqAt runs forebay dlq.
func dlqAt(t *testing.T, kafka string, code int, args ...string) string {
	t.Helper()
	var out, errw bytes.Buffer
	if got := run(t.Context(), append(append([]string{"dlq"}, args...), "--bootstrap", kafka), nil, &out, &errw); got != code {
		t.Errorf("%v: exit code %d\n%s%s", args, got, out.String(), errw.String())
	}
	return out.String() + errw.String()
}

func hasAll(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

// TestDLQOfASource: lines that a transform refuses are kept, listed, shown as they were, refused once more, dropped, and played again once the
// transform is another one.
func TestDLQOfASource(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.log"), []byte("{\"n\":1}\n{\"n\":\"two\"}\n{\"n\":3}\n{\"n\":\"four\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kafka, _ := startUp(t)
	work := func(transform string) (w *worker.Worker, stop func()) {
		t.Helper()
		fields := map[string]string{"paths": dir + "/*.log", "on_error": "dlq", "transforms.0.type": transform, "transforms.0.fields": "n:int64"}
		if transform == "drop" {
			fields["transforms.0.fields"] = "other"
		}
		for _, s := range builtin.Registry().Sources {
			if s.Name != "tail" {
				continue
			}
			v, findings := s.Spec.Join(worker.SourceFields).Parse(spec.FlatNode(fields))
			if len(findings) > 0 {
				t.Fatal(findings)
			}
			w, stop = startWorker(t, kafka, worker.Config{Name: "app", Type: "tail", Values: v})
		}
		return w, stop
	}
	w, stop := work("cast")
	tick, late := time.NewTicker(20*time.Millisecond), time.After(30*time.Second)
	defer tick.Stop()
	for s := w.Status()[0]; s.Dead != 2 || s.Records != 2; s = w.Status()[0] {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%+v", s)
		}
	}
	list := dlqAt(t, kafka, 0, "list", "app")
	hasAll(t, list, "host-h/app@", " transform ", "waiting", "n")
	lines := strings.Fields(list)
	places := []string{}
	for _, f := range lines {
		if strings.HasPrefix(f, "host-h/app@") {
			places = append(places, f)
		}
	}
	if len(places) != 2 {
		t.Fatalf("%v of\n%s", places, list)
	}
	hasAll(t, dlqAt(t, kafka, 0, "show", "app", places[0]), "because: ", `"value":{"n":"two"}`, `"topic":"app"`, "path")
	hasAll(t, dlqAt(t, kafka, 2, "show", "app", "host-h/app@9999"), "not among the dead letters")
	hasAll(t, dlqAt(t, kafka, 1, "replay", "app", places[0]), "1 dead again")
	hasAll(t, dlqAt(t, kafka, 0, "drop", "app", places[1]), "1 dropped", "app has 1 dead letters")
	stop()
	_, stop = work("drop")
	hasAll(t, dlqAt(t, kafka, 0, "replay", "app", "--all"), "1 replayed", "app has 0 dead letters")
	stop()
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"consume", "app", "--bootstrap", kafka}, nil, &out, &errw); code != 0 || !strings.Contains(out.String(), `{"n":"two"}`) {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errw.String())
	}
}

// startWorker runs a worker of one connector until stop.
func startWorker(t *testing.T, kafka string, c worker.Config) (w *worker.Worker, stop func()) {
	t.Helper()
	w, err := worker.New(worker.Options{Log: hublog.Options{Bootstrap: []string{kafka}}, Group: defaultGroup, Host: "h", Registry: builtin.Registry(), Connectors: []worker.Config{c}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return w, func() {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
