package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// identity is who answers.
type identity struct {
	Name string `json:"name"`
}

func (h *handler) worker(w http.ResponseWriter, _ *http.Request) {
	if h.o.Name == nil {
		Problem(w, http.StatusNotFound, "this worker is in no group")
		return
	}
	reply(w, http.StatusOK, identity{h.o.Name()})
}

// Ask makes a function that asks who answers at the address of a worker's REST API. The client has what the workers of a group know each other by.
func Ask(client *http.Client) func(ctx context.Context, addr string) (name string, err error) {
	if client == nil {
		client = http.DefaultClient
	}
	return func(ctx context.Context, addr string) (string, error) {
		req, err := toWorker(ctx, http.MethodGet, addr, "/worker", nil)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(req)
		if err != nil {
			return "", fmt.Errorf("ask the worker at %s: %w", addr, err)
		}
		defer resp.Body.Close()
		var who identity
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&who); err != nil || resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("ask the worker at %s: %s", addr, resp.Status)
		}
		return who.Name, nil
	}
}

// toWorker is a request to a worker. Its address is a member's word, and has to be no more than that: whoever joins the group chooses it.
func toWorker(ctx context.Context, method, addr, uri string, content []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+uri, bytes.NewReader(content))
	if err == nil && req.URL.Host != addr {
		err = fmt.Errorf("%q is no address of a worker", addr)
	}
	return req, err
}
