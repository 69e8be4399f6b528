package table

import (
	"testing"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// A struct has columns when somebody declared its types, be it a header or a schema registry; types that were guessed make none.
func TestDeclaredTypesMakeColumns(t *testing.T) {
	r := connectors.Record{RawValue: []byte(`{"a":1}`), Value: connectors.Datum{Value: schema.StructOf(schema.Int64Of(1)),
		Schema: &schema.Schema{Kind: schema.Struct, Fields: []schema.Field{{Name: "a", Schema: &schema.Schema{Kind: schema.Int64}}}}}}
	guessed, declared, named := r, r, r
	declared.Declared = true
	named.Headers = []connectors.Header{{Key: schemaHeader, Value: []byte("1")}}
	for _, c := range []struct {
		r    *connectors.Record
		want string
	}{{&guessed, "value"}, {&declared, "a"}, {&named, "a"}} {
		if got := (Options{Flatten: true}).Layout(c.r, false).Columns[0].Name; got != c.want {
			t.Errorf("%+v: the first column is %s, not %s", c.r, got, c.want)
		}
	}
}
