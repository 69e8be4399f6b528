package schema

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"unicode/utf8"
)

// Fingerprint is a stable 64-bit hash of the schema's canonical JSON: the first
// eight bytes of its SHA-256. It is the same in every process and release.
func (s *Schema) Fingerprint() uint64 {
	sum := sha256.Sum256(s.AppendJSON(nil))
	return binary.BigEndian.Uint64(sum[:8])
}

// Equal says whether two schemas describe the same values under the same names.
func Equal(a, b *Schema) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil {
		return false
	}
	if a.Kind != b.Kind || a.Name != b.Name || a.Version != b.Version || a.Optional != b.Optional || a.Doc != b.Doc ||
		len(a.Fields) != len(b.Fields) || !maps.Equal(a.Params, b.Params) {
		return false
	}
	for i := range a.Fields {
		if a.Fields[i].Name != b.Fields[i].Name || !Equal(a.Fields[i].Schema, b.Fields[i].Schema) {
			return false
		}
	}
	return Equal(a.Elem, b.Elem) && Equal(a.Key, b.Key)
}

// OptionalOf is s with null allowed; s itself is not changed.
func OptionalOf(s *Schema) *Schema {
	if s == nil || s.Optional {
		return s
	}
	c := *s
	c.Optional = true
	return &c
}

// utf8Len is the length of the character that b starts with, 0 when it is not UTF-8.
func utf8Len(b []byte) int {
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError && n <= 1 {
		return 0
	}
	return n
}
