package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/internal/problem"
)

func connectorsCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "connectors", Short: "List, describe, pause, resume, stop, restart and delete connectors of a running node"}
	c.AddCommand(connectorsList(s), connectorsDescribe(s))
	for _, verb := range []struct{ name, method, doc string }{
		{"pause", http.MethodPut, "Stop reading or writing, and keep the task's place"},
		{"resume", http.MethodPut, "Go on after pause or stop"},
		{"stop", http.MethodPut, "End the tasks"},
		{"restart", http.MethodPost, "End the tasks and start them again, after a failure too"},
		{"delete", http.MethodDelete, "End the tasks and forget the connector; its topics, positions and what it wrote stay"},
	} {
		c.AddCommand(connectorsDo(s, verb.name, verb.method, verb.doc))
	}
	return c
}

func addHTTP(c *cobra.Command) {
	c.Flags().String("http", "127.0.0.1:8080", "`HOST:PORT` of the node's REST API; it is spoken to over TLS when --command-config says SSL or SASL_SSL, or with https:// before it")
	c.Flags().String("http-token", "", "`FILE` with the token that the REST API asks for")
	addCommandConfig(c)
}

// connectorState is Kafka Connect's body of GET /connectors/NAME/status.
type connectorState struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Connector struct {
		State    string `json:"state"`
		WorkerID string `json:"worker_id,omitempty"`
		Trace    string `json:"trace,omitempty"`
	} `json:"connector"`
	Class   string    `json:"class,omitempty"` // its type: tail, postgres
	Since   time.Time `json:"since,omitzero"`
	Records int64     `json:"records"`
	Lag     int64     `json:"lag"` // sink: records; -1: unknown
	Behind  *float64  `json:"lag_seconds,omitempty"`
	Tasks   []struct {
		ID    int    `json:"id"`
		State string `json:"state"`
		Trace string `json:"trace,omitempty"`
	} `json:"tasks"`
}

// call does one request of the REST API and decodes the answer into out, unless it is nil.
func call(c *cobra.Command, method, path string, out any) error {
	return send(c, method, path, nil, out)
}

// send is call with a body, unless it is nil.
func send(c *cobra.Command, method, path string, in, out any) error {
	body, err := ask(c, method, path, in, 16<<20)
	if err != nil || out == nil || len(body) == 0 {
		return err
	}
	return json.Unmarshal(body, out)
}

// answerWithin is longer than a node waits for another one that it hands a request on to: then it says so itself.
const answerWithin = 100 * time.Second

// ask is send that gives the answer's bytes, at most limit of them.
func ask(c *cobra.Command, method, path string, in any, limit int64) ([]byte, error) {
	addr, err := c.Flags().GetString("http")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context(), answerWithin)
	defer cancel()
	var content io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	client, base, err := webClient(c, addr)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, content)
	if err != nil {
		return nil, badInput("--http "+addr, "not an address", "write host:port, as in 127.0.0.1:8080")
	}
	tokenFile, err := c.Flags().GetString("http-token")
	if err != nil {
		return nil, err
	}
	token, err := httpToken(tokenFile)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, &problem.Error{Code: "no-answer", Class: problem.Environment, Where: addr, What: "no answer in time: what was asked may have been done, or be done yet", Hint: "look before you ask again", Err: err}
	}
	if err != nil {
		return nil, &problem.Error{Code: "unreachable", Class: problem.Environment, Where: addr, What: "no node answers: " + rootCause(err), Hint: "start one with `forebay up`, or give --http HOST:PORT; a secured one wants --command-config FILE", Err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusBadRequest && bytes.Contains(body, []byte("HTTPS server")) { // net/http's words to who speaks plainly
		return nil, &problem.Error{Code: "unreachable", Class: problem.Environment, Where: addr, What: "the node speaks TLS there", Hint: "give --command-config FILE, or --http https://HOST:PORT"}
	}
	if resp.StatusCode >= 300 {
		var p struct{ Title, Detail, Message string }
		_ = json.Unmarshal(body, &p) // whatever it is, the status stands
		what := p.Detail
		if what == "" {
			what = p.Message
		}
		if what == "" {
			what = resp.Status
		}
		class := problem.Runtime
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusBadRequest {
			class = problem.Input
		}
		hint := ""
		if resp.StatusCode == http.StatusNotFound && strings.HasPrefix(path, "/connectors/") {
			hint = "`forebay connectors list` shows the connectors"
		}
		return nil, &problem.Error{Code: "refused", Class: class, What: what, Hint: hint}
	}
	return body, nil
}

func connectorStates(c *cobra.Command, names []string) ([]connectorState, error) {
	states := []connectorState{}
	if names == nil {
		var all map[string]struct{ Status connectorState }
		if err := call(c, http.MethodGet, "/connectors?expand=status", &all); err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			states = append(states, all[name].Status)
		}
		return states, nil
	}
	for _, n := range names {
		var st connectorState
		if err := call(c, http.MethodGet, "/connectors/"+url.PathEscape(n)+"/status", &st); err != nil {
			return nil, err
		}
		states = append(states, st)
	}
	return states, nil
}

// lag is how far it is behind, in records, which only a sink counts, and in seconds.
func (st connectorState) lag() string {
	var parts []string
	if st.Type == "sink" && st.Lag >= 0 {
		parts = append(parts, fmt.Sprint(st.Lag))
	}
	if st.Behind != nil {
		parts = append(parts, fmt.Sprintf("%.3gs", *st.Behind))
	}
	return orDash(strings.Join(parts, "/"))
}

func connectorsList(s streams) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List connectors and their states", Args: cobra.NoArgs}
	c.RunE = func(c *cobra.Command, _ []string) error {
		states, err := connectorStates(c, nil)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return writeJSON(s.out, states)
		}
		var rows [][]string
		for _, st := range states {
			rows = append(rows, []string{st.Name, st.Type, orDash(st.Class), st.lag(), st.Connector.State, fmt.Sprint(len(st.Tasks)), st.Connector.WorkerID, inOneLine(st.Connector.Trace)})
		}
		return table(s.out, "CONNECTOR KIND TYPE LAG STATE TASKS WORKER ERROR", rows)
	}
	addJSON(c)
	addHTTP(c)
	return c
}

// inOneLine is a text for a table: what a connection failed of stands in the last line of a database's error.
func inOneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func connectorsDescribe(s streams) *cobra.Command {
	c := &cobra.Command{Use: "describe NAME…", Short: "Show tasks and their errors", Args: cobra.MinimumNArgs(1)}
	c.RunE = func(c *cobra.Command, names []string) error {
		states, err := connectorStates(c, names)
		if err != nil {
			return err
		}
		if wantsJSON(c) {
			return writeJSON(s.out, states)
		}
		for _, st := range states {
			fmt.Fprintf(s.out, "%s  %s %s  %s  on %s  records %d  lag %s\n", st.Name, st.Class, st.Type, st.Connector.State, st.Connector.WorkerID, st.Records, st.lag())
			if st.Connector.Trace != "" && len(st.Tasks) == 0 {
				fmt.Fprintf(s.out, "  %s\n", st.Connector.Trace)
			}
			for _, t := range st.Tasks {
				fmt.Fprintf(s.out, "  task %d  %s  %s\n", t.ID, t.State, t.Trace)
			}
		}
		return nil
	}
	addJSON(c)
	addHTTP(c)
	return c
}

func connectorsDo(s streams, verb, method, doc string) *cobra.Command {
	c := &cobra.Command{Use: verb + " NAME…", Short: doc, Args: cobra.MinimumNArgs(1)}
	c.RunE = func(c *cobra.Command, names []string) error {
		for _, n := range names {
			path := "/connectors/" + url.PathEscape(n)
			if method != http.MethodDelete {
				path += "/" + verb
			}
			if err := call(c, method, path, nil); err != nil {
				return err
			}
		}
		return say(c, s, map[string]string{"pause": "paused", "resume": "resumed", "stop": "stopped", "restart": "restarted", "delete": "deleted"}[verb], names)
	}
	addJSON(c)
	addHTTP(c)
	return c
}
