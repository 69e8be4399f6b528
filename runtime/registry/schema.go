package registry

import (
	"fmt"
	"slices"

	"github.com/forebayhub/forebay/runtime/registry/avro"
	"github.com/forebayhub/forebay/runtime/registry/jsonschema"
	"github.com/forebayhub/forebay/runtime/registry/protobuf"
)

// The types of schemas.
const (
	Avro     = "AVRO"
	JSON     = "JSON"
	Protobuf = "PROTOBUF"
)

// types are those that can be registered, in the order of /schemas/types.
var types = []string{JSON, Protobuf, Avro}

// schema is a parsed schema of any type.
type schema interface {
	// canonical is the text that is stored and compared.
	canonical() string
	// read says why data of the writer, a schema of the same type, cannot be read with this one; nothing when it can. The two are called by these names.
	read(writer schema, me, other string) []string
}

// rules say how a text is parsed.
type rules struct {
	new       bool // it is about to be registered: everything is checked
	normalize bool
}

// parse parses the schema of a version, or of a request.
func (s *state) parse(v *schemaValue, r rules) (schema, error) {
	refs, err := s.resolve(v.References)
	if err != nil {
		return nil, err
	}
	switch v.kind() {
	case Avro:
		return parseAvro(v.Schema, refs, r)
	case JSON:
		return parseJSON(v.Schema, refs, r)
	case Protobuf:
		return parseProtobuf(v.Schema, refs, r)
	}
	return nil, fmt.Errorf("no such schema type: %s", v.kind())
}

// resolved is a referenced schema and the name by which it was referenced.
type resolved struct {
	name   string
	schema *schemaValue
}

const (
	// maxReferences bounds the schemas that one schema needs: references of references among them.
	maxReferences = 1000
	// maxReferenced bounds the bytes of them. Parsed they take some fifty times as much.
	maxReferenced = 4 << 20
)

// resolve finds what is referenced, what that references before it. A name that came before counts once.
func (s *state) resolve(refs []Reference) (out []resolved, err error) {
	if len(refs) > maxReferences { // some may be the same
		return nil, fmt.Errorf("more than %d references", maxReferences)
	}
	seen, size := map[string]bool{}, 0
	var walk func(refs []Reference, depth int) error
	walk = func(refs []Reference, depth int) error {
		for _, r := range refs {
			if seen[r.Name] {
				continue
			}
			seen[r.Name] = true
			if len(seen) > maxReferences || depth > 100 {
				return fmt.Errorf("more than %d references", maxReferences)
			}
			// Soft-deleted ones too: what references them must stay readable.
			v := s.get(r.Subject, r.Version, true)
			if v == nil {
				return fmt.Errorf("no schema reference found for subject \"%s\" and version %d", r.Subject, r.Version)
			}
			if size += len(v.Schema); size > maxReferenced {
				return fmt.Errorf("references of more than %d bytes", maxReferenced)
			}
			if err := walk(v.References, depth+1); err != nil {
				return err
			}
			out = append(out, resolved{name: r.Name, schema: v})
		}
		return nil
	}
	return out, walk(refs, 0)
}

// pinned are references with the version that is the latest now: what comes later must not change what an id means. Confluent's registry does the same
// (AbstractSchemaProvider.resolveReferences). -1 is left where the subject has no version.
func (s *state) pinned(refs []Reference) []Reference {
	refs = slices.Clone(refs)
	for i, r := range refs {
		if v := s.get(r.Subject, r.Version, true); v != nil {
			refs[i].Version = v.Version
		}
	}
	return refs
}

type avroSchema struct {
	schema *avro.Schema
	text   string
}

func parseAvro(text string, refs []resolved, r rules) (schema, error) {
	known := map[string]*avro.Schema{}
	for _, ref := range refs {
		if ref.schema.kind() != Avro {
			return nil, fmt.Errorf("reference %q is of type %s", ref.name, ref.schema.kind())
		}
		if _, err := avro.Parse(ref.schema.Schema, avro.Options{Known: known}); err != nil {
			return nil, fmt.Errorf("reference %q: %w", ref.name, err)
		}
	}
	outer := make(map[string]*avro.Schema, len(known))
	for name, s := range known {
		outer[name] = s
	}
	s, err := avro.Parse(text, avro.Options{Known: known, Defaults: r.new, Normalize: r.normalize})
	if err != nil {
		return nil, err
	}
	return avroSchema{schema: s, text: s.Canonical(outer)}, nil
}

func (a avroSchema) canonical() string { return a.text }

func (a avroSchema) read(writer schema, me, other string) (out []string) {
	for _, i := range avro.Read(a.schema, writer.(avroSchema).schema) {
		out = append(out, difference(i.Type, describeAvro(i, me, other), i.Message))
	}
	return out
}

type jsonSchema struct {
	schema *jsonschema.Schema
	text   string
}

func parseJSON(text string, refs []resolved, r rules) (schema, error) {
	docs := map[string]string{}
	for _, ref := range refs {
		if ref.schema.kind() != JSON {
			return nil, fmt.Errorf("reference %q is of type %s", ref.name, ref.schema.kind())
		}
		docs[ref.name] = ref.schema.Schema
	}
	s, err := jsonschema.Parse(text, docs)
	if err != nil {
		return nil, err
	}
	if r.normalize {
		return jsonSchema{schema: s, text: s.Normalized()}, nil
	}
	return jsonSchema{schema: s, text: s.Canonical()}, nil
}

func (j jsonSchema) canonical() string { return j.text }

func (j jsonSchema) read(writer schema, me, other string) (out []string) {
	for _, d := range jsonschema.Read(j.schema, writer.(jsonSchema).schema) {
		out = append(out, difference(d.Type, fmt.Sprintf("at path '%s' the %s schema does not take all that the %s schema takes", d.Path, me, other), ""))
	}
	return out
}

type protobufSchema struct {
	schema *protobuf.Schema
	text   string
}

func parseProtobuf(text string, refs []resolved, r rules) (schema, error) {
	imports := map[string]string{}
	for _, ref := range refs {
		if ref.schema.kind() != Protobuf {
			return nil, fmt.Errorf("reference %q is of type %s", ref.name, ref.schema.kind())
		}
		imports[ref.name] = ref.schema.Schema
	}
	s, err := protobuf.Parse(text, imports)
	if err != nil {
		return nil, err
	}
	canonical := s.Canonical()
	if r.normalize {
		canonical, err = s.Normalized()
	}
	return protobufSchema{schema: s, text: canonical}, err
}

func (p protobufSchema) canonical() string { return p.text }

func (p protobufSchema) read(writer schema, me, other string) (out []string) {
	for _, d := range protobuf.Read(p.schema, writer.(protobufSchema).schema) {
		out = append(out, difference(d.Type, fmt.Sprintf("the %s schema differs from the %s schema at path '%s'", me, other, d.Path), ""))
	}
	return out
}

// formatted is a version's schema in the form that `format` asks for: of Protobuf, serialized is its descriptor in base64. Others are the text.
func (s *state) formatted(v *schemaValue, format string) (content, error) {
	c := v.content
	if format != "serialized" || v.kind() != Protobuf {
		return c, nil
	}
	parsed, err := s.parse(v, rules{})
	if err != nil {
		return c, fmt.Errorf("subject %s version %d: %w", v.Subject, v.Version, err)
	}
	c.Schema, err = parsed.(protobufSchema).schema.Serialized()
	return c, err
}

// difference is a message in the form of Confluent's.
func difference(kind, description, more string) string {
	out := "{errorType:'" + kind + "', description:'" + description + "'"
	if more != "" {
		out += ", additionalInfo:'" + more + "'"
	}
	return out + "}"
}

func describeAvro(i avro.Incompatibility, me, other string) string {
	switch i.Type {
	case "FIXED_SIZE_MISMATCH":
		return fmt.Sprintf("the fixed at path '%s' has another size in the %s schema than in the %s schema", i.Path, me, other)
	case "NAME_MISMATCH":
		return fmt.Sprintf("the %s schema has another name at path '%s', and no alias for the one of the %s schema", me, i.Path, other)
	case "MISSING_ENUM_SYMBOLS":
		return fmt.Sprintf("the %s schema lacks symbols %s of the %s schema at path '%s', and has no default for them", me, i.Message, other, i.Path)
	case "MISSING_UNION_BRANCH":
		return fmt.Sprintf("the union at path '%s' of the %s schema lacks a type of the %s schema", i.Path, me, other)
	case "READER_FIELD_MISSING_DEFAULT_VALUE":
		return fmt.Sprintf("field '%s' at path '%s' of the %s schema has no default, and is missing in the %s schema", i.Message, i.Path, me, other)
	}
	return fmt.Sprintf("the type at path '%s' of the %s schema does not match the one of the %s schema", i.Path, me, other)
}
