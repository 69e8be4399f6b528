package kafkaclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
)

// Token is where tokens of OAUTHBEARER come from: OAuth's client credentials (RFC 6749, 4.4; KIP-768).
type Token struct {
	URL        string // of the token endpoint
	ID, Secret string
	Scope      string // "": none is asked for

	mu    sync.Mutex
	token string
	until time.Time // it is used
}

func (*Token) String() string   { return "******" }
func (*Token) GoString() string { return "******" }

func (t *Token) check() error {
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return errors.New("OAUTHBEARER needs the URL of a token endpoint")
	}
	if t.ID == "" || t.Secret == "" {
		return errors.New("OAUTHBEARER needs a client's id and secret")
	}
	return nil
}

func (t *Token) mechanism() sasl.Mechanism {
	return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
		token, err := t.get(ctx)
		return oauth.Auth{Token: token}, err
	})
}

const (
	tokenTimeout = 10 * time.Second
	maxToken     = 1 << 20
)

// get is a token that lasts for a while yet.
func (t *Token) get(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token != "" && time.Now().Before(t.until) {
		return t.token, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	form := url.Values{"grant_type": {"client_credentials"}}
	if t.Scope != "" {
		form.Set("scope", t.Scope)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.SetBasicAuth(url.QueryEscape(t.ID), url.QueryEscape(t.Secret))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask for a token: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err != nil {
		return "", fmt.Errorf("ask for a token: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask for a token: %s says %s", t.URL, resp.Status)
	}
	token, lasts, err := parseToken(body)
	if err != nil {
		return "", fmt.Errorf("ask for a token: %w", err)
	}
	// A fifth is left, as Kafka's sasl.login.refresh.window.factor has it.
	t.token, t.until = token, time.Now().Add(lasts*4/5)
	return token, nil
}

// parseToken reads the answer of a token endpoint. Without a time the token is used once.
func parseToken(body []byte) (token string, lasts time.Duration, err error) {
	var said struct {
		Token   string  `json:"access_token"`
		Expires float64 `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return "", 0, errors.New("the answer is no token") // the error would show it
	}
	if said.Token == "" || strings.ContainsFunc(said.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", 0, errors.New("the answer has no token that can be sent")
	}
	return said.Token, time.Duration(max(0, min(said.Expires, 86400)) * float64(time.Second)), nil
}
