package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"

	"github.com/forebayhub/forebay/internal/problem"
)

// issuer makes keys and tokens, and publishes the keys.
type issuer struct {
	t      *testing.T
	broken atomic.Bool
	asked  atomic.Int64
	third  chan struct{} // closed when it has been asked three times
	mu     sync.Mutex
	keys   []jose.JSONWebKey // private
	server *httptest.Server
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{t: t, third: make(chan struct{})}
	i.rotate("first")
	i.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if i.asked.Add(1) == 3 {
			close(i.third)
		}
		if i.broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write(i.set()) // the client says so
	}))
	t.Cleanup(i.server.Close)
	return i
}

// rotate leaves one key, a new one.
func (i *issuer) rotate(id string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = []jose.JSONWebKey{{Key: key, KeyID: id, Algorithm: "ES256", Use: "sig"}}
}

func (i *issuer) set() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.keys[0].Public()}})
	if err != nil {
		i.t.Error(err)
	}
	return text
}

// token is one that lasts for a while.
func (i *issuer) token(sub string, lasts time.Duration) string {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.keys[0]}, nil)
	if err != nil {
		i.t.Fatal(err)
	}
	now := time.Now()
	token, err := jwt.Signed(s).Claims(map[string]any{"sub": sub, "iss": "https://idp", "aud": []string{"hub"}, "iat": now.Unix() - 5, "exp": now.Add(lasts).Unix()}).Serialize()
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

// come is a client of a listener that shows a token.
func (n *node) come(t *testing.T, listener int, token string) error {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.listeners[listener].l.Addr().String()), kgo.SASL(oauth.Auth{Token: token}.AsMechanism()), kgo.RetryTimeout(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	return cl.Ping(within(t, 10*time.Second))
}

// jwksOf runs one whose times are short.
func jwksOf(t *testing.T, i *issuer, refresh time.Duration, log io.Writer) *jwks {
	t.Helper()
	j := newJWKS(i.server.URL, nil, refresh, time.Millisecond, 20*time.Millisecond, slog.New(slog.NewTextHandler(log, nil)))
	j.askEvery = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return j
}

// Who comes before the first keys waits for them; those that are there survive a maker who is away; a new key has the set fetched at once, and no key more than
// the rate allows. What goes wrong is told once.
func TestJWKS(t *testing.T) {
	i := newIssuer(t)
	i.broken.Store(true)
	var log lines
	j := jwksOf(t, i, time.Hour, &log)
	got := make(chan bool, 1)
	go func() { got <- j.Keys("first").Has("first") }()
	select {
	case <-i.third: // it is tried again
	case <-time.After(10 * time.Second):
		t.Fatal("it is not tried again")
	}
	i.broken.Store(false)
	if !<-got {
		t.Fatal("who waited for the first keys got none")
	}
	eventually(t, "a word about the keys that are there", func() bool { return strings.Contains(log.String(), "are fetched again") })
	if said := log.String(); strings.Count(said, "cannot be fetched") != 1 || strings.Count(said, "\n") != 2 {
		t.Errorf("of three failures and the end of them the log says\n%s", said)
	}
	i.rotate("second")
	if before := i.asked.Load(); j.Keys("second").Has("second") || i.asked.Load() != before {
		t.Error("a second fetch within the time for unknown keys")
	}
	j.mu.Lock()
	j.ended = time.Time{} // the time is over
	j.mu.Unlock()
	before := i.asked.Load()
	var all sync.WaitGroup
	for range 50 { // all of them wait for one fetch
		all.Go(func() {
			if !j.Keys("second").Has("second") {
				t.Error("who came by a new key was refused")
			}
		})
	}
	all.Wait()
	for n := range 1000 { // what strangers make up
		if j.Keys(strings.Repeat("x", n+1)).Has("x") {
			t.Error("an id that nobody has")
		}
	}
	if n := i.asked.Load() - before; n != 1 {
		t.Errorf("%d fetches", n)
	}
	i.broken.Store(true)
	j.mu.Lock()
	j.ended = time.Time{}
	j.mu.Unlock()
	if !j.Keys("third").Has("second") {
		t.Error("a maker who is away has taken the keys along")
	}
}

func TestJWKSRefresh(t *testing.T) {
	i := newIssuer(t)
	j := jwksOf(t, i, 5*time.Millisecond, io.Discard)
	j.Keys("first")
	i.rotate("second")
	eventually(t, "the keys are fetched anew", func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.keys.Has("second") && !j.keys.Has("first")
	})
}

// What comes instead of keys is bounded and refused: nobody waits for ever, and nothing that was there goes.
func TestJWKSRefusesOtherAnswers(t *testing.T) {
	for what, answer := range map[string]http.HandlerFunc{
		"an error": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"keys":[]}`, http.StatusInternalServerError)
		},
		"a page":        func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"too much":      func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, maxJWKS+1)) },
		"in circles":    func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) },
		"no connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		s := httptest.NewServer(answer)
		j := newJWKS(s.URL, nil, time.Hour, time.Hour, time.Hour, slog.New(slog.DiscardHandler))
		if keys, err := j.fetch(t.Context()); err == nil || keys != nil {
			t.Errorf("%s: %v %v", what, keys, err)
		}
		s.Close()
	}
	plain := newIssuer(t)
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.server.URL, http.StatusFound))
	defer secure.Close()
	j := newJWKS(secure.URL, secure.Client().Transport.(*http.Transport).TLSClientConfig, time.Hour, time.Hour, time.Hour, slog.New(slog.DiscardHandler))
	if _, err := j.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "from https to http") {
		t.Errorf("from https to http: %v", err)
	}
}

// A node lets in whom a token names, for as long as it lasts; the keys are in a file that is replaced, or at an address. A token is in no log.
func TestListenerOfTokens(t *testing.T) {
	i := newIssuer(t)
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, i.set(), 0o600); err != nil {
		t.Fatal(err)
	}
	set := map[string]string{
		"listeners": "FILE://127.0.0.1:0,WEB://127.0.0.1:0", "listener.security.protocol.map": "FILE:SASL_PLAINTEXT,WEB:SASL_PLAINTEXT",
		"sasl.enabled.mechanisms": "PLAIN,OAUTHBEARER", "listener.name.file.plain.sasl.jaas.config": plainUsers, "listener.name.web.plain.sasl.jaas.config": plainUsers,
		"sasl.mechanism.inter.broker.protocol": "PLAIN", "inter.broker.listener.name": "FILE", "connection.failed.authentication.delay.ms": "1",
		"listener.name.file.oauthbearer.sasl.oauthbearer.jwks.endpoint.url": "file://" + path, "listener.name.web.sasl.oauthbearer.jwks.endpoint.url": i.server.URL,
		"listener.name.web.oauthbearer.sasl.jaas.config":                   "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required ;",
		"listener.name.web.oauthbearer.sasl.server.callback.handler.class": "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
		"sasl.oauthbearer.expected.audience":                               "shop, hub", "sasl.oauthbearer.expected.issuer": "https://idp",
	}
	n := start(t, Options{DataDir: t.TempDir(), Set: set})
	for l := range 2 {
		if err := n.come(t, l, i.token("alice", time.Minute)); err != nil {
			t.Errorf("listener %d: %v", l, err)
		}
		if err := n.come(t, l, i.token("alice", -time.Minute)); err == nil || !strings.Contains(err.Error(), "unexpected data in oauth response") { // franz-go's word for a refusal
			t.Errorf("listener %d, with a token that is over: %v", l, err)
		}
	}
	old := i.token("alice", time.Minute)
	i.rotate("second")
	if err := os.WriteFile(path+".new", i.set(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a changed file counts", func() bool { return n.come(t, 0, i.token("alice", time.Minute)) == nil && n.come(t, 0, old) != nil })
}

// The authority of the keys' address is the one that the mechanism's jaas config has, or one of the system's. A node whose keys cannot be had starts without them.
func TestTokensOverHTTPS(t *testing.T) {
	i := newIssuer(t)
	s := httptest.NewTLSServer(i.server.Config.Handler)
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "idp-ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	n := start(t, Options{DataDir: t.TempDir(), Set: map[string]string{
		"listeners": "NODES://127.0.0.1:0,OWN://127.0.0.1:0,SYSTEM://127.0.0.1:0", "listener.security.protocol.map": "OWN:SASL_PLAINTEXT,SYSTEM:SASL_PLAINTEXT,NODES:PLAINTEXT",
		"inter.broker.listener.name": "NODES", "sasl.enabled.mechanisms": "OAUTHBEARER", "sasl.oauthbearer.jwks.endpoint.url": s.URL, "sasl.oauthbearer.expected.audience": "hub",
		"listener.name.own.oauthbearer.sasl.jaas.config": `org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required ssl.truststore.type="PEM" ssl.truststore.location="` + ca + `";`,
	}})
	if err := n.come(t, 1, i.token("alice", time.Minute)); err != nil {
		t.Error(err)
	}
	var unknown x509.UnknownAuthorityError
	if keys, err := n.listeners[2].jwks.fetch(t.Context()); !errors.As(err, &unknown) {
		t.Errorf("from an authority that nobody has named: %v %v", keys, err)
	}
}

// A client's time may be that of a listener's mechanism, of the listener, or of all.
func TestReauthOfMechanisms(t *testing.T) {
	l := &listener{name: "WEB", protocol: saslPlaintext, set: map[string]string{
		"sasl.enabled.mechanisms": "SCRAM-SHA-256,SCRAM-SHA-512", "connections.max.reauth.ms": "1000", "listener.name.web.scram-sha-512.connections.max.reauth.ms": "3000",
	}}
	for _, all := range []time.Duration{time.Second, 2 * time.Second} {
		s, err := l.server(nil)
		if want := map[string]time.Duration{"SCRAM-SHA-256": all, "SCRAM-SHA-512": 3 * time.Second}; err != nil || !maps.Equal(s.MaxReauth, want) {
			t.Errorf("%v %v, want %v", s.MaxReauth, err, want)
		}
		l.set["listener.name.web.connections.max.reauth.ms"] = "2000"
	}
}

// What cannot be is told before a node starts, and is the input's fault.
func TestTokenProperties(t *testing.T) {
	i := newIssuer(t)
	dir := t.TempDir()
	file, empty := filepath.Join(dir, "jwks.json"), filepath.Join(dir, "empty.json")
	for path, text := range map[string][]byte{file: i.set(), empty: []byte(`{"keys":[]}`)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const jaas, module = "listener.name.plaintext.oauthbearer.sasl.jaas.config", "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
	for _, c := range []struct {
		set  map[string]string
		want string
	}{
		{nil, "sasl.oauthbearer.jwks.endpoint.url: is not set, and tokens without a signature are not accepted"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": "ftp://h/keys"}, "is no URL of https, http or a file"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": "file://h/keys"}, "is no URL of https"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": "https://user:hush@h/keys"}, "is no URL of https"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": "::"}, "is no URL"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": "file://" + dir + "/none.json"}, "no such file"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": "file://" + empty}, "there is no key in it"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": "file://" + file, "sasl.oauthbearer.sub.claim.name": " "}, "sub.claim.name: is empty"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": "file://" + file, jaas: module + `unsecuredValidatorPrincipalClaimName="x";`}, "tokens without a signature"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": i.server.URL, jaas: module + `ssl.truststore.location="/none/ca.pem";`}, "ssl.truststore.location"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": i.server.URL, jaas: "PlainLoginModule required x=y;"}, "the module is not OAuthBearerLoginModule"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": i.server.URL, "sasl.oauthbearer.clock.skew.seconds": "-1"}, "clock.skew.seconds"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": i.server.URL, "sasl.server.callback.handler.class": "org.example.Handler"}, "callback.handler.class"},
		{map[string]string{"sasl.oauthbearer.jwks.endpoint.url": i.server.URL, "sasl.mechanism.inter.broker.protocol": "OAUTHBEARER"}, "inter.broker.protocol"},
	} {
		set := map[string]string{"listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT", "sasl.enabled.mechanisms": "OAUTHBEARER"}
		for k, v := range c.set {
			set[k] = v
		}
		b, err := Open(t.Context(), Options{DataDir: t.TempDir(), KafkaAddr: "127.0.0.1:0", Set: set})
		var p *problem.Error
		if !errors.As(err, &p) || p.Class != problem.Input || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v: %v", c.set, err)
		}
		if err == nil {
			_ = b.Close() // it should not have started
		}
	}
}
