package api

import (
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

// Ask makes a function that asks who answers at the address of a worker's REST API. The workers of a group ask for the same token; "": for none.
func Ask(client *http.Client, token string) func(ctx context.Context, addr string) (name string, err error) {
	if client == nil {
		client = http.DefaultClient
	}
	return func(ctx context.Context, addr string) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/worker", nil)
		if err != nil {
			return "", err
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
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
