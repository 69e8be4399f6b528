package transform

import (
	"fmt"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

// maxLayouts bounds the memory for topics.
const maxLayouts = 1024

// layouts are what a transform makes of the schemas that it has seen: worked out once for each.
type layouts struct {
	compile  func(in *schema.Schema) (*layout, error)
	known    schema.Cache[*schema.Schema, *layout]
	last     *schema.Schema
	lastSeen *layout
}

func layoutsOf(compile func(in *schema.Schema) (*layout, error)) *layouts {
	return &layouts{compile: compile}
}

func (ls *layouts) of(in *schema.Schema) (*layout, error) {
	if ls.last == in && in != nil {
		return ls.lastSeen, nil
	}
	l := ls.known.Get(in)
	if l == nil {
		var err error
		if l, err = ls.compile(in); err != nil {
			return nil, err
		}
		ls.known.Put(in, l, in.Size())
	}
	ls.last, ls.lastSeen = in, l
	return l, nil
}

// layout says how a Struct of one schema becomes one of another.
type layout struct {
	out  *schema.Schema
	same bool // nothing changes
	cols []column
}

// column is one field of the result: the field at place from of the Struct that comes in (-1: none), converted.
type column struct {
	from    int
	convert func(w *work, v schema.Value) (schema.Value, error) // nil: as it is
}

// apply makes the Struct; null stays null.
func (l *layout) apply(w *work, v schema.Value) (schema.Value, error) {
	if v.Kind != schema.Struct {
		return v, nil
	}
	list := w.b.Values(len(l.cols))
	for i := range l.cols {
		c := &l.cols[i]
		if c.from >= 0 && c.from < len(v.List) {
			list[i] = v.List[c.from]
		}
		if c.convert != nil {
			var err error
			if list[i], err = c.convert(w, list[i]); err != nil {
				return schema.Value{}, fmt.Errorf("field '%s': %w", l.out.Fields[i].Name, err)
			}
		}
	}
	return schema.Value{Kind: schema.Struct, List: list}, nil
}

// builder collects the columns of a layout.
type builder struct {
	in, out *schema.Schema
	cols    []column
	places  schema.Places // of out
	changed bool
}

func build(in *schema.Schema) *builder {
	out := *in
	out.Fields = make([]schema.Field, 0, len(in.Fields)+1)
	return &builder{in: in, out: &out, cols: make([]column, 0, len(in.Fields)+1)}
}

// keep takes the i-th field over.
func (b *builder) keep(i int) { b.add(b.in.Fields[i], column{from: i}) }

// put adds a field of which something changes. One of the same name gives way to it.
func (b *builder) put(f schema.Field, c column) {
	b.changed = true
	b.add(f, c)
}

func (b *builder) add(f schema.Field, c column) {
	if i := b.places.Find(b.out.Fields, f.Name); i >= 0 {
		b.out.Fields[i], b.cols[i] = f, c
		return
	}
	b.out.Fields = append(b.out.Fields, f)
	b.cols = append(b.cols, c)
}

func (b *builder) drop() { b.changed = true }

func (b *builder) layout() *layout {
	if !b.changed {
		return &layout{out: b.in, same: true}
	}
	return &layout{out: b.out, cols: b.cols}
}

// edit is what happens to a field that was named; path is how.
type edit func(b *builder, i int, path string) error

// edited is the layout of a Struct some of whose fields are named, by name or by a path with dots into the Structs
// within it. A name that the Struct does not have is none of our business, as in Kafka Connect.
func edited(in *schema.Schema, names []string, fn edit) (*layout, error) {
	b := build(in)
	for i := range in.Fields {
		f := &in.Fields[i]
		if slices.Contains(names, f.Name) {
			if err := fn(b, i, f.Name); err != nil {
				return nil, err
			}
			continue
		}
		if b.places.Find(b.out.Fields, f.Name) >= 0 {
			continue // another one has been given its name
		}
		within := below(f.Name, names)
		if len(within) == 0 || f.Schema.Kind != schema.Struct {
			b.keep(i)
			continue
		}
		inner, err := edited(f.Schema, within, func(b *builder, i int, path string) error { return fn(b, i, f.Name+"."+path) })
		if err != nil {
			return nil, err
		}
		if inner.same {
			b.keep(i)
			continue
		}
		b.put(schema.Field{Name: f.Name, Schema: inner.out}, column{from: i, convert: inner.apply})
	}
	return b.layout(), nil
}

// below are the rests of the paths that begin with a field's name.
func below(field string, paths []string) (rests []string) {
	for _, p := range paths {
		if rest, ok := strings.CutPrefix(p, field+"."); ok {
			rests = append(rests, rest)
		}
	}
	return rests
}

// find follows a path: a name, or names of Structs and at last a field with dots between. A field's own name may have dots.
func find(d connectors.Datum, path string) (connectors.Datum, bool) {
	s := d.Schema
	if s == nil || s.Kind != schema.Struct || d.Value.Kind != schema.Struct {
		return connectors.Datum{}, false
	}
	if i := s.FieldIndex(path); i >= 0 {
		return member(d, i), i < len(d.Value.List)
	}
	for at := 0; ; at++ {
		dot := strings.IndexByte(path[at:], '.')
		if dot < 0 {
			return connectors.Datum{}, false
		}
		at += dot
		if i := s.FieldIndex(path[:at]); i >= 0 {
			if inner, ok := find(member(d, i), path[at+1:]); ok {
				return inner, true
			}
		}
	}
}

func member(d connectors.Datum, i int) connectors.Datum {
	m := connectors.Datum{Schema: d.Schema.Fields[i].Schema}
	if i < len(d.Value.List) {
		m.Value = d.Value.List[i]
	}
	return m
}
