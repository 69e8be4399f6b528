package mongodb

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/conformance"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/internal/testenv"
)

// values lists a field of all documents.
func values(t testing.TB, m *testenv.MongoServer, coll string) func() []string {
	c := m.DB().Collection(coll)
	return func() (out []string) {
		cur, err := c.Find(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		for cur.Next(t.Context()) {
			out = append(out, cur.Current.Lookup("value").StringValue())
		}
		if err := cur.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// The kit's records have no key: mode append takes them.
func TestConformanceAppend(t *testing.T) {
	conformance.Sink(t, conformance.SinkKit{New: func(t testing.TB) (connectors.Sink, func() []string) {
		m := testenv.Mongo(t)
		return newSink(t, m, map[string]string{"topics": "conformance", "mode": "append"}), values(t, m, "conformance")
	}})
}

// With the value as key, too, each record is a document of its own in mode upsert.
func TestConformanceUpsert(t *testing.T) {
	text := &schema.Schema{Kind: schema.String, Optional: true}
	conformance.Sink(t, conformance.SinkKit{
		New: func(t testing.TB) (connectors.Sink, func() []string) {
			m := testenv.Mongo(t)
			return newSink(t, m, map[string]string{"topics": "conformance"}), values(t, m, "conformance")
		},
		Decode: func(r *connectors.Record) error {
			r.Value = connectors.Datum{Schema: text, Value: schema.TextOf(r.RawValue)}
			r.Key = r.Value
			return nil
		},
	})
}
