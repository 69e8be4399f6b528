package postgres

import (
	"math/big"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

// numericCodec: numeric(p,s) is a Decimal of that scale, numeric alone carries
// its scale with each value. NaN and the infinities have no unscaled form and
// become null, as nothing else in the type can say them.
func numericCodec(typmod int32) codec {
	if typmod < 4 {
		return codec{cdc.VariableDecimal(), decodeVariableDecimal}
	}
	// numeric.c: ((precision << 16) | (scale & 0x7ff)) + VARHDRSZ; scale has a sign since 15.
	m := typmod - 4
	precision, scale := int(m>>16), int((m&0x7ff)^1024)-1024
	return codec{cdc.DecimalOf(precision, scale), func(b *connectors.Batch, t []byte) (schema.Value, error) {
		v, _, err := unscaled(b, t, scale, true)
		return v, err
	}}
}

func decodeVariableDecimal(b *connectors.Batch, t []byte) (schema.Value, error) {
	v, scale, err := unscaled(b, t, 0, false)
	if err != nil || v.IsNull() {
		return schema.Value{}, err
	}
	pair := b.Values(2)
	pair[0], pair[1] = schema.Int32Of(int32(scale)), v
	return schema.StructOf(pair...), nil
}

// unscaled reads digits with a point into the unscaled integer's bytes. With
// fixed the result has the given scale; otherwise the value's own, without trailing zeros.
func unscaled(b *connectors.Batch, t []byte, scale int, fixed bool) (schema.Value, int, error) {
	neg := len(t) > 0 && t[0] == '-'
	d := t
	if neg {
		d = t[1:]
	}
	if len(d) == 0 {
		return schema.Value{}, 0, errValue
	}
	if c := d[0]; c == 'N' || c == 'I' {
		if s := string(d); s == "NaN" || s == "Infinity" {
			return schema.Value{}, 0, nil
		}
		return schema.Value{}, 0, errValue
	}
	// Close the gap that the point leaves.
	have, point, w := 0, false, 0
	for _, c := range d {
		switch {
		case c == '.' && !point:
			point = true
		case c >= '0' && c <= '9':
			d[w] = c
			w++
			if point {
				have++
			}
		default:
			return schema.Value{}, 0, errValue
		}
	}
	if d = d[:w]; w == 0 {
		return schema.Value{}, 0, errValue
	}
	want := scale
	if !fixed {
		for have > 0 && d[len(d)-1] == '0' {
			d, have = d[:len(d)-1], have-1
		}
		if want = have; len(d) == 0 {
			d = []byte{'0'}
		}
	}
	for have > want && len(d) > 0 && d[len(d)-1] == '0' {
		d, have = d[:len(d)-1], have-1
	}
	if have > want && len(d) > 0 {
		return schema.Value{}, 0, errValue // more digits than the column's scale
	}
	if len(d)+max(0, want-have) <= 18 {
		var n int64
		for _, c := range d {
			n = n*10 + int64(c-'0')
		}
		for ; have < want; have++ {
			n *= 10
		}
		if neg {
			n = -n
		}
		return int64Bytes(b, n), want, nil
	}
	var n big.Int
	if _, ok := n.SetString(str(d), 10); !ok {
		return schema.Value{}, 0, errValue
	}
	if have < want {
		n.Mul(&n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(want-have)), nil))
	}
	if neg {
		n.Neg(&n)
	}
	return schema.BytesOf(b.Copy(twosComplement(&n))), want, nil
}

// int64Bytes is n as the shortest big-endian two's complement.
func int64Bytes(b *connectors.Batch, n int64) schema.Value {
	var buf [8]byte
	for i := range buf {
		buf[i] = byte(n >> (56 - 8*i))
	}
	i := 0
	for i < 7 && (buf[i] == 0 && buf[i+1] < 0x80 || buf[i] == 0xff && buf[i+1] >= 0x80) {
		i++
	}
	return schema.BytesOf(b.Copy(buf[i:]))
}

func twosComplement(n *big.Int) []byte {
	if n.Sign() >= 0 {
		p := n.Bytes()
		if len(p) == 0 || p[0] >= 0x80 {
			p = append([]byte{0}, p...)
		}
		return p
	}
	// -n-1 has the complement's bits.
	m := new(big.Int).Not(n)
	p := m.Bytes()
	if len(p) == 0 || p[0] >= 0x80 {
		p = append([]byte{0}, p...)
	}
	for i := range p {
		p[i] = ^p[i]
	}
	return p
}

// decodeMoney reads money under lc_monetary C: $1,234.50 or -$1,234.50.
func decodeMoney(b *connectors.Batch, t []byte) (schema.Value, error) {
	w := 0
	for _, c := range t {
		if c == '$' || c == ',' {
			continue
		}
		t[w] = c
		w++
	}
	v, _, err := unscaled(b, t[:w], 2, true)
	return v, err
}
