package server

import (
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/internal/metrics"
)

// What a server tells about itself. Bytes are those of frames, before TLS.
var (
	requestSeconds = metrics.Histogram("forebay_request_seconds", "Requests that were answered, and the time from the whole request to its reply. A Fetch waits for records up to the time that its client allows, a JoinGroup for the group's other members.", "api")
	requestErrors  = metrics.Counter("forebay_request_errors_total", "Error codes in replies, by Kafka's names; a request on several partitions counts each.", "api", "error")
	requestBytes   = metrics.Counter("forebay_request_bytes_total", "Bytes that came in by requests.", "api")
	responseBytes  = metrics.Counter("forebay_response_bytes_total", "Bytes that went out by replies.", "api")
	connections    = metrics.Gauge("forebay_connections", "Connections that are open now, in-memory ones of this process's own connectors among them.")
	connected      = metrics.Counter("forebay_connections_accepted_total", "Connections that were accepted.")
	loginFailures  = metrics.Counter("forebay_authentication_failures_total", "Connections that could not say who they are.")
	throttled      = metrics.Counter("forebay_throttled_requests_total", "Requests over a client quota.")
	throttledTime  = metrics.Counter("forebay_throttle_seconds_total", "Time that clients over a quota were told to wait.")
	fetchSessionsN = metrics.Gauge("forebay_fetch_sessions", "Fetch sessions (KIP-227) that are kept.")
)

// Families are the metrics of a Server.
var Families = []*metrics.Family{requestSeconds, requestErrors, requestBytes, responseBytes, connections, connected, loginFailures,
	throttled, throttledTime, fetchSessionsN}

// apiStats are the counters of one API. A request costs five additions.
type apiStats struct {
	time    metrics.Latency
	in, out atomic.Int64
	errors  atomic.Pointer[[mostCode + 2]atomic.Int64] // by code + 1; nil before the first error
}

// mostCode is above Kafka's highest error code; those that are not between are counted as UNKNOWN_SERVER_ERROR.
const mostCode = 160

// failed counts an error code; 0 is none.
func (a *apiStats) failed(code int16) {
	if code == 0 {
		return
	}
	e := a.errors.Load()
	if e == nil {
		a.errors.CompareAndSwap(nil, new([mostCode + 2]atomic.Int64))
		e = a.errors.Load()
	}
	if code < -1 || code > mostCode {
		code = -1
	}
	e[code+1].Add(1)
}

// answered counts a reply of so many bytes.
func (a *apiStats) answered(began time.Time, bytes int) {
	a.out.Add(int64(bytes))
	a.time.Observe(time.Since(began))
}

// serverStats are the counters of all connections.
type serverStats struct {
	connected, logins, throttled, throttle atomic.Int64
}

// held counts a request whose client is to wait.
func (s *serverStats) held(wait time.Duration) {
	if wait > 0 {
		s.throttled.Add(1)
		s.throttle.Add(int64(wait))
	}
}

// Metrics writes what the server has counted.
func (s *Server) Metrics(w *metrics.Writer) {
	for _, a := range s.apis {
		if a == nil || a.stats.in.Load() == 0 {
			continue
		}
		name := a.key.Name()
		w.Latency(requestSeconds, &a.stats.time, name)
		w.Count(requestBytes, a.stats.in.Load(), name)
		w.Count(responseBytes, a.stats.out.Load(), name)
		if e := a.stats.errors.Load(); e != nil {
			for code := range e {
				if n := e[code].Load(); n > 0 {
					w.Count(requestErrors, n, name, errorName(int16(code)-1))
				}
			}
		}
	}
	s.mu.Lock()
	n := len(s.conns)
	s.mu.Unlock()
	w.Count(connections, int64(n))
	w.Count(connected, s.stats.connected.Load())
	w.Count(loginFailures, s.stats.logins.Load())
	w.Count(throttled, s.stats.throttled.Load())
	w.Value(throttledTime, time.Duration(s.stats.throttle.Load()).Seconds())
	s.sessions.mu.Lock()
	n = len(s.sessions.byID)
	s.sessions.mu.Unlock()
	w.Count(fetchSessionsN, int64(n))
}

// errorName is Kafka's name of a code.
func errorName(code int16) string {
	if e := kerr.TypedErrorForCode(code); e != nil {
		return e.Message
	}
	return kerr.UnknownServerError.Message
}

// codePlaces is where responses of a type have their error codes, found out from the type itself.
type codePlaces struct {
	code  []int // fields that are codes
	lists []codeList
}

type codeList struct {
	field int
	of    *codePlaces
}

// placesByType keeps what findCodes has found; there are as many types as APIs.
var placesByType sync.Map

// placesOf finds them out at the first response of a type.
func placesOf(t reflect.Type) *codePlaces {
	if p, ok := placesByType.Load(t); ok {
		return p.(*codePlaces)
	}
	p := findCodes(t)
	placesByType.Store(t, p)
	return p
}

// findCodes gives nil for a type that has none.
func findCodes(t reflect.Type) *codePlaces {
	var p codePlaces
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Name == "ErrorCode" && f.Type.Kind() == reflect.Int16:
			p.code = append(p.code, i)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			if of := findCodes(f.Type.Elem()); of != nil {
				p.lists = append(p.lists, codeList{i, of})
			}
		}
	}
	if p.code == nil && p.lists == nil {
		return nil
	}
	return &p
}

// each calls fn for every code but 0.
func (p *codePlaces) each(v reflect.Value, fn func(int16)) {
	for _, i := range p.code {
		if code := v.Field(i).Int(); code != 0 {
			fn(int16(code))
		}
	}
	for _, l := range p.lists {
		list := v.Field(l.field)
		for i := range list.Len() {
			l.of.each(list.Index(i), fn)
		}
	}
}

// countErrors counts the error codes of a response.
func (a *apiStats) countErrors(resp kmsg.Response) {
	v := reflect.ValueOf(resp).Elem()
	if p := placesOf(v.Type()); p != nil {
		p.each(v, a.failed)
	}
}
