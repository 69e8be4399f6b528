package mongodb

import (
	"encoding/json"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/forebayhub/forebay/connectors"
)

// Positions are read back from a topic that people may have written to.
func FuzzPositions(f *testing.F) {
	f.Add([]byte(`{"v":1,"at":"1700000000.3","n":2,"token":{"_data":"8265A1B2C3000000012B0229296E04","_typeBits":{"$binary":{"base64":"gg==","subType":"00"}}}}`))
	f.Add([]byte(`{"v":1,"at":"4294967295.4294967295"}`))
	f.Add([]byte(`{"v":1,"state":"copying","gen":2,"rows":7,"uuid":"aa","runs":[{"at":"1.1","upto":{"id":"1","bson":"EwAAABJfAAEAAAAAAAAAAA=="}},{"at":"2.0"}]}`))
	f.Add([]byte(`{"v":1,"set":"rs0","id":"596e275826f08b2730779e1f"}`))
	s := &source{}
	f.Fuzz(func(t *testing.T, text []byte) {
		var stream streamPosition
		if parsePosition(streamKey, text, &stream, &stream.V) == nil {
			token, err := stream.token()
			if err == nil && token != nil {
				_, _ = tokenStamp(token)
				if err := stream.setToken(token); err != nil {
					t.Errorf("a token that was read cannot be written: %v", err)
				}
			}
			again, err := encode(stream)
			if err != nil || s.Compare(streamKey, text, again) != 0 {
				t.Errorf("%s becomes %s: %v", text, again, err)
			}
		}
		var c collectionPosition
		key := collectionKey(namespace{"a", "b"})
		if parsePosition(key, text, &c, &c.V) == nil {
			for i := range c.Runs {
				for j := range c.Runs {
					if a, b := c.Runs[i].Upto, c.Runs[j].Upto; a != nil && b != nil {
						x, _ := compareIDs(a.value, b.value)
						if y, _ := compareIDs(b.value, a.value); x != -y {
							t.Errorf("order %d and %d", x, y)
						}
					}
				}
			}
			if again, err := encode(c); err == nil && s.Compare(key, text, again) != 0 {
				t.Errorf("%s becomes %s", text, again)
			}
		}
		_ = s.Compare(key, text, connectors.Position(`{"v":1}`))
	})
}

// What a server sends is BSON; nothing of it may end the program.
func FuzzEvent(f *testing.F) {
	for _, v := range []any{
		d{{Key: "_id", Value: kv("_data", "8265A1B2C300000001")}, {Key: "operationType", Value: "update"}, {Key: "clusterTime", Value: bson.Timestamp{T: 1, I: 2}},
			{Key: "ns", Value: d{{Key: "db", Value: "a"}, {Key: "coll", Value: "b"}}}, {Key: "documentKey", Value: kv("_id", 1)},
			{Key: "updateDescription", Value: d{{Key: "updatedFields", Value: kv("a", 1)}, {Key: "removedFields", Value: bson.A{"x"}}, {Key: "truncatedArrays", Value: bson.A{d{{Key: "field", Value: "l"}, {Key: "newSize", Value: 2}}}}}}},
		d{{Key: "_id", Value: kv("_data", "82")}, {Key: "splitEvent", Value: d{{Key: "fragment", Value: 1}, {Key: "of", Value: 2}}}},
	} {
		raw, err := bson.Marshal(v)
		check(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(_ *testing.T, raw []byte) {
		e, err := parseEvent(raw)
		if err != nil {
			return
		}
		b := connectors.NewBatch(1 << 10)
		tk := &task{}
		_, _ = tk.updateOf(b, e.update)
		_, _ = tk.texts.id(b, e.id)
		_, _ = join([]bson.Raw{raw, raw})
		_, _ = tokenStamp(e.token)
	})
}

// Every document that is BSON becomes JSON.
func FuzzExtendedJSON(f *testing.F) {
	raw, err := bson.Marshal(d{{Key: "a", Value: bson.A{1, int64(2), 3.5, "x", nil, true, bson.DateTime(5), bson.Regex{Pattern: "p", Options: "i"}, bson.CodeWithScope{Code: "c", Scope: d{}}}}})
	check(f, err)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, doc []byte) {
		for _, st := range []style{documentStyle, keyStyle, updateStyle} {
			if text, err := st.document(nil, doc); err == nil && !json.Valid(text) {
				t.Errorf("%x becomes %s", doc, text)
			}
		}
	})
}
