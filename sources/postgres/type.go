// Package postgres is the source that streams a PostgreSQL database: a consistent
// snapshot of its tables that survives a kill, then every change from the
// write-ahead log by logical replication, with no gap and no repeat between them.
//
// DESIGN.md says how the hand-off works and why.
package postgres

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// Type is the source as it is listed in plugins/builtin.
func Type() connectors.SourceType {
	return connectors.SourceType{Name: "postgres", Spec: Spec(), New: New}
}

// Spec lists the fields of the config.
func Spec() spec.Spec {
	return spec.Spec{
		Doc: "Streams tables of a PostgreSQL database (12 or later) as change events: first the rows that are there, then every insert, update, delete and truncate, by logical replication with pgoutput.",
		Fields: []spec.Field{
			{Name: "url", Type: spec.Secret, Required: true, Check: checkURL, Example: "postgres://forebay:${PG_PASSWORD}@db:5432/shop",
				Doc: "Where the database is; the user needs REPLICATION and SELECT on the tables, and owns them if Forebay is to create the publication."},
			{Name: "tables", Type: spec.Strings, Required: true, Example: "[public.orders, sales.*]", Check: checkTables,
				Doc: "Tables as schema.table, with * and ? as wildcards; a table that is added later gets its own snapshot at the next start."},
			{Name: "publication", Type: spec.String, Example: "forebay_shop",
				Doc: "Publication to adopt, or to create when it is not there; default forebay_<name>."},
			{Name: "slot", Type: spec.String, Example: "forebay_shop",
				Doc: "Replication slot to adopt, or to create when it is not there; default forebay_<name>. It holds WAL back until Forebay has it durably: drop it when the source is given up."},
			{Name: "snapshot", Type: spec.Enum, Default: "initial", Enum: []string{"initial", "never", "initial_only"},
				Doc: "initial reads the rows that are there and then streams, never only streams, initial_only ends after the rows."},
			{Name: "heartbeat", Type: spec.Duration, Default: "10s", Check: checkHeartbeat,
				Doc: "How often the position moves while the tables are quiet, so that the slot does not hold WAL of other tables back, and how often the tables are compared with the catalog."},
			{Name: "max_row", Type: spec.Size, Default: "128MiB", Check: checkMaxRow,
				Doc: "The longest row, as PostgreSQL writes it as text, that is taken into memory; a change may hold it twice, before and after. A longer one ends the source as FAILED, and its message names the table. About four times as much memory is needed for it; the log takes records of 16 MiB, so more is of use only where a transform leaves the large column out."},
		},
	}
}

// checkURL never repeats the text: it holds a password.
func checkURL(v any) error {
	text := v.(spec.SecretText).Reveal()
	if strings.Contains(text, "://") && !strings.HasPrefix(text, "postgres://") && !strings.HasPrefix(text, "postgresql://") {
		return errors.New("it begins with postgres:// or postgresql://, as in postgres://user:password@host:5432/database")
	}
	if _, err := pgconn.ParseConfig(text); err != nil {
		return errors.New("not a PostgreSQL URL; write postgres://user:password@host:5432/database")
	}
	return nil
}

func checkTables(v any) error {
	for _, t := range v.([]string) {
		if _, err := path.Match(t, ""); err != nil || t == "" || strings.Count(t, ".") > 1 {
			return fmt.Errorf("%q is not schema.table", t)
		}
	}
	return nil
}

func checkHeartbeat(v any) error {
	if d := v.(time.Duration); d < 100*time.Millisecond || d > 10*time.Minute {
		return fmt.Errorf("%s is not between 100ms and 10m", d)
	}
	return nil
}

func checkMaxRow(v any) error {
	if n := v.(spec.ByteSize); n < wireBuffer/4 || n > maxMessage {
		return errors.New("between 64KiB and 2147483647")
	}
	return nil
}

// config is what New makes of the Values.
type config struct {
	url         string
	tables      []string
	publication string
	slot        string
	snapshot    string
	heartbeat   time.Duration
	maxRow      int // bytes of a message

	// For tests: how many rows one COPY reads, and how long one snapshot is held.
	chunkRows int
	runTime   time.Duration
}

// source is a configured source.
type source struct {
	cfg config
	env connectors.Env
}

// New makes the source; it does no I/O.
func New(v spec.Values, env connectors.Env) (connectors.Source, error) {
	s := &source{env: env, cfg: config{
		url:         v.Secret("url").Reveal(),
		tables:      v.Strings("tables"),
		publication: v.String("publication"),
		slot:        v.String("slot"),
		snapshot:    v.String("snapshot"),
		heartbeat:   v.Duration("heartbeat"),
		maxRow:      int(v.Size("max_row")),
		chunkRows:   100_000,
		runTime:     5 * time.Minute,
	}}
	if s.cfg.publication == "" {
		s.cfg.publication = defaultName(env.Name)
	}
	if s.cfg.slot == "" {
		s.cfg.slot = defaultName(env.Name)
	}
	if !validSlot(s.cfg.slot) {
		return nil, fmt.Errorf("slot: %q may hold lower-case letters, digits and _ only, at most 63", s.cfg.slot)
	}
	return s, nil
}

// defaultName is forebay_<name> in the letters that a slot's name may have.
func defaultName(name string) string {
	n := "forebay_" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		if r >= 'A' && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return '_'
	}, name)
	return n[:min(len(n), 63)]
}

func validSlot(s string) bool {
	for _, r := range s {
		if r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// Capabilities: positions are exact. Any worker may run it.
func (s *source) Capabilities() connectors.Capabilities {
	return connectors.Capabilities{Delivery: connectors.ExactlyOnce}
}
