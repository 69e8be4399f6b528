// Package protobuf reads, writes and compares Protocol Buffers schemas as Confluent's Schema Registry does.
package protobuf

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/reporter"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

const (
	// fileName is what the schema's own file is called; clients give it a name of their own.
	fileName = "default"
	// maxText bounds a schema. Compiled it takes some fifty times as much.
	maxText = 1 << 20
	// maxDepth bounds messages within messages, and braces and brackets within each other.
	maxDepth = 64
	// maxLine is how long the lines of files may be whose comments are kept: for these the compiler counts, for each thing that it
	// finds, from where its line begins.
	maxLine = 2 << 10
	// compileTime bounds the work on one schema and its references.
	compileTime = 10 * time.Second
)

// Schema is a .proto file with all that it imports.
type Schema struct {
	file protoreflect.FileDescriptor
	text string
}

// known are the files that a schema may import without a reference, as with Confluent; those of google/protobuf come with the compiler.
var known = map[string]string{
	"confluent/meta.proto": `syntax = "proto3";
package confluent;
import "google/protobuf/descriptor.proto";
message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; repeated Rule rules = 4; }
message Rule { string name = 1; string doc = 2; string expr = 3; string sql = 4; }
extend google.protobuf.FileOptions { Meta file_meta = 1088; }
extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
`,
	"confluent/type/decimal.proto": `syntax = "proto3";
package confluent.type;
message Decimal { bytes value = 1; int32 precision = 2; int32 scale = 3; }
`,
	"google/type/date.proto": `syntax = "proto3";
package google.type;
message Date { int32 year = 1; int32 month = 2; int32 day = 3; }
`,
	"google/type/timeofday.proto": `syntax = "proto3";
package google.type;
message TimeOfDay { int32 hours = 1; int32 minutes = 2; int32 seconds = 3; int32 nanos = 4; }
`,
	"confluent/types/decimal.proto": `syntax = "proto3";
import public "confluent/type/decimal.proto";
`,
}

// Parse reads a schema: the text of a .proto file, or a FileDescriptorProto in base64, as some clients register it. imports
// are what it and its imports import, by name. Nothing is looked for elsewhere.
func Parse(text string, imports map[string]string) (*Schema, error) {
	resolve := protocompile.ResolverFunc(func(name string) (protocompile.SearchResult, error) {
		if name == fileName {
			return source(name, text)
		}
		if found, ok := imports[name]; ok {
			return source(name, found)
		}
		if found, ok := known[name]; ok {
			return source(name, found)
		}
		return protocompile.SearchResult{}, fmt.Errorf("no reference is called %q", name)
	})
	var first error
	comments := protocompile.SourceInfoStandard
	for _, text := range append(slices.Collect(maps.Values(imports)), text) {
		if longestLine(text) > maxLine {
			comments = protocompile.SourceInfoNone
		}
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.WithStandardImports(resolve), MaxParallelism: 1, SourceInfoMode: comments,
		Reporter: reporter.NewReporter(func(err reporter.ErrorWithPos) error { first = err; return err }, nil),
	}
	ctx, cancel := context.WithTimeout(context.Background(), compileTime)
	defer cancel()
	files, err := compiler.Compile(ctx, fileName)
	if first != nil {
		err = first
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("it takes longer than %s to read: split it", compileTime)
	}
	if err != nil {
		return nil, err
	}
	s := &Schema{file: files[0]}
	if s.text, err = printed(s.file, false); err != nil {
		return nil, err
	}
	if decoded(text) != nil { // a descriptor may say what no text can: the text is what is kept
		return Parse(s.text, imports)
	}
	return s, nil
}

func longestLine(text string) (longest int) {
	for line := range strings.Lines(text) {
		longest = max(longest, len(line))
	}
	return longest
}

func printed(file protoreflect.FileDescriptor, sorted bool) (string, error) {
	p := protoprint.Printer{SortElements: sorted, Compact: true}
	if sorted {
		p.OmitComments = protoprint.CommentsAll
		p.ForceFullyQualifiedNames = true
	}
	return p.PrintProtoToString(file)
}

// source is a file for the compiler, by the name that it is imported by.
func source(name, text string) (protocompile.SearchResult, error) {
	if len(text) > maxText {
		return protocompile.SearchResult{}, fmt.Errorf("a schema of %d bytes; at most %d are read", len(text), maxText)
	}
	if file := decoded(text); file != nil {
		if tooDeep(file.MessageType, maxDepth) {
			return protocompile.SearchResult{}, errDepth
		}
		file.Name = proto.String(name)
		nameFields(file.MessageType)
		return protocompile.SearchResult{Proto: file}, nil
	}
	if depth(text) > maxDepth {
		return protocompile.SearchResult{}, errDepth
	}
	return protocompile.SearchResult{Source: strings.NewReader(text)}, nil
}

var errDepth = fmt.Errorf("it nests deeper than %d levels", maxDepth)

// decoded is a FileDescriptorProto that the text is in base64; nil when it is none.
func decoded(text string) *descriptorpb.FileDescriptorProto {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	file := &descriptorpb.FileDescriptorProto{}
	if proto.Unmarshal(b, file) != nil {
		return nil
	}
	return file
}

func tooDeep(messages []*descriptorpb.DescriptorProto, left int) bool {
	for _, m := range messages {
		if left == 0 || tooDeep(m.NestedType, left-1) {
			return true
		}
	}
	return false
}

// nameFields gives fields the JSON names that they have when none is said: protoc leaves them out of the descriptors in generated code, and the compiler wants them.
func nameFields(messages []*descriptorpb.DescriptorProto) {
	for _, m := range messages {
		for _, f := range m.Field {
			if f.JsonName == nil {
				f.JsonName = proto.String(jsonName(f.GetName()))
			}
		}
		nameFields(m.NestedType)
	}
}

// jsonName is a name in lowerCamelCase (Protocol Buffers, "JSON Mapping").
func jsonName(name string) string {
	var out []byte
	upper := false
	for _, c := range []byte(name) {
		switch {
		case c == '_':
			upper = true
			continue
		case upper && c >= 'a' && c <= 'z':
			c -= 'a' - 'A'
		}
		out, upper = append(out, c), false
	}
	return string(out)
}

// depth is how deep braces and brackets lie in each other, outside of strings and comments.
func depth(text string) (deepest int) {
	level := 0
	for i := 0; i < len(text); i++ {
		rest := text[i:]
		switch c := text[i]; c {
		case '{', '[', '(', '<':
			level++
			deepest = max(deepest, level)
		case '}', ']', ')', '>':
			level--
		case '"', '\'':
			i = after(text, i+1, c)
		case '/':
			end := ""
			if strings.HasPrefix(rest, "//") {
				end = "\n"
			} else if strings.HasPrefix(rest, "/*") {
				end = "*/"
			}
			if end != "" {
				n := strings.Index(rest[2:], end)
				if n < 0 {
					return deepest
				}
				i += 2 + n + len(end) - 1
			}
		}
	}
	return deepest
}

// after is the place of the quote that ends a string.
func after(text string, i int, quote byte) int {
	for ; i < len(text) && text[i] != quote && text[i] != '\n'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i
}

// File is what was compiled.
func (s *Schema) File() protoreflect.FileDescriptor { return s.file }

// Canonical is the schema's text, in the order it was written in, with its comments.
func (s *Schema) Canonical() string { return s.text }

// Normalized is the schema's text in an order of its own, with full names and without comments: schemas that mean the same have the same.
func (s *Schema) Normalized() (string, error) { return printed(s.file, true) }

// Serialized is the schema's FileDescriptorProto in base64.
func (s *Schema) Serialized() (string, error) {
	file := protodesc.ToFileDescriptorProto(s.file)
	if file == nil {
		return "", errors.New("the schema has no descriptor")
	}
	file.SourceCodeInfo = nil
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(file)
	return base64.StdEncoding.EncodeToString(b), err
}
