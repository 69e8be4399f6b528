package spec

import (
	"slices"
	"strconv"
	"strings"
)

// maxItems bounds a Tree that is written with dots: its numbers come from outside.
const maxItems = 1000

// flatTree is a Tree that is written with dots, as a flat map of REST has it: transforms.0.type, transforms.0.fields.
type flatTree struct {
	name  string
	items map[int]*Node
	at    Entry // the first of its keys
}

// tree takes an entry that belongs to a Tree; false: it does not.
func (p *parser) tree(name string, e *Entry) bool {
	field, rest, _ := strings.Cut(name, ".")
	index, key, ok := strings.Cut(rest, ".")
	f := p.fields[field]
	i, err := strconv.Atoi(index)
	if f == nil || f.Type != Tree || !ok || err != nil || i < 0 || i >= maxItems || strconv.Itoa(i) != index {
		return false
	}
	at := slices.IndexFunc(p.trees, func(t *flatTree) bool { return t.name == field })
	if at < 0 {
		at = len(p.trees)
		p.trees = append(p.trees, &flatTree{name: field, items: map[int]*Node{}, at: *e})
	}
	item := p.trees[at].items[i]
	if item == nil {
		item = &Node{Shape: Mapping, Line: e.Line, Col: e.Col, Flat: true}
		p.trees[at].items[i] = item
	}
	item.Map = append(item.Map, Entry{Key: key, Line: e.Line, Col: e.Col, Value: e.Value})
	return true
}

// readTrees reads what tree collected: the items in the order of their numbers.
func (p *parser) readTrees() {
	for _, t := range p.trees {
		list := Node{Shape: List, Line: t.at.Line, Col: t.at.Col, Flat: true}
		for i := range maxItems {
			if item := t.items[i]; item != nil {
				list.List = append(list.List, *item)
			}
		}
		p.field(t.name, p.fields[t.name], &Entry{Key: t.name, Line: t.at.Line, Col: t.at.Col, Value: list})
	}
}

// InTree says that a flat name is a key in an item of a Tree.
func InTree(name string) bool {
	_, rest, _ := strings.Cut(name, ".")
	index, _, ok := strings.Cut(rest, ".")
	_, err := strconv.Atoi(index)
	return ok && err == nil
}
