package schema

import (
	"math"
	"strconv"
)

// Value is one typed value: a tagged union small enough to pass by value.
// The zero Value is null.
type Value struct {
	Kind Kind
	num  uint64
	Data []byte  // String (UTF-8) and Bytes, and what NumberOf says; not copied
	List []Value // Struct, Array, Map
}

// Missing is the value of a column that the database left out because it did
// not change and lies out of line.
var Missing = Value{Kind: Unavailable}

// BoolOf and its siblings make values of their kind.
func BoolOf(b bool) Value {
	v := Value{Kind: Bool}
	if b {
		v.num = 1
	}
	return v
}
func Int16Of(n int16) Value          { return Value{Kind: Int16, num: uint64(int64(n))} }
func Int32Of(n int32) Value          { return Value{Kind: Int32, num: uint64(int64(n))} }
func Int64Of(n int64) Value          { return Value{Kind: Int64, num: uint64(n)} }
func Float32Of(f float32) Value      { return Value{Kind: Float32, num: math.Float64bits(float64(f))} }
func Float64Of(f float64) Value      { return Value{Kind: Float64, num: math.Float64bits(f)} }
func StringOf(s string) Value        { return Value{Kind: String, Data: []byte(s)} }
func TextOf(b []byte) Value          { return Value{Kind: String, Data: b} } // borrows b
func BytesOf(b []byte) Value         { return Value{Kind: Bytes, Data: b} }  // borrows b
func StructOf(fields ...Value) Value { return Value{Kind: Struct, List: fields} }
func ArrayOf(elems ...Value) Value   { return Value{Kind: Array, List: elems} }
func MapOf(pairs ...Value) Value     { return Value{Kind: Map, List: pairs} }

// NumberOf is a Float64 that was read from text, which may have more digits than the float holds. Whoever writes text takes that. It borrows the text.
func NumberOf(f float64, text []byte) Value {
	return Value{Kind: Float64, num: math.Float64bits(f), Data: text}
}

// JSONOf is a String that is JSON: within JSON without a declared schema it stands as it is, not as a string. It borrows b.
func JSONOf(b []byte) Value { return Value{Kind: String, num: 1, Data: b} }

// IsJSON says whether JSONOf made v.
func (v *Value) IsJSON() bool { return v.Kind == String && v.num != 0 }

// IsNull says whether v is null.
func (v Value) IsNull() bool { return v.Kind == Null }

// Bool, Int and Float read the number of a value of that kind (Int: every width).
func (v Value) Bool() bool     { return v.num != 0 }
func (v Value) Int() int64     { return int64(v.num) }
func (v Value) Float() float64 { return math.Float64frombits(v.num) }

// AppendFloat appends a float of so many bits with as few digits as tell it from others, and with an exponent where JavaScript and Jackson have one: below
// 1e-6, and from 1e21 on. What is no number is NaN, Infinity or -Infinity.
func AppendFloat(dst []byte, f float64, bits int) []byte {
	switch a := math.Abs(f); {
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case a != 0 && (a < 1e-6 || a >= 1e21):
		return strconv.AppendFloat(dst, f, 'e', -1, bits)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, bits)
}

// Text reads a String.
func (v Value) Text() string { return string(v.Data) }
