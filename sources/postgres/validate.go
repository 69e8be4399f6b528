package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/jackc/pgx/v5/pgconn"
)

// findings collects what Validate sees.
type findings []spec.Finding

func (f *findings) fail(path, hint, format string, args ...any) {
	*f = append(*f, spec.Finding{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (f *findings) warn(path, hint, format string, args ...any) {
	*f = append(*f, spec.Finding{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint, Warning: true})
}

// err reports an error with the hint that it may carry.
func (f *findings) err(path string, err error) {
	var fatal *connectors.FatalError
	hint := ""
	if errors.As(err, &fatal) {
		hint = fatal.Hint
	}
	f.fail(path, hint, "%s", err)
}

// Validate looks at the live server: everything that Open would stumble over, and
// what would hurt later. It changes nothing.
func (s *source) Validate(ctx context.Context) []spec.Finding {
	var f findings
	c, err := s.connect(ctx, false)
	if err != nil {
		f.err("url", err)
		return f
	}
	defer closeConn(c)
	if err := checkServer(ctx, c); err != nil {
		f.err("url", err)
	}
	if err := s.validateAll(ctx, c, &f); err != nil {
		f.err("url", err)
	}
	return f
}

func (s *source) validateAll(ctx context.Context, c *pgconn.PgConn, f *findings) error {
	if err := s.validateRole(ctx, c, f); err != nil {
		return err
	}
	names, missing, err := s.matchTables(ctx, c)
	if connectors.IsFatal(err) {
		f.err("tables", err)
		return nil
	}
	if err != nil {
		return err
	}
	for _, m := range missing {
		f.fail("tables", "check the spelling, and that the user may see the schema; partitions and views are not tables here", "no table matches %s", m)
	}
	var infos []*tableInfo
	for _, n := range names {
		info, err := s.loadTable(ctx, c, n)
		if err != nil {
			return err
		}
		if info != nil {
			infos = append(infos, info)
		}
	}
	if err := s.validateSlot(ctx, c, f); err != nil {
		return err
	}
	return s.validateTables(ctx, c, infos, f)
}

// validateRole looks at the user's rights and at the room for a slot and a sender.
func (s *source) validateRole(ctx context.Context, c *pgconn.PgConn, f *findings) error {
	rows, err := query(ctx, c, `SELECT r.rolreplication OR r.rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_roles g WHERE g.rolname = 'rds_replication' AND pg_has_role(g.oid, 'MEMBER')),
			quote_ident(current_user), current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_catalog.pg_stat_replication),
			current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_catalog.pg_replication_slots)
		FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`)
	if err != nil {
		return err
	}
	r := rows[0]
	n := func(i int) int { v, _ := strconv.Atoi(string(r[i])); return v } // counts, as cast in the query
	if string(r[0]) != "t" {
		f.fail("url", "ALTER ROLE "+string(r[1])+" REPLICATION;  (on RDS: GRANT rds_replication TO "+string(r[1])+";)", "user %s may not replicate", r[1])
	}
	if n(3) >= n(2) {
		f.fail("url", "ALTER SYSTEM SET max_wal_senders = "+strconv.Itoa(n(2)+10)+";  then restart the server", "all %d max_wal_senders are in use", n(2))
	}
	info, err := s.slotInfo(ctx, c)
	if err != nil {
		return err
	}
	if info == nil && n(5) >= n(4) {
		f.fail("slot", "ALTER SYSTEM SET max_replication_slots = "+strconv.Itoa(n(4)+10)+";  then restart the server, or drop a slot that nobody uses", "all %d max_replication_slots are in use", n(4))
	}
	return nil
}

func (s *source) validateSlot(ctx context.Context, c *pgconn.PgConn, f *findings) error {
	info, err := s.slotInfo(ctx, c)
	if err != nil || info == nil {
		return err
	}
	rows, err := query(ctx, c, "SELECT current_database()")
	if err != nil {
		return err
	}
	if err := s.usable(info, string(rows[0][0])); err != nil {
		f.err("slot", err)
	} else if info.activePID != "" {
		f.warn("slot", "end the other reader, or name another slot", "slot %s is in use by process %s", s.cfg.slot, info.activePID)
	}
	return nil
}

func (s *source) validateTables(ctx context.Context, c *pgconn.PgConn, infos []*tableInfo, f *findings) error {
	rows, err := query(ctx, c, `SELECT pubviaroot, pg_has_role(pubowner, 'USAGE') FROM pg_catalog.pg_publication WHERE pubname = `+quoteLit(s.cfg.publication))
	if err != nil {
		return err
	}
	exists := len(rows) > 0
	viaRoot, mayAlter := exists && string(rows[0][0]) == "t", exists && string(rows[0][1]) == "t"
	had, err := s.members(ctx, c)
	if err != nil {
		return err
	}
	if !exists {
		rows, err := query(ctx, c, `SELECT has_database_privilege(current_database(), 'CREATE'), quote_ident(current_database()), quote_ident(current_user)`)
		if err != nil {
			return err
		}
		if string(rows[0][0]) != "t" {
			f.fail("publication", "GRANT CREATE ON DATABASE "+string(rows[0][1])+" TO "+string(rows[0][2])+";  or as a superuser: "+createPublication(s.cfg.publication, namesOf(infos))+";",
				"publication %s is not there and the user may not create it", s.cfg.publication)
		}
	}
	for _, t := range infos {
		if exists && had[t.name].oid == 0 {
			if err := s.published(ctx, c, t.name, had, viaRoot); err != nil {
				f.err("publication", err)
				continue
			}
		}
		s.validateTable(t, exists, mayAlter, had[t.name].oid != 0, f)
	}
	return nil
}

func namesOf(infos []*tableInfo) (names []tableName) {
	for _, t := range infos {
		names = append(names, t.name)
	}
	return names
}

func (s *source) validateTable(t *tableInfo, exists, mayAlter, published bool, f *findings) {
	if !t.selectable {
		f.fail("tables", grantSelect(t.name), "the user may not read %s", t.name)
	}
	if t.unlogged {
		f.fail("tables", "ALTER TABLE "+t.name.quoted()+" SET LOGGED;", "%s is unlogged: its changes are not in the WAL", t.name)
	}
	if !published {
		switch {
		case exists && !mayAlter:
			f.fail("publication", "as its owner: "+addTables(s.cfg.publication, []tableName{t.name})+";", "publication %s lacks %s and the user may not add it", s.cfg.publication, t.name)
		case !t.owned:
			sql := addTables(s.cfg.publication, []tableName{t.name})
			if !exists {
				sql = createPublication(s.cfg.publication, []tableName{t.name})
			}
			f.fail("publication", "as the table's owner: "+sql+";", "only its owner can put %s into a publication", t.name)
		}
	}
	full := "ALTER TABLE " + t.name.quoted() + " REPLICA IDENTITY FULL;"
	switch {
	case t.identity == 'n', t.identity == 'd' && len(t.key) == 0:
		what := "has no primary key (a DEFERRABLE one does not count)"
		if t.identity == 'n' {
			what = "has REPLICA IDENTITY NOTHING"
		}
		f.warn("tables", full+"  or add a primary key; inserts alone need neither",
			"%s %s: once it is published, PostgreSQL refuses UPDATE and DELETE on it; its records have a null key, and an interrupted snapshot of it begins anew", t.name, what)
	case len(t.key) == 0:
		f.warn("tables", "add a primary key", "%s has no primary key (a DEFERRABLE one does not count): its records have a null key, and an interrupted snapshot of it begins anew", t.name)
	}
	for _, k := range t.key {
		if t.column(k) == nil {
			f.warn("publication", "add the column to the publication's list", "the publication leaves out key column %s of %s: its records have a null key", strings.TrimSpace(k), t.name)
		}
	}
}
