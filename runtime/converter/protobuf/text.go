package protobuf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// textOf is the .proto file of a message.
func textOf(space string, root *message) string {
	w := &text{imports: map[string]bool{}}
	w.message(root, "")
	var b strings.Builder
	b.WriteString("syntax = \"proto3\";\n")
	if space != "" {
		fmt.Fprintf(&b, "package %s;\n", space)
	}
	b.WriteByte('\n')
	for _, name := range slices.Sorted(maps.Keys(w.imports)) {
		fmt.Fprintf(&b, "import %q;\n", name)
	}
	return b.String() + w.b.String()
}

type text struct {
	b       strings.Builder
	imports map[string]bool
}

func (w *text) message(m *message, indent string) {
	fmt.Fprintf(&w.b, "\n%smessage %s {\n", indent, m.name)
	in := indent + "  "
	if meta := w.meta(m.doc, m.meta); meta != "" {
		fmt.Fprintf(&w.b, "%soption (confluent.message_meta) = %s;\n", in, meta)
	}
	for _, r := range m.reserved {
		if r[1] == r[0]+1 {
			fmt.Fprintf(&w.b, "%sreserved %d;\n", in, r[0])
		} else {
			fmt.Fprintf(&w.b, "%sreserved %d to %d;\n", in, r[0], r[1]-1)
		}
	}
	for _, name := range m.reservedNames {
		fmt.Fprintf(&w.b, "%sreserved %s;\n", in, quoted(name))
	}
	for _, f := range m.fields {
		label, typ, options := f.label, f.typ, ""
		if label != "" {
			label += " "
		}
		if file := imports[typ]; file != "" {
			w.imports[file], typ = true, "."+typ
		}
		if meta := w.meta(f.doc, f.meta); meta != "" {
			options = " [(confluent.field_meta) = " + meta + "]"
		}
		fmt.Fprintf(&w.b, "%s%s%s %s = %d%s;\n", in, label, typ, f.name, f.number, options)
	}
	for _, inner := range m.nested {
		w.message(inner, in)
	}
	w.b.WriteString(indent + "}\n")
}

// meta is Confluent's Meta as a literal; "" when it says nothing.
func (w *text) meta(doc string, params map[string]string) string {
	var parts []string
	if doc != "" {
		parts = append(parts, "doc: "+quoted(doc))
	}
	var list []string
	for _, k := range slices.Sorted(maps.Keys(params)) {
		list = append(list, "{key: "+quoted(k)+", value: "+quoted(params[k])+"}")
	}
	if len(list) > 0 {
		parts = append(parts, "params: ["+strings.Join(list, ", ")+"]")
	}
	if len(parts) == 0 {
		return ""
	}
	w.imports["confluent/meta.proto"] = true
	return "{" + strings.Join(parts, ", ") + "}"
}

// quoted is a string literal of the language.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s { // what is not UTF-8 becomes U+FFFD
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
