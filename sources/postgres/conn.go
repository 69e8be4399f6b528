package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/keepalive"
	"github.com/jackc/pgx/v5/pgconn"
)

// settings fix how the server writes values as text, for snapshot and stream
// alike: one decoder per type reads both.
var settings = map[string]string{
	"client_encoding":                     "UTF8",
	"DateStyle":                           "ISO",
	"IntervalStyle":                       "iso_8601",
	"TimeZone":                            "UTC",
	"extra_float_digits":                  "3",
	"bytea_output":                        "hex",
	"lc_monetary":                         "C",
	"xmlbinary":                           "base64",
	"standard_conforming_strings":         "on",
	"row_security":                        "off", // an error instead of a snapshot without the hidden rows
	"search_path":                         "",
	"statement_timeout":                   "0",
	"idle_in_transaction_session_timeout": "0",
	// A machine that is gone leaves its sessions: without this the server begins to ask after two hours,
	// and as long a run's lock and snapshot stay. Not tcp_user_timeout: it would count while the log takes nothing.
	"tcp_keepalives_idle":     "10",
	"tcp_keepalives_interval": "5",
	"tcp_keepalives_count":    "3",
}

// unacknowledged is how long a server's machine may be silent. We send little, which never waits for a server that is busy.
const unacknowledged = 30 * time.Second

const connectTimeout = 15 * time.Second

// connect opens a connection; replication ones speak the replication commands too.
func (s *source) connect(ctx context.Context, replication bool) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(s.cfg.url)
	if err != nil {
		return nil, connectors.Fatal(fmt.Errorf("url: %w", err), "write it as postgres://user:password@host:5432/database")
	}
	for k, v := range settings {
		cfg.RuntimeParams[k] = v
	}
	cfg.RuntimeParams["application_name"] = "forebay-" + s.env.Name
	if replication {
		cfg.RuntimeParams["replication"] = "database"
	}
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > connectTimeout {
		cfg.ConnectTimeout = connectTimeout
	}
	cfg.DialFunc = keepalive.Dialer(unacknowledged).DialContext
	c, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(err)
	}
	return c, nil
}

// connectError sorts what a connect can fail with. What an operator must mend
// is fatal; a server that starts up, is full or is not there is tried again.
func connectError(err error) error {
	var p *pgconn.PgError
	if !errors.As(err, &p) {
		return err
	}
	var c *pgconn.ConnectError
	if errors.As(err, &c) { // its text begins with every other way that was tried, TLS first, on lines of their own
		err = fmt.Errorf("%s:%d: %w", c.Config.Host, c.Config.Port, p)
	}
	switch p.Code {
	case "28P01", "28000":
		return connectors.Fatal(err, "check user and password in url, and pg_hba.conf on the server")
	case "3D000":
		return connectors.Fatal(err, "the database in url does not exist")
	case "42501":
		return connectors.Fatal(err, hintReplication)
	case "53300":
		return fmt.Errorf("%w (raise max_connections or max_wal_senders on the server)", err)
	}
	return err
}

// query runs one statement by the simple protocol and returns its rows; nil is null.
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

// exec runs statements whose rows do not matter.
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

func quoteLit(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

// sqlState returns the server's code of an error, or "".
func sqlState(err error) string {
	var p *pgconn.PgError
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}
