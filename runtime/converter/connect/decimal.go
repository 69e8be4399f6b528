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
	return digits(scaled(n, from, to))
}

// Unscaled are the digits at a scale of a number as JSON writes it.
func Unscaled(text string, scale int64) ([]byte, error) { return digits(unscaled(text, scale)) }

// Whole is a number as JSON writes it, with a fraction or an exponent too, if it is an integer of 64 bits.
func Whole(text string) (int64, bool) {
	n, err := unscaled(text, 0)
	if err != nil || !n.IsInt64() {
		return 0, false
	}
	return n.Int64(), true
}

func unscaled(text string, scale int64) (*big.Int, error) {
	mantissa, power, _ := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent := int64(0)
	var err error
	if power != "" {
		exponent, err = strconv.ParseInt(power, 10, 32)
	}
	n, ok := new(big.Int), false
	if len(mantissa) <= mostDigits {
		n, ok = n.SetString(whole+fraction, 10)
	}
	if err != nil || !ok {
		return nil, fmt.Errorf("%.40q is no decimal", text)
	}
	return scaled(n, int64(len(fraction))-exponent, scale)
}

func scaled(n *big.Int, from, to int64) (*big.Int, error) {
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
	return n, nil
}

// digits are n as two's complement.
func digits(n *big.Int, err error) ([]byte, error) {
	if err != nil {
		return nil, err
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
