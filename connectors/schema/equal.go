package schema

import (
	"bytes"
	"math"
)

// Same says whether two values are the same: of one kind, with the same content.
// Two NaN are the same here, and so are two texts of one float.
func Same(a, b Value) bool {
	if a.Kind != b.Kind || len(a.List) != len(b.List) || a.Kind != Float64 && !bytes.Equal(a.Data, b.Data) {
		return false
	}
	if a.num != b.num {
		if a.Kind != Float32 && a.Kind != Float64 {
			return false
		}
		if !(math.IsNaN(a.Float()) && math.IsNaN(b.Float())) && a.Float() != b.Float() {
			return false
		}
	}
	for i := range a.List {
		if !Same(a.List[i], b.List[i]) {
			return false
		}
	}
	return true
}

// Clone copies v with everything that it borrows.
func (v Value) Clone() Value {
	if v.Data != nil {
		v.Data = append(make([]byte, 0, len(v.Data)), v.Data...)
	}
	if v.List != nil {
		list := make([]Value, len(v.List))
		for i := range v.List {
			list[i] = v.List[i].Clone()
		}
		v.List = list
	}
	return v
}
