package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/declared"
)

var (
	errFiles  = errors.New("the connectors of this process come from its files: change those, and start it again")
	errBody   = errors.New("the body is not what is expected here")
	errExists = errors.New("the connector is there already")
)

// maxBody bounds a request: a whole set fits.
const maxBody = 8 << 20

// body decodes a request; a key that is not known is an error, for it meant something to somebody.
func body(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("%w: %s cannot be a JSON %s", errBody, cmp.Or(wrong.Field, "it"), wrong.Value)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errBody, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the JSON value", errBody)
	}
	return nil
}

// store is nil, with an error, where connectors come from files.
func (h *handler) store() (*declared.Store, error) {
	if h.o.Declared == nil {
		return nil, errFiles
	}
	return h.o.Declared, nil
}

// Apply is the body of POST /apply: the group's connectors shall be exactly these.
type Apply struct {
	Connectors []declared.Connector `json:"connectors"`
	// Version of the set that the caller has seen a plan from; null: whatever it is.
	Version *int64 `json:"version,omitempty"`
	DryRun  bool   `json:"dry_run,omitempty"`
}

// apply answers with a declared.Plan: what is done, or with dry_run what would be.
func (h *handler) apply(w http.ResponseWriter, r *http.Request) {
	s, err := h.store()
	var a Apply
	if err == nil {
		err = body(w, r, &a)
	}
	if err != nil {
		fail(w, err)
		return
	}
	var plan declared.Plan
	if a.DryRun {
		plan, err = s.Plan(r.Context(), declared.Replace(a.Connectors))
	} else {
		expect := declared.Any
		if a.Version != nil {
			expect = *a.Version
		}
		plan, err = s.Apply(r.Context(), declared.Replace(a.Connectors), expect)
		if err == nil {
			h.heard(r.Context(), plan)
		}
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, plan)
}

// flat is Connect's config map. Its values are strings; numbers, true and false are taken for the strings that they look like, as Connect does.
type flat map[string]*string // nil: null

func (f *flat) UnmarshalJSON(text []byte) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	*f = flat{}
	for name, v := range raw {
		value := string(v)
		switch v[0] {
		case 'n':
			(*f)[name] = nil
			continue
		case '{', '[':
			return fmt.Errorf("the value of '%s' is neither a string nor a number", name)
		case '"':
			if err := json.Unmarshal(v, &value); err != nil {
				return err
			}
		}
		(*f)[name] = &value
	}
	return nil
}

// given are the settings that have a value.
func (f flat) given() map[string]string {
	out := map[string]string{}
	for name, v := range f {
		if v != nil {
			out[name] = *v
		}
	}
	return out
}

// put is PUT /connectors/NAME/config: 201 for a new connector, 200 for one that was there.
func (h *handler) put(w http.ResponseWriter, r *http.Request) {
	var config flat
	if err := body(w, r, &config); err != nil {
		fail(w, err)
		return
	}
	name := r.PathValue("name")
	h.declare(w, r, name, func(types declared.Types, before *declared.Connector) (declared.Connector, error) {
		return fromFlat(types, name, config.given(), before)
	})
}

// patch is PATCH /connectors/NAME/config (KIP-477): what is not named stays, null takes a setting back.
func (h *handler) patch(w http.ResponseWriter, r *http.Request) {
	var edit flat
	if err := body(w, r, &edit); err != nil {
		fail(w, err)
		return
	}
	name := r.PathValue("name")
	h.declare(w, r, name, func(types declared.Types, before *declared.Connector) (declared.Connector, error) {
		if before == nil {
			return declared.Connector{}, fmt.Errorf("%w: %s", declared.ErrUnknown, name)
		}
		config := edit.given()
		class, named := edit["connector.class"]
		switch {
		case !named:
			config["connector.class"] = before.Type
		case class == nil:
			return declared.Connector{}, fmt.Errorf("%w: a connector has to have a connector.class", errBody)
		}
		c, err := fromFlat(types, name, config, before)
		if err != nil {
			return c, err
		}
		for field, v := range before.Fields {
			if _, edited := edit[field]; !edited {
				c.Fields[field] = v
			}
		}
		for field, text := range before.Written {
			if _, edited := edit[field]; !edited {
				c.Written[field] = text
			}
		}
		return c, nil
	})
}

// post is POST /connectors: 409 when the name is taken. KIP-980: it may begin stopped or paused.
func (h *handler) post(w http.ResponseWriter, r *http.Request) {
	var b struct {
		Name    string `json:"name"`
		Config  flat   `json:"config"`
		Initial string `json:"initial_state"`
	}
	if err := body(w, r, &b); err != nil {
		fail(w, err)
		return
	}
	state := declared.State(strings.ToUpper(b.Initial))
	if state == "RUNNING" {
		state = declared.Running
	}
	h.declare(w, r, b.Name, func(types declared.Types, before *declared.Connector) (declared.Connector, error) {
		if before != nil {
			return declared.Connector{}, fmt.Errorf("%w: %s", errExists, b.Name)
		}
		c, err := fromFlat(types, b.Name, b.Config.given(), nil)
		c.State = state
		return c, err
	})
}

// declare stores what edit makes of the connector that is there, nil for none.
func (h *handler) declare(w http.ResponseWriter, r *http.Request, name string, edit func(declared.Types, *declared.Connector) (declared.Connector, error)) {
	s, err := h.store()
	if err != nil {
		fail(w, err)
		return
	}
	var c declared.Connector
	plan, err := s.Apply(r.Context(), func(have []declared.Connector) ([]declared.Connector, error) {
		var before *declared.Connector
		for i := range have {
			if have[i].Name == name {
				before = &have[i]
			}
		}
		var err error
		if c, err = edit(s.Types(), before); err != nil {
			return nil, err
		}
		return declared.Put(c)(have)
	}, declared.Any)
	if err != nil {
		fail(w, err)
		return
	}
	h.heard(r.Context(), plan)
	code := http.StatusOK
	for _, change := range plan.Changes {
		if change.Name == name && change.Action == declared.Create {
			code = http.StatusCreated
			w.Header().Set("Location", "/connectors/"+name)
		}
	}
	reply(w, code, map[string]any{"name": name, "config": s.Types().Flat(c), "tasks": []any{}, "type": c.Kind})
}

// idle are Connect's fields of every connector that say nothing here, as `forebay migrate connect` explains of each: its tools send them always, and look for them.
var idle = []string{
	"tasks.max", "tasks.max.enforce", "config.action.reload", "connector.plugin.version", "header.converter", "errors.retry.timeout", "errors.retry.delay.max.ms", "errors.log.enable",
	"errors.log.include.messages", "exactly.once.support", "transaction.boundary", "transaction.boundary.interval.ms", "offsets.storage.topic",
}

// fromFlat reads Connect's flat map. A type that is a source's and a sink's, like postgres, is a sink's when
// topics are given, as in Connect.
func fromFlat(types declared.Types, name string, config map[string]string, before *declared.Connector) (declared.Connector, error) {
	c := declared.Connector{Name: name, Type: config["connector.class"]}
	if n, ok := config["name"]; ok && n != name {
		return c, fmt.Errorf("%w: the config's name is '%s', and not '%s'", errBody, n, name)
	}
	if c.Type == "" {
		return c, fmt.Errorf("%w: connector.class is missing: the connector's type", errBody)
	}
	_, source := types.Spec(declared.Source, c.Type)
	_, sink := types.Spec(declared.Sink, c.Type)
	_, topics := config["topics"]
	switch {
	case before != nil && before.Type == c.Type:
		c.Kind = before.Kind
	case sink && (topics || !source):
		c.Kind = declared.Sink
	default:
		c.Kind = declared.Source
	}
	c.Fields = types.Fields(c.Kind, c.Type, spec.FlatNode(config), append([]string{"connector.class", "name"}, idle...)...)
	for field, v := range c.Fields { // stars, as a GET shows them, are nobody's secret: the value stays as it was
		if before == nil || v.Text != spec.SecretText("").String() {
			continue
		}
		if old, ok := before.Fields[field]; ok {
			c.Fields[field] = old
		}
	}
	c.Written = map[string]string{}
	for field, text := range config {
		if v := c.Fields[field]; slices.Contains(idle, field) || v.List != nil && strings.Join(v.List, ",") != text {
			c.Written[field] = text
		}
	}
	return c, nil
}

// remove is DELETE /connectors/NAME.
func (h *handler) remove(w http.ResponseWriter, r *http.Request) {
	_, err := h.store()
	if err == nil {
		err = h.edit(r.Context(), declared.Delete(r.PathValue("name")))
	}
	answer(w, http.StatusNoContent, err)
}

// edit changes what is declared, whatever it was.
func (h *handler) edit(ctx context.Context, edit declared.Edit) error {
	plan, err := h.o.Declared.Apply(ctx, edit, declared.Any)
	if err == nil {
		h.heard(ctx, plan)
	}
	return err
}

// hearing bounds heard.
const hearing = time.Second

// heard waits until this process has heard of what it has declared: who declares something and then asks for it here, finds it.
func (h *handler) heard(ctx context.Context, plan declared.Plan) {
	if h.o.Heard == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hearing)
	defer cancel()
	h.o.Heard(ctx, plan.Version)
}
