package postgres

import (
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
)

// TestSharedTopic: two tables whose names a topic's name does not tell apart are refused before anything is read or made.
func TestSharedTopic(t *testing.T) {
	f := start(t, `CREATE TABLE "заказы" (id int PRIMARY KEY); CREATE TABLE "товары" (id int PRIMARY KEY); CREATE TABLE my_table (id int PRIMARY KEY); CREATE TABLE "my table" (id int PRIMARY KEY);
		CREATE SCHEMA a; CREATE TABLE a."b.c" (id int PRIMARY KEY); CREATE SCHEMA "a.b"; CREATE TABLE "a.b".c (id int PRIMARY KEY)`)
	for tables, want := range map[string]string{
		"заказы товары": `"public"."заказы" and "public"."товары" would share the topic shop.public.______`,
		"my*":           `"public"."my table" and "public"."my_table" would share the topic shop.public.my_table`,
		"a*.*":          `"a"."b.c" and "a.b"."c" would share the topic shop.a.b.c`,
	} {
		f.src.cfg.tables = strings.Fields(tables)
		err := f.open(t.Context())
		f.close()
		if !connectors.IsFatal(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", tables, err)
		}
		found := f.src.Validate(t.Context())
		if len(found) != 1 || found[0].Path != "tables" || found[0].Message != want || found[0].Hint == "" {
			t.Errorf("%q: Validate finds %v", tables, found)
		}
	}
	if info, err := f.src.slotInfo(t.Context(), f.c); info != nil || err != nil {
		t.Errorf("slot %v, %v", info, err)
	}
	f.src.cfg.tables = []string{"заказы", "my_table"}
	sql(t, f.c, `INSERT INTO "заказы" VALUES (1)`)
	f.sync()
	f.col.expect(t, "one of each", "r {id=1} null -> {id=1}")
}

// TestDotInASchema: a table whose schema has a dot in its name is read once, not at every start.
func TestDotInASchema(t *testing.T) {
	f := start(t, `CREATE SCHEMA "a.b"; CREATE TABLE "a.b".t (id int PRIMARY KEY); INSERT INTO "a.b".t VALUES (1)`, "*.t")
	for range 3 {
		f.sync()
		f.close()
	}
	f.col.expect(t, "once", "r {id=1} null -> {id=1}")
}
