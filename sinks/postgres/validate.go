package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// findings collects what Validate sees.
type findings []spec.Finding

func (f *findings) fail(path, hint, format string, args ...any) {
	*f = append(*f, spec.Finding{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (f *findings) err(path string, err error) {
	var fatal *connectors.FatalError
	hint := ""
	if errors.As(err, &fatal) {
		hint = fatal.Hint
	}
	f.fail(path, hint, "%s", err)
}

// Validate looks at the live server: reachable, rights, tables. It changes nothing.
func (s *sink) Validate(ctx context.Context) []spec.Finding {
	var f findings
	c, err := s.connect(ctx)
	if err != nil {
		f.err("url", err)
		return f
	}
	defer closeConn(c)
	if err := s.validate(ctx, c, &f); err != nil {
		f.err("url", classify(err, "look at the server"))
	}
	return f
}

func (s *sink) validate(ctx context.Context, c *pgconn.PgConn, f *findings) error {
	rows, err := query(ctx, c, fmt.Sprintf(`SELECT pg_is_in_recovery(), quote_ident(current_user), quote_ident(current_database()),
			has_database_privilege(current_database(), 'CREATE'), has_database_privilege(current_database(), 'TEMPORARY'),
			(SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = %[1]s),
			(SELECT has_schema_privilege(oid, 'USAGE') FROM pg_catalog.pg_namespace WHERE nspname = %[1]s)`, quoteLit(s.cfg.schema)))
	if err != nil {
		return err
	}
	r := rows[0]
	is := func(i int) bool { return string(r[i]) == "t" }
	user, db, schema := string(r[1]), string(r[2]), quoteIdent(s.cfg.schema)
	if is(0) {
		f.fail("url", "name the primary in url", "the server is a standby: nothing can be written there")
	}
	if s.cfg.upsert && !is(4) {
		f.fail("url", "GRANT TEMPORARY ON DATABASE "+db+" TO "+user+";", "user %s may not make temporary tables, which mode upsert needs", user)
	}
	if r[5] == nil {
		switch {
		case !s.cfg.create:
			f.fail("schema", "CREATE SCHEMA "+schema+"; or set create: true", "there is no schema %s", s.cfg.schema)
		case !is(3):
			f.fail("schema", "GRANT CREATE ON DATABASE "+db+" TO "+user+";", "there is no schema %s and user %s may not create it", s.cfg.schema, user)
		}
		return nil
	}
	if !is(6) {
		f.fail("schema", "GRANT USAGE ON SCHEMA "+schema+" TO "+user+";", "user %s may not use schema %s", user, s.cfg.schema)
		return nil
	}
	mayCreate := is(5)
	there, err := s.validateRights(ctx, c, f, s.cfg.offsets, "offsets", user, "SELECT, INSERT, UPDATE")
	if err != nil {
		return err
	}
	if !there && !mayCreate {
		f.fail("schema", "GRANT CREATE ON SCHEMA "+schema+" TO "+user+";  or as its owner: "+strings.Join(strings.Fields(s.offsetsDDL()), " "),
			"there is no table %s for the offsets and user %s may not create it", s.cfg.offsets, user)
	}
	for _, topic := range s.cfg.topics {
		if s.cfg.table == "" && strings.ContainsAny(topic, "*?") {
			continue // which tables these are is seen when they come
		}
		name := s.tableName(topic)
		tb, err := s.loadTable(ctx, c, name)
		if err != nil {
			f.err("table", err)
			continue
		}
		rights := "SELECT, INSERT, UPDATE, DELETE"
		if !s.cfg.upsert {
			rights = "INSERT"
		}
		if _, err := s.validateRights(ctx, c, f, name, "table", user, rights); err != nil {
			return err
		}
		switch {
		case !tb.there && !s.cfg.create:
			f.fail("table", "create it, or set create: true", "there is no table %s", tb)
		case !tb.there && !mayCreate:
			f.fail("schema", "GRANT CREATE ON SCHEMA "+schema+" TO "+user+";", "there is no table %s and user %s may not create it", tb, user)
		case tb.there && s.cfg.upsert && len(tb.unique) == 0:
			f.fail("table", "add a primary key on the columns of the records' key, or use mode append", "%s has no primary key or unique index", tb)
		}
		if there && s.cfg.upsert {
			if err := s.validateAlone(ctx, c, f, topic); err != nil {
				return err
			}
		}
	}
	return nil
}

// validateRights looks whether a table is there and what the user may do with it.
func (s *sink) validateRights(ctx context.Context, c *pgconn.PgConn, f *findings, name, path, user, rights string) (there bool, err error) {
	quoted := quoteIdent(s.cfg.schema) + "." + quoteIdent(name)
	rows, err := query(ctx, c, "SELECT p FROM unnest(string_to_array("+quoteLit(rights)+", ', ')) p WHERE to_regclass("+quoteLit(quoted)+") IS NOT NULL AND NOT has_table_privilege(to_regclass("+quoteLit(quoted)+"), p)")
	if err != nil {
		return false, err
	}
	var lacks []string
	for _, r := range rows {
		lacks = append(lacks, string(r[0]))
	}
	if len(lacks) > 0 {
		f.fail(path, "GRANT "+strings.Join(lacks, ", ")+" ON "+quoted+" TO "+user+";", "user %s lacks %s on %s.%s", user, strings.Join(lacks, ", "), s.cfg.schema, name)
	}
	rows, err = query(ctx, c, "SELECT to_regclass("+quoteLit(quoted)+") IS NOT NULL")
	if err != nil {
		return false, err
	}
	return string(rows[0][0]) == "t", nil
}

// validateAlone looks for another topic in the topic's table.
func (s *sink) validateAlone(ctx context.Context, c *pgconn.PgConn, f *findings, topic string) error {
	rows, err := query(ctx, c, "SELECT sink, topic FROM "+s.offsetsTable()+" WHERE target = "+quoteLit(s.tableName(topic))+" AND topic <> "+quoteLit(topic)+" LIMIT 1")
	if err != nil || len(rows) == 0 {
		return err
	}
	f.fail("topics", "give one of the two sinks another table or schema", "table %s.%s already holds topic %s (sink %s)", s.cfg.schema, s.tableName(topic), rows[0][1], rows[0][0])
	return nil
}
