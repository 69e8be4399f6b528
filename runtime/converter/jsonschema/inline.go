package jsonschema

import (
	"github.com/forebayhub/forebay/runtime/registry/jsonschema"
	"github.com/forebayhub/forebay/runtime/registry/tree"
)

// Inlined is a schema's document with what its references lead to in their place: what another document takes over of it leads nowhere otherwise.
// Where a schema is part of itself, or more than maxTypes values have come together, anything is allowed instead.
func Inlined(s *jsonschema.Schema) *tree.Value {
	in := inliner{s: s, busy: map[*tree.Value]bool{}}
	return in.schema(s.Root(), s.Root(), 0)
}

type inliner struct {
	s    *jsonschema.Schema
	busy map[*tree.Value]bool // what is being written out
	made int
}

// schema is v without what it is for references only.
func (in *inliner) schema(v, doc *tree.Value, level int) *tree.Value {
	in.busy[v] = true
	defer delete(in.busy, v)
	out := v
	for _, name := range []string{"$id", "$schema", "$defs", "definitions"} {
		out = without(out, name)
	}
	return in.value(out, doc, level)
}

// value is v, which stands in doc, and is not changed.
func (in *inliner) value(v, doc *tree.Value, level int) *tree.Value {
	in.made++
	out := &tree.Value{Kind: v.Kind}
	switch v.Kind {
	case tree.Array:
		for _, item := range v.Items {
			out.Items = append(out.Items, in.value(item, doc, level+1))
		}
		return out
	case tree.Object:
	default:
		return v
	}
	if ref := v.Get("$ref"); ref.Is(tree.String) {
		to, where, err := in.s.Follow(ref, doc)
		if err != nil { // no schema, but a value that looks like one: a const, a default
			return v
		}
		if !in.busy[to] && in.made <= maxTypes && level <= maxLevels {
			to = in.schema(to, where, level+1)
			if !to.Is(tree.Object) {
				return to
			}
			for _, m := range to.Members {
				if v.Get(m.Name) == nil { // else what stands beside the reference is said of this place
					out.Members = append(out.Members, m)
				}
			}
		}
	}
	for _, m := range v.Members {
		if m.Name != "$ref" || !m.Value.Is(tree.String) {
			add(out, m.Name, in.value(m.Value, doc, level+1))
		}
	}
	return out
}
