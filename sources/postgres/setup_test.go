package postgres

import (
	"context"
	"testing"

	"github.com/forebayhub/forebay/connectors"
)

func TestSlotSQL(t *testing.T) {
	for _, c := range []struct {
		version           int
		temporary, export bool
		want              string
	}{
		{160012, false, true, `CREATE_REPLICATION_SLOT "s""l" LOGICAL pgoutput EXPORT_SNAPSHOT`},
		{160012, false, false, `CREATE_REPLICATION_SLOT "s""l" LOGICAL pgoutput NOEXPORT_SNAPSHOT`},
		{170000, true, true, `CREATE_REPLICATION_SLOT "s""l" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT`},
		{170000, false, true, `CREATE_REPLICATION_SLOT "s""l" LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER true)`},
		{180006, false, false, `CREATE_REPLICATION_SLOT "s""l" LOGICAL pgoutput (SNAPSHOT 'nothing', FAILOVER true)`},
	} {
		if got := slotSQL(c.version, `s"l`, c.temporary, c.export); got != c.want {
			t.Errorf("%d: %s", c.version, got)
		}
	}
}

// A slot of ours is one that a standby keeps, where the server knows such a thing.
func TestSlotIsForFailover(t *testing.T) {
	url := testURL(t)
	c := dial(t, url)
	sql(t, c, "CREATE TABLE a(id int PRIMARY KEY)")
	src := configure(t, url, []string{"public.a"}, nil)
	l := newLogbook(t, src, func(connectors.Record) {})
	if err := l.open(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer l.close()
	info, err := src.slotInfo(t.Context(), c)
	if err != nil || info == nil {
		t.Fatal(info, err)
	}
	if info.failover != (version(c) >= 170000) || info.staysBehind(version(c), src.cfg.slot) != "" {
		t.Errorf("failover %v on %d", info.failover, version(c))
	}
	if (&slotInfo{}).staysBehind(170000, "x") == "" || (&slotInfo{}).staysBehind(169999, "x") != "" {
		t.Error("a slot of another's making")
	}
}
