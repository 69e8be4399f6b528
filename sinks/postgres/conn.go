package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/keepalive"
)

// settings fix how the server reads the texts that we send.
var settings = map[string]string{
	"client_encoding":             "UTF8",
	"DateStyle":                   "ISO, YMD",
	"IntervalStyle":               "postgres",
	"TimeZone":                    "UTC",
	"lc_monetary":                 "C",
	"bytea_output":                "hex",
	"extra_float_digits":          "3",
	"standard_conforming_strings": "on",
	"statement_timeout":           "0",
	// A task that hangs between two statements of a transaction holds the lock of
	// its offset row: the server ends it, so that its successor can go on.
	"idle_in_transaction_session_timeout": "30s",
}

// probes are set once a connection stands, since poolers refuse parameters that they were not told of. Within a COPY the timeout above does not count; a
// machine that is gone does not answer the server's probes, which by themselves begin after two hours.
const probes = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 30000"

const connectTimeout = 15 * time.Second

// connect opens a connection. Nothing here is left to a pooler's idea of a session: temporary tables need one.
func (s *sink) connect(ctx context.Context) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(s.cfg.url)
	if err != nil {
		return nil, connectors.Fatal(errors.New("url: not a PostgreSQL URL"), "write it as postgres://user:password@host:5432/database")
	}
	for k, v := range settings {
		cfg.RuntimeParams[k] = v
	}
	cfg.RuntimeParams["lock_timeout"] = strconv.FormatInt(s.cfg.lockWait.Milliseconds(), 10)
	cfg.RuntimeParams["application_name"] = s.application()
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > connectTimeout {
		cfg.ConnectTimeout = connectTimeout
	}
	cfg.DialFunc = keepalive.Dialer(s.cfg.lockWait + time.Minute).DialContext // within a COPY the server may wait for a lock, and reads nothing
	c, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, classify(err, "")
	}
	if v := version(c); v != 0 && v < 12 {
		closeConn(c)
		return nil, connectors.Fatal(fmt.Errorf("the server is PostgreSQL %d; this sink needs 12 or later", v), "")
	}
	if _, err := c.Exec(ctx, probes).ReadAll(); err != nil && s.env.Logger != nil {
		s.env.Logger.Debug("the connection keeps the server's own way to notice that a peer is gone", "error", err)
	}
	return c, nil
}

// application is the name of its sessions. The server cuts it.
func (s *sink) application() string {
	name := "forebay-" + s.env.Name
	return name[:min(len(name), 63)]
}

// version is the server's major version; 0 when it does not say.
func version(c *pgconn.PgConn) int {
	v := c.ParameterStatus("server_version")
	if i := strings.IndexFunc(v, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		v = v[:i]
	}
	n, _ := strconv.Atoi(v) // 0 says it
	return n
}

// classify sorts an error of the server: what only an operator can mend is fatal,
// everything else is tried again by the runtime.
func classify(err error, what string) error {
	if err == nil {
		return nil
	}
	var p *pgconn.PgError
	if !errors.As(err, &p) {
		return wrap(what, err)
	}
	text := p.Message
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	where := ""
	if p.TableName != "" {
		where = " (table " + p.TableName
		if p.ColumnName != "" {
			where += ", column " + p.ColumnName
		}
		if p.ConstraintName != "" {
			where += ", constraint " + p.ConstraintName
		}
		where += ")"
	}
	full := wrap(what, fmt.Errorf("%s%s [%s]: %w", text, where, p.Code, err))
	if p.Where != "" && strings.HasPrefix(p.Where, "COPY ") {
		full = wrap(what, fmt.Errorf("%s%s, at %s [%s]: %w", text, where, p.Where, p.Code, err))
	}
	switch {
	case p.Code == "28P01", p.Code == "28000":
		return connectors.Fatal(full, "check user and password in url, and pg_hba.conf on the server")
	case p.Code == "3D000":
		return connectors.Fatal(full, "create the database that url names")
	case p.Code == "42501":
		return connectors.Fatal(full, "grant the user what it lacks; `forebay doctor` lists it")
	case p.Code == "23502", p.Code == "23503", p.Code == "23505", p.Code == "23514", p.Code == "23P01":
		return connectors.Fatal(full, "the table has a constraint that the source's rows do not keep at every moment: drop it in the target, or mend the rows; "+nothingWritten)
	case strings.HasPrefix(p.Code, "22"), p.Code == "42804", p.Code == "42846":
		return connectors.Fatal(full, "a value does not fit its column: change the column's type, then restart the sink; "+nothingWritten)
	case p.Code == "0A000": // TRUNCATE, ALTER
		return connectors.Fatal(full, "drop what stands in the way (a foreign key that refers to the table, or a view, a trigger or a policy that uses the column), restart the sink, and make it again if it can be; "+nothingWritten)
	case p.Code == "428C9":
		return connectors.Fatal(full, "the source's values are to be written: ALTER TABLE … ALTER COLUMN … DROP IDENTITY, then restart the sink; "+nothingWritten)
	case p.Code == "42P10":
		return connectors.Fatal(full, "the table has changed while the sink ran: it needs a unique index on the key, and none of the key's columns generated; then restart the sink; "+nothingWritten)
	case p.Code == "21000":
		return connectors.Fatal(full, "two keys of the source are one in the table: give its key columns a type and a collation that tell them apart (no citext), then restart the sink; "+nothingWritten)
	case strings.HasPrefix(p.Code, "54") && !strings.HasPrefix(p.Routine, "GetNew"): // … which is the protection against wraparound, and passes with a VACUUM
		return connectors.Fatal(full, "a row, or what is indexed of it, is larger than PostgreSQL takes: drop the index, or leave the column out of the topic (a key must be shorter), then restart the sink; "+nothingWritten)
	case p.Code == "25006":
		return fmt.Errorf("%w (the server is read-only: a standby?)", full)
	}
	return full
}

// nothingWritten ends a hint: what is tried again is the whole commit.
const nothingWritten = "nothing was written of this commit"

func wrap(what string, err error) error {
	if what == "" {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

// query runs statements by the simple protocol and returns the rows of the last; nil is null.
func query(ctx context.Context, c *pgconn.PgConn, sql string) ([][][]byte, error) {
	rs, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rs) == 0 {
		return nil, nil
	}
	last := rs[len(rs)-1]
	return last.Rows, last.Err
}

func exec(ctx context.Context, c *pgconn.PgConn, sql string) error {
	_, err := query(ctx, c, sql)
	return err
}

// closeConn ends a connection in good order, briefly.
func closeConn(c *pgconn.PgConn) {
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.Close(ctx) // nothing depends on it
}

func quoteIdent(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// quoteLit writes a literal; standard_conforming_strings is on.
func quoteLit(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
