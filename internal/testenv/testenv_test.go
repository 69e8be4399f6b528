package testenv

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestPostgresGivesAFreshDatabase(t *testing.T) {
	a := Postgres(t)
	a.Exec(`CREATE TABLE x (n int)`)
	a.Exec(`SELECT pg_create_logical_replication_slot('` + a.Database + `', 'pgoutput')`)
	b := Postgres(t)
	b.Exec(`CREATE TABLE x (n int)`)
	if a.URL == b.URL {
		t.Fatal("two tests share a database")
	}
}

func TestPostgresOfOnesOwnSurvivesAKill(t *testing.T) {
	p := NewPostgres(t, "max_wal_senders=3")
	p.Exec(`CREATE TABLE x (n int); INSERT INTO x VALUES (1)`)
	url := p.URL
	p.Kill()
	p.Start()
	p.Exec(`INSERT INTO x VALUES (2)`)
	if p.URL != url {
		t.Fatalf("the address changed from %s to %s", url, p.URL)
	}
	p.Stop()
}

func TestMongoOfOnesOwnElectsAnotherPrimary(t *testing.T) {
	if a, b := Mongo(t), Mongo(t); a.Database == b.Database {
		t.Fatal("two tests share a database")
	}
	m := NewMongo(t, 3)
	c := m.DB().Collection("x")
	if _, err := c.InsertOne(t.Context(), map[string]int{"n": 1}); err != nil {
		t.Fatal(err)
	}
	dead := m.KillPrimary()
	m.AwaitPrimary()
	if _, err := c.InsertOne(t.Context(), map[string]int{"n": 2}); err != nil {
		t.Fatal(err)
	}
	m.Start(dead)
}

func TestHDFSFolder(t *testing.T) {
	h := HDFS(t)
	if _, err := h.Client().Stat(h.Root); err != nil {
		t.Fatal(err)
	}
}

func TestKafkaToolsReachTheBroker(t *testing.T) {
	topic := "t-" + randomName()
	b := Kafka(t)
	tools := KafkaTools(t)
	tools.Run(t, "", "kafka-topics", "--bootstrap-server", b, "--create", "--topic", topic)
	if got := tools.Run(t, "", "kafka-topics", "--bootstrap-server", b, "--list"); !strings.Contains(got, topic) {
		t.Fatalf("topics: %q lacks %s", got, topic)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, Kcat(t), "-b", b, "-L", "-t", topic).CombinedOutput(); err != nil {
		t.Fatalf("kcat: %v\n%s", err, out)
	}
}

func TestPythonHasTheReaders(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, Python(t), "-c", "import pyarrow.parquet, duckdb, fsspec, requests, confluent_kafka").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// A pid that was given to another process must not be taken for ours.
func TestStalePidIsNotAlive(t *testing.T) {
	p := process{Name: "x", PID: 1, Started: "no such tick"}
	if p.alive() {
		t.Fatal("pid 1 with another start time counts as ours")
	}
}
