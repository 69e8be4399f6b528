package registry

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/runtime/hublog"
)

// Handler serves Confluent's Schema Registry REST API under Paths. It reads the topic from the first request on, and holds nothing before.
type Handler struct {
	store   *store
	mux     *http.ServeMux
	timeout time.Duration   // of a request
	life    context.Context // ends with Close
	end     context.CancelFunc
}

// Paths are what a server must hand to a Handler.
var Paths = []string{"/subjects", "/subjects/", "/schemas", "/schemas/", "/config", "/config/", "/mode", "/mode/", "/compatibility/", "/contexts", "/v1/metadata/"}

const (
	// maxBody bounds a request: a schema of maxSchema bytes and what JSON makes of it.
	maxBody = 4 << 20
	// timeout bounds a request, like kafkastore.timeout.ms and more: a leader may have to be elected.
	timeout = 30 * time.Second
)

// New makes a handler; it does no I/O.
func New(o Options) *Handler {
	h := &Handler{store: newStore(o), mux: http.NewServeMux(), timeout: timeout}
	h.life, h.end = context.WithCancel(context.Background())
	h.schemas()
	h.subjects()
	h.settings()
	return h
}

// Close ends the requests that are under way, and the connection to the log; later requests are refused. It is called once.
func (h *Handler) Close() {
	h.end()
	h.store.close()
}

// The media types that are spoken; the first is the default.
var mediaTypes = []string{"application/vnd.schemaregistry.v1+json", "application/vnd.schemaregistry+json", "application/json"}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	as := answerType(r.Header.Get("Accept"))
	if as == "" {
		answer(w, mediaTypes[0], nil, fail(http.StatusNotAcceptable, "HTTP 406 Not Acceptable"))
		return
	}
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		if said := r.Header.Get("Content-Type"); said != "" {
			is, _, err := mime.ParseMediaType(said)
			if err != nil || !slices.Contains(mediaTypes, is) && is != "application/octet-stream" {
				answer(w, as, nil, fail(codeUnsupportedMediaType, "HTTP 415 Unsupported Media Type"))
				return
			}
		}
	}
	if _, pattern := h.mux.Handler(r); pattern == "" {
		code := http.StatusNotFound
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			other := *r
			other.Method = method
			if _, pattern := h.mux.Handler(&other); pattern != "" {
				code = http.StatusMethodNotAllowed
			}
		}
		answer(w, as, nil, fail(code, "HTTP %d %s", code, http.StatusText(code)))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.timeout)
	defer cancel()
	defer context.AfterFunc(h.life, cancel)()
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.timeout)) // a recorder has none to set
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	w.Header().Set("Content-Type", as)
	h.mux.ServeHTTP(w, r.WithContext(ctx))
}

// answerType is the media type of the answer; "" when the client takes none that is spoken.
func answerType(accept string) string {
	if accept == "" {
		return mediaTypes[0]
	}
	asked := map[string]bool{}
	for part := range strings.SplitSeq(accept, ",") {
		name, _, _ := strings.Cut(part, ";")
		asked[strings.ToLower(strings.TrimSpace(name))] = true
	}
	for _, t := range mediaTypes {
		if asked[t] {
			return t
		}
	}
	if asked["*/*"] || asked["application/*"] {
		return mediaTypes[0]
	}
	return ""
}

// raw is an answer that is text already.
type raw string

func answer(w http.ResponseWriter, as string, body any, err error) {
	w.Header().Set("Content-Type", as)
	code := http.StatusOK
	if err != nil {
		f := told(err)
		code, body = f.status(), f
	}
	text, isText := body.(raw)
	b := []byte(text)
	if !isText {
		if b, err = marshal(body); err != nil {
			code, b = http.StatusInternalServerError, nil
		}
	}
	w.WriteHeader(code)
	_, _ = w.Write(b) // the client may have gone
}

// told is what a client hears of an error.
func told(err error) *failure {
	var f *failure
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &large):
		return fail(http.StatusRequestEntityTooLarge, "the request has more than %d bytes", large.Limit)
	case errors.Is(err, kerr.MessageTooLarge): // of what is not bounded by itself: names, references, a text that JSON makes much longer
		return fail(codeTooLarge, "The record would be larger than the topic takes: %v", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fail(codeTimeout, "the log did not answer in time")
	}
	return fail(codeStore, "Error in the backend data store: %v", err)
}

// on answers requests of a pattern with what fn returns.
func (h *Handler) on(pattern string, fn func(q *query) (any, error)) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		body, err := fn(&query{Request: r})
		answer(w, w.Header().Get("Content-Type"), body, err)
	})
}

// query is a request and ways to read it.
type query struct{ *http.Request }

func (q *query) flag(name string) bool {
	return strings.EqualFold(q.URL.Query().Get(name), "true")
}

func (q *query) subject() (string, error) { return subjectOf(q.PathValue("subject")) }

func (q *query) version() (int, error) {
	text := q.PathValue("version")
	if strings.EqualFold(strings.TrimSpace(text), "latest") {
		return latest, nil
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32)
	if err != nil || n < 1 && n != latest {
		return 0, invalidVersion(text)
	}
	return int(n), nil
}

func (q *query) id() (int, error) {
	n, err := strconv.ParseInt(q.PathValue("id"), 10, 32)
	if err != nil {
		return 0, fail(http.StatusNotFound, "HTTP 404 Not Found")
	}
	return int(n), nil
}

// body reads JSON. Members that are not known are left alone, as in Confluent's, unless strict.
func (q *query) body(into any, strict bool) error {
	d := json.NewDecoder(q.Request.Body)
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(into); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return err
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fail(http.StatusRequestTimeout, "HTTP 408 Request Timeout")
		}
		if strings.Contains(err.Error(), "unknown field") {
			return fail(codeUnprocessable, "This registry does not support it: %v", err)
		}
		return fail(codeBadRequest, "Bad request: %v", err)
	}
	return nil
}

func (q *query) schema() (*request, error) {
	var body request
	return &body, q.body(&body, false)
}

// page cuts a list by offset and limit.
func page[T any](q *query, all []T) []T {
	number := func(name string, otherwise int) int {
		n, err := strconv.Atoi(q.URL.Query().Get(name))
		if err != nil {
			return otherwise
		}
		return n
	}
	all = all[min(max(number("offset", 0), 0), len(all)):]
	if limit := number("limit", -1); limit >= 0 && limit < len(all) {
		all = all[:limit]
	}
	return all
}

func (h *Handler) view(q *query, fn func(*state) (any, error)) (out any, err error) {
	err = h.store.view(q.Context(), func(s *state) error {
		var err error
		out, err = fn(s)
		return err
	})
	return out, err
}

func (h *Handler) change(q *query, fn func(*state) (any, []hublog.KeyValue, error)) (out any, err error) {
	err = h.store.change(q.Context(), func(s *state) ([]hublog.KeyValue, error) {
		var records []hublog.KeyValue
		var err error
		out, records, err = fn(s)
		return records, err
	})
	return out, err
}

// versionBody is one version in an answer: Confluent's Schema.
type versionBody struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
	ID      int    `json:"id"`
	content
	Deleted bool `json:"deleted,omitempty"`
}

func bodyOf(v *schemaValue, c content) versionBody {
	return versionBody{Subject: v.Subject, Version: v.Version, ID: v.ID, content: c, Deleted: v.Deleted}
}

// formattedBody has the schema in the form that the query asks for.
func formattedBody(s *state, v *schemaValue, q *query) (versionBody, error) {
	c, err := s.formatted(v, q.URL.Query().Get("format"))
	return bodyOf(v, c), err
}

// textBody is a schema by its id: Confluent's SchemaString.
type textBody struct {
	Subject string `json:"subject,omitempty"`
	Version int    `json:"version,omitempty"`
	content
	MaxID *int `json:"maxId,omitempty"`
}

// registeredBody is the answer to a registration: Confluent's RegisterSchemaResponse.
type registeredBody struct {
	ID      int `json:"id"`
	Version int `json:"version"`
	content
}

type subjectVersion struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

func (h *Handler) schemas() {
	h.on("GET /schemas/types", func(*query) (any, error) { return types, nil })
	h.on("GET /contexts", func(*query) (any, error) { return []string{"."}, nil })
	h.on("GET /v1/metadata/id", func(*query) (any, error) {
		return map[string]any{"scope": map[string]any{"path": []string{}, "clusters": map[string]string{"schema-registry-cluster": "forebay"}}}, nil
	})
	h.on("GET /v1/metadata/version", func(*query) (any, error) { return map[string]string{"version": "forebay", "commitId": ""}, nil })
	h.on("GET /schemas", func(q *query) (any, error) {
		return h.view(q, func(s *state) (any, error) {
			deleted := q.flag("deleted")
			out := []versionBody{}
			for _, name := range s.names(prefixOf(q.URL.Query().Get("subjectPrefix")), func(v *schemaValue) bool { return deleted || !v.Deleted }) {
				all := s.versions(name, deleted)
				if q.flag("latestOnly") {
					all = all[len(all)-1:]
				}
				for _, v := range all {
					out = append(out, bodyOf(v, v.content)) // never formatted: that compiles each
				}
			}
			return page(q, out), nil
		})
	})
	h.on("GET /schemas/ids/{id}", func(q *query) (any, error) {
		return h.byID(q, func(s *state, all []*schemaValue) (any, error) {
			v := all[0]
			c, err := s.formatted(v, q.URL.Query().Get("format"))
			if err != nil {
				return nil, err
			}
			out := textBody{content: c}
			if want := q.URL.Query().Get("subject"); want != "" {
				for _, other := range all {
					if other.Subject == want {
						v = other
					}
				}
				out.Subject, out.Version = v.Subject, v.Version
			}
			if q.flag("fetchMaxId") {
				out.MaxID = &s.last
			}
			return out, nil
		})
	})
	h.on("GET /schemas/ids/{id}/schema", func(q *query) (any, error) {
		return h.byID(q, func(s *state, all []*schemaValue) (any, error) {
			c, err := s.formatted(all[0], q.URL.Query().Get("format"))
			return raw(c.Schema), err
		})
	})
	used := func(q *query, each func(*schemaValue)) error {
		_, err := h.byID(q, func(_ *state, all []*schemaValue) (any, error) {
			for _, v := range all {
				if want := q.URL.Query().Get("subject"); (want == "" || want == v.Subject) && (q.flag("deleted") || !v.Deleted) {
					each(v)
				}
			}
			return nil, nil
		})
		return err
	}
	h.on("GET /schemas/ids/{id}/subjects", func(q *query) (any, error) {
		out := []string{}
		err := used(q, func(v *schemaValue) {
			if !slices.Contains(out, v.Subject) {
				out = append(out, v.Subject)
			}
		})
		slices.Sort(out)
		return page(q, out), err
	})
	h.on("GET /schemas/ids/{id}/versions", func(q *query) (any, error) {
		out := []subjectVersion{}
		err := used(q, func(v *schemaValue) { out = append(out, subjectVersion{v.Subject, v.Version}) })
		slices.SortFunc(out, func(a, b subjectVersion) int {
			if c := strings.Compare(a.Subject, b.Subject); c != 0 {
				return c
			}
			return a.Version - b.Version
		})
		return page(q, out), err
	})
}

// prefixOf is the prefix of subjects that a listing asks for: the default context's, and all contexts', are all there are.
func prefixOf(text string) string {
	for _, context := range []string{":*:", ":.:"} {
		if rest, ok := strings.CutPrefix(text, context); ok {
			return rest
		}
	}
	return text
}

func (h *Handler) byID(q *query, fn func(s *state, all []*schemaValue) (any, error)) (any, error) {
	id, err := q.id()
	if err != nil {
		return nil, err
	}
	return h.view(q, func(s *state) (any, error) {
		all := s.ids[id]
		if len(all) == 0 {
			return nil, idNotFound(id)
		}
		return fn(s, all)
	})
}

// onSubject is on for patterns with a subject.
func (h *Handler) onSubject(pattern string, fn func(q *query, subject string) (any, error)) {
	h.on(pattern, func(q *query) (any, error) {
		subject, err := q.subject()
		if err != nil {
			return nil, err
		}
		return fn(q, subject)
	})
}

// onVersion is on for patterns with a subject and a version.
func (h *Handler) onVersion(pattern string, fn func(q *query, subject string, version int) (any, error)) {
	h.onSubject(pattern, func(q *query, subject string) (any, error) {
		version, err := q.version()
		if err != nil {
			return nil, err
		}
		return fn(q, subject, version)
	})
}

// one finds a version for an answer.
func (s *state) one(subject string, version int, deleted bool) (*schemaValue, error) {
	if v := s.get(subject, version, deleted); v != nil {
		return v, nil
	}
	if len(s.versions(subject, deleted)) == 0 {
		return nil, subjectNotFound(subject)
	}
	return nil, versionNotFound(version)
}

func (h *Handler) subjects() {
	h.on("GET /subjects", func(q *query) (any, error) {
		return h.view(q, func(s *state) (any, error) {
			want := func(v *schemaValue) bool { return !v.Deleted || q.flag("deleted") }
			if q.flag("deletedOnly") {
				want = func(v *schemaValue) bool { return v.Deleted }
			}
			names := s.names(prefixOf(q.URL.Query().Get("subjectPrefix")), want)
			if q.flag("deletedOnly") {
				names = slices.DeleteFunc(names, func(n string) bool { return len(s.versions(n, false)) > 0 })
			}
			return page(q, names), nil
		})
	})
	h.onSubject("POST /subjects/{subject}", func(q *query, subject string) (any, error) {
		body, err := q.schema()
		if err != nil {
			return nil, err
		}
		return h.view(q, func(s *state) (any, error) {
			v, err := s.lookup(subject, body, q.flag("normalize"), q.flag("deleted"))
			if err != nil {
				return nil, err
			}
			return formattedBody(s, v, q)
		})
	})
	h.onSubject("DELETE /subjects/{subject}", func(q *query, subject string) (any, error) {
		return h.change(q, func(s *state) (any, []hublog.KeyValue, error) {
			return wrap(s.deleteSubject(subject, q.flag("permanent")))
		})
	})
	h.onSubject("GET /subjects/{subject}/versions", func(q *query, subject string) (any, error) {
		return h.view(q, func(s *state) (any, error) {
			deleted, only := q.flag("deleted"), q.flag("deletedOnly")
			if len(s.versions(subject, deleted || only)) == 0 {
				return nil, subjectNotFound(subject)
			}
			out := []int{}
			for _, v := range s.versions(subject, deleted || only) {
				if v.Deleted || !only {
					out = append(out, v.Version)
				}
			}
			return page(q, out), nil
		})
	})
	h.onSubject("POST /subjects/{subject}/versions", func(q *query, subject string) (any, error) {
		body, err := q.schema()
		if err != nil {
			return nil, err
		}
		return h.change(q, func(s *state) (any, []hublog.KeyValue, error) {
			v, records, err := s.register(subject, body, q.flag("normalize"), q.flag("force"))
			if err != nil {
				return nil, nil, err
			}
			answer := registeredBody{ID: v.ID, Version: v.Version, content: v.content}
			if v.kind() == Protobuf {
				// confluent-kafka (Python) brings descriptors, and takes what is answered for one when it reads later.
				answer.Schema = body.Schema
			}
			return answer, records, nil
		})
	})
	h.onVersion("GET /subjects/{subject}/versions/{version}", func(q *query, subject string, version int) (any, error) {
		return h.view(q, func(s *state) (any, error) {
			v, err := s.one(subject, version, q.flag("deleted"))
			if err != nil {
				return nil, err
			}
			return formattedBody(s, v, q)
		})
	})
	h.onVersion("GET /subjects/{subject}/versions/{version}/schema", func(q *query, subject string, version int) (any, error) {
		return h.view(q, func(s *state) (any, error) {
			v, err := s.one(subject, version, q.flag("deleted"))
			if err != nil {
				return nil, err
			}
			c, err := s.formatted(v, q.URL.Query().Get("format"))
			return raw(c.Schema), err
		})
	})
	h.onVersion("GET /subjects/{subject}/versions/{version}/referencedby", func(q *query, subject string, version int) (any, error) {
		return h.view(q, func(s *state) (any, error) {
			v, err := s.one(subject, version, true)
			if err != nil {
				return nil, err
			}
			out := []int{}
			for _, by := range s.referrers(subject, v.Version, q.flag("deleted")) {
				out = append(out, by.ID)
			}
			slices.Sort(out)
			return page(q, slices.Compact(out)), nil
		})
	})
	h.onVersion("DELETE /subjects/{subject}/versions/{version}", func(q *query, subject string, version int) (any, error) {
		return h.change(q, func(s *state) (any, []hublog.KeyValue, error) {
			return wrap(s.deleteVersion(subject, version, q.flag("permanent")))
		})
	})
	check := func(q *query, subject string, version int) (any, error) {
		body, err := q.schema()
		if err != nil {
			return nil, err
		}
		return h.view(q, func(s *state) (any, error) {
			why, err := s.check(subject, body, version, q.flag("normalize"))
			var f *failure
			if errors.As(err, &f) && f.Code == codeInvalidSchema && q.flag("verbose") {
				why, err = []string{f.Message}, nil
			}
			if err != nil {
				return nil, err
			}
			out := map[string]any{"is_compatible": len(why) == 0}
			if q.flag("verbose") {
				out["messages"] = append([]string{}, why...)
			}
			return out, nil
		})
	}
	h.onVersion("POST /compatibility/subjects/{subject}/versions/{version}", check)
	h.onSubject("POST /compatibility/subjects/{subject}/versions", func(q *query, subject string) (any, error) { return check(q, subject, 0) })
}

// wrap is a decision with its answer as any.
func wrap[T any](out T, records []hublog.KeyValue, err error) (any, []hublog.KeyValue, error) {
	return out, records, err
}

func (h *Handler) settings() {
	both := func(method, path string, fn func(q *query, subject string) (any, error)) {
		h.on(method+" "+path, func(q *query) (any, error) { return fn(q, "") })
		h.on(method+" "+path+"/{subject}", func(q *query) (any, error) {
			if q.PathValue("subject") == ":.:" { // the default context is what is global here
				return fn(q, "")
			}
			subject, err := q.subject()
			if err != nil {
				return nil, err
			}
			return fn(q, subject)
		})
	}
	both("GET", "/config", func(q *query, subject string) (any, error) {
		return h.view(q, func(s *state) (any, error) { return s.config(subject, q.flag("defaultToGlobal")) })
	})
	both("PUT", "/config", func(q *query, subject string) (any, error) {
		var body configRequest
		if err := q.body(&body, true); err != nil {
			return nil, err
		}
		return h.change(q, func(s *state) (any, []hublog.KeyValue, error) { return wrap(s.setConfig(subject, body)) })
	})
	both("DELETE", "/config", func(q *query, subject string) (any, error) {
		return h.change(q, func(s *state) (any, []hublog.KeyValue, error) { return wrap(s.deleteConfig(subject)) })
	})
	both("GET", "/mode", func(q *query, subject string) (any, error) {
		return h.view(q, func(s *state) (any, error) { return s.modeOf(subject, q.flag("defaultToGlobal")) })
	})
	both("PUT", "/mode", func(q *query, subject string) (any, error) {
		var body modeBody
		if err := q.body(&body, true); err != nil {
			return nil, err
		}
		return h.change(q, func(s *state) (any, []hublog.KeyValue, error) {
			records, err := s.setMode(subject, body, q.flag("force"))
			return body, records, err
		})
	})
	both("DELETE", "/mode", func(q *query, subject string) (any, error) {
		return h.change(q, func(s *state) (any, []hublog.KeyValue, error) { return wrap(s.deleteMode(subject)) })
	})
}
