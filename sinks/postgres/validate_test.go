package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

func TestValidate(t *testing.T) {
	url, c := pg(t)
	user := "w" + strings.TrimPrefix(url[strings.LastIndex(url, "/")+1:], "t_")
	rows(t, c, "CREATE ROLE "+user+" LOGIN PASSWORD 'p'; REVOKE ALL ON SCHEMA public FROM PUBLIC")
	t.Cleanup(func() { rows(t, c, "DROP OWNED BY "+user+"; DROP ROLE "+user) })
	limited := strings.Replace(url, "postgres:forebay@", user+":p@", 1)
	check := func(name string, s *sink, want ...string) {
		t.Helper()
		var got []string
		for _, f := range s.Validate(t.Context()) {
			got = append(got, f.Path+": "+f.Message+" ("+f.Hint+")")
		}
		if len(got) != len(want) {
			t.Errorf("%s: %q", name, got)
			return
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: %q does not say %q", name, got[i], want[i])
			}
		}
	}
	check("all well", newSink(t, url, nil))
	check("password", newSink(t, strings.Replace(url, ":forebay@", ":wrong@", 1), nil), "check user and password")
	check("nobody there", newSink(t, "postgres://a:b@127.0.0.1:1/x", nil), "connect")
	check("database", newSink(t, url+"x", nil), "create the database")
	check("schema", newSink(t, limited, map[string]string{"schema": "other"}), "GRANT CREATE ON DATABASE")
	check("usage", newSink(t, limited, nil), "GRANT USAGE ON SCHEMA")
	rows(t, c, "GRANT USAGE ON SCHEMA public TO "+user)
	check("create", newSink(t, limited, nil), "no table _forebay_offsets", "may not create it")
	rows(t, c, "CREATE TABLE orders (id int)")
	check("rights", newSink(t, limited, nil), "no table _forebay_offsets", "GRANT SELECT, INSERT, UPDATE, DELETE", "no primary key")
	rows(t, c, "DROP TABLE orders")
	rows(t, c, newSink(t, url, nil).offsetsDDL())
	rows(t, c, "INSERT INTO _forebay_offsets VALUES ('g/s', 'other.orders', 0, '', 0, 'orders', 1, '', '')")
	check("taken", newSink(t, url, nil), "already holds topic other.orders")
	check("no create", newSink(t, url, map[string]string{"create": "false", "mode": "append"}), "no table public.orders")
}

func TestConfig(t *testing.T) {
	for i, c := range []struct {
		m    map[string]string
		want string
	}{
		{map[string]string{"topics": "a.*", "table": "t"}, "can hold one topic"},
		{map[string]string{"topics": "a.x,b.x"}, "a.x and b.x would both be written to table x"},
		{map[string]string{"topics": "a.x", "table": "_forebay_offsets"}, "table of offsets"},
		{map[string]string{"topics": "a.x,b.x", "mode": "append", "table": "t"}, ""},
		{map[string]string{"topics": "a.x,b.y"}, ""},
	} {
		c.m["url"] = "postgres://u:p@h/d"
		cfg, findings := Type().Spec.Parse(spec.FlatNode(c.m))
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		_, err := New(cfg, connectors.Env{Name: "n", Group: "g"})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%d: %v", i, err)
		}
	}
	for _, bad := range []map[string]string{{"url": "mysql://x"}, {"flush.size": "1"}, {"flush.interval": "0"}, {"schema": strings.Repeat("x", 64)}, {"mode": "merge"}} {
		m := map[string]string{"url": "postgres://u:p@h/d", "topics": "t"}
		for k, v := range bad {
			m[k] = v
		}
		if _, findings := Type().Spec.Parse(spec.FlatNode(m)); len(findings) != 1 || strings.Contains(fmt.Sprint(findings), "mysql://x") {
			t.Errorf("%v: %v", bad, findings)
		}
	}
}
