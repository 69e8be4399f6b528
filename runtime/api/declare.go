package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

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
	if err := d.Decode(into); err != nil {
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
	}
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, plan)
}

// put is PUT /connectors/NAME/config: 201 for a new connector, 200 for one that was there.
func (h *handler) put(w http.ResponseWriter, r *http.Request) {
	var config map[string]string
	if err := body(w, r, &config); err != nil {
		fail(w, err)
		return
	}
	h.declare(w, r, r.PathValue("name"), config, false)
}

// post is POST /connectors: 409 when the name is taken.
func (h *handler) post(w http.ResponseWriter, r *http.Request) {
	var b struct {
		Name   string            `json:"name"`
		Config map[string]string `json:"config"`
	}
	if err := body(w, r, &b); err != nil {
		fail(w, err)
		return
	}
	h.declare(w, r, b.Name, b.Config, true)
}

func (h *handler) declare(w http.ResponseWriter, r *http.Request, name string, config map[string]string, fresh bool) {
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
		if before != nil && fresh {
			return nil, fmt.Errorf("%w: %s", errExists, name)
		}
		var err error
		if c, err = fromFlat(s.Types(), name, config, before); err != nil {
			return nil, err
		}
		return declared.Put(c)(have)
	}, declared.Any)
	if err != nil {
		fail(w, err)
		return
	}
	code := http.StatusOK
	for _, change := range plan.Changes {
		if change.Name == name && change.Action == declared.Create {
			code = http.StatusCreated
		}
	}
	reply(w, code, map[string]any{"name": name, "config": s.Types().Flat(c), "tasks": []any{}, "type": c.Kind})
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
	c.Fields = types.Fields(c.Kind, c.Type, spec.FlatNode(config), "connector.class", "name")
	for field, v := range c.Fields { // stars, as a GET shows them, are nobody's secret: the value stays as it was
		if before == nil || v.Text != spec.SecretText("").String() {
			continue
		}
		if old, ok := before.Fields[field]; ok {
			c.Fields[field] = old
		}
	}
	return c, nil
}

// remove is DELETE /connectors/NAME.
func (h *handler) remove(w http.ResponseWriter, r *http.Request) {
	s, err := h.store()
	if err == nil {
		_, err = s.Apply(r.Context(), declared.Delete(r.PathValue("name")), declared.Any)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
