package mongodb

import (
	"fmt"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/conformance"
)

func TestConformance(t *testing.T) {
	s, db := shared(t)
	a := db.Collection("a")
	check(t, db.CreateCollection(t.Context(), "a"))
	next := 0
	conformance.Source(t, conformance.SourceKit{
		New: func(t testing.TB) connectors.Source { return configure(t, s.URL, []string{s.Database + ".*"}, nil) },
		Grow: func(t testing.TB, n int) (ids []string) {
			var docs []any
			for range n {
				next++
				docs = append(docs, d{{Key: "_id", Value: next}, {Key: "text", Value: fmt.Sprint("document ", next)}})
				ids = append(ids, fmt.Sprintf(`{"_id": %d,"text": "document %d"}`, next, next))
			}
			must[*mongo.InsertManyResult](t)(a.InsertMany(t.Context(), docs))
			return ids
		},
		Identity: func(r *connectors.Record) string {
			if r.Change == nil {
				return ""
			}
			return content(r.Change.After)
		},
	})
}
