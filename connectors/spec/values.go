package spec

import (
	"fmt"
	"time"
)

// Values are a config's parsed values, by flat name (rotate.size). A field that
// was not given has its default. Asking for a name or a type that the Spec does
// not have is a programming error and panics.
type Values struct {
	m     map[string]any
	given map[string]bool
}

// ValuesOf makes Values from parsed ones; all of them count as given. For
// tests: a real config comes from Spec.Parse.
func ValuesOf(m map[string]any) Values {
	given := make(map[string]bool, len(m))
	for name := range m {
		given[name] = true
	}
	return Values{m: m, given: given}
}

func get[T any](v Values, name string) T {
	x, ok := v.m[name].(T)
	if !ok {
		panic(fmt.Sprintf("spec: field %q is a %T, not a %T", name, v.m[name], x))
	}
	return x
}

// String reads a String or Enum.
func (v Values) String(name string) string { return get[string](v, name) }

// Secret reads a Secret in clear; hand it to nothing that prints.
func (v Values) Secret(name string) SecretText { return get[SecretText](v, name) }

// Int, Bool, Duration and Strings read a field of that type.
func (v Values) Int(name string) int64              { return get[int64](v, name) }
func (v Values) Bool(name string) bool              { return get[bool](v, name) }
func (v Values) Duration(name string) time.Duration { return get[time.Duration](v, name) }
func (v Values) Strings(name string) []string       { return get[[]string](v, name) }

// Tree reads a Tree, as it was written: a List, or Absent.
func (v Values) Tree(name string) Node { return get[Node](v, name) }

// Size reads a size in bytes.
func (v Values) Size(name string) int64 { return int64(get[ByteSize](v, name)) }

// Given says whether the text named the field.
func (v Values) Given(name string) bool { return v.given[name] }

// Has says whether there is a field of that name, given or not.
func (v Values) Has(name string) bool { _, ok := v.m[name]; return ok }

// ByteSize is a number of bytes.
type ByteSize int64

// String prints the size in the largest binary unit that divides it.
func (b ByteSize) String() string {
	for _, u := range binaryUnits {
		if b != 0 && int64(b)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(b)/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%d", int64(b))
}

// SecretText prints as stars.
type SecretText string

func (SecretText) String() string               { return "******" }
func (SecretText) GoString() string             { return "******" }
func (SecretText) MarshalText() ([]byte, error) { return []byte("******"), nil }

// Reveal gives the clear text.
func (s SecretText) Reveal() string { return string(s) }
