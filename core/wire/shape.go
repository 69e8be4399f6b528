package wire

import "github.com/twmb/franz-go/pkg/kbin"

// Shape is how a flexible struct of Kafka's lies on the wire: enough to walk over it without decoding.
//
// It is walked before kmsg decodes a flexible version, because kmsg believes the count that a section of tags begins with: twenty bytes of
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
	Elem *Shape // of Struct, Optional and Structs
}

// Kind of a Field.
type Kind uint8

const (
	Fixed Kind = iota
	Bytes      // compact string or bytes
	Struct
	Optional // a struct behind an int8 that is negative for null
	Fixeds   // compact array of fixed elements
	Strings  // compact array of compact strings
	Structs  // compact array of structs
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
		walkBytes(r)
	case Struct:
		f.Elem.walk(r)
	case Optional:
		if r.Int8() >= 0 {
			f.Elem.walk(r)
		}
	default:
		n := int64(r.Uvarint()) - 1
		switch {
		case n > int64(len(r.Src)): // each element takes a byte at least
			r.Span(-1)
		case f.Kind == Fixeds && n > 0:
			r.Span(int(n) * f.Size)
		case f.Kind == Strings:
			for ; n > 0 && r.Ok(); n-- {
				walkBytes(r)
			}
		default:
			for ; n > 0 && r.Ok(); n-- {
				f.Elem.walk(r)
			}
		}
	}
}

func walkBytes(r *kbin.Reader) {
	if n := int64(r.Uvarint()) - 1; n > int64(len(r.Src)) {
		r.Span(-1)
	} else if n > 0 {
		r.Span(int(n))
	}
}
