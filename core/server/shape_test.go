package server

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

// Whatever kmsg encodes, its shape fits, to the last byte, in every advertised
// version; and one byte less never does. Responses are read by other nodes.
func TestShapesFitWhatKmsgEncodes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := New(Deps{})
	for _, a := range s.apis {
		if a == nil {
			continue
		}
		for v := a.min; v <= a.max; v++ {
			if a.handle != nil {
				fits(t, rnd, func() wire.Message { return a.key.Request() }, v)
			}
			fits(t, rnd, func() wire.Message { return a.key.Response() }, v)
		}
	}
}

func fits(t *testing.T, rnd *rand.Rand, fresh func() wire.Message, v int16) {
	t.Helper()
	sh := wire.Learn(fresh, v)
	for range 40 {
		m := fresh()
		fill(rnd, reflect.ValueOf(m).Elem(), 3)
		m.SetVersion(v)
		b := m.AppendTo(nil)
		if err := sh.Check(b); err != nil {
			t.Fatalf("%T version %d: %v: %x (%+v)", m, v, err, b, m)
		}
		if len(b) > 0 && sh.Check(b[:len(b)-1]) == nil {
			t.Fatalf("%T version %d: fits although it is cut", m, v)
		}
	}
}

// fill sets every field to something.
func fill(rnd *rand.Rand, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[kmsg.Tags]() {
			if rnd.IntN(4) == 0 {
				v.Addr().Interface().(*kmsg.Tags).Set(1000+rnd.Uint32N(1000), make([]byte, rnd.IntN(200)))
			}
			return
		}
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fill(rnd, f, depth)
			}
		}
	case reflect.Slice:
		n := rnd.IntN(4)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n = rnd.IntN(300)
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rnd, v.Index(i), depth-1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rnd, v.Index(i), depth)
		}
	case reflect.Pointer:
		if rnd.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rnd, v.Elem(), depth)
		}
	case reflect.String:
		v.SetString(string(make([]byte, rnd.IntN(200))))
	case reflect.Bool:
		v.SetBool(rnd.IntN(2) == 0)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(rnd.Uint64N(256))
	case reflect.Float64:
		v.SetFloat(rnd.Float64())
	default:
		v.SetInt(rnd.Int64N(256) - 128)
	}
}

// An array's count is not believed either: in versions that are not flexible, where each element takes several bytes, a megabyte became eighty.
func TestArrayCountIsNotBelieved(t *testing.T) {
	a := New(Deps{}).apis[kmsg.CreateTopics]
	body := append(binary.BigEndian.AppendUint32(nil, 1<<20), make([]byte, 1<<20)...)
	a.shape(2)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := a.decode(2, body, a.key.Request())
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Error("a million topics are in as many bytes")
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
		t.Errorf("%d bytes were allocated", took)
	}
}

// A count of four billion tags costs nothing.
func TestTagCountIsNotBelieved(t *testing.T) {
	n := newNode(t, nodeOptions{})
	c := n.dial()
	begin := time.Now()
	// DescribeLogDirs version 5: header with no tags, null topics, 2^32-1 tags.
	if _, err := c.c.Write([]byte{0, 0, 0, 17, 0, 35, 0, 5, 0, 0, 0, 1, 255, 255, 0, 0, 255, 255, 255, 255, 15}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.frame(); err == nil {
		t.Fatal("answered")
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
