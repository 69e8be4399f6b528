package avro

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

// node writes and skips the values of one Avro schema.
type node struct {
	text string // the schema as JSON
	// put appends a value that is there. After an error what it appended is worth nothing.
	put func(dst []byte, v schema.Value) ([]byte, error)
	// skip steps over a value, or says that the bytes are none.
	skip func(src []byte) ([]byte, error)
}

var errShort = errors.New("the bytes of a row end too early")

// builder makes the schema of one file. Avro wants a name for each record, once (specification 1.12, "Names").
type builder struct {
	names  map[string]bool
	leaves int
}

// record makes a node of columns. Columns that may be null are unions with null, which is their default.
func (b *builder) record(name string, columns []table.Column, depth int) (*node, []*node, error) {
	for b.names[name] {
		name += "_"
	}
	b.names[name] = true
	taken := map[string]bool{}
	var text strings.Builder
	space, short := "", name
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		space, short = name[:i], name[i+1:]
	}
	fmt.Fprintf(&text, `{"type":"record","name":%s,`, quoted(short))
	if space != "" {
		fmt.Fprintf(&text, `"namespace":%s,`, quoted(space))
	}
	text.WriteString(`"fields":[`)
	var nodes []*node
	for i, c := range columns {
		n, err := b.node(name+"_"+word(c.Name), c.Schema, depth)
		if err != nil {
			return nil, nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		label := word(c.Name)
		for taken[label] {
			label += "_"
		}
		taken[label] = true
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `{"name":%s,"type":`, quoted(label))
		if c.Required {
			n = required(n, c.Name)
			text.WriteString(n.text)
		} else {
			n = optional(n)
			text.WriteString(n.text + `,"default":null`)
		}
		if label != c.Name {
			fmt.Fprintf(&text, `,"forebay.column":%s`, quoted(c.Name))
		}
		text.WriteByte('}')
		nodes = append(nodes, n)
	}
	text.WriteString("]}")
	return &node{text: text.String(), put: putAll(nodes), skip: skipAll(nodes)}, nodes, nil
}

func putAll(nodes []*node) func([]byte, schema.Value) ([]byte, error) {
	return func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind != schema.Struct || len(v.List) != len(nodes) {
			return dst, table.ErrKind
		}
		return appendRow(dst, nodes, v.List)
	}
}

func appendRow(dst []byte, nodes []*node, values []schema.Value) ([]byte, error) {
	var err error
	for i, n := range nodes {
		if dst, err = n.put(dst, values[i]); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func skipAll(nodes []*node) func([]byte) ([]byte, error) {
	return func(src []byte) ([]byte, error) {
		var err error
		for _, n := range nodes {
			if src, err = n.skip(src); err != nil {
				return nil, err
			}
		}
		return src, nil
	}
}

func required(n *node, column string) *node {
	put := n.put
	out := *n
	out.put = func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind == schema.Null || v.Kind == schema.Unavailable {
			return dst, fmt.Errorf("column %s: null in a column that must not be", column)
		}
		return put(dst, v)
	}
	return &out
}

// optional is a union of null and n.
func optional(n *node) *node {
	return &node{
		text: `["null",` + n.text + `]`,
		put: func(dst []byte, v schema.Value) ([]byte, error) {
			if v.Kind == schema.Null || v.Kind == schema.Unavailable {
				return append(dst, 0), nil
			}
			return n.put(append(dst, 2), v)
		},
		skip: func(src []byte) ([]byte, error) {
			which, src, err := long(src)
			switch {
			case err != nil:
				return nil, err
			case which == 0:
				return src, nil
			case which == 1:
				return n.skip(src)
			}
			return nil, fmt.Errorf("a union of two has no branch %d", which)
		},
	}
}

// node is the type table of docs/formats/avro.md. name is for a record that it may need.
func (b *builder) node(name string, s *schema.Schema, depth int) (*node, error) {
	if s == nil {
		return nil, errors.New("it has no type")
	}
	if depth > table.MaxDepth {
		return nil, fmt.Errorf("it nests deeper than %d levels", table.MaxDepth)
	}
	switch {
	case s.Kind == schema.Struct && s.Name != table.VariableDecimal && len(s.Fields) > 0:
		columns := make([]table.Column, len(s.Fields))
		for i, f := range s.Fields {
			columns[i] = table.Column{Name: f.Name, Schema: f.Schema}
		}
		n, _, err := b.record(name, columns, depth+1)
		return n, err
	case s.Kind == schema.Array:
		elem, err := b.node(name, s.Elem, depth+1)
		if err != nil {
			return nil, err
		}
		return list(optional(elem)), nil
	case s.Kind == schema.Map:
		return b.dict(name, s, depth)
	}
	if b.leaves++; b.leaves > table.MaxLeaves {
		return nil, fmt.Errorf("more than %d columns", table.MaxLeaves)
	}
	return leaf(s)
}

// list is an array: blocks of elements, each with their count before it, and an empty one.
func list(elem *node) *node {
	return &node{
		text: `{"type":"array","items":` + elem.text + `}`,
		put: func(dst []byte, v schema.Value) ([]byte, error) {
			if v.Kind != schema.Array {
				return dst, table.ErrKind
			}
			return appendBlock(dst, []*node{elem}, v.List)
		},
		skip: skipBlocks([]*node{elem}),
	}
}

// dict is a map if its keys are text, else an array of pairs.
func (b *builder) dict(name string, s *schema.Schema, depth int) (*node, error) {
	if s.Key != nil && s.Key.Kind == schema.String && s.Key.Name == "" {
		elem, err := b.node(name, s.Elem, depth+1)
		if err != nil {
			return nil, err
		}
		pair := []*node{textNode(), optional(elem)}
		return &node{text: `{"type":"map","values":` + pair[1].text + `}`, put: putPairs(pair), skip: skipBlocks(pair)}, nil
	}
	pair, nodes, err := b.record(name, []table.Column{{Name: "key", Schema: s.Key, Required: true}, {Name: "value", Schema: s.Elem}}, depth+1)
	if err != nil {
		return nil, err
	}
	return &node{text: `{"type":"array","items":` + pair.text + `}`, put: putPairs(nodes), skip: skipBlocks(nodes)}, nil
}

func putPairs(nodes []*node) func([]byte, schema.Value) ([]byte, error) {
	return func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind != schema.Map || len(v.List)%2 != 0 {
			return dst, table.ErrKind
		}
		return appendBlock(dst, nodes, v.List)
	}
}

// appendBlock appends the elements of an array or a map, each of len(nodes) values.
func appendBlock(dst []byte, nodes []*node, values []schema.Value) ([]byte, error) {
	if len(values) == 0 {
		return append(dst, 0), nil
	}
	dst = binary.AppendVarint(dst, int64(len(values)/len(nodes)))
	for ; len(values) > 0; values = values[len(nodes):] {
		var err error
		if dst, err = appendRow(dst, nodes, values); err != nil {
			return dst, err
		}
	}
	return append(dst, 0), nil
}

func skipBlocks(nodes []*node) func([]byte) ([]byte, error) {
	elem := skipAll(nodes)
	return func(src []byte) ([]byte, error) {
		for {
			n, rest, err := long(src)
			if err != nil || n == 0 {
				return rest, err
			}
			if n < 0 { // the block's bytes are told, too
				var size int64
				if size, rest, err = long(rest); err != nil || size < 0 || size > int64(len(rest)) {
					return nil, errShort
				}
				src = rest[size:]
				continue
			}
			for src = rest; n > 0; n-- {
				if len(src) == 0 { // every element here has at least a byte: a large count ends here
					return nil, errShort
				}
				if src, err = elem(src); err != nil {
					return nil, err
				}
			}
		}
	}
}

// leaf is a type without parts.
func leaf(s *schema.Schema) (*node, error) {
	if perSecond, digits, ok := table.ClockOf(s); ok {
		return converted(textNode(), func(v schema.Value) (schema.Value, error) {
			if !table.IsInt(v) {
				return v, table.ErrKind
			}
			return schema.TextOf(table.AppendClock(nil, v.Int(), perSecond, digits)), nil
		}), nil
	}
	switch s.Kind {
	case schema.Bool:
		return &node{text: `"boolean"`, put: putBool, skip: fixed(1)}, nil
	case schema.Int16:
		return &node{text: `"int"`, put: putInt, skip: skipLong}, nil
	case schema.Int32:
		if s.Name == table.Debezium+"time.Date" || s.Name == table.ConnectDate {
			return &node{text: logical("int", "date"), put: putInt, skip: skipLong}, nil
		}
		return &node{text: `"int"`, put: putInt, skip: skipLong}, nil
	case schema.Int64:
		return &node{text: longType(s.Name), put: putLong, skip: skipLong}, nil
	case schema.Float32:
		return &node{text: `"float"`, put: putFloat, skip: fixed(4)}, nil
	case schema.Float64:
		return &node{text: `"double"`, put: putDouble, skip: fixed(8)}, nil
	case schema.String:
		return stringLeaf(s), nil
	case schema.Bytes:
		if s.Name == table.ConnectDecimal {
			return decimalNode(s)
		}
		return &node{text: `"bytes"`, put: putBytes, skip: skipBytes}, nil
	case schema.Struct:
		if s.Name == table.VariableDecimal {
			digits, err := table.VariableDecimalOf(s)
			return converted(textNode(), func(v schema.Value) (schema.Value, error) {
				b, err := digits(nil, v)
				return schema.TextOf(b), err
			}), err
		}
		// A struct without fields, as in Parquet.
		return converted(textNode(), func(schema.Value) (schema.Value, error) { return schema.StringOf("{}"), nil }), nil
	case schema.Null:
		return converted(textNode(), func(v schema.Value) (schema.Value, error) { return v, table.ErrKind }), nil
	}
	return nil, fmt.Errorf("a type of kind %d has no place in Avro", s.Kind)
}

func longType(name string) string {
	switch name {
	case table.Debezium + "time.Timestamp":
		return logical("long", "local-timestamp-millis")
	case table.ConnectInstant:
		return logical("long", "timestamp-millis")
	case table.Debezium + "time.MicroTimestamp":
		return logical("long", "local-timestamp-micros")
	case table.Debezium + "time.NanoTimestamp":
		return logical("long", "local-timestamp-nanos")
	}
	return `"long"`
}

func stringLeaf(s *schema.Schema) *node {
	if s.Name != table.Debezium+"time.ZonedTimestamp" {
		return textNode()
	}
	return &node{text: logical("long", "timestamp-micros"), skip: skipLong, put: func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind != schema.String {
			return dst, table.ErrKind
		}
		n, err := table.ZonedMicros(v.Data)
		return binary.AppendVarint(dst, n), err
	}}
}

func textNode() *node {
	return &node{text: `"string"`, skip: skipBytes, put: func(dst []byte, v schema.Value) ([]byte, error) {
		if v.Kind != schema.String {
			return dst, table.ErrKind
		}
		return appendBytes(dst, table.Text(v.Data)), nil
	}}
}

// converted writes what convert makes of a value.
func converted(n *node, convert func(schema.Value) (schema.Value, error)) *node {
	return &node{text: n.text, skip: n.skip, put: func(dst []byte, v schema.Value) ([]byte, error) {
		v, err := convert(v)
		if err != nil {
			return dst, err
		}
		return n.put(dst, v)
	}}
}

// decimalNode is Connect's Decimal: the same two's complement number in Avro, text beyond 38 digits.
func decimalNode(s *schema.Schema) (*node, error) {
	d, err := table.DecimalOf(s)
	if err != nil {
		return nil, err
	}
	if d.Text {
		return converted(textNode(), func(v schema.Value) (schema.Value, error) {
			b, err := d.AppendText(nil, v)
			return schema.TextOf(b), err
		}), nil
	}
	limit, zeros := d.Limit(), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(d.Zeros)), nil)
	text := `{"type":"bytes","logicalType":"decimal","precision":` + strconv.Itoa(d.Precision) + `,"scale":` + strconv.Itoa(d.Scale) + `}`
	return &node{text: text, skip: skipBytes, put: func(dst []byte, v schema.Value) ([]byte, error) {
		n, err := table.Unscaled(v)
		if err != nil {
			return dst, err
		}
		if n.Mul(n, zeros); n.CmpAbs(limit) >= 0 {
			return dst, table.ErrDecimal
		}
		return appendBytes(dst, twos(n)), nil
	}}, nil
}

// twos is n as the shortest big-endian two's complement number.
func twos(n *big.Int) []byte {
	if n.Sign() >= 0 {
		return n.FillBytes(make([]byte, n.BitLen()/8+1))
	}
	size := new(big.Int).Not(n).BitLen()/8 + 1
	return new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(8*size))).FillBytes(make([]byte, size))
}

func putBool(dst []byte, v schema.Value) ([]byte, error) {
	if v.Kind != schema.Bool {
		return dst, table.ErrKind
	}
	if v.Bool() {
		return append(dst, 1), nil
	}
	return append(dst, 0), nil
}

func putInt(dst []byte, v schema.Value) ([]byte, error) {
	if n := v.Int(); table.IsInt(v) && n == int64(int32(n)) {
		return binary.AppendVarint(dst, n), nil
	}
	return dst, table.ErrKind
}

func putLong(dst []byte, v schema.Value) ([]byte, error) {
	if !table.IsInt(v) {
		return dst, table.ErrKind
	}
	return binary.AppendVarint(dst, v.Int()), nil
}

func putFloat(dst []byte, v schema.Value) ([]byte, error) {
	if v.Kind != schema.Float32 {
		return dst, table.ErrKind
	}
	return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v.Float()))), nil
}

func putDouble(dst []byte, v schema.Value) ([]byte, error) {
	if v.Kind != schema.Float64 && v.Kind != schema.Float32 {
		return dst, table.ErrKind
	}
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v.Float())), nil
}

func putBytes(dst []byte, v schema.Value) ([]byte, error) {
	if v.Kind != schema.Bytes && v.Kind != schema.String {
		return dst, table.ErrKind
	}
	return appendBytes(dst, v.Data), nil
}

func appendBytes(dst, p []byte) []byte {
	return append(binary.AppendVarint(dst, int64(len(p))), p...)
}

// long reads a zigzag varint.
func long(src []byte) (int64, []byte, error) {
	n, size := binary.Varint(src)
	if size <= 0 {
		return 0, nil, errShort
	}
	return n, src[size:], nil
}

func skipLong(src []byte) ([]byte, error) {
	_, src, err := long(src)
	return src, err
}

func skipBytes(src []byte) ([]byte, error) {
	_, src, err := bytesOf(src)
	return src, err
}

func bytesOf(src []byte) (p, rest []byte, err error) {
	n, src, err := long(src)
	if err != nil || n < 0 || n > int64(len(src)) {
		return nil, nil, errShort
	}
	return src[:n], src[n:], nil
}

func fixed(n int) func([]byte) ([]byte, error) {
	return func(src []byte) ([]byte, error) {
		if len(src) < n {
			return nil, errShort
		}
		return src[n:], nil
	}
}

func logical(kind, name string) string {
	return `{"type":"` + kind + `","logicalType":"` + name + `"}`
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string is always JSON
	}
	return string(b)
}

// word is a column's name as Avro allows it: letters, digits and underscores, no digit first. Debezium does the
// same (field.name.adjustment.mode: avro).
func word(s string) string {
	var out []byte
	for i, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		digit := c >= '0' && c <= '9'
		switch {
		case letter, digit && i > 0:
			out = append(out, byte(c))
		case digit:
			out = append(out, '_', byte(c))
		default:
			out = append(out, '_')
		}
	}
	if len(out) == 0 {
		return "_"
	}
	return string(out)
}

// fullName is a topic as the name of a record: its dots part namespaces.
func fullName(topic string) string {
	parts := strings.Split(topic, ".")
	for i := range parts {
		parts[i] = word(parts[i])
	}
	return strings.Join(parts, ".")
}
