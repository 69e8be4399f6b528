package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// table is a table of the target: what the catalog says of it, and what the
// commits to come will add. It belongs to one session of one task.
type table struct {
	s     *sink
	name  string
	topic string // mode upsert: the one that it holds

	there   bool // in the catalog, or by ddl
	catalog map[string]*column
	unique  [][]string // columns of its unique indexes

	cols  []*column // those that the sink writes; this only grows, at the end
	index map[string]int
	key   []int    // places in cols; mode upsert
	ddl   []string // to run in the next commit's transaction, before its rows
	wider []widening

	plans map[planKey]*plan
	stage string // temporary table of the session; "" while there is none for all of cols
	temp  string // an audit's copy, which is written instead
}

// widening is a column's change of type. What was buffered before it is spelled for the type from.
type widening struct {
	col      *column
	from, to pgType
}

// column is one column of a target table.
type column struct {
	name      string
	typ       pgType
	notNull   bool
	generated bool // GENERATED ALWAYS AS (…) STORED: it writes itself
}

// quoted is the table as statements name it.
func (tb *table) quoted() string {
	if tb.temp != "" {
		return tb.temp
	}
	return tb.real()
}

func (tb *table) real() string { return quoteIdent(tb.s.cfg.schema) + "." + quoteIdent(tb.name) }

// String is for people.
func (tb *table) String() string { return tb.s.cfg.schema + "." + tb.name }

// loadTable reads the catalog. A table that is not there comes back empty.
func (s *sink) loadTable(ctx context.Context, c *pgconn.PgConn, name string) (*table, error) {
	tb := &table{s: s, name: name, catalog: map[string]*column{}, index: map[string]int{}, plans: map[planKey]*plan{}}
	if len(name) > maxName || name == "" {
		return nil, connectors.Fatal(fmt.Errorf("%q cannot be a table's name: PostgreSQL takes 1 to %d bytes", name, maxName), "set table in the sink's config")
	}
	if name == s.cfg.offsets {
		return nil, connectors.Fatal(fmt.Errorf("a topic would be written to %s, which is the table of offsets", name), "set table or offsets in the sink's config")
	}
	rows, err := query(ctx, c, `SELECT c.oid, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = `+quoteLit(s.cfg.schema)+` AND c.relname = `+quoteLit(name))
	if err != nil || len(rows) == 0 {
		return tb, classify(err, "look for table "+tb.String())
	}
	if kind := string(rows[0][1]); kind != "r" && kind != "p" {
		return nil, connectors.Fatal(fmt.Errorf("%s is no table", tb), "set table in the sink's config to another name, or drop what has the name now")
	}
	oid := string(rows[0][0])
	rows, err = query(ctx, c, `SELECT attname, format_type(atttypid, atttypmod), attnotnull, attgenerated <> '' FROM pg_catalog.pg_attribute
		WHERE attrelid = `+oid+` AND attnum > 0 AND NOT attisdropped ORDER BY attnum`)
	if err != nil {
		return nil, classify(err, "read the columns of "+tb.String())
	}
	for _, r := range rows {
		typ, _ := parseType(string(r[1])) // an odd name stays whole
		tb.catalog[string(r[0])] = &column{name: string(r[0]), typ: typ, notNull: string(r[2]) == "t", generated: string(r[3]) == "t"}
	}
	rows, err = query(ctx, c, `SELECT i.indexrelid, a.attname FROM pg_catalog.pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, ord)
			JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE i.indrelid = `+oid+` AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND k.ord <= i.indnkeyatts ORDER BY 1, k.ord`)
	if err != nil {
		return nil, classify(err, "read the indexes of "+tb.String())
	}
	last := ""
	for _, r := range rows {
		if string(r[0]) != last {
			tb.unique, last = append(tb.unique, nil), string(r[0])
		}
		tb.unique[len(tb.unique)-1] = append(tb.unique[len(tb.unique)-1], string(r[1]))
	}
	tb.there = true
	return tb, nil
}

// need is a column that records want to write.
type need struct {
	name   string
	schema *schema.Schema
	key    int // its place in the key, from 1; 0: it is not in the key
}

// fit makes the table ready for columns, by ddl in the next commit where it must,
// and returns their places in cols; -1 for one that writes itself.
func (tb *table) fit(ctx context.Context, c *pgconn.PgConn, needs []need) ([]int, error) {
	seen := map[string]bool{}
	for _, n := range needs {
		if seen[n.name] {
			return nil, connectors.Fatal(fmt.Errorf("%s: two columns are called %s", tb, n.name), "rename one in the source")
		}
		seen[n.name] = true
		if err := checkName(n.name); err != nil || n.name == "" {
			return nil, connectors.Fatal(fmt.Errorf("%s: column %q cannot be made: its name is not one that PostgreSQL takes", tb, n.name), "rename it in the source")
		}
	}
	create := !tb.there
	if create && !tb.s.cfg.create {
		return nil, connectors.Fatal(fmt.Errorf("there is no table %s", tb), "create it, or set create: true")
	}
	if err := tb.checkKey(needs, create); err != nil {
		return nil, err
	}
	var defs []string
	places := make([]int, len(needs))
	for i, n := range needs {
		want, natural, err := tb.typeOf(ctx, c, n.schema)
		if err != nil {
			return nil, err
		}
		col := tb.catalog[n.name]
		switch {
		case col == nil:
			col = &column{name: n.name, typ: want, notNull: n.key > 0}
			def := quoteIdent(n.name) + " " + want.String()
			if create {
				if n.key > 0 {
					def += " NOT NULL"
				}
				defs = append(defs, def)
			} else if !tb.s.cfg.evolve {
				return nil, connectors.Fatal(fmt.Errorf("%s has no column %s, which the records have", tb, n.name),
					fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s; or set evolve: true", tb.quoted(), def))
			} else {
				tb.ddl = append(tb.ddl, "ALTER TABLE "+tb.quoted()+" ADD COLUMN IF NOT EXISTS "+def)
			}
			tb.catalog[n.name] = col
		case col.generated:
			if n.key > 0 {
				return nil, connectors.Fatal(fmt.Errorf("%s: key column %s is a generated one", tb, n.name), "let the sink write another table")
			}
			places[i] = -1
			continue
		default:
			if err := tb.retype(col, want, natural); err != nil {
				return nil, err
			}
		}
		at, ok := tb.index[n.name]
		if !ok {
			at = len(tb.cols)
			tb.index[n.name], tb.cols, tb.stage = at, append(tb.cols, col), ""
		}
		places[i] = at
	}
	if create {
		if keys := keyNames(needs); len(keys) > 0 {
			defs = append(defs, "PRIMARY KEY ("+quoted(keys)+")")
			tb.unique = append(tb.unique, keys)
		}
		tb.ddl = append(tb.ddl, "CREATE TABLE IF NOT EXISTS "+tb.quoted()+" ("+strings.Join(defs, ", ")+")")
		tb.there = true
	}
	tb.setKey(needs)
	return places, nil
}

// keyNames are the key's columns in the key's order.
func keyNames(needs []need) []string {
	byPlace := map[int]string{}
	for _, n := range needs {
		byPlace[n.key] = n.name
	}
	var names []string
	for i := 1; byPlace[i] != ""; i++ {
		names = append(names, byPlace[i])
	}
	return names
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = quoteIdent(n)
	}
	return strings.Join(out, ", ")
}

// checkKey makes sure that rows can be found by the key, and that it is the one of before.
func (tb *table) checkKey(needs []need, create bool) error {
	names := keyNames(needs)
	if len(names) == 0 {
		return nil
	}
	if len(tb.key) > 0 {
		var had []string
		for _, k := range tb.key {
			had = append(had, tb.cols[k].name)
		}
		if !sameSet(had, names) {
			return connectors.Fatal(fmt.Errorf("the key of %s changes from (%s) to (%s)", tb, strings.Join(had, ", "), strings.Join(names, ", ")),
				"write the topic into a new table: give the sink another name and table")
		}
		return nil
	}
	if create || slices.ContainsFunc(tb.unique, func(u []string) bool { return sameSet(u, names) }) {
		return nil
	}
	for _, n := range names {
		if tb.catalog[n] == nil {
			return connectors.Fatal(fmt.Errorf("%s has no column %s, which is part of the key", tb, n), "let the sink write another table, or add the column and a unique index on the key")
		}
	}
	return connectors.Fatal(fmt.Errorf("%s has no primary key or unique index on (%s), so rows cannot be found by their key", tb, strings.Join(names, ", ")),
		"CREATE UNIQUE INDEX ON "+tb.quoted()+" ("+quoted(names)+");  or use mode append")
}

func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

func (tb *table) setKey(needs []need) {
	if len(tb.key) > 0 {
		return
	}
	for _, n := range keyNames(needs) {
		tb.key = append(tb.key, tb.index[n])
	}
}

// typeOf is the column type for a schema: the one that it asks for when this
// server has it, and the one by its kind.
func (tb *table) typeOf(ctx context.Context, c *pgconn.PgConn, s *schema.Schema) (want, byKind pgType, err error) {
	byKind = natural(s)
	want, asked := wanted(s)
	if !asked && want.array && s.Elem != nil {
		_, asked = wanted(s.Elem)
	}
	if !asked || coreType(want.base) {
		return want, byKind, nil
	}
	// An extension's type, or one of the source's own.
	rows, err := query(ctx, c, "SELECT to_regtype("+quoteLit(want.base)+") IS NOT NULL")
	if err != nil {
		return want, byKind, classify(err, "look for type "+want.base)
	}
	if string(rows[0][0]) == "t" {
		return want, byKind, nil
	}
	if s.Kind == schema.Array && s.Elem != nil {
		e := *s.Elem
		e.Params = nil
		byKind = natural(&schema.Schema{Kind: schema.Array, Elem: &e})
	}
	return byKind, byKind, nil
}

// retype looks whether a column takes values of a type; it widens the column when
// every old value fits, and otherwise says what to do.
func (tb *table) retype(col *column, want, byKind pgType) error {
	if stores(want, col.typ) || stores(byKind, col.typ) {
		return nil
	}
	alter := fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s", tb.quoted(), quoteIdent(col.name), want)
	if !fits(col.typ, want) {
		return connectors.Fatal(fmt.Errorf("%s, column %s: the records now have %s, which does not fit into %s", tb, col.name, want, col.typ),
			fmt.Sprintf("%s USING %s::%s;  (or text, which takes all), then restart the sink", alter, quoteIdent(col.name), want))
	}
	if !tb.s.cfg.evolve {
		return connectors.Fatal(fmt.Errorf("%s, column %s: the records now have %s, wider than %s", tb, col.name, want, col.typ), alter+"; or set evolve: true")
	}
	tb.ddl = append(tb.ddl, alter)
	tb.wider = append(tb.wider, widening{col, col.typ, want})
	col.typ, tb.stage = want, ""
	clear(tb.plans) // encoders depend on the column's type
	return nil
}
