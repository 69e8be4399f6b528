package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/configs/migrate"
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/plugins/builtin"
)

func migrateOptions() migrate.Options {
	o := configOptions()
	return migrate.Options{Registry: o.Registry, SourceCommon: o.SourceCommon, SinkCommon: o.SinkCommon}
}

const migrateDir = "../../configs/testdata/migrate"

// TestMigrateConnect turns every config of configs/testdata/migrate into exactly the golden YAML and messages. Each YAML passes lint, and no
// password is in any of them.
func TestMigrateConnect(t *testing.T) {
	for name, v := range map[string]string{"MONGO_URI": "mongodb://m/?replicaSet=rs0", "PGHOST": "db"} {
		t.Setenv(name, v)
	}
	t.Chdir(migrateDir)
	files, err := filepath.Glob("*.*")
	if err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`\$\{([A-Z_]+)\}`)
	seen := 0
	for _, f := range files {
		if strings.HasSuffix(f, ".golden") {
			continue
		}
		seen++
		t.Run(f, func(t *testing.T) {
			var out, errw bytes.Buffer
			code := run(t.Context(), []string{"migrate", "connect", f}, nil, &out, &errw)
			got := fmt.Sprintf("exit code %d\n%s---\n%s", code, errw.String(), out.String())
			if *update {
				if err := os.WriteFile(f+".golden", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(f + ".golden")
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
			if strings.Contains(got, "hunter2") {
				t.Error("a password is shown")
			}
			if code == 2 {
				return
			}
			for _, v := range variable.FindAllStringSubmatch(out.String(), -1) {
				if _, ok := os.LookupEnv(v[1]); !ok {
					t.Setenv(v[1], "secret")
				}
			}
			yaml := filepath.Join(t.TempDir(), "job.yaml")
			text := regexp.MustCompile(`\$\{file:[^}]*\}`).ReplaceAllString(out.String(), "from-a-file")
			if err := os.WriteFile(yaml, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var lint bytes.Buffer
			if code := run(t.Context(), []string{"lint", yaml}, nil, &lint, &lint); code != 0 || lint.Len() > 0 {
				t.Errorf("lint: %d\n%s%s", code, lint.String(), text)
			}
		})
	}
	if seen < 12 {
		t.Errorf("only %d configs", seen)
	}
}

// TestMigrateFiles: what is no connector is exit code 2, with the file and line.
func TestMigrateFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for text, want := range map[string]string{
		"":                               "x:1: the file is empty",
		"{":                              "x:1: not JSON",
		"{\n\"a\": nope}":                "x:2: not JSON",
		`{"name": "a"}`:                  "x:1: a has no connector.class",
		`{"name": "a", "config": 3}`:     "x:1: config is not an object",
		"[\"a\"]":                        "GET /connectors?expand=info",
		"[]":                             "no connector in it",
		"{}":                             "no connector.class",
		"null":                           "no connector.class", // properties
		"{\"connector.class\":\n[1]}":    "x:1: field connector.class is not a text",
		`{"connector.class": "x"} {}`:    "more text behind the JSON",
		"name=a\ntopics=t":               "a has no connector.class",
		"name=a\nfile=C:\\users":         "x:2: \\u without four hexadecimal digits",
		"name=\xff":                      "x:1: not UTF-8",
		strings.Repeat("[", 20):          "too many levels",
		strings.Repeat("#", 4<<20) + "#": "too many for connectors",
		`{"a": {"status": {}}}`:          "a status without the config",
		`{"a": {"b": {"c": {"d": 1}}}}`:  "a is no connector",
		"{\"info\": {\"config\":{\"connector.class\":\"\"}}}": "no connector.class",
	} {
		if err := os.WriteFile("x", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errw bytes.Buffer
		if code := run(t.Context(), []string{"migrate", "connect", "x"}, nil, &out, &errw); code != 2 || !strings.Contains(errw.String(), want) || out.Len() > 0 {
			t.Errorf("%.60q: exit code %d, %s", text, code, errw.String())
		}
	}
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"migrate", "connect", "nowhere.json"}, nil, &out, &errw); code != 2 {
		t.Errorf("a file that is not there: exit code %d, %s", code, errw.String())
	}
}

// TestMigrateKnowsOurFields: whatever a known field says, what is made of it is a field that the connector has (the tables of configs/migrate panic
// otherwise), a password is shown nowhere, and the YAML passes lint.
func TestMigrateKnowsOurFields(t *testing.T) {
	values := []string{"", "true", "false", "1", "0", "-1", "initial", "never", "all_tables", "debezium", "record_key", "upsert", "lookup", "pre_post", "a.b,c.d", "a.b:c", "io.x.AvroFormat",
		"jdbc:postgresql://h/db?currentSchema=s&ssl=true", "mongodb://h", "hdfs://h:8020", "t", "${file:/a/b:c}", "${env:X}", "change_streams_update_full", "copy_existing", "yyyy", "required"}
	turn := func(c migrate.Class, config map[string]string, lint bool) {
		config["connector.class"] = c.Names[0]
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		migrated(t, text, lint)
	}
	for _, c := range migrate.Known() {
		for _, v := range values {
			all := map[string]string{}
			for _, f := range c.Fields {
				all[f] = v
				if slices.Contains([]string{"true", "1", "a.b:c"}, v) {
					turn(c, map[string]string{"topics": "t", f: v}, false)
				}
			}
			turn(c, all, true)
		}
		for _, f := range c.Fields {
			if regexp.MustCompile(`(?i)pass|secret|url$|uri$|string$`).MatchString(f) {
				turn(c, map[string]string{f: "x:hunter2@host/?password=hunter2"}, false)
				turn(c, map[string]string{f: "mongodb://u:hunter2@host/?a=b", "database": "d"}, false)
				turn(c, map[string]string{f: "jdbc:postgresql://u:hunter2@host/d?password=hunter2"}, false)
			}
		}
	}
}

// migrated looks at what becomes of some text.
func migrated(t *testing.T, text []byte, lint bool) {
	r, err := migrate.Connect([]migrate.File{{Name: "x.json", Text: text}}, migrateOptions())
	if err != nil {
		if problem.ExitCode(err) != 2 {
			t.Errorf("%s: %v", text, err)
		}
		return
	}
	all := r.YAML
	for _, f := range r.Findings {
		if strings.ContainsAny(f.String(), "\n\r") {
			t.Errorf("more than a line: %q", f.String())
		}
		all += f.String()
	}
	if strings.Contains(all, "hunter2") {
		t.Errorf("%s: a password is shown:\n%s", text, all)
	}
	if !lint || !strings.Contains(r.YAML, "\nsources:") && !strings.Contains(r.YAML, "\nsinks:") {
		return
	}
	yaml := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(yaml, []byte(r.YAML), 0o600); err != nil {
		t.Fatal(err)
	}
	o := configOptions()
	o.Remote, o.Getenv = true, func(string) (string, bool) { return "", false }
	problems, err := configs.Lint([]string{yaml}, o)
	if err == nil {
		err = problems.Err()
	}
	if err != nil {
		t.Errorf("%s\n%s%v", text, r.YAML, err)
	}
}

// FuzzMigrateConnect: any bytes are an error of the input, or become YAML that passes lint.
func FuzzMigrateConnect(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(migrateDir, "*.*"))
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, ".golden") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.ReplaceAll(text, []byte("hunter2"), []byte("s")))
	}
	f.Add([]byte("connector.class=FileStreamSource\nfile=\\ud83d\\ude00\\\n  \\u0000\ntopic=a b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !bytes.Contains(text, []byte("hunter2")) {
			migrated(t, text, true)
		}
	})
}

// TestMigrateGoesOnFromTheSlot: with snapshot: never the source that is made of a Debezium config goes on exactly where the slot has been confirmed,
// in the slot and the publication that Debezium has left behind.
func TestMigrateGoesOnFromTheSlot(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	address := testenv.Postgres(t).URL
	c, err := pgx.Connect(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the test is over
	one := func(sql string) (text string) {
		t.Helper()
		if err := c.QueryRow(ctx, sql).Scan(&text); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return text
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := c.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	slot := fmt.Sprintf("debezium_%x", rand.Uint64())
	exec("CREATE TABLE orders (id int PRIMARY KEY)")
	exec("CREATE TABLE other (id int PRIMARY KEY)")
	exec("CREATE PUBLICATION dbz_publication FOR ALL TABLES") // as Debezium makes it
	one("SELECT slot_name::text FROM pg_create_logical_replication_slot('" + slot + "', 'pgoutput')")
	exec("INSERT INTO orders VALUES (1), (2)")
	confirmed := one("SELECT pg_current_wal_insert_lsn()::text")
	exec("INSERT INTO orders VALUES (3)")
	exec("INSERT INTO other VALUES (7)")
	one("SELECT end_lsn::text FROM pg_replication_slot_advance('" + slot + "', '" + confirmed + "')") // what Debezium has confirmed

	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	config := map[string]string{"name": "orders-connector", "connector.class": "io.debezium.connector.postgresql.PostgresConnector", "topic.prefix": "shop", "plugin.name": "pgoutput",
		"slot.name": slot, "table.include.list": `public\.orders`, "snapshot.mode": "initial", "database.hostname": u.Hostname(), "database.port": u.Port(),
		"database.user": u.User.Username(), "database.dbname": strings.TrimPrefix(u.Path, "/"), "database.sslmode": "disable", "heartbeat.interval.ms": "200"}
	if u.Query().Get("host") != "" {
		config["database.hostname"] = u.Query().Get("host")
	}
	if p, ok := u.User.Password(); ok {
		config["database.password"] = p
		t.Setenv("SHOP_PASSWORD", url.QueryEscape(p))
	}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	r, err := migrate.Connect([]migrate.File{{Name: "x.json", Text: text}}, migrateOptions())
	if err != nil {
		t.Fatal(err)
	}
	yaml := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(yaml, []byte(strings.Replace(r.YAML, "snapshot: initial", "snapshot: never", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	job, err := configs.Load([]string{yaml}, configOptions())
	if err != nil {
		t.Fatal(err, r.YAML)
	}
	types := builtin.Registry().Sources
	typ := types[slices.IndexFunc(types, func(t connectors.SourceType) bool { return t.Name == "postgres" })]
	source, err := typ.New(job.Find("shop").Values, connectorEnv("shop"))
	if err != nil {
		t.Fatal(err)
	}
	splits, err := source.Plan(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	task := source.Task(splits[0])
	if err := task.Open(ctx, nil); err != nil {
		t.Fatal(err)
	}
	defer task.Close() //nolint:errcheck // the test is over
	exec("INSERT INTO orders VALUES (4)")
	var got []string
	batch := connectors.NewBatch(1 << 20)
	for len(got) < 2 {
		batch.Reset()
		if err := task.Read(ctx, batch); err != nil {
			t.Fatal(err)
		}
		for _, rec := range batch.Records {
			got = append(got, fmt.Sprintf("%s %c %d", rec.Topic, rec.Change.Op, rec.Change.After.List[0].Int()))
		}
		now := map[connectors.PositionKey]connectors.Position{}
		for _, m := range batch.Marks {
			now[m.Key] = connectors.Position(strings.Clone(string(m.Position)))
		}
		if err := task.Committed(ctx, now); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"shop.public.orders c 3", "shop.public.orders c 4"}; !slices.Equal(got, want) {
		t.Errorf("the changes are %q, not %q", got, want)
	}
}
