package postgres

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strings"
)

// keyOrder compares keys as the table's index does. Numbers and uuids compare
// here; text has the order of a collation that only the server knows, so there a
// query decides. It is asked only for changes that one run saw and another did not.
type keyOrder struct {
	cols []columnInfo // of the key, in the order of the reading
}

// tuple writes values as ('1'::int4,'x'::text).
func (o *keyOrder) tuple(values []string) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = quoteLit(v) + "::" + o.cols[i].cast
	}
	return "(" + strings.Join(parts, ",") + ")"
}

func (o *keyOrder) names() string {
	parts := make([]string, len(o.cols))
	for i, c := range o.cols {
		parts[i] = quoteIdent(c.name)
	}
	return strings.Join(parts, ",")
}

// behind says whether key comes after upto.
func (o *keyOrder) behind(ctx context.Context, conn connFunc, key [][]byte, upto []string) (bool, error) {
	if len(key) != len(o.cols) || len(upto) != len(o.cols) {
		return false, fmt.Errorf("a key of %d columns cannot be compared with one of %d", len(key), len(upto))
	}
	for i := range o.cols {
		n, ok := compareText(&o.cols[i], key[i], upto[i])
		if !ok {
			return o.ask(ctx, conn, key, upto)
		}
		if n != 0 {
			return n > 0, nil
		}
	}
	return false, nil
}

// compareText compares two values of a type whose order is known here.
func compareText(c *columnInfo, a []byte, b string) (int, bool) {
	switch c.typ {
	case oidInt2, oidInt4, oidInt8, oidOid:
		x, err1 := parseInt(a, 64)
		y, err2 := parseInt([]byte(b), 64)
		return cmp.Compare(x, y), err1 == nil && err2 == nil
	case oidUUID:
		return bytes.Compare(a, []byte(b)), true
	case oidText, oidVarchar:
		if !c.collation {
			return bytes.Compare(a, []byte(b)), true
		}
		if string(a) == b {
			return 0, true
		}
	}
	return 0, false
}

// ask lets the server compare.
func (o *keyOrder) ask(ctx context.Context, conn connFunc, key [][]byte, upto []string) (bool, error) {
	c, err := conn(ctx)
	if err != nil {
		return false, err
	}
	mine := make([]string, len(key))
	theirs := make([]string, len(key))
	for i := range key {
		mine[i] = quoteLit(string(key[i])) + "::" + o.cols[i].cast
		theirs[i] = quoteLit(upto[i]) + "::" + o.cols[i].cast
		if o.cols[i].order != "" { // a column may have another collation than its type
			mine[i] += " COLLATE " + o.cols[i].order
		}
	}
	rows, err := query(ctx, c, "SELECT ("+strings.Join(mine, ",")+") > ("+strings.Join(theirs, ",")+")")
	if err != nil {
		return false, fmt.Errorf("compare keys: %w", err)
	}
	return string(rows[0][0]) == "t", nil
}
