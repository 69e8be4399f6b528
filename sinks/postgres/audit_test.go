package postgres

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/connectors"
)

// auditOf replays records and lists the differences.
func auditOf(t *testing.T, s *sink, records []connectors.Record, end int64) (int64, []string) {
	t.Helper()
	var found []string
	i := 0
	agreed, err := s.Audit(t.Context(), connectors.SinkEnv{Env: s.env, TaskID: "audit"}, assigned(0), end, func() (*connectors.Record, error) {
		if i == len(records) {
			return nil, io.EOF
		}
		r := records[i]
		r.Topic, r.Offset = topic, int64(i)
		i++
		return &r, nil
	}, func(d connectors.Difference) {
		found = append(found, fmt.Sprintf("%d %s: %s", d.Kind, d.Where, d.What))
	})
	if err != nil {
		t.Fatal(err)
	}
	return agreed, found
}

func TestAuditUpsert(t *testing.T) {
	url, c := pg(t)
	s := newSink(t, url, nil)
	var log []connectors.Record
	for id := range int64(50) {
		log = append(log, upsert(id, fmt.Sprint("n", id), strings.Repeat("x", int(id))))
	}
	log = append(log, deletion(3), tombstone(3), upsert(4, "changed", "?"))
	log = append(log, move(5, 105, "moved", "?")...)
	if agreed, found := auditOf(t, s, nil, 0); agreed != 0 || len(found) > 0 {
		t.Errorf("before anything was written: %d, %q", agreed, found)
	}
	l := start(t, s)
	l.write(append([]connectors.Record{}, log...)...)
	l.flush()
	if agreed, found := auditOf(t, s, log, l.next); agreed != 49 || len(found) > 0 {
		t.Errorf("agreed %d; %q", agreed, found)
	}
	rows(t, c, "DELETE FROM orders WHERE id = 10; UPDATE orders SET note = 'other' WHERE id = 4; INSERT INTO orders VALUES (1000, 'stray')")
	agreed, found := auditOf(t, s, append(log, upsert(1, "late", nil)), l.next+1)
	all := strings.Join(found, "\n")
	for _, want := range []string{"0 public.orders id 10: the log has this row", "2 public.orders id 4: differs in note", "1 public.orders id 1000: the log does not", "the target stands at offset 56"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in\n%s", want, all)
		}
	}
	if agreed != 47 || len(found) != 4 {
		t.Errorf("agreed %d; %s", agreed, all)
	}
}

func TestAuditAppend(t *testing.T) {
	url, c := pg(t)
	s := newSink(t, url, map[string]string{"mode": "append", "table": "events"})
	log := []connectors.Record{upsert(1, "a", "x"), deletion(1), tombstone(1), upsert(2, "b", "?"), upsert(3, "c", nil)}
	l := start(t, s)
	l.write(append([]connectors.Record{}, log...)...)
	l.flush()
	if agreed, found := auditOf(t, s, log, l.next); agreed != 4 || len(found) > 0 {
		t.Errorf("agreed %d; %q", agreed, found)
	}
	rows(t, c, "INSERT INTO events SELECT * FROM events WHERE _offset = 1; DELETE FROM events WHERE _offset = 0; UPDATE events SET name = 'z' WHERE _offset = 3")
	_, found := auditOf(t, s, log, l.next)
	if all := strings.Join(found, "\n"); len(found) != 3 || !strings.Contains(all, "_offset 1: there 2 times") || !strings.Contains(all, "_offset 0: the log has") || !strings.Contains(all, "_offset 3: differs in name") {
		t.Errorf("%s", all)
	}
}
