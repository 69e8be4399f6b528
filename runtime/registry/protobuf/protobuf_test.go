package protobuf

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

func parsed(t testing.TB, text string, imports map[string]string) *Schema {
	t.Helper()
	s, err := Parse(text, imports)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return s
}

// The documented rules (Confluent, "Schema Evolution and Compatibility", Protobuf) and those that its registry adds, each as the body of a message M before
// and after; what stands outside of M is written out.
func TestCompatibility(t *testing.T) {
	file := func(text string) string {
		if !strings.HasPrefix(text, "message M") && !strings.HasPrefix(text, "package") && !strings.HasPrefix(text, "syntax") && !strings.HasPrefix(text, "message N") {
			text = "message M { " + text + " }"
		}
		if !strings.Contains(text, "syntax") {
			text = "syntax = \"proto3\"; " + text
		}
		return text
	}
	for _, c := range []struct{ name, was, is, want string }{
		{"the same", "int32 a = 1;", "int32 a = 1;", ""},
		{"a field comes", "int32 a = 1;", "int32 a = 1; string b = 2;", ""},
		{"a field goes", "int32 a = 1; string b = 2;", "int32 a = 1;", ""},
		{"another name", "int32 a = 1;", "int32 b = 1;", ""},
		{"another number", "int32 a = 1;", "int32 a = 2;", ""},
		{"numbers of one encoding", "int32 a = 1; bool b = 2; E c = 3; enum E { X = 0; }", "uint64 a = 1; E b = 2; int64 c = 3; enum E { X = 0; }", ""},
		{"text and bytes", "string a = 1;", "bytes a = 1;", ""},
		{"zigzag", "int32 a = 1;", "sint32 a = 1;", "FIELD_SCALAR_KIND_CHANGED #/M/1"},
		{"fixed", "fixed32 a = 1; sfixed64 b = 2;", "sfixed32 a = 1; fixed64 b = 2;", ""},
		{"fixed of another size", "fixed32 a = 1;", "fixed64 a = 1;", "FIELD_SCALAR_KIND_CHANGED #/M/1"},
		{"float and double", "float a = 1;", "double a = 1;", "FIELD_SCALAR_KIND_CHANGED #/M/1"},
		{"a number becomes text", "int32 a = 1;", "string a = 1;", "FIELD_SCALAR_KIND_CHANGED #/M/1"},
		{"a scalar becomes a message", "int32 a = 1; message N {}", "N a = 1; message N {}", "FIELD_KIND_CHANGED #/M/1"},
		{"a message becomes another", "A a = 1; message A { int32 x = 1; } message B { int32 x = 1; }", "B a = 1; message A { int32 x = 1; } message B { int32 x = 1; }", "FIELD_NAMED_TYPE_CHANGED #/M/1"},
		{"a message breaks within", "message M { N n = 1; } message N { int32 x = 1; }", "message M { N n = 1; } message N { string x = 1; }",
			"FIELD_SCALAR_KIND_CHANGED #/N/1 FIELD_NAMED_TYPE_CHANGED #/M/1"},
		{"a list becomes one", "repeated int32 a = 1;", "int32 a = 1;", ""},
		{"maps", "map<string, int32> a = 1;", "map<bytes_or, x> a = 1;", "!"},
		{"a map's key", "map<string, int32> a = 1;", "map<int32, int32> a = 1;", "FIELD_SCALAR_KIND_CHANGED #/M/1"},
		{"a map's value, of one encoding", "map<string, int32> a = 1;", "map<string, int64> a = 1;", ""},
		{"a map becomes a list", "map<string, int32> a = 1;", "repeated N a = 1; message N { string key = 1; int32 value = 2; }", "FIELD_KIND_CHANGED #/M/1"},
		{"a message comes", "message M {}", "message M {} message N {}", ""},
		{"messages change places", "message M {} message N {}", "message N {} message M {}", ""},
		{"a message goes", "message M {} message N {}", "message M {}", "MESSAGE_REMOVED #/N"},
		{"a message within goes", "message M { message N {} }", "message M {}", "MESSAGE_REMOVED #/M/N"},
		{"an enum goes", "message M {} enum E { X = 0; }", "message M {}", ""},
		{"an enum's values", "message M {} enum E { X = 0; Y = 1; }", "message M {} enum E { Z = 0; W = 2; }", ""},
		{"the package", "package a; message M {}", "package b; message M {}", "PACKAGE_CHANGED #"},
		{"one field into a new oneof", "int32 a = 1; int32 b = 2;", "oneof o { int32 a = 1; } int32 b = 2;", ""},
		{"two fields into a new oneof", "int32 a = 1; int32 b = 2;", "oneof o { int32 a = 1; int32 b = 2; }", "MULTIPLE_FIELDS_MOVED_TO_ONEOF #/M/o"},
		{"a field into a oneof that was there", "int32 a = 1; oneof o { int32 b = 2; }", "oneof o { int32 a = 1; int32 b = 2; }", "FIELD_MOVED_TO_EXISTING_ONEOF #/M/o"},
		{"a oneof takes a new field", "oneof o { int32 b = 2; }", "oneof o { int32 a = 1; int32 b = 2; }", ""},
		{"a oneof loses a field", "oneof o { int32 a = 1; int32 b = 2; }", "oneof o { int32 b = 2; }", "ONEOF_FIELD_REMOVED #/M/o/1"},
		{"a field leaves a oneof", "oneof o { int32 a = 1; int32 b = 2; }", "int32 a = 1; oneof o { int32 b = 2; }", ""},
		{"a field leaves a oneof and changes", "oneof o { int32 a = 1; int32 b = 2; }", "string a = 1; oneof o { int32 b = 2; }", "FIELD_SCALAR_KIND_CHANGED #/M/1"},
		{"a oneof goes", "oneof o { int32 a = 1; }", "int32 b = 2;", ""},
		{"a oneof goes and one of its fields stays", "oneof o { int32 a = 1; int32 b = 2; }", "oneof q { int32 a = 1; }", "ONEOF_FIELD_REMOVED #/M/o/2"},
		{"a oneof gets another name", "oneof o { int32 a = 1; int32 b = 2; }", "oneof q { int32 a = 1; int32 b = 2; }", ""},
		{"two oneofs become one", "oneof o { int32 a = 1; } oneof p { int32 b = 2; }", "oneof o { int32 a = 1; int32 b = 2; }", "FIELD_MOVED_TO_EXISTING_ONEOF #/M/o"},
		{"optional becomes repeated", "optional int32 a = 1;", "repeated int32 a = 1;", "FIELD_NUMERIC_LABEL_CHANGED #/M/1"},
		{"repeated becomes optional, of an enum", "repeated E a = 1; enum E { X = 0; }", "optional E a = 1; enum E { X = 0; }", "FIELD_NUMERIC_LABEL_CHANGED #/M/1"},
		{"optional text becomes repeated", "optional string a = 1;", "repeated bytes a = 1;", ""},
		{"no label becomes one", "int32 a = 1; int32 b = 2; oneof o { int32 c = 3; }", "repeated int32 a = 1; optional int32 b = 2; repeated int32 c = 3;", ""},
		{"required becomes optional", `syntax = "proto2"; message M { required int32 a = 1; }`, `syntax = "proto2"; message M { optional int32 a = 1; }`, "FIELD_NUMERIC_LABEL_CHANGED #/M/1"},
		{"proto2 becomes proto3", `syntax = "proto2"; message M { optional int32 a = 1; map<int32, int32> b = 2; }`, `syntax = "proto3"; message M { int32 a = 1; map<int32, int32> b = 2; }`, ""},
		{"optional is no oneof", "int32 a = 1; int32 b = 2;", "optional int32 a = 1; optional int32 b = 2;", ""},
		{"a required field comes", `syntax = "proto2"; message M {}`, `syntax = "proto2"; message M { required int32 a = 1; }`, "REQUIRED_FIELD_ADDED #/M/1"},
		{"a required field goes", `syntax = "proto2"; message M { required int32 a = 1; }`, `syntax = "proto2"; message M {}`, "REQUIRED_FIELD_REMOVED #/M/1"},
		{"a message within itself", "M m = 1; int32 a = 2;", "M m = 1; string a = 2;", "FIELD_SCALAR_KIND_CHANGED #/M/2"},
	} {
		was := parsed(t, file(c.was), nil)
		is, err := Parse(file(c.is), nil)
		if c.want == "!" {
			if err == nil {
				t.Errorf("%s: parsed", c.name)
			}
			continue
		}
		if err != nil {
			t.Fatal(c.name, err)
		}
		var got []string
		for _, d := range Read(is, was) {
			got = append(got, d.Type+" "+d.Path)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %q", c.name, got, c.want)
		}
	}
}

const whole = `
// What an order is.
syntax = "proto3";

package shop.v1;

import "google/protobuf/timestamp.proto";
import "confluent/meta.proto";
import "confluent/type/decimal.proto";
import "customer.proto";

option java_package = "org.shop";

// An order.
message Order {
  option (confluent.message_meta) = { doc: "all there is", params: [{ key: "a", value: "b" }] };
  reserved 9, 20 to 30;
  reserved "old";

  int64 id = 1 [deprecated = true];
  Customer customer = 2; // who
  google.protobuf.Timestamp at = 3;
  map<string, confluent.type.Decimal> prices = 4;
  optional string note = 5 [(confluent.field_meta).tags = "PII"];
  oneof paid { string card = 6; bool cash = 7; }
  enum State { NEW = 0; DONE = 1; }
  repeated State states = 8;
}
service Orders { rpc Get (Order) returns (stream Order); }
`

var imports = map[string]string{"customer.proto": `syntax = "proto3"; package shop.v1; message Customer { string name = 1; }`}

// The canonical text is a fixed point, with comments and without; and what comes as a descriptor is the same schema.
func TestCanonical(t *testing.T) {
	s := parsed(t, whole, imports)
	again := parsed(t, s.Canonical(), imports)
	if again.Canonical() != s.Canonical() {
		t.Errorf("not a fixed point:\n%s\n%s", s.Canonical(), again.Canonical())
	}
	for _, want := range []string{"// An order.", "// who", `java_package = "org.shop"`, "(confluent.message_meta)", `doc: "all there is"`, "reserved 9, 20 to 30;", "map<string, confluent.type.Decimal> prices = 4;",
		"optional string note = 5", "oneof paid {", "repeated State states = 8;", "returns ( stream Order )"} {
		if !strings.Contains(s.Canonical(), want) {
			t.Errorf("the text has no %q:\n%s", want, s.Canonical())
		}
	}
	descriptor, err := s.Serialized()
	if err != nil {
		t.Fatal(err)
	}
	file := decoded(descriptor)
	for _, f := range file.MessageType[0].Field { // as protoc writes it into generated code
		f.JsonName = nil
	}
	b64, err := proto.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	fromDescriptor := parsed(t, base64.StdEncoding.EncodeToString(b64), imports)
	a, err := s.Normalized()
	if err != nil {
		t.Fatal(err)
	}
	b, err := fromDescriptor.Normalized()
	if err != nil || a != b {
		t.Errorf("%v: as a descriptor it is\n%s\nand as text\n%s", err, b, a)
	}
	customer, err := parsed(t, imports["customer.proto"], nil).Serialized()
	if err != nil {
		t.Fatal(err)
	}
	if by := parsed(t, whole, map[string]string{"customer.proto": customer}); by.Canonical() != s.Canonical() {
		t.Errorf("with a descriptor imported it is\n%s", by.Canonical())
	}
	moved := parsed(t, "syntax=\"proto3\"; message B { int32 y = 2; int32 x = 1; } message A {}", nil)
	same := parsed(t, "syntax = \"proto3\";\n// c\nmessage A {}\nmessage B { int32 x = 1; int32 y = 2; }", nil)
	if moved.Canonical() == same.Canonical() {
		t.Error("the order is lost")
	}
	a, _ = moved.Normalized()
	if b, _ = same.Normalized(); a != b {
		t.Errorf("normalized\n%s\n%s", a, b)
	}
}

func TestRefused(t *testing.T) {
	deep := strings.Repeat("message M {", 70) + strings.Repeat("}", 70)
	for want, text := range map[string]string{
		"syntax error":      "nonsense",
		"no reference":      `syntax = "proto3"; import "other.proto";`,
		"nests deeper":      `syntax = "proto3"; ` + deep,
		"same tag":          `syntax = "proto3"; message M { int32 a = 1; int32 b = 1; }`,
		"unknown type":      `syntax = "proto3"; message M { N n = 1; }`,
		"at most":           `syntax = "proto3"; //` + strings.Repeat("x", maxText),
		"cycle":             `syntax = "proto3"; import "a.proto";`,
		"nests deeper than": `syntax = "proto3"; /* } */ ` + strings.Replace(deep, "message M {", `message M { // }}}}`+"\n", 1),
	} {
		if _, err := Parse(text, map[string]string{"a.proto": `syntax = "proto3"; import "b.proto";`, "b.proto": `syntax = "proto3"; import "a.proto";`}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

// Any text is a schema or an error; what is one reads itself, and its text is one, too.
func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add(`syntax = "proto2"; message M { required group G = 1 { optional int32 a = 2 [default = 7]; } extensions 100 to max; } extend M { optional string s = 100; }`)
	f.Add(`edition = "2023"; message M { int32 a = 1 [features.field_presence = IMPLICIT]; }`)
	if d, err := parsed(f, whole, imports).Serialized(); err == nil {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text, imports)
		if err != nil {
			return
		}
		if found := Read(s, s); len(found) > 0 {
			t.Errorf("it does not read itself: %v", found)
		}
		if _, err := s.Serialized(); err != nil {
			t.Error(err)
		}
		if _, err := Parse(s.Canonical(), imports); err != nil {
			t.Errorf("its text is no schema: %v\n%s", err, s.Canonical())
		}
	})
}

// A schema on one line takes time by its length, not by the square of that; and so where it is imported.
func TestOneLine(t *testing.T) {
	var b strings.Builder
	b.WriteString(`syntax = "proto3"; /* lost */ message M {`)
	for i := 1; i <= 8000; i++ {
		fmt.Fprintf(&b, " int32 f%d = %d;", i, i)
	}
	b.WriteString("}")
	s, err := Parse(b.String(), nil)
	if err != nil || s.File().Messages().Get(0).Fields().Len() != 8000 {
		t.Fatal(err)
	}
	if _, err := Parse(`syntax = "proto3"; import "m.proto"; message N { M m = 1; }`, map[string]string{"m.proto": b.String()}); err != nil {
		t.Error(err)
	}
	short, err := Parse("syntax = \"proto3\";\n// kept\nmessage M {}", nil)
	if err != nil || !strings.Contains(short.Canonical(), "// kept") {
		t.Errorf("%v %s", err, short.Canonical())
	}
}
