package parquet

import (
	"fmt"
	"reflect"

	pq "github.com/parquet-go/parquet-go"

	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sinks/internal/table"
)

// column is a node of a file's schema, able to take a value apart into the
// repetition and definition levels of its leaves (the Dremel paper, §4.1; parquet-format,
// Nested Encoding).
type column struct {
	name     string
	optional bool
	node     pq.Node
	shape    shape
	children []*column // group: its fields; list: the element; dict: key, value

	leaf   int      // leaf: its place among the file's leaves
	levels int      // leaf: definition level of a value that is there
	conv   leafConv // leaf
	rep    int      // list and dict: repetition level of the second and later elements
}

type shape uint8

const (
	leafShape shape = iota
	groupShape
	listShape
	dictShape
)

// builder makes the columns of one file.
type builder struct{ leaves int }

// build makes the column of a schema. def and rep are the levels at which the parent is there.
func (b *builder) build(name string, s *schema.Schema, optional bool, def, rep, depth int) (*column, error) {
	if s == nil {
		return nil, fmt.Errorf("column %s has no type", name)
	}
	if depth > table.MaxDepth {
		return nil, fmt.Errorf("column %s nests deeper than %d levels", name, table.MaxDepth)
	}
	c := &column{name: name, optional: optional}
	if optional {
		def++
	}
	var err error
	switch {
	case s.Kind == schema.Struct && s.Name != table.VariableDecimal && len(s.Fields) > 0:
		err = b.group(c, s, def, rep, depth)
	case s.Kind == schema.Array:
		err = b.list(c, s, def, rep, depth)
	case s.Kind == schema.Map:
		err = b.dict(c, s, def, rep, depth)
	default:
		c.node, c.conv, err = leafOf(s)
		c.leaf, c.levels = b.leaves, def
		if b.leaves++; b.leaves > table.MaxLeaves {
			err = fmt.Errorf("more than %d columns", table.MaxLeaves)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("column %s: %w", name, err)
	}
	if optional {
		c.node = pq.Optional(c.node)
	}
	return c, nil
}

func (b *builder) group(c *column, s *schema.Schema, def, rep, depth int) error {
	c.shape = groupShape
	for _, f := range s.Fields {
		child, err := b.build(f.Name, f.Schema, true, def, rep, depth+1)
		if err != nil {
			return err
		}
		c.children = append(c.children, child)
	}
	c.node = groupOf(c.children)
	return nil
}

func (b *builder) list(c *column, s *schema.Schema, def, rep, depth int) error {
	c.shape, c.rep = listShape, rep+1
	elem, err := b.build("element", s.Elem, true, def+1, rep+1, depth+1)
	if err != nil {
		return err
	}
	c.children = []*column{elem}
	c.node = pq.List(elem.node)
	return nil
}

func (b *builder) dict(c *column, s *schema.Schema, def, rep, depth int) error {
	c.shape, c.rep = dictShape, rep+1
	key, err := b.build("key", s.Key, false, def+1, rep+1, depth+1)
	if err != nil {
		return err
	}
	value, err := b.build("value", s.Elem, true, def+1, rep+1, depth+1)
	if err != nil {
		return err
	}
	c.children = []*column{key, value}
	c.node = pq.Map(key.node, value.node)
	return nil
}

// put takes v apart into out. rep is the repetition level of v's first leaf
// values, def the level at which v's parent is there.
func (c *column) put(out *rows, v schema.Value, rep, def int) error {
	if v.Kind == schema.Null || v.Kind == schema.Unavailable {
		if !c.optional {
			return fmt.Errorf("column %s: null in a column that must not be", c.name)
		}
		c.putNull(out, rep, def)
		return nil
	}
	if c.optional {
		def++
	}
	switch c.shape {
	case leafShape:
		x, err := c.conv(out, v)
		if err != nil {
			return fmt.Errorf("column %s: %w", c.name, err)
		}
		out.add(c.leaf, x.Level(rep, c.levels, c.leaf))
		return nil
	case groupShape:
		return c.putGroup(out, v, rep, def)
	case listShape, dictShape:
		return c.putRepeated(out, v, rep, def)
	}
	return nil
}

func (c *column) putGroup(out *rows, v schema.Value, rep, def int) error {
	if v.Kind != schema.Struct || len(v.List) != len(c.children) {
		return fmt.Errorf("column %s: a value of another shape", c.name)
	}
	for i, child := range c.children {
		if err := child.put(out, v.List[i], rep, def); err != nil {
			return err
		}
	}
	return nil
}

func (c *column) putRepeated(out *rows, v schema.Value, rep, def int) error {
	n, want := len(c.children), schema.Array
	if c.shape == dictShape {
		want = schema.Map
	}
	if v.Kind != want || len(v.List)%n != 0 {
		return fmt.Errorf("column %s: a value of another shape", c.name)
	}
	if len(v.List) == 0 {
		c.putNull(out, rep, def)
		return nil
	}
	for i, elem := range v.List {
		if err := c.children[i%n].put(out, elem, rep, def+1); err != nil {
			return err
		}
		if i%n == n-1 {
			rep = c.rep
		}
	}
	return nil
}

// putNull says in every leaf below c that nothing is there beyond level def.
func (c *column) putNull(out *rows, rep, def int) {
	if c.shape == leafShape {
		out.add(c.leaf, pq.Value{}.Level(rep, def, c.leaf))
		return
	}
	for _, child := range c.children {
		child.putNull(out, rep, def)
	}
}

// rows are rows that have been taken apart and not yet been given to the
// library: one list of values per leaf, and the bytes they point to.
type rows struct {
	leaves [][]pq.Value
	bytes  []byte
	count  int
	size   int64 // a guess of the encoded size of all values, uncompressed
}

func newRows(leaves int) *rows { return &rows{leaves: make([][]pq.Value, leaves)} }

func (r *rows) add(leaf int, v pq.Value) {
	r.leaves[leaf] = append(r.leaves[leaf], v)
	r.size += 8
}

// keep copies p into the rows' own memory.
func (r *rows) keep(p []byte) []byte {
	if len(r.bytes)+len(p) > cap(r.bytes) {
		// The old memory stays alive through the values that point into it.
		r.bytes = make([]byte, 0, max(16<<10, 2*cap(r.bytes), len(p)))
	}
	n := len(r.bytes)
	r.bytes = append(r.bytes, p...)
	r.size += int64(len(p))
	return r.bytes[n:len(r.bytes):len(r.bytes)]
}

// maxBatchBytes bounds the memory that rows keep between batches.
const maxBatchBytes = 256 << 10

func (r *rows) reset() {
	for i := range r.leaves {
		clear(r.leaves[i])
		r.leaves[i] = r.leaves[i][:0]
	}
	if r.bytes = r.bytes[:0]; cap(r.bytes) > 2*maxBatchBytes {
		r.bytes = nil
	}
	r.count, r.size = 0, 0
}

// group is a pq.Group that keeps the order of its fields.
type group struct {
	pq.Group
	fields []pq.Field
}

func groupOf(children []*column) group {
	g := group{Group: pq.Group{}}
	for _, c := range children {
		g.Group[c.name] = c.node
		g.fields = append(g.fields, field{c.node, c.name})
	}
	return g
}

func (g group) Fields() []pq.Field { return g.fields }

type field struct {
	pq.Node
	name string
}

func (f field) Name() string { return f.name }

// Value is for Go structs, which are never written here.
func (f field) Value(reflect.Value) reflect.Value { return reflect.Value{} }
