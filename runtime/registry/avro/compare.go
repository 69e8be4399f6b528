package avro

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Incompatibility is a reason why a reader cannot read what a writer wrote, by org.apache.avro.SchemaCompatibility's types.
type Incompatibility struct {
	Type    string // FIXED_SIZE_MISMATCH, …
	Path    string // where in the reader's schema: /fields/1/type
	Message string
}

// Read says why data written with one schema cannot be read with another; nothing when it can.
func Read(reader, writer *Schema) []Incompatibility {
	c := comparison{memo: map[pair][]Incompatibility{}}
	return c.compare(reader, writer, nil)
}

type pair struct{ reader, writer *Schema }

const (
	// maxFound bounds what one comparison reports.
	maxFound = 100
	// maxPairs bounds its work and memory: two unions of n and m branches are n × m comparisons.
	maxPairs = 200_000
	// maxWork bounds what is done for the pairs: a symbol and a field that are looked at count one, a difference that is kept ten.
	maxWork = 5_000_000
	// maxPath bounds a path, which every level copies: three steps for a record's field. Names go round where the text does not nest.
	maxPath = 1000
)

// comparison remembers every pair that it has looked at: a schema may be a ring, and shared parts are looked at once. While a pair is being looked at it
// counts as compatible, as it does in Java.
type comparison struct {
	memo map[pair][]Incompatibility
	work int
}

func (c *comparison) compare(reader, writer *Schema, at []string) []Incompatibility {
	if len(c.memo) >= maxPairs || c.work > maxWork || len(at) > maxPath {
		return []Incompatibility{wrong("TOO_COMPLEX", at, "the two schemas have too many parts to compare")}
	}
	p := pair{reader, writer}
	if found, done := c.memo[p]; done {
		return found
	}
	c.memo[p] = nil
	found := c.look(reader, writer, at)
	if len(found) > maxFound {
		found = slices.Clone(found[:maxFound])
	}
	c.work += 10 * len(found)
	c.memo[p] = found
	return found
}

func (c *comparison) look(reader, writer *Schema, at []string) []Incompatibility {
	if like(reader) == like(writer) {
		switch like(reader) {
		case Array:
			return c.compare(reader.Of, writer.Of, sub(at, "items"))
		case Map:
			return c.compare(reader.Of, writer.Of, sub(at, "values"))
		case Fixed:
			found := names(reader, writer, at)
			if reader.Size != writer.Size {
				found = append(found, wrong("FIXED_SIZE_MISMATCH", sub(at, "size"), fmt.Sprintf("expected: %d, found: %d", writer.Size, reader.Size)))
			}
			return found
		case Enum:
			return append(names(reader, writer, at), c.symbols(reader, writer, at)...)
		case Record:
			return append(names(reader, writer, at), c.fields(reader, writer, at)...)
		case Union:
			var found []Incompatibility
			for i, w := range writer.Types {
				if len(c.compare(reader, w, at)) > 0 {
					found = append(found, lacks(w, sub(at, strconv.Itoa(i))))
				}
			}
			return found
		}
		return nil
	}
	if writer.Type == Union {
		var found []Incompatibility
		for _, w := range writer.Types {
			found = append(found, c.compare(reader, w, at)...)
		}
		return found
	}
	if reader.Type == Union {
		for _, r := range reader.Types {
			if len(c.compare(r, writer, at)) == 0 {
				return nil
			}
		}
		return []Incompatibility{lacks(writer, at)}
	}
	if slices.Contains(promoted[reader.Type], writer.Type) {
		return nil
	}
	return []Incompatibility{wrong("TYPE_MISMATCH", at, fmt.Sprintf("reader type: %s not compatible with writer type: %s", word(reader), word(writer)))}
}

// promoted are the types that a reader's type reads besides itself.
var promoted = map[Type][]Type{
	"long":   {"int"},
	"float":  {"int", "long"},
	"double": {"int", "long", "float"},
	"bytes":  {"string"},
	"string": {"bytes"},
}

// like is the type as which a schema is compared: an error is a record.
func like(s *Schema) Type {
	if s.Type == Error {
		return Record
	}
	return s.Type
}

func word(s *Schema) string { return strings.ToUpper(string(like(s))) }

func sub(at []string, name ...string) []string { return append(slices.Clip(at), name...) }

func wrong(what string, at []string, message string) Incompatibility {
	return Incompatibility{Type: what, Path: "/" + strings.Join(at, "/"), Message: message}
}

func lacks(writer *Schema, at []string) Incompatibility {
	return wrong("MISSING_UNION_BRANCH", at, "reader union lacking writer type: "+word(writer))
}

// names compares names without their spaces, or by the reader's aliases.
func names(reader, writer *Schema, at []string) []Incompatibility {
	if reader.Name.Name == writer.Name.Name || slices.Contains(reader.Aliases, writer.Name) {
		return nil
	}
	return []Incompatibility{wrong("NAME_MISMATCH", sub(at, "name"), "expected: "+writer.Name.String())}
}

func (c *comparison) symbols(reader, writer *Schema, at []string) []Incompatibility {
	if reader.Default != nil {
		return nil
	}
	c.work += len(reader.Symbols) + len(writer.Symbols)
	known := make(map[string]bool, len(reader.Symbols))
	for _, s := range reader.Symbols {
		known[s] = true
	}
	var missing []string
	for _, s := range writer.Symbols {
		if !known[s] {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []Incompatibility{wrong("MISSING_ENUM_SYMBOLS", sub(at, "symbols"), "["+strings.Join(missing, ", ")+"]")}
}

func (c *comparison) fields(reader, writer *Schema, at []string) (found []Incompatibility) {
	c.work += len(reader.Fields) + len(writer.Fields)
	written := make(map[string]*Field, len(writer.Fields))
	for i := range writer.Fields {
		written[writer.Fields[i].Name] = &writer.Fields[i]
	}
	for i := range reader.Fields {
		f := &reader.Fields[i]
		here := sub(at, "fields", strconv.Itoa(i))
		w := written[f.Name]
		for _, alias := range f.Aliases {
			if w == nil {
				w = written[alias]
			}
		}
		switch {
		case w != nil:
			found = append(found, c.compare(f.Type, w.Type, sub(here, "type"))...)
		case f.Default == nil && (f.Type.Type != Enum || f.Type.Default == nil):
			found = append(found, wrong("READER_FIELD_MISSING_DEFAULT_VALUE", here, f.Name))
		}
		if len(found) > maxFound {
			break
		}
	}
	return found
}
