package schema

// Cache keeps what was worked out for schemas. When that is too much it forgets all: schemas that are inferred may be as many as records. The zero
// Cache is ready. It belongs to one goroutine.
type Cache[K comparable, V any] struct {
	known map[K]V
	size  int
}

// A Cache holds so many things, of schemas with so many fields together.
const (
	mostCached       = 4096
	mostCachedFields = 1 << 17
)

// Get is what was put; the zero V when it is not there.
func (c *Cache[K, V]) Get(k K) V { return c.known[k] }

// Put keeps v, which is as large as so many fields (Schema.Size).
func (c *Cache[K, V]) Put(k K, v V, size int) {
	if c.size += size; c.known == nil || len(c.known) >= mostCached || c.size > mostCachedFields {
		c.known, c.size = map[K]V{}, size
	}
	c.known[k] = v
}

// Size is how many schemas s is made of.
func (s *Schema) Size() int {
	if s == nil {
		return 0
	}
	n := 1 + s.Elem.Size() + s.Key.Size()
	for i := range s.Fields {
		n += s.Fields[i].Schema.Size()
	}
	return n
}

// Places finds fields by their names, however many there are. It is for one list of fields, which may grow between two calls. It belongs to one goroutine.
type Places struct {
	known map[string]int
	upto  int // so many fields are in known
}

// Find is the place of the first field called name, or -1, as Schema.FieldIndex gives it.
func (p *Places) Find(fields []Field, name string) int {
	const few = 32
	if len(fields) <= few {
		for i := range fields {
			if fields[i].Name == name {
				return i
			}
		}
		return -1
	}
	if p.known == nil {
		p.known = make(map[string]int, len(fields))
	}
	for ; p.upto < len(fields); p.upto++ {
		if _, there := p.known[fields[p.upto].Name]; !there {
			p.known[fields[p.upto].Name] = p.upto
		}
	}
	if i, there := p.known[name]; there {
		return i
	}
	return -1
}
