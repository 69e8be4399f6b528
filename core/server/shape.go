package server

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

// decode reads a request of this version. No request is decoded without it: see wire.Shape.
func (a *api) decode(version int16, body []byte, req kmsg.Request) error {
	req.SetVersion(version)
	if version >= a.flexibleFrom {
		if err := a.shape(version).Check(body); err != nil {
			return err
		}
	}
	return req.ReadFrom(body)
}

func (a *api) shape(version int16) *wire.Shape {
	at := &a.shapes[version]
	s := at.Load()
	if s == nil {
		s = learnShape(a.key, version)
		at.Store(s)
	}
	return s
}

// learnShape finds a shape out from kmsg's own encoder, by changing one field at a time; so nobody writes it down. The order of fields on the
// wire is that of the struct.
func learnShape(key kmsg.Key, version int16) *wire.Shape {
	p := &prober{key: key, version: version}
	return p.learn(nil, reflect.TypeOf(key.Request()).Elem())
}

// prober encodes requests that differ in one field.
type prober struct {
	key     kmsg.Key
	version int16
}

// encode makes a request in which every array and optional struct on the path
// has one element, and change has been applied to the struct at its end.
func (p *prober) encode(path []int, change func(reflect.Value)) []byte {
	req := p.key.Request()
	v := reflect.ValueOf(req).Elem()
	for _, at := range path {
		f := v.Field(at)
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
	req.SetVersion(p.version)
	return req.AppendTo(nil)
}

func setDefault(v reflect.Value) {
	if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
		d.Default()
	}
}

func (p *prober) learn(path []int, t reflect.Type) *wire.Shape {
	s := &wire.Shape{}
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Name == "Version" && len(path) == 0:
		case f.Type == reflect.TypeFor[kmsg.Tags]():
			s.Tags = true
		default:
			if sf, ok := p.field(path, i, f.Type); ok {
				s.Fields = append(s.Fields, sf)
			}
		}
	}
	return s
}

// field tells a field's shape; false when this version does not have it, or has it as a tag.
func (p *prober) field(path []int, i int, t reflect.Type) (f wire.Field, ok bool) {
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
	none := with(reflect.Zero(t))
	switch {
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return wire.Field{Kind: wire.Bytes}, len(with(reflect.ValueOf([]byte("x")).Convert(t)))-len(none) == 1
	case t.Kind() == reflect.String:
		return wire.Field{Kind: wire.Bytes}, len(with(reflect.ValueOf("x").Convert(t)))-len(none) == 1
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.String:
		x := "x"
		return wire.Field{Kind: wire.Bytes}, len(with(reflect.ValueOf(&x)))-len(none) == 1
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		if bytes.Equal(with(reflect.New(t.Elem())), none) {
			return f, false
		}
		return wire.Field{Kind: wire.Optional, Elem: p.learn(append(path[:len(path):len(path)], i), t.Elem())}, true
	case t.Kind() == reflect.Slice:
		one, two := some(1), some(2)
		size := len(two) - len(one)
		if size == 0 || len(one)-len(none) != size {
			return f, false // a tag adds its number and size to the first element
		}
		switch t.Elem().Kind() {
		case reflect.Struct:
			return wire.Field{Kind: wire.Structs, Elem: p.learn(append(path[:len(path):len(path)], i), t.Elem())}, true
		case reflect.String:
			return wire.Field{Kind: wire.Strings}, true
		default:
			return wire.Field{Kind: wire.Fixeds, Size: size}, true
		}
	default:
		other := with(changed(t))
		if len(other) != len(none) || bytes.Equal(other, none) {
			return f, false
		}
		return wire.Field{Kind: wire.Fixed, Size: fixedSize(t)}, true
	}
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

// fixedSize is the bytes of a fixed type on the wire.
func fixedSize(t reflect.Type) int {
	switch t.Kind() {
	case reflect.Bool, reflect.Int8, reflect.Int16, reflect.Uint16, reflect.Int32, reflect.Uint32, reflect.Int64, reflect.Float64, reflect.Array:
		return int(t.Size())
	}
	panic(fmt.Sprintf("kmsg has a field of type %v", t)) // TestShapes meets it first
}
