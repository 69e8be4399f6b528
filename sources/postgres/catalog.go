package postgres

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sources/internal/cdc"
	"github.com/jackc/pgx/v5/pgconn"
)

// tableName is a table with its schema.
type tableName struct{ schema, table string }

func (n tableName) String() string { return n.schema + "." + n.table }
func (n tableName) quoted() string { return quoteIdent(n.schema) + "." + quoteIdent(n.table) }

// tableInfo is what the catalog says now of a table.
type tableInfo struct {
	name        tableName
	oid         uint32
	partitioned bool
	unlogged    bool
	identity    byte     // d, n, f, i
	key         []string // the columns that name a row in delete and update; none: no key
	columns     []columnInfo
	selectable  bool // our user may read all of it
	owned       bool // our user may put it into a publication
	filter      string
}

type columnInfo struct {
	name      string
	typ       uint32
	typmod    int32
	generated bool
	cast      string // the type's name, for a literal
	collation bool   // the collation is not plain bytes
	order     string // the collation's name; "" for a type without
	filled    bool   // it has a default, or rows that have none of its own
	ops       operators
}

// operators are those of a column's order, as OPERATOR(schema.name): the search_path is empty, and what a bare > would
// find for a type of public is the one of another type that it casts to, or none.
type operators struct{ less, equal, notLess, greater string }

var builtinOperators = operators{"OPERATOR(pg_catalog.<)", "OPERATOR(pg_catalog.=)", "OPERATOR(pg_catalog.>=)", "OPERATOR(pg_catalog.>)"}

// columnNames lists the columns that the stream sends.
func (t *tableInfo) columnNames() []string {
	var names []string
	for _, c := range t.columns {
		names = append(names, c.name)
	}
	return names
}

// from names the table's own rows: those of its partitions, and not those of tables that inherit.
func (t *tableInfo) from() string {
	if t.partitioned {
		return t.name.quoted()
	}
	return "ONLY " + t.name.quoted()
}

func (t *tableInfo) column(name string) *columnInfo {
	for i := range t.columns {
		if t.columns[i].name == name {
			return &t.columns[i]
		}
	}
	return nil
}

// matchTables gives the ordinary and partitioned tables that the patterns name.
// A pattern without a dot lies in public. One with wildcards passes over unlogged tables, whose
// changes are not in the WAL. A partition whose root matches too is
// left out: the root publishes its rows. Two that one topic's name would stand for are an error, a fatal one.
func (s *source) matchTables(ctx context.Context, c *pgconn.PgConn) (found []tableName, missing []string, err error) {
	rows, err := query(ctx, c, `SELECT n.nspname, c.relname, c.oid, coalesce((SELECT array_to_string(array_agg(a.relid::oid), ',') FROM pg_partition_ancestors(c.oid) a WHERE a.relid <> c.oid), ''), c.relpersistence
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r','p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
		ORDER BY 1, 2`)
	if err != nil {
		return nil, nil, fmt.Errorf("list the tables: %w", err)
	}
	byOid := map[string]bool{}
	hit := make([]bool, len(s.cfg.tables))
	for _, r := range rows {
		for i, p := range s.cfg.tables {
			if matchTable(p, string(r[0]), string(r[1])) && (string(r[4]) == "p" || !wildcards(p)) {
				hit[i] = true
				byOid[string(r[2])] = true
			}
		}
	}
	for _, r := range rows {
		if byOid[string(r[2])] && !slices.ContainsFunc(strings.Split(string(r[3]), ","), func(o string) bool { return byOid[o] }) {
			found = append(found, tableName{string(r[0]), string(r[1])})
		}
	}
	topics := map[string]tableName{}
	for _, n := range found {
		topic := s.topic(n)
		if other, taken := topics[topic]; taken {
			return nil, nil, connectors.Fatal(fmt.Errorf("%s and %s would share the topic %s", other.quoted(), n.quoted(), topic),
				"name only one of them in tables; the other may have a source of its own, whose name its topic begins with")
		}
		topics[topic] = n
	}
	for i, ok := range hit {
		if !ok {
			missing = append(missing, s.cfg.tables[i])
		}
	}
	return found, missing, nil
}

func wildcards(pattern string) bool { return strings.ContainsAny(pattern, "*?[") }

// patternParts are a pattern's schema and table.
func patternParts(pattern string) tableName {
	if schemaName, table, ok := strings.Cut(pattern, "."); ok {
		return tableName{schemaName, table}
	}
	return tableName{"public", pattern}
}

func matchTable(pattern, schemaName, table string) bool {
	p := patternParts(pattern)
	a, err1 := path.Match(p.schema, schemaName)
	b, err2 := path.Match(p.table, table)
	return a && b && err1 == nil && err2 == nil
}

// loadTable reads the catalog; nil when there is no such table.
func (s *source) loadTable(ctx context.Context, c *pgconn.PgConn, name tableName) (*tableInfo, error) {
	rows, err := query(ctx, c, `SELECT c.oid, c.relkind, c.relpersistence, c.relreplident, has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'),
			pg_has_role(c.relowner, 'USAGE')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = `+quoteLit(name.schema)+` AND c.relname = `+quoteLit(name.table)+` AND c.relkind IN ('r','p')`)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	r := rows[0]
	oid, err := strconv.ParseUint(string(r[0]), 10, 32)
	if err != nil {
		return nil, err
	}
	t := &tableInfo{name: name, oid: uint32(oid), partitioned: string(r[1]) == "p", unlogged: string(r[2]) == "u",
		identity: r[3][0], selectable: string(r[4]) == "t", owned: string(r[5]) == "t"}
	o := string(r[0])
	which := "i.indisprimary AND i.indimmediate" // PostgreSQL takes no DEFERRABLE key for a replica identity: it may hold twice what a statement passes through
	if t.identity == 'i' {
		which = "i.indisreplident"
	}
	// The order of a key's column is its index's, so that the index serves; of any other, that of its type.
	rows, err = query(ctx, c, `SELECT a.attname, a.atttypid, a.atttypmod, a.attgenerated <> '', format_type(a.atttypid, -1),
			a.attcollation <> 0 AND NOT coalesce((SELECT l.collcollate IN ('C','POSIX') FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation AND l.collname <> 'default'), false),
			coalesce((SELECT quote_ident(ln.nspname) || '.' || quote_ident(l.collname) FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace WHERE l.oid = a.attcollation AND l.collname <> 'default'), ''),
			a.atthasdef OR a.atthasmissing, ops.by[1], ops.by[3], ops.by[4], ops.by[5]
		FROM pg_catalog.pg_attribute a LEFT JOIN LATERAL (
			SELECT array_agg('OPERATOR(' || quote_ident(pn.nspname) || '.' || p.oprname || ')' ORDER BY m.amopstrategy) AS by
			FROM pg_catalog.pg_opclass oc JOIN pg_catalog.pg_amop m ON m.amopfamily = oc.opcfamily AND m.amoplefttype = oc.opcintype AND m.amoprighttype = oc.opcintype AND m.amoppurpose = 's'
				JOIN pg_catalog.pg_operator p ON p.oid = m.amopopr JOIN pg_catalog.pg_namespace pn ON pn.oid = p.oprnamespace
			WHERE oc.opcmethod = 403 AND oc.oid = coalesce(
				(SELECT k.opclass FROM pg_catalog.pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) k(attnum, opclass)
					WHERE i.indrelid = a.attrelid AND `+which+` AND k.attnum = a.attnum AND k.opclass IS NOT NULL LIMIT 1),
				(SELECT d.oid FROM pg_catalog.pg_opclass d WHERE d.opcmethod = 403 AND d.opcdefault AND d.opcintype = a.atttypid))
			HAVING count(*) = 5) ops ON true
		WHERE a.attrelid = `+o+` AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		typ, err1 := strconv.ParseUint(string(r[1]), 10, 32)
		mod, err2 := strconv.ParseInt(string(r[2]), 10, 32)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("%s: the catalog's columns cannot be read", name)
		}
		col := columnInfo{name: string(r[0]), typ: uint32(typ), typmod: int32(mod), generated: string(r[3]) == "t", cast: string(r[4]), collation: string(r[5]) == "t", order: string(r[6]), filled: string(r[7]) == "t", ops: builtinOperators}
		if r[8] != nil {
			col.ops = operators{string(r[8]), string(r[9]), string(r[10]), string(r[11])}
		}
		if !col.generated { // pgoutput does not send them
			t.columns = append(t.columns, col)
		}
	}
	rows, err = query(ctx, c, `SELECT a.attname FROM pg_catalog.pg_index i
			CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, ord)
			JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
		WHERE i.indrelid = `+o+` AND `+which+` AND k.ord <= i.indnkeyatts ORDER BY k.ord`)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		t.key = append(t.key, string(r[0]))
	}
	return t, s.publishedPart(ctx, c, t)
}

// publishedPart narrows a table to the columns and rows that an adopted
// publication has (PostgreSQL 15 and later).
func (s *source) publishedPart(ctx context.Context, c *pgconn.PgConn, t *tableInfo) error {
	if version(c) < 150000 {
		return nil
	}
	rows, err := query(ctx, c, `SELECT unnest(attnames), rowfilter FROM pg_catalog.pg_publication_tables WHERE pubname = `+quoteLit(s.cfg.publication)+
		` AND schemaname = `+quoteLit(t.name.schema)+` AND tablename = `+quoteLit(t.name.table))
	if err != nil || len(rows) == 0 {
		return err
	}
	published := map[string]bool{}
	for _, r := range rows {
		published[string(r[0])] = true
	}
	t.filter = string(rows[0][1])
	t.columns = slices.DeleteFunc(t.columns, func(c columnInfo) bool { return !published[c.name] })
	return nil
}

// version is the server's, as 150018.
func version(c *pgconn.PgConn) int {
	v := c.ParameterStatus("server_version")
	if i := strings.IndexFunc(v, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		v = v[:i]
	}
	major, minor, _ := strings.Cut(v, ".")
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor)
	return a*10000 + b
}

// types remembers the codecs of types that are not built in.
type types struct {
	known map[uint32]codec
}

// codec finds out how a column is read. A type that is gone from the catalog is text.
func (ts *types) codec(ctx context.Context, c func(context.Context) (*pgconn.PgConn, error), oid uint32, typmod int32) (codec, error) {
	return ts.resolve(ctx, c, oid, typmod, 0)
}

func (ts *types) resolve(ctx context.Context, conn func(context.Context) (*pgconn.PgConn, error), oid uint32, typmod int32, depth int) (codec, error) {
	if k, ok := builtinCodec(oid, typmod); ok {
		return k, nil
	}
	if k, ok := ts.known[oid]; ok {
		return k, nil
	}
	if depth > 16 {
		return plainText, nil
	}
	c, err := conn(ctx)
	if err != nil {
		return codec{}, err
	}
	rows, err := query(ctx, c, `SELECT t.typtype, t.typname, t.typelem, t.typbasetype, t.typtypmod, t.typcategory, t.typdelim,
			coalesce((SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid), ''),
			coalesce((SELECT el.typdelim FROM pg_catalog.pg_type el WHERE el.oid = t.typelem), ',')
		FROM pg_catalog.pg_type t WHERE t.oid = `+strconv.FormatUint(uint64(oid), 10))
	if err != nil {
		return codec{}, fmt.Errorf("look up type %d: %w", oid, err)
	}
	k := plainText
	if len(rows) > 0 {
		r := rows[0]
		elem, _ := strconv.ParseUint(string(r[2]), 10, 32)
		base, _ := strconv.ParseUint(string(r[3]), 10, 32)
		mod, _ := strconv.ParseInt(string(r[4]), 10, 32)
		switch kind := string(r[0]); {
		case kind == "e":
			// Labels may be added while we run; the schema's list is what it was then.
			return codec{cdc.EnumOf(strings.Split(string(r[7]), ",")), text}, nil
		case kind == "d":
			if mod < 0 {
				mod = int64(typmod)
			}
			if k, err = ts.resolve(ctx, conn, uint32(base), int32(mod), depth+1); err != nil {
				return codec{}, err
			}
		case kind == "b" && string(r[5]) == "A" && elem != 0:
			e, err := ts.resolve(ctx, conn, uint32(elem), typmod, depth+1)
			if err != nil {
				return codec{}, err
			}
			k = arrayCodec(e, r[8][0])
		case string(r[1]) == "hstore":
			k = extensionType(codec{cdc.Semantic(schema.String, cdc.Json), decodeHstore}, "hstore")
		case string(r[1]) == "ltree":
			k = extensionType(codec{cdc.Semantic(schema.String, cdc.Ltree), text}, "ltree")
		case kind == "b":
			k = extensionType(k, string(r[1]))
		}
	}
	if ts.known == nil {
		ts.known = map[uint32]codec{}
	}
	ts.known[oid] = k
	return k, nil
}

// topic is where a table's changes go.
func (s *source) topic(n tableName) string {
	return s.env.Name + "." + topicPart(n.schema) + "." + topicPart(n.table)
}

// topicPart replaces what a topic's name may not hold, as Debezium does.
func topicPart(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, s)
}

// Topics lists the tables that are there now.
func (s *source) Topics(ctx context.Context) ([]connectors.TopicSpec, error) {
	c, err := s.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	defer closeConn(c)
	names, _, err := s.matchTables(ctx, c)
	if err != nil {
		return nil, err
	}
	var out []connectors.TopicSpec
	for _, n := range names {
		out = append(out, connectors.TopicSpec{Name: s.topic(n)})
	}
	return out, nil
}
