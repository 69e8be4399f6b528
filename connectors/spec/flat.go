package spec

import (
	"maps"
	"slices"
	"strconv"
)

// FlatNode makes a Node of a flat map, as the REST API of Kafka Connect takes
// it: dotted keys, and lists written with commas.
func FlatNode(m map[string]string) Node {
	n := Node{Shape: Mapping, Flat: true}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		n.Map = append(n.Map, Entry{Key: key, Value: Node{Shape: Scalar, Text: m[key], Flat: true}})
	}
	return n
}

// Flatten is the flat map of a mapping, the inverse of FlatNode; secrets of s print as stars.
func (s Spec) Flatten(n Node) map[string]string {
	out := map[string]string{}
	secret := map[string]bool{}
	s.each(func(name string, f *Field) { secret[name] = f.Type == Secret })
	flatten("", n, secret, out)
	return out
}

func flatten(prefix string, n Node, secret map[string]bool, out map[string]string) {
	for _, e := range n.Map {
		name := prefix + e.Key
		switch e.Value.Shape {
		case Mapping:
			flatten(name+".", e.Value, secret, out)
		case List:
			if e.Value.OfMappings() {
				for i, item := range e.Value.List {
					flatten(name+"."+strconv.Itoa(i)+".", item, secret, out)
				}
				continue
			}
			text := ""
			for i, item := range e.Value.List {
				if i > 0 {
					text += ","
				}
				text += item.Text
			}
			out[name] = text
		case Scalar:
			out[name] = e.Value.Text
		}
		if _, ok := out[name]; ok && secret[name] {
			out[name] = SecretText("").String()
		}
	}
}

// OfMappings says that a List holds mappings: it is a Tree.
func (n Node) OfMappings() bool {
	return n.Shape == List && slices.ContainsFunc(n.List, func(item Node) bool { return item.Shape == Mapping })
}
