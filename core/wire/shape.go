package wire

import "github.com/twmb/franz-go/pkg/kbin"

// Shape is how a struct of Kafka's lies on the wire: enough to walk over it without decoding.
//
// It is walked before kmsg decodes, because kmsg believes counts. That of an array makes as many structs as there are bytes left, and sets their
// fields, before it looks for the first: 8 MiB became a gigabyte. That of a section of tags it follows to the end: twenty bytes of
// garbage with a count of four billion would keep a processor busy for many seconds.
type Shape struct {
	Fields []Field
	Tags   bool             // ends with a section of tags
	Tagged map[uint32]Field // the tags that have structs in them, by their number
}

// Field of a Shape, in the order of the wire.
type Field struct {
	Kind Kind
	Size int    // bytes of a Fixed field, or of an element of Fixeds
	Len  int    // bytes of the length of Bytes and of arrays, in versions that are not flexible; 0: it is compact
	Elem *Shape // of Struct, Optional and Structs
}

// Kind of a Field.
type Kind uint8

const (
	Fixed Kind = iota
	Bytes      // string or bytes
	Struct
	Optional // a struct behind an int8 that is negative for null
	Fixeds   // array of fixed elements
	Strings  // array of strings
	Structs  // array of structs
)

// Check says whether b can begin with a struct of this shape. kmsg ignores what follows.
func (s *Shape) Check(b []byte) error {
	r := kbin.Reader{Src: b}
	s.walk(&r)
	return r.Complete()
}

// walk moves r over one struct; r is not Ok if it does not fit.
func (s *Shape) walk(r *kbin.Reader) {
	for i := range s.Fields {
		if s.Fields[i].walk(r); !r.Ok() {
			return
		}
	}
	if !s.Tags {
		return
	}
	if s.Tagged == nil {
		SkipTags(r)
		return
	}
	fit := true
	EachTag(r, func(tag uint32, value []byte) {
		if f, known := s.Tagged[tag]; known {
			in := kbin.Reader{Src: value}
			f.walk(&in)
			fit = fit && in.Ok()
		}
	})
	if !fit {
		r.Span(-1)
	}
}

func (f *Field) walk(r *kbin.Reader) {
	switch f.Kind {
	case Fixed:
		r.Span(f.Size)
	case Bytes:
		walkBytes(r, f.Len)
	case Struct:
		f.Elem.walk(r)
	case Optional:
		if r.Int8() >= 0 {
			f.Elem.walk(r)
		}
	default:
		n := length(r, f.Len)
		switch {
		case n > int64(len(r.Src)): // each element takes a byte at least
			r.Span(-1)
		case f.Kind == Fixeds && n > 0:
			r.Span(int(n) * f.Size)
		case f.Kind == Strings:
			for ; n > 0 && r.Ok(); n-- {
				walkBytes(r, min(f.Len, stringLen))
			}
		default:
			for ; n > 0 && r.Ok(); n-- {
				f.Elem.walk(r)
			}
		}
	}
}

// Lengths in versions that are not flexible.
const (
	stringLen = 2
	otherLen  = 4
)

// length reads one; below 0 it is that of null.
func length(r *kbin.Reader, size int) int64 {
	switch size {
	case stringLen:
		return int64(r.Int16())
	case otherLen:
		return int64(r.Int32())
	}
	return int64(r.Uvarint()) - 1
}

func walkBytes(r *kbin.Reader, size int) {
	if n := length(r, size); n > int64(len(r.Src)) {
		r.Span(-1)
	} else if n > 0 {
		r.Span(int(n))
	}
}
