// Package client asks a schema registry, over Confluent's REST API: this node's own, without a network between, or one that runs elsewhere.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/kafkaclient"
	"github.com/forebayhub/forebay/runtime/converter"
)

// Options say which registry and how to come in.
type Options struct {
	// URLs are addresses of one registry; the next is asked when one does not answer. Like schema.registry.url. Empty: Own.
	URLs []string
	// Own is a registry in this process; nil: there is none.
	Own                http.Handler
	Username, Password string               // basic authentication, unless both are ""
	Token              string               // a bearer token, unless ""
	Security           kafkaclient.Security // its TLS; none: what the system trusts
}

// Client asks one registry. It keeps what it was told, since neither a schema's id nor an id's schema ever changes. It may be used concurrently.
type Client struct {
	o    Options
	http *http.Client

	mu     sync.Mutex
	ids    map[subjectText]int32
	texts  map[int32]converter.SchemaText
	begins int // the URL that answered last
}

type subjectText struct{ subject, kind, text string }

const (
	// timeout bounds a request; a registry may have to elect a leader.
	timeout = 30 * time.Second
	// maxBody bounds an answer: a schema of a megabyte and what JSON makes of it.
	maxBody = 8 << 20
	// maxKnown bounds what is kept, of ids and of schemas each.
	maxKnown = 4096
	// maxReferences bounds what one schema names, with what those name.
	maxReferences = 1000
)

var (
	// ErrNone says that there is no registry to ask.
	ErrNone = errors.New("there is no schema registry here")
	// ErrUnknown says that the registry has no schema of that id: no retry will mend it.
	ErrUnknown = errors.New("the schema registry does not have it")
)

// redirected follows a registry within its own address. Elsewhere its login would go along, perhaps in the clear.
func redirected(req *http.Request, via []*http.Request) error {
	if from := via[0].URL; req.URL.Scheme != from.Scheme || req.URL.Host != from.Host {
		return fmt.Errorf("it redirects to %s://%s: name that address in registry.url", req.URL.Scheme, req.URL.Host)
	}
	if len(via) >= 10 {
		return errors.New("it redirects in a circle")
	}
	return nil
}

// New makes a Client; it does no I/O.
func New(o Options) (*Client, error) {
	c := &Client{o: o, http: &http.Client{Timeout: timeout, CheckRedirect: redirected}, ids: map[subjectText]int32{}, texts: map[int32]converter.SchemaText{}}
	if len(o.URLs) == 0 {
		if o.Own == nil {
			return nil, ErrNone
		}
		c.o.URLs, c.http.Transport = []string{"http://registry"}, inProcess{o.Own}
		return c, nil
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 2
	var err error
	if t.TLSClientConfig, err = o.Security.Config(); err != nil {
		return nil, err
	}
	c.http.Transport = t
	return c, nil
}

// Close lets go of idle connections, of none when c is nil.
func (c *Client) Close() {
	if c != nil {
		c.http.CloseIdleConnections()
	}
}

// Register makes a schema the subject's newest version, unless it has it, and gives its id. An error that no retry will mend is fatal: a schema that the
// subject's compatibility refuses, a login that is wrong.
func (c *Client) Register(ctx context.Context, subject string, s converter.SchemaText) (int32, error) {
	key := subjectText{subject, s.Type, s.Text}
	c.mu.Lock()
	id, ok := c.ids[key]
	c.mu.Unlock()
	if ok {
		return id, nil
	}
	body := struct {
		Schema string `json:"schema"`
		Type   string `json:"schemaType,omitempty"`
	}{s.Text, s.Type}
	if s.Type == "AVRO" { // the default; registries before 5.5 know no other word
		body.Type = ""
	}
	var out struct {
		ID int32 `json:"id"`
	}
	if err := c.ask(ctx, http.MethodPost, "/subjects/"+url.PathEscape(subject)+"/versions", body, &out); err != nil {
		return 0, refused(subject, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ids) >= maxKnown {
		clear(c.ids)
	}
	c.ids[key] = out.ID
	return out.ID, nil
}

// refused tells the user what to do where no retry helps.
func refused(subject string, err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return fmt.Errorf("register a schema of subject %s: %w", subject, err)
	}
	err = fmt.Errorf("subject %s does not take the schema: %w", subject, err)
	const kept = "; nothing is lost, the source goes on from where it stands once it is restarted"
	switch f.status {
	case http.StatusConflict:
		return connectors.Fatal(err, "the table has changed in a way that readers of earlier versions cannot follow: take the change back, or allow it: "+
			"PUT /config/"+url.PathEscape(subject)+` {"compatibility": "NONE"}`+kept)
	case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return connectors.Fatal(err, "the registry cannot keep this schema: leave columns out, or write JSON"+kept)
	}
	return lasting(err, f)
}

// lasting makes an error fatal that says that the login is wrong.
func lasting(err error, f *failure) error {
	if f.status == http.StatusUnauthorized || f.status == http.StatusForbidden {
		return connectors.Fatal(err, "see registry.username, registry.password, registry.token, and what they may do there")
	}
	return err
}

// Schema finds a schema by its id; ErrUnknown when the registry has none.
func (c *Client) Schema(ctx context.Context, id int32) (converter.SchemaText, error) {
	c.mu.Lock()
	s, ok := c.texts[id]
	c.mu.Unlock()
	if ok {
		return s, nil
	}
	s, err := c.stored(ctx, fmt.Sprintf("/schemas/ids/%d", id), noSchema)
	if err != nil {
		return s, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.texts) >= maxKnown {
		clear(c.texts)
	}
	c.texts[id] = s
	return s, nil
}

// Latest is the newest schema of a subject, the zero SchemaText where it has none.
func (c *Client) Latest(ctx context.Context, subject string) (converter.SchemaText, error) {
	s, err := c.stored(ctx, "/subjects/"+url.PathEscape(subject)+"/versions/latest", noSubject, noVersion)
	if errors.Is(err, ErrUnknown) {
		return converter.SchemaText{}, nil
	}
	return s, err
}

// What a registry says that does not have something (io.confluent.kafka.schemaregistry.rest.exceptions.Errors).
const (
	noSubject = 40401
	noVersion = 40402
	noSchema  = 40403
)

// stored asks for a schema and for what it references; ErrUnknown when the registry answers with one of the codes that say that it has none.
func (c *Client) stored(ctx context.Context, path string, none ...int) (converter.SchemaText, error) {
	var out stored
	err := c.ask(ctx, http.MethodGet, path, nil, &out)
	var f *failure
	switch {
	case errors.As(err, &f) && slices.Contains(none, f.code):
		return converter.SchemaText{}, fmt.Errorf("%w: %w", ErrUnknown, err)
	case f != nil:
		return converter.SchemaText{}, lasting(err, f)
	case err != nil:
		return converter.SchemaText{}, err
	}
	return c.whole(ctx, out)
}

// stored is a schema as a registry answers it.
type stored struct {
	Schema     string      `json:"schema"`
	Type       string      `json:"schemaType"`
	References []reference `json:"references"`
}

type reference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

// whole is a schema with what it references, as a registry resolves it (Confluent's AbstractSchemaProvider.resolveReferences): a name that came before counts once, and
// what was soft-deleted since is still meant.
func (c *Client) whole(ctx context.Context, s stored) (converter.SchemaText, error) {
	out := converter.SchemaText{Type: s.Type, Text: s.Schema}
	if out.Type == "" {
		out.Type = "AVRO"
	}
	seen := map[string]bool{}
	var follow func([]reference) error
	follow = func(refs []reference) error {
		for _, r := range refs {
			if seen[r.Name] {
				continue
			}
			if seen[r.Name] = true; len(seen) > maxReferences {
				return fmt.Errorf("%w: it has more than %d references", ErrUnknown, maxReferences)
			}
			var inner stored
			if err := c.ask(ctx, http.MethodGet, fmt.Sprintf("/subjects/%s/versions/%d?deleted=true", url.PathEscape(r.Subject), r.Version), nil, &inner); err != nil {
				return fmt.Errorf("its reference to version %d of %s: %w", r.Version, r.Subject, err)
			}
			if err := follow(inner.References); err != nil {
				return err
			}
			out.References = append(out.References, converter.Reference{Name: r.Name, Text: inner.Schema})
		}
		return nil
	}
	return out, follow(s.References)
}

// failure is a registry's answer that is an error.
type failure struct {
	status  int
	code    int
	message string
}

func (f *failure) Error() string {
	if f.code == 0 {
		return fmt.Sprintf("status %d: %s", f.status, f.message)
	}
	return fmt.Sprintf("%s (error %d)", f.message, f.code)
}

// missing says that a registry does not have what was asked for. A node that is behind others may say so, too.
func (f *failure) missing() bool { return f.code/100 == http.StatusNotFound }

// ask sends a request to the addresses in turn, beginning with the one that answered last. That something is missing holds if no other one has it.
func (c *Client) ask(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	c.mu.Lock()
	begins := c.begins
	c.mu.Unlock()
	var last error
	var missing *failure
	for i := range c.o.URLs {
		at := (begins + i) % len(c.o.URLs)
		err := c.once(ctx, c.o.URLs[at], method, path, body, out)
		var f *failure
		if errors.As(err, &f) && f.missing() {
			missing = f
			continue
		}
		if err == nil || errors.As(err, &f) && !passing(f.status) {
			c.mu.Lock()
			c.begins = at
			c.mu.Unlock()
			return err
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	if missing != nil && ctx.Err() == nil {
		return missing
	}
	if f := (*failure)(nil); errors.As(last, &f) { // may pass: not an answer to what was asked
		last = errors.New(f.Error())
	}
	return fmt.Errorf("ask the schema registry: %w", last)
}

// passing says that another node, or the same one later, may answer otherwise.
func passing(status int) bool {
	return status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
}

func (c *Client) once(ctx context.Context, base, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(base, "/")+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", mediaType)
	if body != nil {
		req.Header.Set("Content-Type", mediaType)
	}
	switch {
	case c.o.Token != "":
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	case c.o.Username != "" || c.o.Password != "":
		req.SetBasicAuth(c.o.Username, c.o.Password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err // url.Error names the address; it has no secret
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return fmt.Errorf("%s: %w", base, err)
	}
	if len(text) > maxBody {
		return fmt.Errorf("%s: an answer of more than %d bytes", base, maxBody)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(text, out); err != nil {
			return fmt.Errorf("%s: not the answer of a schema registry: %w", base, err)
		}
		return nil
	}
	f := &failure{status: resp.StatusCode}
	var said struct {
		Code    int    `json:"error_code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &said) == nil {
		f.code, f.message = said.Code, said.Message
	}
	if f.status == http.StatusNotFound && !f.missing() {
		return fmt.Errorf("%s: status 404, not the answer of a schema registry; see registry.url", base)
	}
	if at := strings.Index(f.message, ", {oldSchemaVersion"); at > 0 { // what follows is the whole of the schema before
		f.message = f.message[:at] + "]"
	}
	if f.message == "" {
		f.code, f.message = 0, http.StatusText(f.status)
	}
	return f
}

const mediaType = "application/vnd.schemaregistry.v1+json"
