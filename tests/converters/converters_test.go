// Package converters runs pipelines whose records are in Confluent's wire format: what real clients read of our sources, and what our sinks read of theirs.
package converters

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/tests/node"
)

// pipeline is a node that runs a config between two databases.
type pipeline struct {
	*testing.T
	*node.Node
	source, target *pgx.Conn
	dir            string
}

func newPipeline(t *testing.T, config string, statements ...string) *pipeline {
	t.Helper()
	source, target := testenv.Postgres(t), testenv.Postgres(t)
	connect := func(url string) *pgx.Conn {
		c, err := pgx.Connect(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) }) // the test is over
		return c
	}
	p := &pipeline{T: t, source: connect(source.URL), target: connect(target.URL), dir: t.TempDir()}
	p.exec(statements...)
	p.Node = node.New(t, node.WriteFile(t, p.dir, "job.yaml", config), "--data", p.dir+"/data")
	p.Node.Setenv("SOURCE="+source.URL, "TARGET="+target.URL, "SLOT=conv_"+source.Database, "FILES="+p.dir+"/files")
	p.Start()
	return p
}

func (p *pipeline) exec(statements ...string) {
	p.Helper()
	for _, s := range statements {
		if _, err := p.source.Exec(p.Context(), s); err != nil {
			p.Fatalf("%s: %v", s, err)
		}
	}
}

// within waits until fn says true.
func (p *pipeline) within(d time.Duration, what string, fn func() bool) {
	p.Helper()
	late, tick := time.After(d), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !fn() {
		select {
		case <-tick.C: // databases and REST tell nobody: they are asked
			if p.Ended() {
				p.Fatalf("the node ended before %s\n%s", what, p.LogTail(30))
			}
		case <-late:
			p.Fatalf("not in time: %s\n%s", what, p.LogTail(30))
		}
	}
}

// ask sends a request to the node's REST API or its registry and reads the answer into out.
func (p *pipeline) ask(method, path, body string, out any) int {
	p.Helper()
	req, err := http.NewRequestWithContext(p.Context(), method, "http://"+p.HTTP+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			p.Fatalf("%s: %v: %s", path, err, text)
		}
	}
	return resp.StatusCode
}

// state is a connector's state and what its task says of an error.
func (p *pipeline) state(connector string) (state, trace string) {
	p.Helper()
	var out struct {
		Connector struct{ State string }
		Tasks     []struct{ State, Trace string }
	}
	p.ask("GET", "/connectors/"+connector+"/status", "", &out)
	if len(out.Tasks) > 0 {
		return out.Tasks[0].State, out.Tasks[0].Trace
	}
	return out.Connector.State, ""
}

// rows are the rows of a query in the target; none while its table is not there.
func (p *pipeline) rows(query string) (out []string) {
	p.Helper()
	rows, err := p.target.Query(p.Context(), query)
	if err == nil {
		out, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil && !strings.Contains(err.Error(), "does not exist") {
		p.Fatal(err)
	}
	return out
}

// lines are the lines of all committed files of a topic.
func (p *pipeline) lines(topic string) (out []string) {
	p.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "files", topic, "*.json"))
	if err != nil {
		p.Fatal(err)
	}
	slices.Sort(files)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			p.Fatal(err)
		}
		out = append(out, strings.Split(strings.TrimSpace(string(text)), "\n")...)
	}
	return out
}

// python runs a script: what it does, and with what.
func (p *pipeline) python(script string, args ...string) string {
	p.Helper()
	args = append([]string{script, args[0], p.Kafka, "http://" + p.HTTP}, args[1:]...)
	var stderr bytes.Buffer
	c := exec.CommandContext(p.Context(), testenv.Python(p.T), args...)
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		p.Fatalf("%v\n%s%s", err, out, stderr.Bytes())
	}
	return string(out)
}

const pipelineConfig = `
sources:
  shop:
    type: postgres
    url: ${SOURCE}
    tables: [public.*]
    slot: ${SLOT}
    publication: ${SLOT}
    key.converter: avro
    value: {converter: avro}
  proto:
    type: postgres
    url: ${SOURCE}
    tables: [public.*]
    slot: ${SLOT}_p
    publication: ${SLOT}_p
    key.converter: protobuf
    value.converter: protobuf
  json:
    type: postgres
    url: ${SOURCE}
    tables: [public.*]
    slot: ${SLOT}_j
    publication: ${SLOT}_j
    key.converter: jsonschema
    value.converter: jsonschema
sinks:
  copy:
    type: postgres
    url: ${TARGET}
    topics: ["shop.public.*"]
    flush: {interval: 100ms}
    key.converter: avro
    value.converter: avro
  files:
    type: file
    url: ${FILES}
    topics: ["shop.public.*"]
    format: json
    rotate: {interval: 200ms}
    key.converter: avro
    value.converter: avro
  protofiles:
    type: file
    url: ${FILES}
    topics: ["proto.public.*"]
    format: json
    rotate: {interval: 200ms}
    key.converter: protobuf
    value.converter: protobuf
  jsonfiles:
    type: file
    url: ${FILES}
    topics: ["json.public.*"]
    format: json
    rotate: {interval: 200ms}
    key.converter: jsonschema
    value.converter: jsonschema
`

// TestPipeline: a table goes through topics in Avro, Protobuf and JSON with a schema into another database and into files, while a column is added, one is dropped and one changes its
// type; confluent-kafka reads the topics. A column that earlier readers cannot do without is refused by the registry: the source says so, and
// nothing is lost.
func TestPipeline(t *testing.T) {
	p := newPipeline(t, pipelineConfig,
		`CREATE TABLE orders (id bigint PRIMARY KEY, customer text NOT NULL, price numeric(10,2), at timestamptz, tags text[], old int)`,
		`INSERT INTO orders SELECT i, 'c' || i, i + 0.25, '2026-11-30T01:02:03Z', ARRAY['a', NULL], NULL FROM generate_series(1, 3) i`)
	const topic = "shop.public.orders"
	p.within(60*time.Second, "the snapshot is copied", func() bool { return len(p.rows("SELECT id::text FROM orders")) == 3 })
	p.exec(`ALTER TABLE orders ADD note text`, `UPDATE orders SET note = 'n' WHERE id = 1`,
		`ALTER TABLE orders DROP old`, `INSERT INTO orders (id, customer, note) VALUES (4, 'c4', 'n4')`,
		`ALTER TABLE orders ALTER customer TYPE varchar(20)`, `DELETE FROM orders WHERE id = 2`)
	want := []string{"1 c1 1.25 n", "3 c3 3.25 -", "4 c4 - n4"}
	const query = `SELECT concat_ws(' ', id, customer, coalesce(price::text, '-'), coalesce(note, '-')) FROM orders ORDER BY id`
	p.within(30*time.Second, "the changes are copied", func() bool { return slices.Equal(p.rows(query), want) })

	got := strings.Split(strings.TrimSpace(p.python("avro.py", "check", topic, "7")), "\n")
	for i, want := range []string{
		`{"key": {"id": 1}, "value": {"after": {"at": "2026-11-30T01:02:03.000000Z", "customer": "c1", "id": 1, "old": null, "price": "1.25", "tags": ["a", null]}, "before": null, "op": "r"}}`,
		"", "",
		`{"key": {"id": 1}, "value": {"after": {"at": "2026-11-30T01:02:03.000000Z", "customer": "c1", "id": 1, "note": "n", "old": null, "price": "1.25", "tags": ["a", null]}, "before": null, "op": "u"}}`,
		`{"key": {"id": 4}, "value": {"after": {"at": null, "customer": "c4", "id": 4, "note": "n4", "price": null, "tags": null}, "before": null, "op": "c"}}`,
		`{"key": {"id": 2}, "value": {"after": null, "before": {"at": null, "customer": null, "id": 2, "note": null, "price": null, "tags": null}, "op": "d"}}`,
		`{"key": {"id": 2}, "value": null}`,
	} {
		if want != "" && (i >= len(got) || got[i] != want) {
			t.Errorf("record %d\n got %s\nwant %s", i, got[min(i, len(got)-1)], want)
		}
	}
	p.within(30*time.Second, "the changes are in files", func() bool { return len(p.lines(topic)) == 6 })
	if line := p.lines(topic)[3]; !strings.Contains(line, `"note":"n"`) || !strings.Contains(line, `"op":"u"`) || !json.Valid([]byte(line)) {
		t.Errorf("a line of the file: %s", line)
	}
	p.protobuf()
	p.jsonSchema()
	var versions []int
	if p.ask("GET", "/subjects/"+topic+"-value/versions", "", &versions); len(versions) != 4 {
		for _, v := range versions {
			var s struct{ Schema string }
			p.ask("GET", fmt.Sprintf("/subjects/%s-value/versions/%d", topic, v), "", &s)
			t.Errorf("version %d of %d: %s", v, len(versions), s.Schema)
		}
	}

	if out, code := node.Run(t, p.env(), "audit", p.dir+"/job.yaml", "copy", "--bootstrap", p.Kafka, "--http", p.HTTP); code != 0 {
		t.Errorf("audit ended with %d:\n%s", code, out)
	}
	if out, code := node.Run(t, p.env(), "preview", p.dir+"/job.yaml", "files", "--bootstrap", p.Kafka, "--records", "4"); code != 0 || !strings.Contains(out, `"note":"n"`) {
		t.Errorf("preview ended with %d:\n%s", code, out)
	}

	// Not what readers of this version could follow: a text becomes a number.
	p.exec(`ALTER TABLE orders ALTER note TYPE int USING length(note)`, `INSERT INTO orders (id, customer, note) VALUES (5, 'c5', 7)`)
	p.within(30*time.Second, "the registry refuses", func() bool { s, _ := p.state("shop"); return s == "FAILED" })
	if _, trace := p.state("shop"); !strings.Contains(trace, topic+"-value does not take the schema") || !strings.Contains(trace, "MISSING_UNION_BRANCH") || len(trace) > 2000 ||
		!strings.Contains(trace, "PUT /config/"+topic+"-value") {
		t.Errorf("the source says: %s", trace)
	}
	if code := p.ask("PUT", "/config/"+topic+"-value", `{"compatibility": "NONE"}`, nil); code != http.StatusOK {
		t.Errorf("PUT: %d", code)
	}
	p.ask("POST", "/connectors/shop/restart?includeTasks=true", "", nil)
	p.within(30*time.Second, "the source goes on", func() bool {
		lines := p.lines(topic)
		return len(lines) == 7 && strings.Contains(lines[6], `"note":7`)
	})
}

func (p *pipeline) env() []string {
	return []string{"SOURCE=" + p.source.Config().ConnString(), "TARGET=" + p.target.Config().ConnString(), "SLOT=conv_" + p.source.Config().Database, "FILES=" + p.dir + "/files"}
}

// protobuf: the topic in Protobuf says the same, by the newest of its schemas, in which columns have kept their numbers.
func (p *pipeline) protobuf() {
	p.Helper()
	const topic = "proto.public.orders"
	p.likeAvro(topic)
	got := strings.Split(strings.TrimSpace(p.python("proto.py", "check", topic, "7")), "\n")
	for i, want := range []string{
		`{"key": {"id": "1"}, "value": {"after": {"at": "2026-11-30T01:02:03.000000Z", "customer": "c1", "id": "1", "price": {"precision": 10, "scale": 2, "value": "fQ=="}, "tags": {"value": [{"value": "a"}, {}]}}, "op": "r"}}`,
		"", "",
		`{"key": {"id": "1"}, "value": {"after": {"at": "2026-11-30T01:02:03.000000Z", "customer": "c1", "id": "1", "note": "n", "price": {"precision": 10, "scale": 2, "value": "fQ=="}, "tags": {"value": [{"value": "a"}, {}]}}, "op": "u"}}`,
		`{"key": {"id": "4"}, "value": {"after": {"customer": "c4", "id": "4", "note": "n4"}, "op": "c"}}`,
		`{"key": {"id": "2"}, "value": {"before": {"id": "2"}, "op": "d"}}`,
		`{"key": {"id": "2"}, "value": null}`,
	} {
		if want != "" && (i >= len(got) || got[i] != want) {
			p.Errorf("record %d\n got %s\nwant %s", i, got[min(i, len(got)-1)], want)
		}
	}
	var latest struct{ Schema string }
	if p.ask("GET", "/subjects/"+topic+"-value/versions/latest", "", &latest); !strings.Contains(latest.Schema, "optional string note = 7") || !strings.Contains(latest.Schema, "reserved 6") {
		p.Errorf("the newest schema: %s", latest.Schema)
	}
}

// jsonSchema: so does the topic in JSON, whose values confluent-kafka holds against their schemas.
func (p *pipeline) jsonSchema() {
	p.Helper()
	const topic = "json.public.orders"
	p.likeAvro(topic)
	got := strings.Split(strings.TrimSpace(p.python("json_schema.py", "check", topic, "7")), "\n")
	for i, want := range []string{
		`{"key": {"id": 1}, "value": {"after": {"at": "2026-11-30T01:02:03.000000Z", "customer": "c1", "id": 1, "old": null, "price": "fQ==", "tags": ["a", null]}, "before": null, "op": "r"}}`,
		"", "", "",
		`{"key": {"id": 4}, "value": {"after": {"at": null, "customer": "c4", "id": 4, "note": "n4", "price": null, "tags": null}, "before": null, "op": "c"}}`,
		"", `{"key": {"id": 2}, "value": null}`,
	} {
		if want != "" && (i >= len(got) || got[i] != want) {
			p.Errorf("record %d\n got %s\nwant %s", i, got[min(i, len(got)-1)], want)
		}
	}
}

// likeAvro waits for the files of a topic, whose rows are those of the topic in Avro.
func (p *pipeline) likeAvro(topic string) {
	p.Helper()
	p.within(30*time.Second, "the changes are in files", func() bool { return len(p.lines(topic)) == 6 })
	want, got := p.lines("shop.public.orders"), p.lines(topic)
	for i := range want {
		if a, b := rows(p.T, want[i]), rows(p.T, got[i]); a != b {
			p.Errorf("line %d of %s\n got %s\nwant %s", i, topic, b, a)
		}
	}
}

// rows are the rows of an envelope, without what tells one source from the other.
func rows(t *testing.T, line string) string {
	t.Helper()
	var e struct {
		Op            string
		Before, After any
	}
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestClients: sinks read what confluent-kafka writes, and say where the first record is that is not Avro; with dead letters they go on behind it.
func TestClients(t *testing.T) {
	p := newPipeline(t, `
sinks:
  files:
    type: file
    url: ${FILES}
    topics: [readings]
    format: json
    coordinates: true
    rotate: {records: 1}
    key.converter: string
    value.converter: avro
  copy:
    type: postgres
    url: ${TARGET}
    topics: [readings]
    mode: append
    flush: {records: 1}
    key.converter: string
    value.converter: avro
  places:
    type: file
    url: ${FILES}
    topics: [places]
    format: json
    rotate: {records: 1}
    key.converter: string
    value.converter: protobuf
  visits:
    type: file
    url: ${FILES}
    topics: [visits]
    format: parquet
    rotate: {records: 2}
    key.converter: string
    value.converter: jsonschema
  patient:
    type: file
    url: ${FILES}/patient
    topics: [readings]
    format: json
    on_error: dlq
    rotate: {records: 1}
    key.converter: string
    value.converter: avro
`)
	p.python("avro.py", "write", "readings")
	p.within(30*time.Second, "both have the rows", func() bool {
		return len(p.lines("readings")) == 2 && len(p.rows(`SELECT readings::text FROM readings`)) == 2
	})
	got := p.lines("readings")
	want := []string{
		`{"sensor":"s0","at":1796000523456789,"day":20787,"price":"+y4=","id":"00000000-0000-0000-0000-000000000000","state":"OFF","hash":"Af8=","tags":{"a":1,"b":null},"note":"x","_topic":"readings","_partition":0,"_offset":0,`,
		`{"sensor":"s1","at":1796000523456789,"day":20787,"price":"+y4=","id":"00000000-0000-0000-0000-000000000001","state":"OFF","hash":"Af8=","tags":{"a":1,"b":null},"note":null,"_topic":"readings","_partition":0,"_offset":1,`,
	}
	if !strings.HasPrefix(got[0], want[0]) || !strings.HasPrefix(got[1], want[1]) || !strings.HasSuffix(got[1], `,"_key":"k1"}`) {
		t.Errorf("files: %s", got)
	}
	p.python("proto.py", "write", "places")
	p.within(30*time.Second, "the messages are in files", func() bool { return len(p.lines("places")) == 2 })
	if got, want := p.lines("places"), []string{
		`{"sensor":"s0","at":1796000523456789,"price":{"scale":2,"value":"+y4="},"state":"OFF","tags":{"a":1},"place":{"x":1.5},"word":null,"note":"x","counts":[-1,300]}`,
		`{"sensor":"s1","at":null,"price":null,"state":"ON","tags":{},"place":null,"word":"","note":null,"counts":[]}`,
	}; !slices.Equal(got, want) {
		t.Errorf("places: %s", got)
	}
	p.python("json_schema.py", "write", "visits")
	p.within(30*time.Second, "the values are in columns", func() bool {
		files, err := filepath.Glob(filepath.Join(p.dir, "files", "visits", "*.parquet"))
		return err == nil && len(files) == 1
	})
	if got, want := p.python("json_schema.py", "parquet", p.dir+"/files/visits"), `[{"user": "Ada", "pages": ["/", "/é"], "at": {"x": 1.5}, "load": 0.25, "kind": "new", "more": "{\"a\":[1]}"}, {"user": "Bob", "pages": null, "at": null, "load": null, "kind": null, "more": null}]`; strings.TrimSpace(got) != want {
		t.Errorf("visits: %s", got)
	}
	p.python("avro.py", "spoil", "readings")
	for _, sink := range []string{"files", "copy"} {
		p.within(30*time.Second, sink+" stops at what is not Avro", func() bool { s, _ := p.state(sink); return s == "FAILED" })
		_, trace := p.state(sink)
		for _, want := range []string{"the record of readings-0 at offset 2", "value: not in Confluent's wire format", `{\"not\": \"Avro\"}`} {
			if !strings.Contains(trace, want) {
				t.Errorf("%s: no %s in: %s", sink, want, trace)
			}
		}
	}
	// With dead letters it is set aside, and what comes behind it goes on.
	p.python("avro.py", "write", "readings")
	p.within(30*time.Second, "the patient sink goes on", func() bool { return len(p.lines("patient/readings")) == 4 })
}
