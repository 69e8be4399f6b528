package mongodb

import (
	"bytes"
	"cmp"
	"math"
	"math/big"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// compareIDs orders two _id values as an index without a collation does (BSON comparison order).
// known is false for types whose order only the server knows.
func compareIDs(a, b bson.RawValue) (c int, known bool) { return compareValues(a, b, 0) }

// whole says whether a value that somebody may have tampered with can be taken apart.
func whole(v bson.RawValue) bool {
	return v.Validate() == nil && sound(bsoncore.Value{Type: bsoncore.Type(v.Type), Data: v.Value})
}

// rank is a type's place in the comparison order; 0 is a type that is not compared here.
func rank(t bson.Type) int {
	switch t {
	case bson.TypeMinKey:
		return 1
	case bson.TypeNull, bson.TypeUndefined:
		return 3
	case bson.TypeDouble, bson.TypeInt32, bson.TypeInt64, bson.TypeDecimal128:
		return 4
	case bson.TypeString, bson.TypeSymbol:
		return 5
	case bson.TypeEmbeddedDocument:
		return 6
	case bson.TypeArray:
		return 7
	case bson.TypeBinary:
		return 8
	case bson.TypeObjectID:
		return 9
	case bson.TypeBoolean:
		return 10
	case bson.TypeDateTime:
		return 11
	case bson.TypeTimestamp:
		return 12
	case bson.TypeMaxKey:
		return 20
	}
	return 0
}

func compareValues(a, b bson.RawValue, depth int) (int, bool) {
	ra, rb := rank(a.Type), rank(b.Type)
	if ra == 0 || rb == 0 || depth > maxNesting || !whole(a) || !whole(b) {
		return 0, false
	}
	if ra != rb {
		return cmp.Compare(ra, rb), true
	}
	switch ra {
	case 4:
		return compareNumbers(a, b), true
	case 5:
		return strings.Compare(text(a), text(b)), true
	case 6:
		return compareDocuments(a.Document(), b.Document(), depth)
	case 7:
		return compareDocuments(bson.Raw(a.Array()), bson.Raw(b.Array()), depth)
	case 8:
		sa, da := a.Binary()
		sb, db := b.Binary()
		return cmp.Or(cmp.Compare(len(da), len(db)), cmp.Compare(sa, sb), bytes.Compare(da, db)), true
	case 9:
		x, y := a.ObjectID(), b.ObjectID()
		return bytes.Compare(x[:], y[:]), true
	case 10:
		return cmp.Compare(a.Value[0], b.Value[0]), true
	case 11:
		return cmp.Compare(a.DateTime(), b.DateTime()), true
	case 12:
		at, ai := a.Timestamp()
		bt, bi := b.Timestamp()
		return stamp{at, ai}.compare(stamp{bt, bi}), true
	}
	return 0, true
}

func text(v bson.RawValue) string {
	if v.Type == bson.TypeSymbol {
		return v.Symbol()
	}
	return v.StringValue()
}

// compareDocuments goes member by member: type, name, value; the shorter is less.
func compareDocuments(a, b bson.Raw, depth int) (int, bool) {
	x, err := a.Elements()
	if err != nil {
		return 0, false
	}
	y, err := b.Elements()
	if err != nil {
		return 0, false
	}
	for i := range min(len(x), len(y)) {
		va, vb := x[i].Value(), y[i].Value()
		ra, rb := rank(va.Type), rank(vb.Type)
		if ra == 0 || rb == 0 {
			return 0, false
		}
		if c := cmp.Or(cmp.Compare(ra, rb), strings.Compare(x[i].Key(), y[i].Key())); c != 0 {
			return c, true
		}
		if c, known := compareValues(va, vb, depth+1); c != 0 || !known {
			return c, known
		}
	}
	return cmp.Compare(len(x), len(y)), true
}

// compareNumbers compares exactly, across the four types. NaN is less than every number.
func compareNumbers(a, b bson.RawValue) int {
	if a.Type == bson.TypeDouble && b.Type == bson.TypeDouble {
		return cmp.Compare(a.Double(), b.Double()) // NaN is less here too
	}
	x, xr := number(a)
	y, yr := number(b)
	if xr == nil || yr == nil {
		return cmp.Compare(x, y)
	}
	return xr.Cmp(yr)
}

// number is a value as a fraction; nil for what is none, and then f says where it lies among the others.
func number(v bson.RawValue) (f float64, r *big.Rat) {
	switch v.Type {
	case bson.TypeInt32:
		return 0, new(big.Rat).SetInt64(int64(v.Int32()))
	case bson.TypeInt64:
		return 0, new(big.Rat).SetInt64(v.Int64())
	case bson.TypeDouble:
		f := v.Double()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return f, nil
		}
		return 0, new(big.Rat).SetFloat64(f)
	}
	d := v.Decimal128()
	switch {
	case d.IsNaN():
		return math.NaN(), nil
	case d.IsInf() != 0:
		return math.Inf(d.IsInf()), nil
	}
	n, exp, err := d.BigInt()
	if err != nil {
		return math.NaN(), nil
	}
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exp, -exp))), nil)
	if exp >= 0 {
		return 0, new(big.Rat).SetInt(n.Mul(n, ten))
	}
	return 0, new(big.Rat).SetFrac(n, ten)
}
