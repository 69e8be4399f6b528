package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/transform"
	"github.com/forebayhub/forebay/runtime/worker"
)

// types are what can be configured here.
func (h *handler) types() declared.Types {
	if h.o.Declared != nil {
		return h.o.Declared.Types()
	}
	t := declared.Types{SourceCommon: worker.SourceFields, SinkCommon: worker.SinkFields}
	if h.o.Worker != nil {
		t.Registry = h.o.Worker.Registry()
	}
	return t
}

// plugins lists connectors, and with connectorsOnly=false (KIP-769) also what changes single records.
func (h *handler) plugins(w http.ResponseWriter, r *http.Request) {
	out := []map[string]any{}
	add := func(name, kind string, s spec.Spec) {
		out = append(out, map[string]any{"class": name, "type": kind, "version": h.o.Version, "fields": s.Docs()})
	}
	t := h.types()
	for _, c := range t.Registry.Sources {
		add(c.Name, "source", c.Spec)
	}
	for _, c := range t.Registry.Sinks {
		add(c.Name, "sink", c.Spec)
	}
	if strings.EqualFold(r.URL.Query().Get("connectorsOnly"), "false") {
		for _, c := range transform.Types() {
			add(c.Name, "transformation", c.Fields())
		}
	}
	reply(w, http.StatusOK, out)
}

// definition is Connect's ConfigKeyInfo.
type definition struct {
	Name          string   `json:"name"`
	Type          string   `json:"type"`
	Required      bool     `json:"required"`
	Default       *string  `json:"default_value"`
	Importance    string   `json:"importance"`
	Documentation string   `json:"documentation"`
	Group         string   `json:"group"`
	Order         int      `json:"order_in_group"`
	Width         string   `json:"width"`
	DisplayName   string   `json:"display_name"`
	Dependents    []string `json:"dependents"`
}

// classType are Connect's names of types, by ours.
var classType = map[string]string{
	spec.Secret.String(): "PASSWORD", spec.Int.String(): "LONG", spec.Bool.String(): "BOOLEAN", spec.Strings.String(): "LIST",
}

// commonFields are those that every connector has in a flat map.
var commonFields = []spec.FieldDoc{
	{Name: "name", Type: spec.String.String(), Required: true, Doc: "The connector's name: of a source it is also the first part of its topics."},
	{Name: "connector.class", Type: spec.String.String(), Required: true, Doc: "The connector's type."},
}

// define describes the fields of a type as Connect does: those of a group, rotate.size, under its name, and the others under the type's.
func define(typ string, s spec.Spec) (out []definition, groups []string) {
	order := map[string]int{}
	add := func(group string, f spec.FieldDoc) {
		if order[group]++; order[group] == 1 {
			groups = append(groups, group)
		}
		d := definition{Name: f.Name, Type: classType[f.Type], Required: f.Required, Importance: "MEDIUM", Documentation: f.Doc,
			Group: group, Order: order[group], Width: "MEDIUM", DisplayName: f.Name, Dependents: []string{}}
		if d.Type == "" {
			d.Type = "STRING"
		}
		if f.Required {
			d.Importance = "HIGH"
		} else if f.Default != "" {
			d.Default = &f.Default
		}
		out = append(out, d)
	}
	for _, f := range commonFields {
		add("Common", f)
	}
	for _, f := range s.Docs() {
		group, _, nested := strings.Cut(f.Name, ".")
		if !nested {
			group = typ
		}
		add(group, f)
	}
	return out, groups
}

// pluginConfig describes a type's fields. One that is a source's and a sink's is the source's, unless the query says type=sink.
func (h *handler) pluginConfig(w http.ResponseWriter, r *http.Request) {
	typ := r.PathValue("plugin")
	kinds := []declared.Kind{declared.Source, declared.Sink}
	if kind := declared.Kind(r.URL.Query().Get("type")); kind != "" {
		kinds = []declared.Kind{kind}
	}
	for _, kind := range kinds {
		if s, ok := h.types().Spec(kind, typ); ok {
			out, _ := define(typ, s)
			reply(w, http.StatusOK, out)
			return
		}
	}
	if t := transform.Find(typ); t != nil {
		out, _ := define(typ, t.Fields())
		reply(w, http.StatusOK, out[len(commonFields):])
		return
	}
	fail(w, fmt.Errorf("%w: plugin %s", errNone, typ))
}

// checked is Connect's ConfigInfo.
type checked struct {
	Definition definition `json:"definition"`
	Value      struct {
		Name        string   `json:"name"`
		Value       *string  `json:"value"`
		Recommended []string `json:"recommended_values"`
		Errors      []string `json:"errors"`
		Visible     bool     `json:"visible"`
	} `json:"value"`
}

// validate checks a config and starts nothing; the answer is Connect's ConfigInfos.
func (h *handler) validate(w http.ResponseWriter, r *http.Request) {
	var config flat
	if err := body(w, r, &config); err != nil {
		fail(w, err)
		return
	}
	typ, types := r.PathValue("plugin"), h.types()
	given := config.given()
	if given["connector.class"] != typ {
		fail(w, fmt.Errorf("%w: connector.class is '%s', and the path says '%s'", errBody, given["connector.class"], typ))
		return
	}
	places, _, err := h.places(r)
	if err != nil {
		fail(w, err)
		return
	}
	var before *declared.Connector // whose stars these may be
	if i := slices.IndexFunc(places, func(p declared.Place) bool { return p.Name == given["name"] }); i >= 0 {
		before = &places[i].Connector
	}
	c, err := fromFlat(types, given["name"], given, before)
	if err != nil {
		fail(w, err)
		return
	}
	s, ok := types.Spec(c.Kind, typ)
	if !ok {
		fail(w, fmt.Errorf("%w: plugin %s", errNone, typ))
		return
	}
	findings, _ := types.Findings(c)
	if !spec.ValidName(c.Name) {
		findings = append(findings, spec.Finding{Path: "name", Message: "letters, digits, _ and -, at most 64, a letter first"})
	}
	definitions, groups := define(typ, s)
	configs := check(definitions, s, findings)
	shown := types.Flat(c)
	for i := range configs {
		v := &configs[i].Value
		if text, ok := shown[v.Name]; ok && given[v.Name] != "" {
			v.Value = &text
		}
	}
	reply(w, http.StatusOK, map[string]any{"name": typ, "error_count": len(findings), "groups": groups, "configs": configs})
}

// check puts what was found to the fields that it is about; what is about no field, to the type.
func check(definitions []definition, s spec.Spec, findings []spec.Finding) []checked {
	out := make([]checked, len(definitions))
	at := map[string]int{}
	for i, d := range definitions {
		v := &out[i].Value
		out[i].Definition, at[d.Name] = d, i
		v.Name, v.Value, v.Recommended, v.Errors, v.Visible = d.Name, d.Default, []string{}, []string{}, true
	}
	for _, f := range s.Docs() {
		if f.Allowed != nil {
			out[at[f.Name]].Value.Recommended = f.Allowed
		}
	}
	for _, f := range findings {
		text := f.Message
		if f.Hint != "" {
			text += " (" + f.Hint + ")"
		}
		i, known := at[f.Path]
		for path := f.Path; !known && strings.Contains(path, "."); i, known = at[path] { // within a list of mappings
			path = path[:strings.LastIndexByte(path, '.')]
		}
		if !known && f.Path == "" {
			i = slices.IndexFunc(definitions, func(d definition) bool { return d.Name == "connector.class" })
		} else if !known { // nobody knows the field
			d := definition{Name: f.Path, Type: "STRING", Importance: "LOW", Width: "NONE", DisplayName: f.Path, Group: "Common", Dependents: []string{}}
			var c checked
			c.Definition, c.Value.Name, c.Value.Recommended, c.Value.Visible = d, f.Path, []string{}, true
			i, at[f.Path] = len(out), len(out)
			out = append(out, c)
		}
		out[i].Value.Errors = append(out[i].Value.Errors, text)
	}
	return out
}
