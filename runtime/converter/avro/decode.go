package avro

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
	"github.com/forebayhub/forebay/runtime/registry/avro"
)

// Reader reads values that were written with one schema. It holds nothing of them and may be used concurrently.
type Reader struct{ root *form }

// NewReader makes a Reader of what an Avro schema describes. references are the texts of those that it names, each behind those that it names itself.
func NewReader(text string, references []string) (Reader, error) {
	known := map[string]*avro.Schema{}
	for _, ref := range references {
		if _, err := avro.Parse(ref, avro.Options{Known: known}); err != nil {
			return Reader{}, fmt.Errorf("what it references: %w", err)
		}
	}
	a, err := avro.Parse(text, avro.Options{Known: known})
	if err != nil {
		return Reader{}, err
	}
	f, err := compile(a)
	return Reader{f}, err
}

// Schema describes what Read gives.
func (r Reader) Schema() *schema.Schema { return r.root.s }

var (
	errShort = errors.New("the bytes end in the middle of a value")
	errMany  = errors.New("more values than its bytes can hold")
)

// mostFree bounds the values of a message that take no bytes of it.
const mostFree = 1 << 22

// Read reads one value, which is all that b has. What it gives borrows from b and from m.
func (r Reader) Read(b []byte, m *schema.Slab) (schema.Value, error) {
	// Records, and items of some types, take no bytes of their own: an array of them must not make a few bytes into gigabytes.
	in := input{b: b, m: m, left: len(b) + min(7*len(b), mostFree) + 1024 + r.root.types}
	v, err := in.value(r.root)
	if err == nil && in.i < len(b) {
		err = fmt.Errorf("%d bytes are left", len(b)-in.i)
	}
	if err != nil {
		return schema.Value{}, fmt.Errorf("%w (at byte %d of %d)", err, in.i, len(b))
	}
	return v, nil
}

type input struct {
	b    []byte
	i    int
	left int // how many values there may be
	m    *schema.Slab
}

func (in *input) long() (int64, error) {
	// The common case of one byte, without the loop.
	if in.i < len(in.b) && in.b[in.i] < 0x80 {
		n := in.b[in.i]
		in.i++
		return int64(n>>1) ^ -int64(n&1), nil
	}
	n, size := binary.Varint(in.b[in.i:])
	if size == 0 {
		return 0, errShort
	}
	if size < 0 {
		return 0, errors.New("a number of more than 64 bits")
	}
	in.i += size
	return n, nil
}

func (in *input) take(n int64) ([]byte, error) {
	if n < 0 || n > int64(len(in.b)-in.i) {
		return nil, errShort
	}
	b := in.b[in.i : in.i+int(n) : in.i+int(n)]
	in.i += int(n)
	return b, nil
}

func (in *input) bytes() ([]byte, error) {
	n, err := in.long()
	if err != nil {
		return nil, err
	}
	return in.take(n)
}

func (in *input) value(f *form) (schema.Value, error) {
	if in.left--; in.left < 0 {
		return schema.Value{}, errMany
	}
	branch := int64(0)
	if f.pick {
		var err error
		if branch, err = in.long(); err != nil {
			return schema.Value{}, err
		}
		if branch == f.null && f.null >= 0 {
			return schema.Value{}, nil
		}
		most := int64(2)
		if f.null < 0 {
			most = 1
		}
		if branch < 0 || f.kind != avro.Union && branch >= most || f.kind == avro.Union && branch >= int64(len(f.fields)) {
			return schema.Value{}, fmt.Errorf("branch %d of a union that has none of that number", branch)
		}
	}
	switch f.kind {
	case "boolean":
		b, err := in.take(1)
		if err == nil && b[0] > 1 {
			err = fmt.Errorf("%d where a boolean is 0 or 1", b[0])
		}
		return schema.BoolOf(err == nil && b[0] == 1), err
	case "int", "long":
		return in.number(f)
	case "float":
		b, err := in.take(4)
		if err != nil {
			return schema.Value{}, err
		}
		return schema.Float32Of(math.Float32frombits(binary.LittleEndian.Uint32(b))), nil
	case "double":
		b, err := in.take(8)
		if err != nil {
			return schema.Value{}, err
		}
		return schema.Float64Of(math.Float64frombits(binary.LittleEndian.Uint64(b))), nil
	case "string":
		b, err := in.bytes()
		switch {
		case err != nil:
			return schema.Value{}, err
		case string(b) == connect.Placeholder:
			return schema.Missing, nil
		case !utf8.Valid(b):
			return schema.Value{}, errors.New("a string that is not UTF-8")
		}
		return schema.TextOf(b), nil
	case "bytes":
		b, err := in.bytes()
		if err == nil && string(b) == connect.Placeholder {
			return schema.Missing, nil
		}
		return schema.BytesOf(b), err
	case avro.Fixed:
		b, err := in.take(int64(f.size))
		return schema.BytesOf(b), err
	case avro.Enum:
		n, err := in.long()
		if err == nil && (n < 0 || n >= int64(len(f.symbols))) {
			err = fmt.Errorf("symbol %d of an enum of %d", n, len(f.symbols))
		}
		if err != nil {
			return schema.Value{}, err
		}
		return schema.TextOf(f.symbols[n]), nil
	case avro.Record:
		return in.record(f)
	case avro.Array, avro.Map:
		return in.items(f)
	case avro.Union:
		return in.union(f, branch)
	}
	return schema.Value{}, nil // null
}

func (in *input) number(f *form) (schema.Value, error) {
	n, err := in.long()
	switch f.s.Kind {
	case schema.Int64:
		return schema.Int64Of(n), err
	case schema.Int16:
		if err == nil && n != int64(int16(n)) {
			err = fmt.Errorf("%d does not fit 16 bits", n)
		}
		return schema.Int16Of(int16(n)), err
	}
	if err == nil && n != int64(int32(n)) {
		err = fmt.Errorf("%d does not fit 32 bits", n)
	}
	return schema.Int32Of(int32(n)), err
}

func (in *input) record(f *form) (schema.Value, error) {
	list := in.m.Values(len(f.fields))
	for i, field := range f.fields {
		var err error
		if list[i], err = in.value(field); err != nil {
			return schema.Value{}, fmt.Errorf("field '%s': %w", f.s.Fields[i].Name, err)
		}
		if f.whole && list[i].Kind == schema.Unavailable {
			for _, rest := range f.fields[i+1:] {
				if _, err := in.value(rest); err != nil {
					return schema.Value{}, err
				}
			}
			return schema.Missing, nil
		}
	}
	return schema.StructOf(list...), nil
}

func (in *input) union(f *form, branch int64) (schema.Value, error) {
	v, err := in.value(f.fields[branch])
	if in.left -= len(f.s.Fields); in.left < 0 {
		return schema.Value{}, errMany
	}
	list := in.m.Values(len(f.s.Fields))
	at := branch
	if f.null >= 0 && branch > f.null {
		at--
	}
	list[at] = v
	return schema.StructOf(list...), err
}

// items reads the blocks of an array or a map.
func (in *input) items(f *form) (schema.Value, error) {
	var list []schema.Value
	for {
		n, err := in.long()
		if err != nil {
			return schema.Value{}, err
		}
		if n == 0 {
			break
		}
		if n < 0 { // the block's size in bytes follows, for who wants to skip it
			if _, err := in.long(); err != nil {
				return schema.Value{}, err
			}
			if n = -n; n < 0 {
				return schema.Value{}, errMany
			}
		}
		if n > int64(in.left) {
			return schema.Value{}, errMany
		}
		values := int(n)
		if f.s.Kind == schema.Map {
			values *= 2
		}
		if list == nil && n <= 64 {
			list = in.m.Values(values)[:0]
		}
		list = slices.Grow(list, min(values, 1024)) // more as they come: the count may be wrong
		for ; n > 0; n-- {
			if list, err = in.item(f, list); err != nil {
				return schema.Value{}, err
			}
		}
	}
	if list == nil {
		list = []schema.Value{}
	}
	if f.s.Kind == schema.Map {
		if len(list) == 2 && list[0].Kind == schema.Unavailable {
			return schema.Missing, nil
		}
		return schema.MapOf(list...), nil
	}
	if len(list) == 1 && connect.Absent(list[0]) {
		return schema.Missing, nil
	}
	return schema.ArrayOf(list...), nil
}

func (in *input) item(f *form, list []schema.Value) ([]schema.Value, error) {
	switch {
	case f.kind == avro.Map:
		key, err := in.bytes()
		if err == nil && !utf8.Valid(key) {
			err = errors.New("a key that is not UTF-8")
		}
		if err != nil {
			return list, err
		}
		k := schema.TextOf(key)
		if string(key) == connect.Placeholder {
			k = schema.Missing
		}
		list = append(list, k)
	case f.key != nil:
		key, err := in.value(f.key)
		if err != nil {
			return list, err
		}
		list = append(list, key)
	}
	v, err := in.value(f.of)
	if err != nil {
		return list, fmt.Errorf("item %d: %w", len(list), err)
	}
	return append(list, v), nil
}
