package mongodb

import (
	"math"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func raw(t testing.TB, v any) bson.RawValue {
	t.Helper()
	doc, err := bson.Marshal(kv("_", v))
	check(t, err)
	return bson.Raw(doc).Lookup("_")
}

// The texts are those of MongoDB's Java driver, which Debezium uses: JsonMode.STRICT for documents,
// JsonMode.RELAXED for keys.
func TestExtendedJSON(t *testing.T) {
	decimal, err := bson.ParseDecimal128("1.50")
	check(t, err)
	oid := bson.ObjectID{0x59, 0x6e, 0x27, 0x58, 0x26, 0xf0, 0x8b, 0x27, 0x30, 0x77, 0x9e, 0x1f}
	for _, x := range []struct {
		v            any
		strict, free string
	}{
		{int32(7), `7`, ``},
		{int64(7), `{"$numberLong": "7"}`, `7`},
		{7.0, `7.0`, ``}, {-0.5, `-0.5`, ``}, {math.Copysign(0, -1), `-0.0`, ``}, {1e7, `1.0E+7`, ``}, {9999999.0, `9999999.0`, ``}, {0.001, `0.001`, ``},
		{1.5e-4, `1.5E-4`, ``}, {math.MaxFloat64, `1.7976931348623157E+308`, ``}, {5e-324, `5.0E-324`, ``},
		{math.NaN(), `{"$numberDouble": "NaN"}`, ``}, {math.Inf(-1), `{"$numberDouble": "-Infinity"}`, ``},
		{"a\"é\n", `"a\"é\n"`, ``}, {true, `true`, ``}, {nil, `null`, ``},
		{oid, `{"$oid": "596e275826f08b2730779e1f"}`, ``},
		{bson.DateTime(1356351330501), `{"$date": 1356351330501}`, `{"$date": "2012-12-24T12:15:30.501Z"}`},
		{bson.DateTime(1356351330500), `{"$date": 1356351330500}`, `{"$date": "2012-12-24T12:15:30.5Z"}`},
		{bson.DateTime(1356351330000), `{"$date": 1356351330000}`, `{"$date": "2012-12-24T12:15:30Z"}`},
		{bson.DateTime(-1), `{"$date": -1}`, `{"$date": {"$numberLong": "-1"}}`},
		{bson.Binary{Subtype: 0x80, Data: []byte{1, 2}}, `{"$binary": "AQI=","$type": "80"}`, `{"$binary": {"base64": "AQI=","subType": "80"}}`},
		{decimal, `{"$numberDecimal": "1.50"}`, ``},
		{bson.Timestamp{T: 5, I: 6}, `{"$timestamp": {"t": 5,"i": 6}}`, ``},
		{bson.Regex{Pattern: "a/b", Options: "i"}, `{"$regex": "a/b","$options": "i"}`, `{"$regularExpression": {"pattern": "a/b","options": "i"}}`},
		{bson.JavaScript("x"), `{"$code": "x"}`, ``}, {bson.CodeWithScope{Code: "x", Scope: kv("y", 1)}, `{"$code": "x","$scope": {"y": 1}}`, ``},
		{bson.Symbol("s"), `{"$symbol": "s"}`, ``}, {bson.Undefined{}, `{"$undefined": true}`, ``},
		{bson.MinKey{}, `{"$minKey": 1}`, ``}, {bson.MaxKey{}, `{"$maxKey": 1}`, ``},
		{bson.A{1, d{}, bson.A{}}, `[1,{},[]]`, ``}, {d{{Key: "a", Value: 1}, {Key: "b \"", Value: kv("c", int64(2))}}, `{"a": 1,"b \"": {"c": {"$numberLong": "2"}}}`, `{"a": 1,"b \"": {"c": 2}}`},
	} {
		v := raw(t, x.v)
		if x.free == "" {
			x.free = x.strict
		}
		for st, want := range map[style]string{documentStyle: x.strict, keyStyle: x.free} {
			got, err := st.value(nil, v)
			if err != nil || string(got) != want {
				t.Errorf("%v: %s, %v; want %s", x.v, got, err, want)
			}
			var back bson.Raw
			if err := bson.UnmarshalExtJSON([]byte(`{"_": `+string(got)+`}`), false, &back); err != nil {
				t.Errorf("%s: %v", got, err)
			} else if r := back.Lookup("_"); st == documentStyle && !r.Equal(v) {
				t.Logf("the Go driver reads %s as %s", got, r)
			}
		}
	}
	got, err := updateStyle.document(nil, raw(t, d{{Key: "a.b", Value: 1}, {Key: "c", Value: bson.A{int64(1), 2}}}).Document())
	if err != nil || string(got) != `{"a.b": 1, "c": [1, 2]}` {
		t.Errorf("%s, %v", got, err)
	}
}
