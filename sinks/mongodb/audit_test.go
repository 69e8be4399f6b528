package mongodb

import (
	"io"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/testenv"
)

// auditOf replays records against what the sink has written of them.
func auditOf(t *testing.T, s *sink, records []connectors.Record, from int64) (int64, []string) {
	t.Helper()
	var out []string
	i := 0
	next := func() (*connectors.Record, error) {
		for ; i < len(records); i++ {
			if records[i].Offset >= from {
				r := records[i]
				i++
				return &r, nil
			}
		}
		return nil, io.EOF
	}
	a := assigned(0)
	a.StartOffset = from
	agreed, err := s.Audit(t.Context(), connectors.SinkEnv{Env: s.env}, a, int64(len(records)), next, func(d connectors.Difference) {
		out = append(out, [...]string{"missing", "doubled", "different"}[d.Kind]+" "+d.Where+": "+d.What)
	})
	if err != nil {
		t.Fatal(err)
	}
	return agreed, out
}

func TestAudit(t *testing.T) {
	m := testenv.Mongo(t)
	s := newSink(t, m, nil)
	l := start(t, s)
	at := schema.Int64Of(1_700_000_000_123_456)
	records := []connectors.Record{upsert(1, "a", "note", at), upsert(2, "b", "note", at), upsert(3, "c", nil), truncation(), upsert(1, "a", "n1", at), upsert(2, "b", "n2", at), upsert(3, "c", "n3", at), upsert(4, "d", nil)}
	records = append(records, move(2, 20, "b2", "?", "?")...)
	records = append(records, deletion(4), upsert(1, "a2", "?", "?"), upsert(3, "c2", "?", schema.Int64Of(0)))
	for i := range records { // each in a commit of its own, as far as that goes
		l.write(records[i])
		records[i].Offset = int64(i)
		if !hasHeader(&records[i], headerNewKey) && records[i].RawValue != nil {
			l.flush()
		}
	}
	if n, diff := auditOf(t, s, records, 0); n != 3 || len(diff) > 0 {
		t.Fatalf("%d agree, %q", n, diff)
	}
	if n, diff := auditOf(t, s, records, 9); n != 3 || len(diff) > 0 { // the log has lost its beginning
		t.Errorf("%d agree, %q", n, diff)
	}
	c := m.DB().Collection("orders")
	if _, err := c.DeleteOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: 20}}, bson.D{{Key: "$set", Value: bson.D{{Key: "note", Value: "spoilt"}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 99}}); err != nil {
		t.Fatal(err)
	}
	// Dead letters have been played again: they are of no other partition of the log.
	if _, err := l.task.Recover(t.Context(), []connectors.Assignment{assigned(connectors.ReplayPartition)}); err != nil {
		t.Fatal(err)
	}
	n, diff := auditOf(t, s, records, 0)
	text := strings.Join(diff, "\n")
	for _, want := range []string{"missing", "differs in note", "doubled", "_id {\"$numberInt\":\"99\"}"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if n != 1 || len(diff) != 3 {
		t.Errorf("%d agree, %d differences", n, len(diff))
	}
}

func TestAuditOfDocumentsAndAppend(t *testing.T) {
	for _, mode := range []string{"upsert", "append"} {
		t.Run(mode, func(t *testing.T) {
			m := testenv.Mongo(t)
			s := newSink(t, m, map[string]string{"mode": mode})
			l := start(t, s)
			records := []connectors.Record{docChange(connectors.OpCreate, `1`, `{"_id": {"$numberLong": "1"},"a": 1,"b": 2}`), docChange(connectors.OpCreate, `2`, `{"_id": 2,"a": 1,"b": 2}`)}
			l.write(records...)
			l.flush()
			if n, diff := auditOf(t, s, records, 0); n != 2 || len(diff) > 0 {
				t.Fatalf("%d agree, %q", n, diff)
			}
			if mode == "append" {
				if _, err := m.DB().Collection("orders").DeleteMany(t.Context(), bson.D{}); err != nil {
					t.Fatal(err)
				}
				if n, diff := auditOf(t, s, records, 0); n != 0 || len(diff) != 2 {
					t.Errorf("%d agree, %q", n, diff)
				}
				return
			}
			// The order of fields is part of a document.
			if _, err := m.DB().Collection("orders").ReplaceOne(t.Context(), bson.D{{Key: "_id", Value: 2}}, bson.D{{Key: "b", Value: 2}, {Key: "a", Value: 1}}); err != nil {
				t.Fatal(err)
			}
			if n, diff := auditOf(t, s, records, 0); n != 1 || len(diff) != 1 {
				t.Errorf("%d agree, %q", n, diff)
			}
		})
	}
}
