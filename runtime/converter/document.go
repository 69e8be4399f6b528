package converter

import (
	"bytes"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// documentRows makes rows of the contents that an envelope carries (schema.Document). An update
// without an image says that the document is there and not what it is: its content is Missing.
func (m *memory) documentRows(r *connectors.Record) {
	c := r.Change
	row := func(content schema.Value) schema.Value {
		return m.pair(documentID(r), content)
	}
	if !c.Before.IsNull() {
		c.Before = row(c.Before)
	}
	switch {
	case !c.After.IsNull():
		c.After = row(c.After)
	case c.Op == connectors.OpUpdate:
		c.After = row(schema.Missing)
	}
}

// documentID is the text that the record's key holds.
func documentID(r *connectors.Record) schema.Value {
	if k := r.Key.Value; k.Kind == schema.Struct && len(k.List) > 0 {
		return k.List[0]
	}
	return schema.Value{}
}

// plainDocument reads a document that stands alone: JSON text as it is, or a JSON string behind a
// Connect schema. Our documents have a space behind each colon, so their first bytes tell them apart.
func (m *memory) plainDocument(r *connectors.Record, p *decodePlan) (connectors.Datum, error) {
	content := schema.TextOf(r.RawValue)
	if bytes.HasPrefix(r.RawValue, []byte(`{"schema":{"type":"string"`)) {
		var err error
		if content, err = payload(r.RawValue, p.value, &m.values); err != nil {
			return connectors.Datum{}, err
		}
	}
	return connectors.Datum{Schema: p.entry.Value, Value: m.pair(documentID(r), content)}, nil
}
