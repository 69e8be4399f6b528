package commitlog

import (
	"fmt"
	"strconv"

	"github.com/forebayhub/forebay/core/record"
)

// ExpectedOffset is the header of a record that is to be appended only if it gets that offset, in decimal digits, in topics with
// forebay.append.condition=true. docs/conditional-append.md.
const ExpectedOffset = "forebay.expected.offset"

// condition is one record's.
type condition struct {
	index  int32 // of all that is appended at once
	offset int64
}

// conditions reads those of a client's batches, whose records get consecutive offsets.
func conditions(b []byte) (list []condition, err error) {
	i := int32(0)
	bad := &RecordErrors{Err: ErrInvalidRecord}
	for r, err := range record.All(b, 0) {
		if err != nil {
			return nil, unsound(err)
		}
		if v, ok := r.Header(ExpectedOffset); ok {
			n, err := strconv.ParseInt(string(v), 10, 64)
			if err != nil || n < 0 {
				bad.add(i, "the header %s is %.40q, not an offset in decimal digits", ExpectedOffset, v)
			}
			list = append(list, condition{i, n})
		}
		i++
	}
	if bad.Count > 0 {
		return nil, bad
	}
	return list, nil
}

// checkConditions compares with the offsets that the records would get, of which base is the first; w is held.
func (l *Log) checkConditions(list []condition, base int64) error {
	bad := &RecordErrors{Err: ErrUnexpectedOffset}
	for _, c := range list {
		if at := base + int64(c.index); c.offset != at {
			bad.add(c.index, "it expected offset %d and would get %d: the next offset of %s is %d", c.offset, at, l.o.Name, base)
		}
	}
	if bad.Count > 0 {
		return fmt.Errorf("append to %s: %w", l.o.Name, bad)
	}
	return nil
}
