package spec

import "time"

// Values are a config's parsed values, by flat name (rotate.size). A field that
// was not given has its default. Asking for a name or a type that the Spec does
// not have is a programming error and panics.
type Values struct {
	m map[string]any
}

// ValuesOf makes Values from parsed ones; for tests and Parse.
func ValuesOf(m map[string]any) Values { return Values{m: m} }

func get[T any](v Values, name string) T {
	x, ok := v.m[name].(T)
	if !ok {
		panic("spec: no field " + name + " of that type")
	}
	return x
}

// String reads a String or Enum.
func (v Values) String(name string) string { return get[string](v, name) }

// Secret reads a Secret in clear; hand it to nothing that prints.
func (v Values) Secret(name string) SecretText      { return get[SecretText](v, name) }
func (v Values) Int(name string) int64              { return get[int64](v, name) }
func (v Values) Bool(name string) bool              { return get[bool](v, name) }
func (v Values) Duration(name string) time.Duration { return get[time.Duration](v, name) }

// Size reads a size in bytes.
func (v Values) Size(name string) int64       { return int64(get[ByteSize](v, name)) }
func (v Values) Strings(name string) []string { return get[[]string](v, name) }

// Given says whether the text named the field.
func (v Values) Given(name string) bool { _, ok := v.m["\x00given."+name]; return ok }

// ByteSize is a number of bytes.
type ByteSize int64

// SecretText prints as stars.
type SecretText string

func (SecretText) String() string               { return "******" }
func (SecretText) GoString() string             { return "******" }
func (SecretText) MarshalText() ([]byte, error) { return []byte("******"), nil }

// Reveal gives the clear text.
func (s SecretText) Reveal() string { return string(s) }
