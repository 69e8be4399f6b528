package mongodb

import (
	"math"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// The order of ids is the server's: it sorts them, and every pair agrees.
func TestOrderIsTheServers(t *testing.T) {
	_, db := shared(t)
	ctx := t.Context()
	a := db.Collection("a")
	decimal := func(s string) bson.Decimal128 {
		x, err := bson.ParseDecimal128(s)
		check(t, err)
		return x
	}
	for _, id := range []any{
		bson.MinKey{}, bson.MaxKey{}, nil, math.NaN(), math.Inf(1), math.Inf(-1), 0, 1, int64(math.MaxInt64), float64(math.MaxInt64), int64(math.MaxInt64 - 1), -5.5, 1.5,
		decimal("1.25"), decimal("1E+300"), decimal("-1E-300"), decimal("9223372036854775806.5"), int64(1) << 53, float64(1<<53) + 2, int64(1)<<53 + 1,
		"", "a", "A", "ab", "é", "\x01", bson.Symbol("aa"), d{}, kv("a", 1), kv("a", "1"), kv("b", 0), d{{Key: "a", Value: 1}, {Key: "b", Value: 1}}, kv("a", kv("b", nil)), kv("a", bson.A{1}),
		bson.Binary{Data: []byte{9}}, bson.Binary{Data: []byte{1, 2}}, bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")}, bson.Binary{Subtype: 0x80, Data: []byte{9}},
		bson.NewObjectID(), bson.ObjectID{1}, true, false, bson.DateTime(-1), bson.DateTime(1), bson.Timestamp{T: 1, I: 2}, bson.Timestamp{T: 0xffffffff, I: 1},
	} {
		if _, err := a.InsertOne(ctx, kv("_id", id)); err != nil {
			t.Fatalf("%v: %v", id, err)
		}
	}
	cur := must[*mongo.Cursor](t)(a.Find(ctx, d{}, options.Find().SetSort(kv("_id", 1))))
	var all []bson.Raw
	check(t, cur.All(ctx, &all))
	for i := range all {
		for j := range all {
			x, y := all[i].Lookup("_id"), all[j].Lookup("_id")
			got, known := compareIDs(x, y)
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if !known || got != want {
				t.Errorf("%s and %s: %d, %v; the server says %d", x, y, got, known, want)
			}
		}
	}
}

func TestSplitEventsAreJoined(t *testing.T) {
	part := func(i, of int, more d) bson.Raw {
		doc := append(d{{Key: "_id", Value: kv("_data", "82AA"+string(rune('0'+i)))}, {Key: "splitEvent", Value: d{{Key: "fragment", Value: i}, {Key: "of", Value: of}}}}, more...)
		raw, err := bson.Marshal(doc)
		check(t, err)
		return raw
	}
	parts := []bson.Raw{
		part(1, 3, d{{Key: "operationType", Value: "update"}, {Key: "clusterTime", Value: bson.Timestamp{T: 5, I: 6}}, {Key: "ns", Value: d{{Key: "db", Value: "a"}, {Key: "coll", Value: "b"}}}, {Key: "documentKey", Value: kv("_id", 1)}}),
		part(2, 3, d{{Key: "fullDocument", Value: kv("_id", 1)}}),
		part(3, 3, d{{Key: "updateDescription", Value: kv("updatedFields", kv("x", 1))}}),
	}
	e, err := join(parts)
	if err != nil || e.op != "update" || e.at != (stamp{5, 6}) || e.ns != (namespace{"a", "b"}) || e.full == nil || e.update == nil || e.before != nil || tokenData(e.token) != "82AA3" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := join(parts[:2]); err == nil {
		t.Error("two of three parts are taken for all")
	}
}
