package connect

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors/schema"
)

// mostDigits bounds how many digits a decimal gets by another scale: as many as PostgreSQL's numeric can be told to have.
const mostDigits = 1000

// ScaleOf is how many digits of a decimal are behind the point.
func ScaleOf(s *schema.Schema) int {
	scale, _ := strconv.Atoi(s.Params[ParamScale]) // without one they are whole numbers
	return scale
}

// Rescaled are a decimal's digits, as Connect has them (two's complement, big-endian), at another scale, which must not lose any.
func Rescaled(b []byte, from, to int64) ([]byte, error) {
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return scaled(n, from, to)
}

// Unscaled are the digits at a scale of a number as JSON writes it.
func Unscaled(text string, scale int64) ([]byte, error) {
	digits, power, _ := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, _ := strings.Cut(digits, ".")
	exponent := int64(0)
	var err error
	if power != "" {
		exponent, err = strconv.ParseInt(power, 10, 32)
	}
	n, ok := new(big.Int), false
	if len(digits) <= mostDigits {
		n, ok = n.SetString(whole+fraction, 10)
	}
	if err != nil || !ok {
		return nil, fmt.Errorf("%.40q is no decimal", text)
	}
	return scaled(n, int64(len(fraction))-exponent, scale)
}

func scaled(n *big.Int, from, to int64) ([]byte, error) {
	wrong := fmt.Errorf("a decimal of scale %d where the schema says %d", from, to)
	if to-from > mostDigits || from-to > mostDigits {
		return nil, wrong
	}
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(max(to-from, from-to)), nil)
	if to > from {
		n.Mul(n, ten)
	} else if _, rest := n.QuoRem(n, ten, new(big.Int)); rest.Sign() != 0 {
		return nil, wrong
	}
	return twosComplement(n), nil
}

func twosComplement(n *big.Int) []byte {
	if n.Sign() >= 0 {
		b := n.Bytes()
		if len(b) == 0 || b[0] >= 0x80 {
			b = append([]byte{0}, b...)
		}
		return b
	}
	size := new(big.Int).Not(n).BitLen()/8 + 1
	return new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size))).FillBytes(make([]byte, size))
}
