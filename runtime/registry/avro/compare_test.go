package avro

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRead has the rules of schema resolution (Avro 1.12 specification, "Schema Resolution") one by one.
func TestRead(t *testing.T) {
	rec := func(fields string) string { return `{"type":"record","name":"R","fields":[` + fields + `]}` }
	for _, c := range []struct{ rule, reader, writer, want string }{
		{"the same primitive", `"int"`, `"int"`, ""},
		{"int is promoted to long", `"long"`, `"int"`, ""},
		{"int is promoted to float", `"float"`, `"int"`, ""},
		{"int is promoted to double", `"double"`, `"int"`, ""},
		{"long is promoted to float", `"float"`, `"long"`, ""},
		{"long is promoted to double", `"double"`, `"long"`, ""},
		{"float is promoted to double", `"double"`, `"float"`, ""},
		{"string is promoted to bytes", `"bytes"`, `"string"`, ""},
		{"bytes is promoted to string", `"string"`, `"bytes"`, ""},
		{"long is not demoted to int", `"int"`, `"long"`, "TYPE_MISMATCH /"},
		{"double is not demoted to float", `"float"`, `"double"`, "TYPE_MISMATCH /"},
		{"boolean is nothing else", `"int"`, `"boolean"`, "TYPE_MISMATCH /"},
		{"null is nothing else", `"string"`, `"null"`, "TYPE_MISMATCH /"},
		{"arrays by their items", `{"type":"array","items":"long"}`, `{"type":"array","items":"int"}`, ""},
		{"arrays of other items", `{"type":"array","items":"int"}`, `{"type":"array","items":"long"}`, "TYPE_MISMATCH /items"},
		{"maps by their values", `{"type":"map","values":"int"}`, `{"type":"map","values":"string"}`, "TYPE_MISMATCH /values"},
		{"a map is no array", `{"type":"map","values":"int"}`, `{"type":"array","items":"int"}`, "TYPE_MISMATCH /"},
		{"fixed of one size", `{"type":"fixed","name":"F","size":4}`, `{"type":"fixed","name":"F","size":4}`, ""},
		{"fixed of another size", `{"type":"fixed","name":"F","size":4}`, `{"type":"fixed","name":"F","size":8}`, "FIXED_SIZE_MISMATCH /size"},
		{"fixed of another name", `{"type":"fixed","name":"G","size":4}`, `{"type":"fixed","name":"F","size":4}`, "NAME_MISMATCH /name"},
		{"names are compared without their spaces", `{"type":"fixed","name":"a.F","size":4}`, `{"type":"fixed","name":"b.F","size":4}`, ""},
		{"the reader's alias is another name", `{"type":"fixed","name":"G","aliases":["F"],"size":4}`, `{"type":"fixed","name":"F","size":4}`, ""},
		{"the writer's alias is not", `{"type":"fixed","name":"F","size":4}`, `{"type":"fixed","name":"G","aliases":["F"],"size":4}`, "NAME_MISMATCH /name"},
		{"an enum with more symbols", `{"type":"enum","name":"E","symbols":["A","B"]}`, `{"type":"enum","name":"E","symbols":["A"]}`, ""},
		{"an enum with fewer symbols", `{"type":"enum","name":"E","symbols":["A"]}`, `{"type":"enum","name":"E","symbols":["A","B"]}`, "MISSING_ENUM_SYMBOLS /symbols"},
		{"an enum with a default for them", `{"type":"enum","name":"E","symbols":["A"],"default":"A"}`, `{"type":"enum","name":"E","symbols":["A","B"]}`, ""},
		{"a field of the writer that the reader ignores", rec(`{"name":"a","type":"int"}`), rec(`{"name":"a","type":"int"},{"name":"b","type":"int"}`), ""},
		{"a field of the reader with a default", rec(`{"name":"a","type":"int"},{"name":"b","type":"int","default":0}`), rec(`{"name":"a","type":"int"}`), ""},
		{"one without", rec(`{"name":"a","type":"int"},{"name":"b","type":"int"}`), rec(`{"name":"a","type":"int"}`), "READER_FIELD_MISSING_DEFAULT_VALUE /fields/1"},
		{"a nullable one without", rec(`{"name":"b","type":["null","int"]}`), rec(``), "READER_FIELD_MISSING_DEFAULT_VALUE /fields/0"},
		{"a default that is null counts", rec(`{"name":"b","type":["null","int"],"default":null}`), rec(``), ""},
		{"an enum's own default counts", rec(`{"name":"b","type":{"type":"enum","name":"E","symbols":["A"],"default":"A"}}`), rec(``), ""},
		{"a field by its alias", rec(`{"name":"b","aliases":["a"],"type":"int"}`), rec(`{"name":"a","type":"int"}`), ""},
		{"a field of another type", rec(`{"name":"a","type":"int"}`), rec(`{"name":"a","type":"string"}`), "TYPE_MISMATCH /fields/0/type"},
		{"the order of fields is nothing", rec(`{"name":"b","type":"int"},{"name":"a","type":"int"}`), rec(`{"name":"a","type":"int"},{"name":"b","type":"int"}`), ""},
		{"a record of another name", `{"type":"record","name":"S","fields":[]}`, rec(``), "NAME_MISMATCH /name"},
		{"a union reads each of its types", `["null","int"]`, `"int"`, ""},
		{"a union reads promoted ones", `["null","long"]`, `"int"`, ""},
		{"a union lacks a type", `["null","int"]`, `"string"`, "MISSING_UNION_BRANCH /"},
		{"a union grows", `["null","int","string"]`, `["null","int"]`, ""},
		{"a union shrinks", `["null","int"]`, `["null","int","string"]`, "MISSING_UNION_BRANCH /2"},
		{"the order in a union is nothing", `["int","null"]`, `["null","int"]`, ""},
		{"one type reads a union of it", `"long"`, `["int","long"]`, ""},
		{"one type does not read a union of more", `"int"`, `["null","int"]`, "TYPE_MISMATCH /"},
		{"what is nested", rec(`{"name":"a","type":{"type":"array","items":["null",{"type":"map","values":"int"}]}}`),
			rec(`{"name":"a","type":{"type":"array","items":["null",{"type":"map","values":"long"}]}}`), "MISSING_UNION_BRANCH /fields/0/type/items/1"},
		{"a recursive one", rec(`{"name":"next","type":["null","R"]},{"name":"v","type":"long"}`), rec(`{"name":"next","type":["null","R"]},{"name":"v","type":"int"}`), ""},
		{"a recursive one that does not fit", rec(`{"name":"next","type":["null","R"]},{"name":"v","type":"int"}`), rec(`{"name":"next","type":["null","R"]},{"name":"v","type":"long"}`), "TYPE_MISMATCH /fields/1/type"},
		{"logical types are not looked at", `{"type":"long","logicalType":"timestamp-millis"}`, `"long"`, ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			var got []string
			for _, i := range Read(must(t, c.reader), must(t, c.writer)) {
				got = append(got, i.Type+" "+i.Path)
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func must(t *testing.T, text string) *Schema {
	t.Helper()
	s, err := Parse(text, Options{Defaults: true})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

// TestReadIsBounded: two unions of many records are not compared for ever, nor those of large ones, and names do not make a path of any length.
func TestReadIsBounded(t *testing.T) {
	givenUp := func(found []Incompatibility) bool {
		return slices.ContainsFunc(found, func(i Incompatibility) bool { return i.Type == "TOO_COMPLEX" })
	}
	record := func(name string, fields ...Field) *Schema {
		return &Schema{Type: Record, Name: Name{Name: name}, Fields: fields}
	}
	// A record of records of records …: as its text has it, one after the other.
	chain := func(n int) *Schema {
		s := record("a0")
		for i := range n {
			s = record("a"+strconv.Itoa(i+1), Field{Name: "f", Type: s})
		}
		return s
	}
	if found := Read(chain(200), chain(200)); len(found) > 0 {
		t.Errorf("of 200 levels: %v", found)
	}
	if found := Read(chain(50_000), chain(50_000)); !givenUp(found) {
		t.Errorf("of 50,000 levels: %d differences", len(found))
	}
	// Pairs of enums are work by their symbols.
	var symbols []string
	for i := range 1000 {
		symbols = append(symbols, "s"+strconv.Itoa(i))
	}
	enums := func() (out *Schema) {
		out = &Schema{Type: Union}
		for range 30 {
			out.Types = append(out.Types, &Schema{Type: Enum, Name: Name{Name: "e"}, Symbols: symbols})
		}
		return out
	}
	c := comparison{memo: map[pair][]Incompatibility{}, work: maxWork - 10*len(symbols)}
	for _, e := range enums().Types[1:] {
		c.compare(e, enums(), nil)
	}
	if c.work > maxWork+2*len(symbols)+10*maxFound {
		t.Errorf("work of %d", c.work)
	}

	union := func(prefix string) *Schema {
		s := &Schema{Type: Union}
		for i := range 600 {
			s.Types = append(s.Types, &Schema{Type: Record, Name: Name{Name: prefix + strings.Repeat("x", i)}})
		}
		return s
	}
	if found := Read(union("a"), union("b")); len(found) == 0 || len(found) > maxFound {
		t.Errorf("%d differences", len(found))
	}
}
