package jsonschema

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRead has the rules of Confluent's JSON Schema compatibility one by one: what becomes of an original by an update; "" is compatible.
func TestRead(t *testing.T) {
	obj := func(rest string) string { return `{"type":"object",` + rest + `}` }
	closed := func(props string) string {
		return obj(`"additionalProperties":false,"properties":{` + props + `}`)
	}
	open := func(props string) string { return obj(`"properties":{` + props + `}`) }
	modern := func(rest string) string {
		return `{"$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{"s":{"type":"string"}},` + rest + `}`
	}
	for _, c := range []struct{ rule, original, update, want string }{
		{"words that say nothing about values", `{"type":"string","title":"a"}`, `{"type":"string","title":"b","description":"c","default":"d"}`, ""},
		{"another type", `{"type":"string"}`, `{"type":"number"}`, "TYPE_CHANGED #"},
		{"anything takes all", `{"type":"string"}`, `{}`, ""},
		{"true takes all", `{"type":"string"}`, `true`, ""},
		{"false took nothing", `false`, `{"type":"string"}`, ""},
		{"anything took more", `{}`, `{"type":"string"}`, "TYPE_CHANGED #"},
		{"integer becomes number", `{"type":"integer"}`, `{"type":"number"}`, ""},
		{"number becomes integer", `{"type":"number"}`, `{"type":"integer"}`, "TYPE_NARROWED #"},
		{"a longer maxLength", `{"type":"string","maxLength":5}`, `{"type":"string","maxLength":6}`, ""},
		{"a shorter one", `{"type":"string","maxLength":5}`, `{"type":"string","maxLength":4}`, "MAX_LENGTH_DECREASED #/maxLength"},
		{"a new one", `{"type":"string"}`, `{"type":"string","maxLength":4}`, "MAX_LENGTH_ADDED #/maxLength"},
		{"a higher minLength", `{"type":"string","minLength":5}`, `{"type":"string","minLength":6}`, "MIN_LENGTH_INCREASED #/minLength"},
		{"none any more", `{"type":"string","minLength":5,"pattern":"a"}`, `{"type":"string"}`, ""},
		{"a new pattern", `{"type":"string"}`, `{"type":"string","pattern":"a"}`, "PATTERN_ADDED #/pattern"},
		{"another pattern", `{"type":"string","pattern":"b"}`, `{"type":"string","pattern":"a"}`, "PATTERN_CHANGED #/pattern"},
		{"a lower maximum", `{"type":"number","maximum":5}`, `{"type":"number","maximum":4.5}`, "MAXIMUM_DECREASED #/maximum"},
		{"a higher minimum", `{"type":"number","minimum":5}`, `{"type":"number","minimum":6}`, "MINIMUM_INCREASED #/minimum"},
		{"a new exclusiveMinimum", `{"type":"number"}`, `{"type":"number","exclusiveMinimum":6}`, "EXCLUSIVE_MINIMUM_ADDED #/exclusiveMinimum"},
		{"a divisor of multipleOf", `{"type":"number","multipleOf":10}`, `{"type":"number","multipleOf":5}`, ""},
		{"a multiple of it", `{"type":"number","multipleOf":5}`, `{"type":"number","multipleOf":10}`, "MULTIPLE_OF_EXPANDED #/multipleOf"},
		{"neither", `{"type":"number","multipleOf":5}`, `{"type":"number","multipleOf":7}`, "MULTIPLE_OF_CHANGED #/multipleOf"},
		{"more values in an enum", `{"enum":["a"]}`, `{"enum":["a","b"]}`, ""},
		{"fewer", `{"enum":["a","b"]}`, `{"enum":["a"]}`, "ENUM_ARRAY_NARROWED #/enum"},
		{"others", `{"enum":["a","b"]}`, `{"enum":["a","c"]}`, "ENUM_ARRAY_CHANGED #/enum"},
		{"another const", `{"const":1}`, `{"const":2}`, "ENUM_ARRAY_CHANGED #/const"},
		{"a property more in an open model", open(``), open(`"a":{"type":"string"}`), "OPTIONAL_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL #/properties/a"},
		{"one that takes anything", open(``), open(`"a":{}`), ""},
		{"a property more in a closed model", closed(``), closed(`"a":{"type":"string"}`), ""},
		{"a required one more in a closed model", closed(``), obj(`"additionalProperties":false,"required":["a"],"properties":{"a":{"type":"string"}}`), "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL #/properties/a"},
		{"with a default", closed(``), obj(`"additionalProperties":false,"required":["a"],"properties":{"a":{"type":"string","default":""}}`), ""},
		{"a property less in an open model", open(`"a":{"type":"string"}`), open(``), ""},
		{"a property less in a closed model", closed(`"a":{"type":"string"}`), closed(``), "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL #/properties/a"},
		{"a property less that a pattern covers", closed(`"a":{"type":"string"}`), obj(`"additionalProperties":false,"patternProperties":{"^a":{"type":"string"}}`), ""},
		{"a property less that the rest covers", open(`"a":{"type":"string"}`), obj(`"additionalProperties":{"type":"number"}`),
			"TYPE_CHANGED #/properties/a, PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/properties/a, ADDITIONAL_PROPERTIES_NARROWED #/additionalProperties"},
		{"a property of another type", closed(`"a":{"type":"string"}`), closed(`"a":{"type":"number"}`), "TYPE_CHANGED #/properties/a"},
		{"a property that becomes required", open(`"a":{}`), obj(`"required":["a"],"properties":{"a":{}}`), "REQUIRED_ATTRIBUTE_ADDED #/required/a"},
		{"one that does no longer", obj(`"required":["a"],"properties":{"a":{}}`), open(`"a":{}`), ""},
		{"an open model is closed", open(``), closed(``), "ADDITIONAL_PROPERTIES_REMOVED #/additionalProperties"},
		{"a closed one is opened", closed(``), open(``), ""},
		{"fewer properties", obj(`"maxProperties":3`), obj(`"maxProperties":2`), "MAX_PROPERTIES_DECREASED #/maxProperties"},
		{"a dependency more", obj(`"properties":{}`), obj(`"properties":{},"dependencies":{"a":["b"]}`), "DEPENDENCY_ARRAY_ADDED #/dependencies/a"},
		{"items of another type", `{"type":"array","items":{"type":"string"}}`, `{"type":"array","items":{"type":"number"}}`, "TYPE_CHANGED #/items"},
		{"unique items", `{"type":"array"}`, `{"type":"array","uniqueItems":true}`, "UNIQUE_ITEMS_ADDED #/uniqueItems"},
		{"fewer items", `{"type":"array","maxItems":3}`, `{"type":"array","maxItems":2}`, "MAX_ITEMS_DECREASED #/maxItems"},
		{"an item more in an open tuple", `{"type":"array","items":[]}`, `{"type":"array","items":[{"type":"string"}]}`, "ITEM_ADDED_TO_OPEN_CONTENT_MODEL #/items/0"},
		{"an item more that the rest covers", `{"prefixItems":[{"type":"number"}],"items":{"type":"string"}}`, `{"prefixItems":[{"type":"number"},{"type":"string"}],"items":{"type":"string"}}`, ""},
		{"an item more in a closed tuple", `{"prefixItems":[],"items":false}`, `{"prefixItems":[{"type":"string"}],"items":false}`, ""},
		{"more that must be contained", `{"type":"array","minContains":1}`, `{"type":"array","minContains":2}`, "MIN_CONTAINS_INCREASED #/minContains"},
		{"a type becomes one of several", `{"type":"string"}`, `{"oneOf":[{"type":"string"},{"type":"number"}]}`, ""},
		{"one alternative more", `{"oneOf":[{"type":"string"}]}`, `{"oneOf":[{"type":"string"},{"type":"number"}]}`, ""},
		{"one less", `{"oneOf":[{"type":"string"},{"type":"number"}]}`, `{"oneOf":[{"type":"string"},{"type":"null"}]}`, "COMBINED_TYPE_SUBSCHEMAS_CHANGED #"},
		{"fewer", `{"anyOf":[{"type":"string"},{"type":"number"}]}`, `{"anyOf":[{"type":"string"}]}`, "SUM_TYPE_NARROWED #"},
		{"one condition more", `{"allOf":[{"type":"string"}]}`, `{"allOf":[{"type":"string"},{"maxLength":1}]}`, "PRODUCT_TYPE_EXTENDED #"},
		{"oneOf becomes anyOf", `{"oneOf":[{"type":"string"},{"type":"number"}]}`, `{"anyOf":[{"type":"string"},{"type":"number"}]}`, ""},
		{"anyOf becomes oneOf", `{"anyOf":[{"type":"string"},{"type":"number"}]}`, `{"oneOf":[{"type":"string"},{"type":"number"}]}`, "COMBINED_TYPE_CHANGED #"},
		{"a type array grows", `{"type":["null","string"]}`, `{"type":["null","string","number"]}`, ""},
		{"not less", `{"not":{"type":"number"}}`, `{"not":{"type":"integer"}}`, ""},
		{"not more", `{"not":{"type":"integer"}}`, `{"not":{"type":"number"}}`, "NOT_TYPE_EXTENDED #/not"},
		{"behind a $ref", `{"$ref":"#/definitions/a","definitions":{"a":{"type":"string"}}}`, `{"$ref":"#/definitions/a","definitions":{"a":{"type":"number"}}}`, "TYPE_CHANGED #"},
		{"alternatives move behind a $ref", open(`"a":{"oneOf":[{"type":"null"},{"type":"string"}]}`),
			obj(`"properties":{"a":{"$ref":"#/definitions/n"}},"definitions":{"n":{"oneOf":[{"type":"null"},{"type":"string"}]}}`), ""},
		{"types move behind a $ref to a $ref", `{"type":["null","string"]}`, `{"$ref":"#/definitions/a","definitions":{"a":{"$ref":"#/definitions/b"},"b":{"type":["null","string"]}}}`, ""},
		{"and come back, fewer", `{"$ref":"#/definitions/a","definitions":{"a":{"type":["null","string"]}}}`, `{"type":["null"]}`, "SUM_TYPE_NARROWED #"},
		{"a condition beside a $ref", modern(`"$ref":"#/$defs/s"`), modern(`"$ref":"#/$defs/s","maxLength":5`), "TYPE_CHANGED #"},
		{"one less", modern(`"$ref":"#/$defs/s","maxLength":5`), modern(`"$ref":"#/$defs/s","title":"t"`), ""},
		{"a tighter one", modern(`"$ref":"#/$defs/s","maxLength":5`), modern(`"$ref":"#/$defs/s","maxLength":4`), "COMBINED_TYPE_SUBSCHEMAS_CHANGED #"},
		{"one that draft-07 ignores", `{"$ref":"#/definitions/s","definitions":{"s":{"type":"string"}}}`, `{"$ref":"#/definitions/s","maxLength":5,"definitions":{"s":{"type":"string"}}}`, ""},
		{"a $ref in a circle", `{"$ref":"#"}`, `{"$ref":"#","title":"t"}`, "TOO_COMPLEX #"},
		{"another type of Connect's bytes", `{"type":"number","connect.type":"bytes"}`, `{"type":"string","connect.type":"bytes"}`, ""},
		{"bytes of one side", `{"type":"number","connect.type":"bytes"}`, `{"type":"string","connect.type":"string"}`, "TYPE_CHANGED #"},
		{"bytes with other values", `{"type":"number","connect.type":"bytes","enum":[1]}`, `{"type":"string","connect.type":"bytes","enum":["a"]}`, "COMBINED_TYPE_SUBSCHEMAS_CHANGED #"},
		{"a recursive one", `{"type":"object","additionalProperties":{"$ref":"#"}}`, `{"type":"object","additionalProperties":{"$ref":"#"}}`, ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			a, err1 := Parse(c.original, nil)
			b, err2 := Parse(c.update, nil)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			var got []string
			for _, d := range Read(b, a) {
				got = append(got, d.Type+" "+d.Path)
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestReferences(t *testing.T) {
	docs := map[string]string{"other.json": `{"definitions":{"a":{"type":"string"}}}`}
	for _, ref := range []string{"other.json", "other.json#/definitions/a", "#/x/0"} {
		if _, err := Parse(`{"properties":{"a":{"$ref":"`+ref+`"}},"x":[{}]}`, docs); err != nil {
			t.Error(err)
		}
	}
	for _, ref := range []string{"nix.json", "other.json#/nix", "#/nix", "#name", "#/x/1"} {
		if _, err := Parse(`{"properties":{"a":{"$ref":"`+ref+`"}},"x":[{}]}`, docs); err == nil {
			t.Errorf("%s was found", ref)
		}
	}
}

// FuzzParse: whatever comes is refused, or takes what it takes itself, in bounded time.
func FuzzParse(f *testing.F) {
	f.Add(`{"type":["object","null"],"properties":{"a":{"$ref":"#"},"b":{"enum":[1,"x"]}},"patternProperties":{"^x":true},"oneOf":[{"not":{}},{"const":1}]}`)
	f.Add(`{"items":[{"multipleOf":0}],"dependencies":{"a":["b"],"c":{}},"unevaluatedItems":false}`)
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse(text, nil)
		if err != nil {
			return
		}
		b, err := Parse(a.Canonical(), nil)
		if err != nil {
			t.Fatalf("%s: %v", a.Canonical(), err)
		}
		Read(b, a)
	})
}

// TestGivingUp: what is too large to be compared is not taken for compatible, and does not keep anybody waiting.
func TestGivingUp(t *testing.T) {
	list := func(n int, format string) string {
		var out []string
		for i := range n {
			out = append(out, strings.ReplaceAll(format, "$", strconv.Itoa(i)))
		}
		return strings.Join(out, ",")
	}
	many := list(100, `"`+strings.Repeat("v", 500)+`$"`)
	for _, c := range []struct{ what, original, update string }{
		// The last property is one that the original's last pattern has as a string.
		{"patterns", `{"additionalProperties":false,"patternProperties":{` + list(600, `"^p$\\.":{"type":"string"}`) + `}}`,
			`{"additionalProperties":false,"properties":{` + list(599, `"p$.":{"type":"string"}`) + `,"p599.":{"type":"number"}}}`},
		{"values", `{"anyOf":[` + list(15, `{"enum":["$",`+many+`]}`) + `]}`, `{"anyOf":[` + list(15, `{"enum":["b$",`+many+`]}`) + `]}`},
		{"alternatives", `{"anyOf":[` + list(20_000, `{"type":"number","minimum":$}`) + `]}`, `{"anyOf":[` + list(20_000, `{"type":"number","minimum":-$,"maximum":-1}`) + `]}`},
	} {
		t.Run(c.what, func(t *testing.T) {
			a, err1 := Parse(c.original, nil)
			b, err2 := Parse(c.update, nil)
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			if found := Read(b, a); !slices.ContainsFunc(found, func(d Difference) bool { return d.Type == "TOO_COMPLEX" }) {
				t.Errorf("%d differences, none of which says that there is more", len(found))
			}
		})
	}
}

// TestWide: a schema with many properties is compared in a time that grows with them and not with their square.
func TestWide(t *testing.T) {
	var names, properties, refs []string
	for i := range 40_000 {
		name := strconv.Quote(strconv.Itoa(i))
		names = append(names, name)
		properties = append(properties, name+`:{"type":"null"}`)
		refs = append(refs, name+`:{"$ref":"#/d/`+strconv.Itoa(i)+`"}`)
	}
	text := `{"required":[` + strings.Join(names, ",") + `],"properties":{` + strings.Join(refs, ",") + `},"d":{` + strings.Join(properties, ",") + `}}`
	a, err1 := Parse(text, nil)
	b, err2 := Parse(text, nil)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if found := Read(b, a); len(found) > 0 {
		t.Errorf("%v", found)
	}
}

// TestTypeTwice: a type that is named a thousand times is looked at once.
func TestTypeTwice(t *testing.T) {
	s, err := Parse(`{"type":["object"`+strings.Repeat(`,"object"`, 1000)+`,"null"],"properties":{"a":{"type":"string"}}}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.nodes[s.root].parts); n != 2 {
		t.Errorf("%d parts", n)
	}
}
