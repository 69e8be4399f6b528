package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/forebayhub/forebay/internal/testenv"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestBrokenConfigs lints every file of configs/testdata/broken: exit code 2, and exactly the golden messages.
func TestBrokenConfigs(t *testing.T) {
	t.Setenv("PG_URL", "postgres://localhost/shop")
	dir := filepath.Join("..", "..", "configs", "testdata", "broken")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) < 40 {
		t.Fatalf("%d broken files: %v", len(files), err)
	}
	t.Chdir(dir)
	for _, f := range files {
		name := filepath.Base(f)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			var out, errw bytes.Buffer
			if code := run(context.Background(), []string{"lint", name}, nil, &out, &errw); code != 2 {
				t.Errorf("exit code %d", code)
			}
			golden := strings.TrimSuffix(name, ".yaml") + ".golden"
			got := out.String() + errw.String()
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// TestExamples lints every file that README and the demo name.
func TestExamples(t *testing.T) {
	for name, value := range map[string]string{"PG_URL": "postgres://u:p@localhost/shop", "HDFS_URL": "hdfs://localhost:8020/lake", "LOGS": "/var/log/*.log"} {
		t.Setenv(name, value)
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "configs", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, f := range files {
		var out, errw bytes.Buffer
		if code := run(context.Background(), []string{"lint", f}, nil, &out, &errw); code != 0 || out.Len()+errw.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s%s", f, code, out.String(), errw.String())
		}
	}
}

// TestExamplesRun runs every file of configs/ on real servers, as it stands, until all of its sinks have written what its sources hold. Those that
// a longer test runs are only looked for there.
func TestExamplesRun(t *testing.T) {
	elsewhere := map[string]string{
		"hub.yaml":                        "../../tests/hub/hub_test.go",
		"databases-and-logs-to-hdfs.yaml": "../../tests/crash/crash_test.go",
	}
	records := map[string]map[string]float64{ // what each connector moves, at least
		"quickstart.yaml":             {"weblogs": 2, "files": 2},
		"orders-without-secrets.yaml": {"shop": 2, "files": 1},
		"databases-to-mongodb.yaml":   {"shop": 2, "activity": 1, "copy": 3, "history": 3},
	}
	pg, mongo := testenv.NewPostgres(t), testenv.Mongo(t) // the slot's name is the example's: no other test may have it
	pg.Exec("CREATE TABLE orders (id int PRIMARY KEY, status text, card text, internal_note text); INSERT INTO orders VALUES (1, 'new', '4111', 'x'), (2, 'test', '4222', NULL)")
	if _, err := mongo.Client().Database("site").Collection("events").InsertOne(t.Context(), bson.D{{Key: "what", Value: "login"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, db := range []string{"site", "copy", "history"} {
			if err := mongo.Client().Database(db).Drop(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		}
	})
	for name, value := range map[string]string{"PG_URL": pg.URL, "MONGO_URL": mongo.URL, "TARGET_URL": mongo.URL, "FILES": t.TempDir(), "LOGS": "../../configs/samples/*.log"} {
		t.Setenv(name, value)
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "configs", "*.yaml"))
	if err != nil || len(files) < len(elsewhere)+len(records) {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, f := range files {
		name := filepath.Base(f)
		if where, ok := elsewhere[name]; ok {
			if text, err := os.ReadFile(where); err != nil || !strings.Contains(string(text), `"`+name+`"`) {
				t.Errorf("%s does not run %s (%v)", where, name, err)
			}
			continue
		}
		if records[name] == nil {
			t.Errorf("nothing runs %s: say here what its connectors move", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			_, web := startUp(t, f)
			missing := func(p page) (out []string) {
				for connector, n := range records[name] {
					if p[`forebay_connector_records_total{connector="`+connector+`"}`] < n {
						out = append(out, connector)
					}
				}
				return out
			}
			tick, late := time.NewTicker(20*time.Millisecond), time.After(time.Minute)
			defer tick.Stop()
			for {
				p, _ := scrape(t, web)
				if len(missing(p)) == 0 {
					return
				}
				select {
				case <-tick.C:
				case <-late:
					t.Fatalf("%v have not moved their records: %v", missing(p), p)
				}
			}
		})
		pg.Exec("DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_replication_slots WHERE active) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$; SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
	}
}
