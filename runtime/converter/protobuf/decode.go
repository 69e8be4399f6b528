package protobuf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
)

var (
	errShort = errors.New("the bytes end in the middle of a value")
	errMany  = errors.New("more values than its bytes can hold")
	errText  = errors.New("a string that is not UTF-8")
)

// Fields that are not there take no bytes: a message of some bytes has as many values as fields. So there may be valuesOfByte
// for each byte, up to mostValues.
const (
	valuesOfByte = 64
	mostValues   = 1 << 22
)

// Read reads one message, which is all that b has. What it gives borrows from b and from m.
func (r Reader) Read(b []byte, m *schema.Slab) (schema.Value, error) {
	in := input{m: m, left: len(b) + min(valuesOfByte*len(b), mostValues) + 1024 + r.root.types}
	return in.message(r.root, b, schema.Value{})
}

type input struct {
	left int // how many values there may be
	m    *schema.Slab
}

// take counts n values.
func (in *input) take(n int) error {
	if in.left -= n; in.left < 0 {
		return errMany
	}
	return nil
}

// message reads a message, into v if that is one already: what comes twice adds up.
func (in *input) message(f *form, b []byte, v schema.Value) (schema.Value, error) {
	switch f.how {
	case decimal, variable:
		return in.decimal(f, b)
	case day, clock, instant:
		return moment(f, b)
	}
	list := v.List
	if v.Kind != schema.Struct || f.how == inside || len(list) != len(f.fields) {
		if err := in.take(len(f.fields)); err != nil {
			return schema.Value{}, err
		}
		list = in.m.Values(len(f.fields))
		copy(list, f.zero)
	}
	if err := in.fields(f, b, list); err != nil {
		return schema.Value{}, err
	}
	if f.how == inside {
		return list[0], nil
	}
	if f.whole {
		for i := range list {
			if list[i].Kind == schema.Unavailable {
				return schema.Missing, nil
			}
		}
	}
	return schema.StructOf(list...), nil
}

func (in *input) fields(f *form, b []byte, list []schema.Value) error {
	for next := 0; len(b) > 0; {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errShort
		}
		b = b[n:]
		size := protowire.ConsumeFieldValue(number, typ, b)
		if size < 0 {
			return errShort
		}
		at, ok := next, next < len(f.fields) && f.fields[next].number == number // most come in their order
		if !ok {
			at, ok = f.at[number]
		}
		if ok {
			next = at + 1
			m, content := f.fields[at], b[:size]
			if typ == protowire.StartGroupType {
				content, _ = protowire.ConsumeGroup(number, b) // without the tag at its end
			}
			v, err := in.field(m, typ, content, list[at])
			if err != nil {
				return fmt.Errorf("field '%s': %w", m.name, err)
			}
			list[at] = v
			for _, other := range m.others {
				list[other] = schema.Value{}
			}
		}
		b = b[size:]
	}
	for i, m := range f.fields {
		switch v := &list[i]; {
		case m.list && len(v.List) == 1 && connect.Absent(v.List[0]):
			*v = schema.Missing
		case m.pairs && len(v.List) == 2 && v.List[0].Kind == schema.Unavailable:
			*v = schema.Missing
		}
	}
	return nil
}

// field reads what stands behind a tag; v is what the field has had before.
func (in *input) field(m *member, typ protowire.Type, b []byte, v schema.Value) (schema.Value, error) {
	switch {
	case m.pairs:
		if v.Kind != schema.Map { // of a struct that was read already
			v = m.absent
		}
		entry, err := in.content(m.form, typ, b, schema.Value{})
		if err != nil {
			return v, err
		}
		v.List = append(in.room(v.List), entry.List...)
		return v, nil
	case !m.list:
		return in.content(m.form, typ, b, v)
	case v.Kind != schema.Array:
		v = m.absent
	}
	if want := wireType(m.kind); typ == protowire.BytesType && want != typ && want != protowire.StartGroupType { // packed
		packed, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return v, errShort
		}
		for len(packed) > 0 {
			size := protowire.ConsumeFieldValue(1, want, packed)
			if size < 0 {
				return v, errShort
			}
			var err error
			if v, err = in.item(m, want, packed[:size], v); err != nil {
				return v, err
			}
			packed = packed[size:]
		}
		return v, nil
	}
	return in.item(m, typ, b, v)
}

func (in *input) item(m *member, typ protowire.Type, b []byte, v schema.Value) (schema.Value, error) {
	if err := in.take(1); err != nil {
		return v, err
	}
	item, err := in.content(m.form, typ, b, schema.Value{})
	if err != nil {
		return v, fmt.Errorf("item %d: %w", len(v.List), err)
	}
	v.List = append(in.room(v.List), item)
	return v, nil
}

// room has a first few places for a list that has none.
func (in *input) room(list []schema.Value) []schema.Value {
	if cap(list) == 0 {
		return in.m.Values(4)[:0]
	}
	return list
}

// wireType is how values of a kind are written.
func wireType(k protoreflect.Kind) protowire.Type {
	switch k {
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		return protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		return protowire.Fixed64Type
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	case protoreflect.GroupKind:
		return protowire.StartGroupType
	}
	return protowire.VarintType
}

// content reads one value.
func (in *input) content(f *form, typ protowire.Type, b []byte, v schema.Value) (schema.Value, error) {
	if want := wireType(f.kind); typ != want {
		return v, fmt.Errorf("bytes of wire type %d where %s has %d", typ, f.kind, want)
	}
	var number uint64
	var data []byte
	n := 0
	switch typ {
	case protowire.VarintType:
		number, n = protowire.ConsumeVarint(b)
	case protowire.Fixed32Type:
		var small uint32
		small, n = protowire.ConsumeFixed32(b)
		number = uint64(small)
	case protowire.Fixed64Type:
		number, n = protowire.ConsumeFixed64(b)
	case protowire.BytesType:
		data, n = protowire.ConsumeBytes(b)
	default:
		data = b
	}
	if n < 0 {
		return v, errShort
	}
	switch f.how {
	case scalar:
		return f.scalar(number, data)
	case enum:
		return schema.TextOf(f.symbol(int32(number))), nil
	case unsigned:
		return schema.BytesOf(unsignedBytes(number)), nil
	}
	return in.message(f, data, v)
}

func (f *form) scalar(number uint64, data []byte) (schema.Value, error) {
	switch f.kind {
	case protoreflect.BoolKind:
		return schema.BoolOf(number != 0), nil
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		return f.small(int32(number))
	case protoreflect.Sint32Kind:
		return f.small(int32(protowire.DecodeZigZag(number & math.MaxUint32)))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return schema.Int64Of(int64(uint32(number))), nil
	case protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		return schema.Int64Of(int64(number)), nil
	case protoreflect.Sint64Kind:
		return schema.Int64Of(protowire.DecodeZigZag(number)), nil
	case protoreflect.FloatKind:
		return schema.Float32Of(math.Float32frombits(uint32(number))), nil
	case protoreflect.DoubleKind:
		return schema.Float64Of(math.Float64frombits(number)), nil
	}
	if string(data) == connect.Placeholder {
		return schema.Missing, nil
	}
	if f.kind == protoreflect.BytesKind {
		return schema.BytesOf(data), nil
	}
	if !utf8.Valid(data) {
		return schema.Value{}, errText
	}
	return schema.TextOf(data), nil
}

func (f *form) small(n int32) (schema.Value, error) {
	if f.s.Kind == schema.Int16 && n != int32(int16(n)) {
		return schema.Value{}, fmt.Errorf("%d does not fit 16 bits", n)
	}
	return f.integer(int64(n)), nil
}

func (f *form) integer(n int64) schema.Value {
	switch f.s.Kind {
	case schema.Int16:
		return schema.Int16Of(int16(n))
	case schema.Int32:
		return schema.Int32Of(int32(n))
	}
	return schema.Int64Of(n)
}

// symbol is an enum's name; of a number that has none, its digits.
func (f *form) symbol(n int32) []byte {
	if s := f.symbols[n]; s != nil {
		return s
	}
	return strconv.AppendInt(nil, int64(n), 10)
}

// unsignedBytes is n as a decimal's digits: two's complement.
func unsignedBytes(n uint64) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 1, 9), n)
	for len(b) > 1 && b[0] == 0 && b[1] < 0x80 {
		b = b[1:]
	}
	return b
}

// decimal reads a confluent.type.Decimal.
func (in *input) decimal(f *form, b []byte) (schema.Value, error) {
	var value []byte
	var numbers [4]int64
	if err := members(b, &numbers, &value); err != nil {
		return schema.Value{}, err
	}
	scale := int64(int32(numbers[2]))
	if string(value) == connect.Placeholder {
		return schema.Missing, nil
	}
	if f.how == variable {
		if err := in.take(2); err != nil {
			return schema.Value{}, err
		}
		list := in.m.Values(2)
		list[0], list[1] = schema.Int32Of(int32(scale)), schema.BytesOf(value)
		return schema.StructOf(list...), nil
	}
	var err error
	if scale != int64(f.scale) {
		value, err = connect.Rescaled(value, scale, int64(f.scale))
	}
	return schema.BytesOf(value), err
}

// members reads the numbers of a message's first fields, and its first field's bytes.
func members(b []byte, numbers *[4]int64, first *[]byte) error {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errShort
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(number, typ, b); n < 0 {
			return errShort
		}
		switch {
		case typ == protowire.VarintType && int(number) >= 1 && int(number) <= len(numbers):
			v, _ := protowire.ConsumeVarint(b) // it was skipped well
			numbers[number-1] = int64(v)
		case typ == protowire.BytesType && number == 1 && first != nil:
			*first, _ = protowire.ConsumeBytes(b) // as above
		}
		b = b[n:]
	}
	return nil
}

// moment reads Google's message of a day, of a time of day or of an instant.
func moment(f *form, b []byte) (schema.Value, error) {
	var n [4]int64
	if err := members(b, &n, nil); err != nil {
		return schema.Value{}, err
	}
	switch f.how {
	case day:
		year, month, day := n[0], n[1], n[2]
		at := time.Date(int(year), time.Month(month), int(day), 0, 0, 0, 0, time.UTC)
		if year < 1 || year > 9999 || month < 1 || month > 12 || day < 1 || int64(at.Day()) != day {
			return schema.Value{}, fmt.Errorf("%d-%d-%d is no day", year, month, day)
		}
		return schema.Int32Of(int32(at.Unix() / daySeconds)), nil
	case clock:
		for i, most := range [4]int64{24, 60, 61, 1e9} {
			if n[i] < 0 || n[i] >= most {
				return schema.Value{}, fmt.Errorf("%d:%d:%d and %d ns is no time of day", n[0], n[1], n[2], n[3])
			}
		}
		micros := ((n[0]*60+n[1])*60+n[2])*1e6 + n[3]/1e3
		if f.s.Kind == schema.Int32 {
			return schema.Int32Of(int32(micros / 1e3)), nil
		}
		return schema.Int64Of(micros), nil
	}
	seconds, nanos := n[0], n[1]
	if seconds < firstDay*daySeconds || seconds >= (lastDay+1)*daySeconds || nanos < 0 || nanos >= 1e9 {
		return schema.Value{}, fmt.Errorf("%d s and %d ns is no timestamp of the years 1 to 9999", seconds, nanos)
	}
	if f.s.Name == connect.Timestamp {
		return schema.Int64Of(seconds*1e3 + nanos/1e6), nil
	}
	return schema.Int64Of(seconds*1e6 + nanos/1e3), nil
}
