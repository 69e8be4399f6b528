package postgres

import (
	"strings"
	"testing"

	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestConnectErrors: the first line of the error says why the server refused; `forebay connectors list` has room for no more.
func TestConnectErrors(t *testing.T) {
	for _, c := range []struct {
		wrong func(*pgconn.Config)
		want  string
	}{
		{func(c *pgconn.Config) { c.Password = "wrong-secret" }, "password authentication failed"},
		{func(c *pgconn.Config) { c.Database = "nosuch_database" }, `database "nosuch_database" does not exist`},
	} {
		cfg, err := pgconn.ParseConfig(testenv.Postgres(t).URL)
		if err != nil {
			t.Fatal(err)
		}
		c.wrong(cfg)
		if _, err = pgconn.ConnectConfig(t.Context(), cfg); err == nil {
			t.Fatal("connected")
		}
		if got := connectError(err).Error(); !strings.Contains(got, c.want) || strings.Contains(got, "\n") || strings.Contains(got, "wrong-secret") {
			t.Errorf("%s", got)
		}
	}
}
