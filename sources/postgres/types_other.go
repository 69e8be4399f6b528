package postgres

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// arrayCodec is an array of elem. PostgreSQL does not hold a column to its
// declared number of dimensions, so one with several is given element after
// element, in row-major order.
func arrayCodec(elem codec, delim byte) codec {
	s := &schema.Schema{Kind: schema.Array, Elem: elem.schema, Optional: true}
	return codec{s, func(b *connectors.Batch, t []byte) (schema.Value, error) {
		return decodeArray(b, t, elem.decode, delim)
	}}
}

// decodeArray reads {1,NULL,"a \"b\""} (PostgreSQL, chapter "Array Input and Output Syntax").
func decodeArray(b *connectors.Batch, t []byte, elem decodeFunc, delim byte) (schema.Value, error) {
	if len(t) > 0 && t[0] == '[' { // [2:4]={…}: the bounds are not kept
		i := bytes.IndexByte(t, '=')
		if i < 0 {
			return schema.Value{}, errValue
		}
		t = t[i+1:]
	}
	n, quoted := 1, false // not less than there are elements
	for i := 0; i < len(t); i++ {
		switch c := t[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\':
			i++
		case c == delim && !quoted:
			n++
		}
	}
	out := b.Values(n)[:0]
	depth, want := 0, true // want: an element or a brace may come
	for i := 0; i < len(t); {
		switch c := t[i]; { //nolint:staticcheck // the cases below are ranges too
		case c == '{':
			if !want {
				return schema.Value{}, errValue
			}
			depth++
			i++
		case c == '}':
			if depth--; depth < 0 || depth == 0 && i != len(t)-1 {
				return schema.Value{}, errValue
			}
			want = false
			i++
		case c == delim:
			if want {
				return schema.Value{}, errValue
			}
			want = true
			i++
		default:
			if !want || depth == 0 {
				return schema.Value{}, errValue
			}
			item, quoted, next, ok := arrayItem(t, i, delim)
			if !ok {
				return schema.Value{}, errValue
			}
			var v schema.Value
			if quoted || string(item) != "NULL" {
				var err error
				if v, err = elem(b, item); err != nil {
					return schema.Value{}, err
				}
			}
			if len(out) == cap(out) {
				return schema.Value{}, errValue
			}
			out = append(out, v)
			want, i = false, next
		}
	}
	if depth != 0 || len(t) == 0 || t[len(t)-1] != '}' {
		return schema.Value{}, errValue
	}
	return schema.ArrayOf(out...), nil
}

// arrayItem reads one element at t[i]; quotes and backslashes are resolved in place.
func arrayItem(t []byte, i int, delim byte) (item []byte, quoted bool, next int, ok bool) {
	if t[i] != '"' {
		j := i
		for j < len(t) && t[j] != delim && t[j] != '}' && t[j] != '{' && t[j] != '"' {
			j++
		}
		return t[i:j:j], false, j, j < len(t)
	}
	w := i + 1
	for j := i + 1; j < len(t); j++ {
		switch t[j] {
		case '"':
			return t[i+1 : w : w], true, j + 1, true
		case '\\':
			if j++; j == len(t) {
				return nil, false, 0, false
			}
		}
		t[w] = t[j]
		w++
	}
	return nil, false, 0, false
}

// decodePoint reads (x,y) into x, y and the point's well-known binary.
func decodePoint(b *connectors.Batch, t []byte) (schema.Value, error) {
	xs, ys, ok := bytes.Cut(t, []byte{','})
	if !ok || len(xs) < 2 || len(ys) < 2 || xs[0] != '(' || ys[len(ys)-1] != ')' {
		return schema.Value{}, errValue
	}
	x, err1 := strconv.ParseFloat(str(xs[1:]), 64)
	y, err2 := strconv.ParseFloat(str(ys[:len(ys)-1]), 64)
	if err1 != nil || err2 != nil {
		return schema.Value{}, errValue
	}
	wkb := [21]byte{0: 1, 1: 1} // little-endian, a point
	binary.LittleEndian.PutUint64(wkb[5:], math.Float64bits(x))
	binary.LittleEndian.PutUint64(wkb[13:], math.Float64bits(y))
	f := b.Values(4)
	f[0], f[1], f[2] = schema.Float64Of(x), schema.Float64Of(y), schema.BytesOf(b.Copy(wkb[:]))
	return schema.StructOf(f...), nil
}

// decodeHstore rewrites "a"=>"1", "b"=>NULL as the JSON object {"a":"1","b":null}.
func decodeHstore(b *connectors.Batch, t []byte) (schema.Value, error) {
	out := make([]byte, 0, len(t)+8)
	out = append(out, '{')
	for i := 0; i < len(t); {
		if len(out) > 1 {
			if !bytes.HasPrefix(t[i:], []byte(", ")) {
				return schema.Value{}, errValue
			}
			out = append(out, ',')
			i += 2
		}
		if i >= len(t) || t[i] != '"' {
			return schema.Value{}, errValue
		}
		key, _, next, ok := arrayItem(t, i, ',')
		if !ok || !bytes.HasPrefix(t[next:], []byte("=>")) {
			return schema.Value{}, errValue
		}
		out = append(schema.AppendQuoted(out, key), ':')
		i = next + 2
		switch {
		case bytes.HasPrefix(t[i:], []byte("NULL")):
			out = append(out, "null"...)
			i += 4
		case i < len(t) && t[i] == '"':
			val, _, next, ok := arrayItem(t, i, ',')
			if !ok {
				return schema.Value{}, errValue
			}
			out = schema.AppendQuoted(out, val)
			i = next
		default:
			return schema.Value{}, errValue
		}
	}
	return schema.TextOf(b.Copy(append(out, '}'))), nil
}
