package differential

import (
	"fmt"
	"reflect"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets a request's fields. A name that does not exist is a mistake of the scenario and panics.
func fill(req kmsg.Request, m M) {
	if d, ok := req.(interface{ Default() }); ok {
		d.Default()
	}
	fillStruct(reflect.ValueOf(req).Elem(), m)
}

func fillStruct(v reflect.Value, m M) {
	for name, x := range m {
		f := v.FieldByName(name)
		if !f.IsValid() {
			panic(fmt.Sprintf("%s has no %s", v.Type(), name))
		}
		set(f, x)
	}
}

func set(f reflect.Value, x any) {
	if x == nil {
		f.SetZero()
		return
	}
	switch f.Kind() {
	case reflect.Pointer:
		p := reflect.New(f.Type().Elem())
		set(p.Elem(), x)
		f.Set(p)
	case reflect.Struct:
		if d, ok := f.Addr().Interface().(interface{ Default() }); ok {
			d.Default()
		}
		fillStruct(f, x.(M))
	case reflect.Slice:
		if b, ok := x.([]byte); ok {
			f.SetBytes(b)
			return
		}
		in := reflect.ValueOf(x)
		out := reflect.MakeSlice(f.Type(), in.Len(), in.Len())
		for i := range in.Len() {
			set(out.Index(i), in.Index(i).Interface())
		}
		f.Set(out)
	default:
		f.Set(reflect.ValueOf(x).Convert(f.Type()))
	}
}
