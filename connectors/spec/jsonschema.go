package spec

// JSONSchema is the schema of a mapping of s's fields for editors (JSON Schema 2020-12): nested or with dots, as Parse takes them. Which
// fields are there and what they are is exact; of texts with a form of their own it knows that they are texts. trees are the schemas of the items
// of Trees, by field.
func (s Spec) JSONSchema(trees map[string]any) map[string]any {
	properties := map[string]any{}
	var required []string
	var add func(prefix string, fields []Field, nested map[string]any)
	add = func(prefix string, fields []Field, nested map[string]any) {
		for i := range fields {
			f := &fields[i]
			if f.Type == Group {
				members := map[string]any{}
				add(prefix+f.Name+".", f.Fields, members)
				nested[f.Name] = map[string]any{"type": "object", "description": f.Doc, "properties": members, "additionalProperties": false}
				continue
			}
			schema := f.jsonSchema(trees[prefix+f.Name])
			nested[f.Name], properties[prefix+f.Name] = schema, schema
			if f.Required && prefix == "" {
				required = append(required, f.Name)
			}
		}
	}
	add("", s.Fields, properties)
	out := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if s.Doc != "" {
		out["description"] = s.Doc
	}
	if required != nil {
		out["required"] = required
	}
	return out
}

func (f *Field) jsonSchema(item any) map[string]any {
	// What YAML takes for a number or a truth value is a text as well, and so is a reference wherever a value stands.
	text := map[string]any{"type": []string{"string", "number", "boolean"}}
	out := map[string]any{}
	switch f.Type {
	case Int:
		out["anyOf"] = []any{map[string]any{"type": "integer"}, reference}
	case Bool:
		out["anyOf"] = []any{map[string]any{"type": "boolean"}, reference}
	case Enum:
		out["anyOf"] = []any{map[string]any{"enum": f.Enum}, reference}
	case Strings:
		out["anyOf"] = []any{map[string]any{"type": "array", "items": text}, text}
	case Tree:
		out["type"], out["items"] = "array", item
		if item == nil {
			out["items"] = map[string]any{"type": "object"}
		}
	default:
		out["type"] = text["type"]
	}
	out["description"] = f.Doc
	if f.Default != "" {
		out["default"] = f.Default
	}
	if f.Example != "" {
		out["examples"] = []string{f.Example}
	}
	return out
}

var reference = map[string]any{"type": "string", "pattern": `\$\{`}
