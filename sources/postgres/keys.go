package postgres

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// keyOrder compares keys as the table's index does. Numbers and uuids compare
// here; text has the order of a collation that only the server knows, so there a
// query decides. It is asked only for changes that one run saw and another did not.
type keyOrder struct {
	cols []columnInfo // of the key, in the order of the reading
}

// columns are the key's columns.
func (o *keyOrder) columns() []string {
	parts := make([]string, len(o.cols))
	for i, c := range o.cols {
		parts[i] = quoteIdent(c.name)
	}
	return parts
}

// literals write a key's values, as 'x'::text COLLATE "C". A column may have another collation than its type.
func (o *keyOrder) literals(values []string) []string {
	parts := make([]string, len(o.cols))
	for i, v := range values {
		c := &o.cols[i]
		if parts[i] = quoteLit(v) + "::" + c.cast; c.order != "" {
			parts[i] += " COLLATE " + c.order
		}
	}
	return parts
}

// by is the ORDER BY.
func (o *keyOrder) by() string {
	parts := o.columns()
	for i := range parts {
		parts[i] += " USING " + o.cols[i].ops.less
	}
	return strings.Join(parts, ",")
}

// equal is the condition that the key a is b.
func (o *keyOrder) equal(a, b []string) string {
	parts := make([]string, len(a))
	for i := range a {
		parts[i] = a[i] + " " + o.cols[i].ops.equal + " " + b[i]
	}
	return strings.Join(parts, " AND ")
}

// greater is the condition that the key a comes after b. Rows compare by one operator; an index finds the place of such
// a comparison at once. Where the columns have several, it finds that of the first column, and the rest is looked through.
func (o *keyOrder) greater(a, b []string) string {
	op := o.cols[0].ops.greater
	if !slices.ContainsFunc(o.cols, func(c columnInfo) bool { return c.ops.greater != op }) {
		return "(" + strings.Join(a, ",") + ") " + op + " (" + strings.Join(b, ",") + ")"
	}
	last := len(a) - 1
	sql := a[last] + " " + o.cols[last].ops.greater + " " + b[last]
	for i := last - 1; i >= 0; i-- {
		c := &o.cols[i]
		sql = a[i] + " " + c.ops.notLess + " " + b[i] + " AND (" + a[i] + " " + c.ops.greater + " " + b[i] + " OR " + sql + ")"
	}
	return sql
}

// names say what the order is, for the position.
func (o *keyOrder) names() []string {
	parts := make([]string, len(o.cols))
	for i, c := range o.cols {
		parts[i] = strings.TrimSpace(c.ops.greater + " " + c.order)
	}
	return parts
}

// was says whether keys had this order when names was taken. Positions of earlier programs have none: these compared by
// pg_catalog's operators.
func (o *keyOrder) was(names []string) bool {
	if names == nil {
		return !slices.ContainsFunc(o.cols, func(c columnInfo) bool { return c.ops != builtinOperators })
	}
	return slices.Equal(names, o.names())
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
	if c.ops != builtinOperators {
		return 0, false
	}
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
	for i, k := range key {
		mine[i] = string(k)
	}
	rows, err := query(ctx, c, "SELECT "+o.greater(o.literals(mine), o.literals(upto)))
	if err != nil {
		return false, fmt.Errorf("compare keys: %w", err)
	}
	return string(rows[0][0]) == "t", nil
}
