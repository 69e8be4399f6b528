package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/forebayhub/forebay/core/auth"
)

// jwks keeps the keys that tokens are checked with as their maker publishes them over HTTP (RFC 7517), like Kafka's RefreshingHttpsJwks. It fetches them at the start,
// then every refresh, and at once when a token has a key that is not among them, at most once in askEvery. What cannot be fetched is tried again,
// and the keys from before count on.
type jwks struct {
	url              string
	client           *http.Client
	refresh          time.Duration
	backoff, longest time.Duration // between attempts that fail: the first, doubled up to the longest
	askEvery         time.Duration // between two fetches for the sake of unknown keys
	patience         time.Duration // of who waits for a fetch
	logger           *slog.Logger
	wake             chan struct{} // one place

	mu     sync.Mutex
	keys   auth.Keys     // nil: none have come yet
	flight chan struct{} // closed when the fetch that is under way or wanted has ended; nil: there is none
	ended  time.Time     // the last one
}

const (
	jwksTimeout  = 10 * time.Second
	jwksAskEvery = 10 * time.Second
	jwksPatience = 5 * time.Second
	maxJWKS      = 1 << 20 // bytes
)

// newJWKS makes one that has no keys until it runs. c is nil for the authorities of the system.
func newJWKS(url string, c *tls.Config, refresh, backoff, longest time.Duration, logger *slog.Logger) *jwks {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = c
	return &jwks{
		url: url, refresh: refresh, backoff: backoff, longest: max(backoff, longest), askEvery: jwksAskEvery, patience: jwksPatience, logger: logger, wake: make(chan struct{}, 1),
		client: &http.Client{Timeout: jwksTimeout, Transport: transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if via[0].URL.Scheme == "https" && r.URL.Scheme != "https" {
				return errors.New("it leads from https to " + r.URL.Scheme)
			}
			if len(via) >= 5 {
				return errors.New("it leads in circles")
			}
			return nil
		}},
	}
}

// Keys are those that there are. Where none is of the id it waits for a fetch first, unless the last was only just; where there are none at all, for one that succeeds. It waits for a while,
// not for ever.
func (j *jwks) Keys(id string) auth.Keys {
	t := time.NewTimer(j.patience)
	defer t.Stop()
	for waited := false; ; waited = true {
		keys, flight := j.look(id, waited)
		if flight == nil {
			return keys
		}
		select {
		case <-flight:
		case <-t.C:
			return keys
		}
	}
}

// look gives the keys and, if there is one to wait for, the fetch.
func (j *jwks) look(id string, waited bool) (auth.Keys, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.keys.Has(id) || j.keys != nil && (waited || j.flight == nil && time.Since(j.ended) < j.askEvery) {
		return j.keys, nil
	}
	if j.flight == nil {
		j.flight = make(chan struct{})
		if j.keys != nil { // without any, the next attempt comes by itself
			select {
			case j.wake <- struct{}{}:
			default:
			}
		}
	}
	return j.keys, j.flight
}

// Run fetches keys until ctx ends.
func (j *jwks) Run(ctx context.Context) error {
	defer j.client.CloseIdleConnections()
	if u, err := url.Parse(j.url); err == nil && u.Scheme == "http" && !Loopback(net.JoinHostPort(u.Hostname(), u.Port())) {
		j.logger.Warn("the keys of OAUTHBEARER's tokens come by http: who can change what is on the network can sign tokens", "url", j.url)
	}
	wait, told := j.backoff, ""
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-j.wake:
		case <-next.C:
		}
		err := j.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if err.Error() != told {
				j.logger.Warn("the keys of OAUTHBEARER's tokens cannot be fetched; what was there before goes on to count", "url", j.url, "err", err)
			}
			told = err.Error()
			next.Reset(wait)
			wait = min(2*wait, j.longest)
		default:
			if told != "" {
				j.logger.Info("the keys of OAUTHBEARER's tokens are fetched again", "url", j.url)
			}
			wait, told = j.backoff, ""
			next.Reset(j.refresh)
		}
	}
}

// renew fetches once, and lets go who waits for it.
func (j *jwks) renew(ctx context.Context) error {
	j.mu.Lock()
	if j.flight == nil {
		j.flight = make(chan struct{})
	}
	j.mu.Unlock()
	keys, err := j.fetch(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.keys = keys
	}
	close(j.flight)
	j.flight, j.ended = nil, time.Now()
	return err
}

func (j *jwks) fetch(ctx context.Context) (auth.Keys, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := j.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	return readKeys(resp.Body)
}

// readKeys reads a set of keys that is not too long.
func readKeys(r io.Reader) (auth.Keys, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxJWKS+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxJWKS {
		return nil, fmt.Errorf("there are more than %d bytes", maxJWKS)
	}
	return auth.ParseKeys(text)
}
