package protobuf

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/runtime/converter/connect"
	"github.com/forebayhub/forebay/runtime/registry/protobuf"
)

// Writer writes values of one schema. It holds nothing of them and may be used concurrently.
type Writer struct {
	root  *message
	text  string
	index []byte
}

// NewWriter makes a Writer. latest is the newest version of the subject, whose numbers it keeps; nil: there is none.
func NewWriter(s *schema.Schema, latest *protobuf.Schema) Writer {
	m := &maker{}
	if latest != nil {
		m.latest = latest.File()
	}
	if at := slices.Index(wrapped, s.Kind); at >= 0 && s.Name == "" && !s.Optional {
		_, root := m.root(s)
		if at > 0 {
			return Writer{root, wrappers, binary.AppendVarint([]byte{2}, int64(at))}
		}
		return Writer{root, wrappers, []byte{0}}
	}
	space, root := m.root(s)
	return Writer{root, textOf(space, root), []byte{0}}
}

// Text is the schema for a registry.
func (w Writer) Text() string { return w.text }

// Index says which of the schema's messages Append writes, as it stands before the bytes: how many numbers follow and
// the places of messages in each other, zigzag. The file's first message is a lone 0.
func (w Writer) Index() []byte { return w.index }

// Append appends v. An error names the field that cannot be written.
func (w Writer) Append(dst []byte, v *schema.Value) ([]byte, error) { return w.root.append(dst, v) }

// wrapped are the kinds that google/protobuf/wrappers.proto has a message for, at its place: what ProtobufConverter makes of a value that is no struct.
var wrapped = []schema.Kind{0: schema.Float64, 1: schema.Float32, 2: schema.Int64, 3: schema.Unavailable, 4: schema.Int32, 5: schema.Unavailable, 6: schema.Bool, 7: schema.String, 8: schema.Bytes}

// wrappers is that file, as a descriptor.
var wrappers = func() string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(protodesc.ToFileDescriptorProto(wrapperspb.File_google_protobuf_wrappers_proto))
	if err != nil {
		panic(err) // it is part of the library
	}
	return base64.StdEncoding.EncodeToString(b)
}()

func (m *message) append(dst []byte, v *schema.Value) ([]byte, error) {
	if m.wrapper {
		return m.fields[0].append(dst, v)
	}
	if v.Kind != schema.Struct {
		return dst, fmt.Errorf("a value of kind %s where the type is a struct", v.Kind)
	}
	if len(v.List) != len(m.fields) {
		return dst, fmt.Errorf("%d values for %d fields", len(v.List), len(m.fields))
	}
	for i, f := range m.fields {
		var err error
		if dst, err = f.append(dst, &v.List[i]); err != nil {
			return dst, fmt.Errorf("field '%s': %w", f.column, err)
		}
	}
	return dst, nil
}

func (f *field) append(dst []byte, v *schema.Value) (_ []byte, err error) {
	switch {
	case v.Kind == schema.Null && f.nullable:
		return dst, nil
	case v.Kind == schema.Null:
		return dst, connect.ErrNull
	case v.Kind == schema.Unavailable:
		return f.missing(dst, false)
	case f.label != "repeated":
		return f.one(dst, v)
	case f.pairs:
		if v.Kind != schema.Map {
			return dst, connect.KindError(f.s, v)
		}
		for i := 0; i+1 < len(v.List); i += 2 {
			entry := schema.Value{Kind: schema.Struct, List: v.List[i : i+2]}
			if dst, err = f.nested(dst, func(dst []byte) ([]byte, error) { return f.inner.append(dst, &entry) }); err != nil {
				return dst, fmt.Errorf("pair %d: %w", i/2, err)
			}
		}
		return dst, nil
	case v.Kind != schema.Array:
		return dst, fmt.Errorf("a value of kind %s where the type is an array", v.Kind)
	}
	for i := range v.List {
		if v.List[i].Kind == schema.Unavailable {
			dst, err = f.missingOne(dst, true)
		} else {
			dst, err = f.one(dst, &v.List[i])
		}
		if err != nil {
			return dst, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return dst, nil
}

// nested appends the tag, and behind it what fn appends, as a message.
func (f *field) nested(dst []byte, fn func([]byte) ([]byte, error)) ([]byte, error) {
	dst = append(protowire.AppendTag(dst, f.number, protowire.BytesType), 0)
	at := len(dst)
	dst, err := fn(dst)
	if err != nil {
		return dst, err
	}
	n := len(dst) - at
	if n >= 0x80 { // room for a longer length
		more := protowire.SizeVarint(uint64(n)) - 1
		dst = append(dst, make([]byte, more)...)
		copy(dst[at+more:], dst[at:at+n])
	}
	binary.PutUvarint(dst[at-1:], uint64(n))
	return dst, nil
}

// one appends a value that is not null, and nothing for what readers take for granted.
func (f *field) one(dst []byte, v *schema.Value) ([]byte, error) {
	if f.inner != nil {
		if v.Kind == schema.Null && !f.inner.wrapper {
			return dst, connect.ErrNull
		}
		return f.nested(dst, func(dst []byte) ([]byte, error) { return f.inner.append(dst, v) })
	}
	if !fits(f.s.Kind, v.Kind) {
		return dst, connect.KindError(f.s, v)
	}
	switch f.typ {
	case decimalType:
		return f.nested(dst, func(dst []byte) ([]byte, error) { return f.decimal(dst, v.Data), nil })
	case dateType, timeType, timestampType:
		return f.nested(dst, func(dst []byte) ([]byte, error) { return f.time(dst, v.Int()) })
	}
	granted := f.label == ""
	switch f.s.Kind {
	case schema.Bool:
		if granted && !v.Bool() {
			return dst, nil
		}
		return protowire.AppendVarint(protowire.AppendTag(dst, f.number, protowire.VarintType), protowire.EncodeBool(v.Bool())), nil
	case schema.Int16, schema.Int32, schema.Int64:
		n := v.Int()
		if f.s.Kind != schema.Int64 && n != int64(int32(n)) {
			return dst, fmt.Errorf("%d does not fit %s", n, f.s.Kind)
		}
		if granted && n == 0 {
			return dst, nil
		}
		return protowire.AppendVarint(protowire.AppendTag(dst, f.number, protowire.VarintType), uint64(n)), nil
	case schema.Float32:
		bits := math.Float32bits(float32(v.Float()))
		if granted && bits == 0 {
			return dst, nil
		}
		return protowire.AppendFixed32(protowire.AppendTag(dst, f.number, protowire.Fixed32Type), bits), nil
	case schema.Float64:
		bits := math.Float64bits(v.Float())
		if granted && bits == 0 {
			return dst, nil
		}
		return protowire.AppendFixed64(protowire.AppendTag(dst, f.number, protowire.Fixed64Type), bits), nil
	}
	b := v.Data
	if granted && len(b) == 0 {
		return dst, nil
	}
	if f.s.Kind == schema.String && !utf8.Valid(b) {
		b = []byte(string([]rune(string(b)))) // strings are UTF-8: what is not becomes U+FFFD
	}
	return f.data(dst, b), nil
}

func (f *field) data(dst, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, f.number, protowire.BytesType), b)
}

// fits says whether a value of one kind may stand where the type is another.
func fits(want, have schema.Kind) bool {
	integer := func(k schema.Kind) bool { return k == schema.Int16 || k == schema.Int32 || k == schema.Int64 }
	float := func(k schema.Kind) bool { return k == schema.Float32 || k == schema.Float64 }
	return want == have || integer(want) && integer(have) || float(want) && float(have)
}

// decimal appends the members of confluent.type.Decimal.
func (f *field) decimal(dst, unscaled []byte) []byte {
	dst = protowire.AppendBytes(protowire.AppendTag(dst, 1, protowire.BytesType), unscaled)
	if n, err := strconv.Atoi(f.s.Params[connect.ParamPrecision]); err == nil && n > 0 {
		dst = protowire.AppendVarint(protowire.AppendTag(dst, 2, protowire.VarintType), uint64(n))
	}
	if n := connect.ScaleOf(f.s); n != 0 {
		dst = protowire.AppendVarint(protowire.AppendTag(dst, 3, protowire.VarintType), uint64(n))
	}
	return dst
}

// time appends the members of Google's message of a day, of a time of day, of an instant.
func (f *field) time(dst []byte, n int64) ([]byte, error) {
	number := protowire.Number(0)
	member := func(n int64) {
		if number++; n != 0 {
			dst = protowire.AppendVarint(protowire.AppendTag(dst, number, protowire.VarintType), uint64(n))
		}
	}
	switch f.typ {
	case timeType:
		if n < 0 || n >= 24*time.Hour.Milliseconds() {
			return dst, fmt.Errorf("%d is no millisecond of a day", n)
		}
		s := n / 1000
		member(s / 3600)
		member(s / 60 % 60)
		member(s % 60)
		member(n % 1000 * 1e6)
		return dst, nil
	case dateType:
		if n >= firstDay && n <= lastDay {
			at := time.Unix(n*daySeconds, 0).UTC()
			member(int64(at.Year()))
			member(int64(at.Month()))
			member(int64(at.Day()))
			return dst, nil
		}
	default:
		if n >= firstDay*daySeconds*1000 && n < (lastDay+1)*daySeconds*1000 {
			at := time.UnixMilli(n)
			member(at.Unix())
			member(int64(at.Nanosecond()))
			return dst, nil
		}
	}
	return dst, fmt.Errorf("%d lies outside of the years 1 to 9999, which %s has", n, f.typ)
}

// The days that Google's dates and timestamps have, from 1970-01-01 on: 0001-01-01 to 9999-12-31.
const (
	daySeconds = 24 * 60 * 60
	firstDay   = -719162
	lastDay    = 2932896
)

// missing appends what stands for a value that was not sent. Numbers can only stand for themselves, unless they are in an array.
func (f *field) missing(dst []byte, inArray bool) ([]byte, error) {
	switch {
	case f.pairs:
		return f.nested(dst, func(dst []byte) (_ []byte, err error) {
			for _, part := range f.inner.fields {
				if dst, err = part.missing(dst, false); err != nil {
					return dst, err
				}
			}
			return dst, nil
		})
	case f.label == "repeated":
		return f.missingOne(dst, true)
	}
	return f.missingOne(dst, inArray)
}

func (f *field) missingOne(dst []byte, inArray bool) ([]byte, error) {
	switch {
	case f.inner != nil && f.inner.wrapper:
		return f.nested(dst, func(dst []byte) ([]byte, error) { return f.inner.fields[0].missing(dst, inArray) })
	case f.inner != nil: // one of its members must say so
		for _, part := range f.inner.fields {
			if part.typ == "string" || part.typ == "bytes" {
				return f.nested(dst, func(dst []byte) ([]byte, error) { return part.missing(dst, false) })
			}
		}
	case f.typ == decimalType:
		return f.nested(dst, func(dst []byte) ([]byte, error) { return f.decimal(dst, []byte(connect.Placeholder)), nil })
	case f.typ == "string" || f.typ == "bytes":
		return f.data(dst, []byte(connect.Placeholder)), nil
	case inArray && (f.typ == "int32" || f.typ == "int64") && f.s.Kind != schema.Int16:
		n := int64(connect.PlaceholderNumber)
		return protowire.AppendVarint(protowire.AppendTag(dst, f.number, protowire.VarintType), uint64(n)), nil
	}
	return dst, connect.ErrMissing
}
