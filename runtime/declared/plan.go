package declared

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Action is what happens to a connector.
type Action string

const (
	Create    Action = "create"
	Update    Action = "change"
	Remove    Action = "remove"
	Unchanged Action = "unchanged"
)

// Plan is what an edit does to the declared set.
type Plan struct {
	Version int64    `json:"version"` // of the set that it starts from, or that it has made
	Changes []Change `json:"changes"`
}

// Change is what an edit does to one connector.
type Change struct {
	Name   string        `json:"name"`
	Kind   Kind          `json:"kind"`
	Type   string        `json:"type"`
	Action Action        `json:"action"`
	Fields []FieldChange `json:"fields,omitempty"` // of a create and a change
}

// FieldChange is one field before and after, secrets as stars; nil: it is not given.
type FieldChange struct {
	Name string  `json:"name"`
	From *string `json:"from,omitempty"`
	To   *string `json:"to,omitempty"`
}

// runningWord is how Running reads.
const runningWord State = "RUNNING"

// Empty says that nothing changes.
func (p Plan) Empty() bool {
	return !slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Action != Unchanged })
}

// Compare is the plan from one set of connectors to another: first what the new one has, in its order, then what goes.
func (t Types) Compare(have, want []Connector) Plan {
	p := Plan{Changes: []Change{}}
	for _, w := range want {
		i := slices.IndexFunc(have, func(h Connector) bool { return h.Name == w.Name })
		c := Change{Name: w.Name, Kind: w.Kind, Type: w.Type, Action: Create}
		if i < 0 {
			c.Fields = t.fields(Connector{}, w)
		} else if c.Fields = t.fields(have[i], w); c.Fields == nil {
			c.Action = Unchanged
		} else {
			c.Action = Update
		}
		p.Changes = append(p.Changes, c)
	}
	for _, h := range have {
		if !slices.ContainsFunc(want, func(w Connector) bool { return w.Name == h.Name }) {
			p.Changes = append(p.Changes, Change{Name: h.Name, Kind: h.Kind, Type: h.Type, Action: Remove})
		}
	}
	return p
}

// fields compares field by field. A have without a name is none.
func (t Types) fields(have, want Connector) (out []FieldChange) {
	if have.Name != "" && (have.Kind != want.Kind || have.Type != want.Type) {
		from, to := fmt.Sprintf("%s %s", have.Kind, have.Type), fmt.Sprintf("%s %s", want.Kind, want.Type)
		out = append(out, FieldChange{Name: "type", From: &from, To: &to})
	}
	if have.Name != "" && have.State != want.State {
		from, to := string(cmp.Or(have.State, runningWord)), string(cmp.Or(want.State, runningWord))
		out = append(out, FieldChange{Name: "state", From: &from, To: &to})
	}
	secretBefore, secretAfter := t.secret(have), t.secret(want)
	names := map[string]bool{}
	for _, c := range []Connector{have, want} {
		for name := range c.Fields {
			names[name] = true
		}
		for name := range c.Written {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		before, had := have.setting(name)
		after, has := want.setting(name)
		if had == has && before.equal(after) {
			continue
		}
		f := FieldChange{Name: name}
		if had {
			text := show(before, secretBefore(name) || secretAfter(name))
			f.From = &text
		}
		if has {
			text := show(after, secretAfter(name))
			f.To = &text
		}
		out = append(out, f)
	}
	return out
}

// setting is a field, or a setting that is only written, as it was written.
func (c Connector) setting(name string) (Value, bool) {
	if text, ok := c.Written[name]; ok {
		return Value{Text: text}, true
	}
	v, ok := c.Fields[name]
	return v, ok
}
