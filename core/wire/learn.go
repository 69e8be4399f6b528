package wire

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Message is a request or a response of kmsg.
type Message interface {
	SetVersion(version int16)
	IsFlexible() bool
	AppendTo(dst []byte) []byte
}

// Learn finds a shape out from kmsg's own encoder, by changing one field at a time; so nobody writes it down. The order of fields on the
// wire is that of the struct. fresh makes a Message with kmsg's defaults.
func Learn(fresh func() Message, version int16) *Shape {
	m := fresh()
	m.SetVersion(version)
	p := &prober{fresh: fresh, version: version, flexible: m.IsFlexible()}
	return p.learn(nil, reflect.TypeOf(fresh()).Elem())
}

// prober encodes messages that differ in one field.
type prober struct {
	fresh    func() Message
	version  int16
	flexible bool
}

// encode makes a message in which every array and optional struct on the path
// has one element, and change has been applied to the struct at its end.
func (p *prober) encode(path []int, change func(reflect.Value)) []byte {
	m := p.fresh()
	v := reflect.ValueOf(m).Elem()
	for _, at := range path {
		f := v.Field(at)
		if f.Kind() == reflect.Struct {
			v = f
			continue
		}
		if f.Kind() == reflect.Pointer {
			f.Set(reflect.New(f.Type().Elem()))
			v = f.Elem()
		} else {
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			v = f.Index(0)
		}
		setDefault(v)
	}
	change(v)
	m.SetVersion(p.version)
	return m.AppendTo(nil)
}

func setDefault(v reflect.Value) {
	if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
		d.Default()
	}
}

func (p *prober) learn(path []int, t reflect.Type) *Shape {
	s := &Shape{}
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Name == "Version" && len(path) == 0:
		case f.Type == reflect.TypeFor[kmsg.Tags]():
			s.Tags = p.flexible
		default:
			if sf, ok := p.field(path, i, f.Type); ok {
				if !p.flexible {
					sf.Len = otherLen
					if f.Type.Kind() != reflect.Slice {
						sf.Len = stringLen
					}
				}
				s.Fields = append(s.Fields, sf)
			} else if number, is := p.tag(path, i, f.Type); is {
				if s.Tagged == nil {
					s.Tagged = map[uint32]Field{}
				}
				s.Tagged[number] = plainField(f.Type)
			}
		}
	}
	return s
}

// field tells a field's shape; false when this version does not have it, or has it as a tag.
func (p *prober) field(path []int, i int, t reflect.Type) (f Field, ok bool) {
	with := func(v reflect.Value) []byte {
		return p.encode(path, func(s reflect.Value) { s.Field(i).Set(v) })
	}
	some := func(n int) []byte {
		list := reflect.MakeSlice(t, n, n)
		for k := range n {
			setDefault(list.Index(k))
		}
		return with(list)
	}
	if t.Kind() == reflect.Struct {
		if _, is := p.tag(path, i, t); is || bytes.Equal(p.encode(path, func(reflect.Value) {}), p.encode(path, func(s reflect.Value) { setSome(s.Field(i)) })) {
			return f, false
		}
		return Field{Kind: Struct, Elem: p.learn(append(path[:len(path):len(path)], i), t)}, true
	}
	none := with(reflect.Zero(t))
	switch {
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return Field{Kind: Bytes}, len(with(reflect.ValueOf([]byte("x")).Convert(t)))-len(none) == 1
	case t.Kind() == reflect.String:
		return Field{Kind: Bytes}, len(with(reflect.ValueOf("x").Convert(t)))-len(none) == 1
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.String:
		x := "x"
		return Field{Kind: Bytes}, len(with(reflect.ValueOf(&x)))-len(none) == 1
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		if bytes.Equal(with(reflect.New(t.Elem())), none) {
			return f, false
		}
		return Field{Kind: Optional, Elem: p.learn(append(path[:len(path):len(path)], i), t.Elem())}, true
	case t.Kind() == reflect.Slice:
		one, two := some(1), some(2)
		size := len(two) - len(one)
		if size == 0 || len(one)-len(none) != size {
			return f, false // a tag adds its number and size to the first element
		}
		switch t.Elem().Kind() {
		case reflect.Struct:
			return Field{Kind: Structs, Elem: p.learn(append(path[:len(path):len(path)], i), t.Elem())}, true
		case reflect.String:
			return Field{Kind: Strings}, true
		default:
			return Field{Kind: Fixeds, Size: size}, true
		}
	default:
		other := with(changed(t))
		// A tag is left out when it is its default, which need not be zero.
		if unset := p.encode(path, func(reflect.Value) {}); len(unset) != len(none) || len(other) != len(none) || bytes.Equal(other, none) {
			return f, false
		}
		return Field{Kind: Fixed, Size: fixedSize(t)}, true
	}
}

// tag tells the number of a struct, or of an array of structs, that this version has as a tag: what lies in it may have tags of its own.
func (p *prober) tag(path []int, i int, t reflect.Type) (number uint32, ok bool) {
	if !p.flexible {
		return 0, false
	}
	none := p.encode(path, func(reflect.Value) {})
	with := p.encode(path, func(s reflect.Value) {
		if t.Kind() == reflect.Struct || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct {
			setSome(s.Field(i))
		}
	})
	at := 0
	for at < len(none) && none[at] == with[at] {
		at++
	}
	if at == len(none) || none[at] != 0 || with[at] != 1 {
		return 0, false
	}
	r := kbin.Reader{Src: with[at+1:]}
	number = r.Uvarint()
	r.Span(int(r.Uvarint()))
	return number, r.Ok() && len(r.Src) == len(none)-at-1
}

// setSome gives a list one element, and a struct something in its first field.
func setSome(v reflect.Value) {
	switch {
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case v.Field(0).Kind() == reflect.Slice:
		setSome(v.Field(0))
	default:
		v.Field(0).Set(changed(v.Field(0).Type()))
	}
}

// plainField is the shape of a type that is on the wire as it is in Go: what lies in a tag is the same in all versions.
func plainField(t reflect.Type) Field {
	switch {
	case t.Kind() == reflect.Struct:
		s := &Shape{}
		for i := range t.NumField() {
			if f := t.Field(i); f.Type == reflect.TypeFor[kmsg.Tags]() {
				s.Tags = true
			} else {
				s.Fields = append(s.Fields, plainField(f.Type))
			}
		}
		return Field{Kind: Struct, Elem: s}
	case t.Kind() == reflect.String, t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.String:
		return Field{Kind: Bytes}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return Field{Kind: Structs, Elem: plainField(t.Elem()).Elem}
	}
	return Field{Kind: Fixed, Size: fixedSize(t)}
}

// changed is a value other than zero.
func changed(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch t.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Array:
		v.Index(0).SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Uint16, reflect.Uint32:
		v.SetUint(1)
	default:
		v.SetInt(1)
	}
	return v
}

// fixedSize is the bytes of a fixed type on the
func fixedSize(t reflect.Type) int {
	switch t.Kind() {
	case reflect.Bool, reflect.Int8, reflect.Int16, reflect.Uint16, reflect.Int32, reflect.Uint32, reflect.Int64, reflect.Float64, reflect.Array:
		return int(t.Size())
	}
	panic(fmt.Sprintf("kmsg has a field of type %v", t)) // TestShapesFitWhatKmsgEncodes meets it first
}
