package server

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

// shape is how a request of one API and version lies on the wire: enough to walk
// over it without decoding.
//
// It is walked before kmsg decodes a flexible version, because kmsg believes the
// count that a section of tags begins with: twenty bytes of garbage with a count of
// four billion would keep a processor busy for minutes.
//
// Nobody writes shapes down: learnShape finds them out from kmsg's own encoder,
// by changing one field at a time. The order of fields on the wire is that of the struct.
type shape struct {
	fields []shapeField
	tags   bool // ends with a section of tags
}

type shapeField struct {
	kind shapeKind
	size int    // of a fixed field, or of a fixed element
	elem *shape // of an array or an optional struct
}

type shapeKind uint8

const (
	shapeFixed    shapeKind = iota
	shapeBytes              // compact string or bytes
	shapeOptional           // a struct behind an int8 that is negative for null
	shapeFixeds             // compact array of fixed elements
	shapeStrings            // compact array of compact strings
	shapeStructs            // compact array of structs
)

// walk moves r over one struct; r is not Ok if it does not fit.
func (s *shape) walk(r *kbin.Reader) {
	for i := range s.fields {
		f := &s.fields[i]
		switch f.kind {
		case shapeFixed:
			r.Span(f.size)
		case shapeBytes:
			walkBytes(r)
		case shapeOptional:
			if r.Int8() >= 0 {
				f.elem.walk(r)
			}
		default:
			n := int64(r.Uvarint()) - 1
			switch {
			case n > int64(len(r.Src)): // each element takes a byte at least
				r.Span(-1)
			case f.kind == shapeFixeds && n > 0:
				r.Span(int(n) * f.size)
			case f.kind == shapeStrings:
				for ; n > 0 && r.Ok(); n-- {
					walkBytes(r)
				}
			default:
				for ; n > 0 && r.Ok(); n-- {
					f.elem.walk(r)
				}
			}
		}
		if !r.Ok() {
			return
		}
	}
	if s.tags {
		wire.SkipTags(r)
	}
}

func walkBytes(r *kbin.Reader) {
	if n := int64(r.Uvarint()) - 1; n > int64(len(r.Src)) {
		r.Span(-1)
	} else if n > 0 {
		r.Span(int(n))
	}
}

// checkShape says whether body can be a request of this version.
func (a *api) checkShape(version int16, body []byte) error {
	if version < a.flexibleFrom {
		return nil // no tags
	}
	at := &a.shapes[version]
	s := at.Load()
	if s == nil {
		s = learnShape(a.key, version)
		at.Store(s)
	}
	r := kbin.Reader{Src: body}
	s.walk(&r)
	return r.Complete()
}

// learnShape probes kmsg.
func learnShape(key kmsg.Key, version int16) *shape {
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

func (p *prober) learn(path []int, t reflect.Type) *shape {
	s := &shape{}
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Name == "Version" && len(path) == 0:
		case f.Type == reflect.TypeFor[kmsg.Tags]():
			s.tags = true
		default:
			if sf, ok := p.field(path, i, f.Type); ok {
				s.fields = append(s.fields, sf)
			}
		}
	}
	return s
}

// field tells a field's shape; false when this version does not have it, or has it as a tag.
func (p *prober) field(path []int, i int, t reflect.Type) (f shapeField, ok bool) {
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
		return shapeField{kind: shapeBytes}, len(with(reflect.ValueOf([]byte("x")).Convert(t)))-len(none) == 1
	case t.Kind() == reflect.String:
		return shapeField{kind: shapeBytes}, len(with(reflect.ValueOf("x").Convert(t)))-len(none) == 1
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.String:
		x := "x"
		return shapeField{kind: shapeBytes}, len(with(reflect.ValueOf(&x)))-len(none) == 1
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		if bytes.Equal(with(reflect.New(t.Elem())), none) {
			return f, false
		}
		return shapeField{kind: shapeOptional, elem: p.learn(append(path[:len(path):len(path)], i), t.Elem())}, true
	case t.Kind() == reflect.Slice:
		one, two := some(1), some(2)
		size := len(two) - len(one)
		if size == 0 || len(one)-len(none) != size {
			return f, false // a tag adds its number and size to the first element
		}
		switch t.Elem().Kind() {
		case reflect.Struct:
			return shapeField{kind: shapeStructs, elem: p.learn(append(path[:len(path):len(path)], i), t.Elem())}, true
		case reflect.String:
			return shapeField{kind: shapeStrings}, true
		default:
			return shapeField{kind: shapeFixeds, size: size}, true
		}
	default:
		other := with(changed(t))
		if len(other) != len(none) || bytes.Equal(other, none) {
			return f, false
		}
		return shapeField{kind: shapeFixed, size: fixedSize(t)}, true
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
