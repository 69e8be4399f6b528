package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/controller"
)

// saslNode asks for PLAIN (admin/admin-secret, bob/bob-secret) or SCRAM.
func saslNode(t *testing.T, change func(*Listener), deps func(*Deps)) *node {
	t.Helper()
	users := map[string]string{"admin": "admin-secret", "bob": "bob-secret"}
	return newServingWith(t, nodeOptions{deps: deps, listener: func(l *Listener, c *controller.Controller) {
		l.SASL = &auth.SASL{Mechanisms: []string{auth.Plain, auth.ScramSHA256, auth.ScramSHA512}, Begin: func(mechanism string) auth.Exchange {
			if mechanism == auth.Plain {
				return auth.NewPlain(users)
			}
			return auth.NewScram(mechanism, func(user string) (auth.Credential, bool) { return c.Scram(mechanism, user) })
		}}
		if change != nil {
			change(l)
		}
	}})
}

func handshake(version int16, mechanism string) *kmsg.SASLHandshakeRequest {
	req := kmsg.NewPtrSASLHandshakeRequest()
	req.Version, req.Mechanism = version, mechanism
	return req
}

func authenticate(version int16, token string) *kmsg.SASLAuthenticateRequest {
	req := kmsg.NewPtrSASLAuthenticateRequest()
	req.Version, req.SASLAuthBytes = version, []byte(token)
	return req
}

// ended says whether the server has closed the connection.
func (c *client) ended() bool {
	_, err := c.frame()
	return errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "reset")
}

// login authenticates with PLAIN.
func (c *client) login(user, password string) *kmsg.SASLAuthenticateResponse {
	c.t.Helper()
	h := handshake(1, auth.Plain)
	if r := c.receive(h, c.send(h)).(*kmsg.SASLHandshakeResponse); r.ErrorCode != 0 || len(r.SupportedMechanisms) != 3 {
		c.t.Fatalf("%+v", r)
	}
	a := authenticate(2, "\x00"+user+"\x00"+password)
	return c.receive(a, c.send(a)).(*kmsg.SASLAuthenticateResponse)
}

func TestSASLPlain(t *testing.T) {
	n := saslNode(t, nil, nil)
	c := n.dial()
	call[*kmsg.ApiVersionsResponse](c, apiVersionsRequest(4))
	if r := c.login("admin", "admin-secret"); r.ErrorCode != 0 || r.SessionLifetimeMillis != 0 {
		t.Errorf("%+v", r)
	}
	if r := call[*kmsg.MetadataResponse](c, kmsg.NewPtrMetadataRequest()); len(r.Brokers) != 1 {
		t.Errorf("%+v", r)
	}
	if r := call[*kmsg.SASLAuthenticateResponse](c, authenticate(2, "x")); r.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("a token after the end: %+v", r)
	}
}

func TestSASLRefusals(t *testing.T) {
	n := saslNode(t, nil, nil)
	t.Run("a wrong password", func(t *testing.T) {
		c := n.dial()
		r := c.login("admin", "guess-nr-1")
		if r.ErrorCode != kerr.SaslAuthenticationFailed.Code || r.ErrorMessage == nil || *r.ErrorMessage != "Authentication failed: Invalid username or password" {
			t.Errorf("%+v", r)
		}
		if !c.ended() {
			t.Error("the connection goes on")
		}
	})
	t.Run("an unknown mechanism", func(t *testing.T) {
		c := n.dial()
		h := handshake(1, "GSSAPI")
		if r := c.receive(h, c.send(h)).(*kmsg.SASLHandshakeResponse); r.ErrorCode != kerr.UnsupportedSaslMechanism.Code || len(r.SupportedMechanisms) != 3 {
			t.Errorf("%+v", r)
		}
		if !c.ended() {
			t.Error("the connection goes on")
		}
	})
	for name, req := range map[string]kmsg.Request{
		"metadata first": kmsg.NewPtrMetadataRequest(), "produce first": produceRequest(9, n.topic("t", 1), 0, 0, batch(t, "v")),
		"a token first": authenticate(2, "\x00admin\x00admin-secret"),
	} {
		t.Run(name, func(t *testing.T) {
			c := n.dial()
			c.send(req)
			if !c.ended() {
				t.Error("the connection goes on")
			}
		})
	}
	t.Run("ApiVersions in the middle", func(t *testing.T) {
		c := n.dial()
		h := handshake(1, auth.Plain)
		c.receive(h, c.send(h))
		v := apiVersionsRequest(0)
		if r := c.receive(v, c.send(v)).(*kmsg.ApiVersionsResponse); r.ErrorCode != kerr.IllegalSaslState.Code {
			t.Errorf("%+v", r)
		}
		if !c.ended() {
			t.Error("the connection goes on")
		}
	})
	t.Run("a large frame", func(t *testing.T) {
		c := n.dial()
		h := handshake(1, auth.Plain)
		c.receive(h, c.send(h))
		if _, err := c.c.Write(binary.BigEndian.AppendUint32(nil, maxUnknownFrame+1)); err != nil {
			t.Fatal(err)
		}
		if !c.ended() {
			t.Error("the connection goes on")
		}
	})
	if logs := n.logs.String(); strings.Contains(logs, "guess-nr-1") || !strings.Contains(logs, "authentication failed") {
		t.Errorf("the log tells too much or too little:\n%s", logs)
	}
}

// SaslHandshake version 0: tokens without a header (KIP-43).
func TestSASLBareTokens(t *testing.T) {
	n := saslNode(t, nil, nil)
	c := n.dial()
	h := handshake(0, auth.Plain)
	c.receive(h, c.send(h))
	token := "\x00bob\x00bob-secret"
	if _, err := c.c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)); err != nil {
		t.Fatal(err)
	}
	if b, err := c.frame(); err != nil || len(b) != 0 {
		t.Fatal(b, err)
	}
	if r := call[*kmsg.MetadataResponse](c, kmsg.NewPtrMetadataRequest()); len(r.Brokers) != 1 {
		t.Errorf("%+v", r)
	}
	c = n.dial()
	c.receive(h, c.send(h))
	if _, err := c.c.Write([]byte("\x00\x00\x00\x04\x00b\x00c")); err != nil {
		t.Fatal(err)
	}
	if !c.ended() {
		t.Error("a wrong password was taken")
	}
}

// A stranger's token whose section of tags says that it has four billion of them ends the connection, and keeps no processor busy.
func TestSASLBelievesNoCount(t *testing.T) {
	n := saslNode(t, nil, nil)
	c := n.dial()
	h := handshake(1, auth.Plain)
	c.receive(h, c.send(h))
	body := "\x00\x24\x00\x02\x00\x00\x00\x01\xff\xff\x00\x02a\xff\xff\xff\xff\x0f" // SaslAuthenticate version 2, token "a"
	began := time.Now()
	if _, err := c.c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)); err != nil {
		t.Fatal(err)
	}
	if !c.ended() || time.Since(began) > 2*time.Second {
		t.Errorf("after %v", time.Since(began))
	}
}

// TestStrangersTakeNothing: frames that strangers announce and never send keep neither those from working who have logged in, nor others from logging in.
func TestStrangersTakeNothing(t *testing.T) {
	n := saslNode(t, nil, func(d *Deps) { d.MaxInFlightBytes = 4 << 20 })
	known := n.dial()
	if r := known.login("bob", "bob-secret"); r.ErrorCode != 0 {
		t.Fatalf("%+v", r)
	}
	for range 20 {
		stranger := n.dial()
		h := handshake(1, auth.Plain)
		stranger.receive(h, stranger.send(h))
		if _, err := stranger.c.Write([]byte("\x00\x07\x00\x00\x00\x24\x00\x02\x00\x00\x00\x01")); err != nil { // SaslAuthenticate of 448 KiB begins
			t.Fatal(err)
		}
		if r := call[*kmsg.MetadataResponse](known, kmsg.NewPtrMetadataRequest()); len(r.Brokers) != 1 {
			t.Fatalf("%+v", r)
		}
	}
	if r := n.dial().login("bob", "bob-secret"); r.ErrorCode != 0 {
		t.Errorf("%+v", r)
	}
}

// There is nothing to shake hands about on a listener without SASL.
func TestSASLOnAPlainListener(t *testing.T) {
	c := newNode(t, nodeOptions{}).dial()
	h := handshake(1, auth.Plain)
	if r := c.receive(h, c.send(h)).(*kmsg.SASLHandshakeResponse); r.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("%+v", r)
	}
	if r := call[*kmsg.SASLAuthenticateResponse](c, authenticate(2, "x")); r.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("%+v", r)
	}
}

// KIP-368: the client learns how long it has, may authenticate anew as the same, and is cut off when it does not.
func TestSASLAgain(t *testing.T) {
	n := saslNode(t, func(l *Listener) { l.MaxReauth = map[string]time.Duration{auth.Plain: 2 * time.Second} }, nil)
	c := n.dial()
	if r := c.login("admin", "admin-secret"); r.ErrorCode != 0 || r.SessionLifetimeMillis != 2000 {
		t.Fatalf("%+v", r)
	}
	if r := c.login("admin", "admin-secret"); r.ErrorCode != 0 || r.SessionLifetimeMillis != 2000 {
		t.Fatalf("again: %+v", r)
	}
	h := handshake(1, auth.Plain)
	if r := c.receive(h, c.send(h)).(*kmsg.SASLHandshakeResponse); r.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("twice within a second: %+v", r)
	}
	call[*kmsg.MetadataResponse](c, kmsg.NewPtrMetadataRequest())
	other := n.dial()
	other.login("admin", "admin-secret")
	if r := other.login("bob", "bob-secret"); r.ErrorCode != kerr.SaslAuthenticationFailed.Code || !strings.Contains(*r.ErrorMessage, "Cannot change principals") {
		t.Errorf("another user: %+v", r)
	}
	eventually(t, "the time is over", func() bool {
		c.send(apiVersionsRequest(0))
		_, err := c.frame()
		return err != nil
	})
}

// KIP-368 of a token: the session lasts as long as the token, or as long as the listener lets it, whichever is less. Whoever is refused is told so by RFC 7628's JSON, then
// by the protocol, and the connection ends.
func TestSASLOAuthBearer(t *testing.T) {
	var until atomic.Int64
	check := func(token string) (auth.Token, error) {
		if token == "bad" {
			return auth.Token{}, fmt.Errorf("%w: it was over", auth.ErrToken)
		}
		return auth.Token{Principal: token, Expires: time.UnixMilli(until.Load())}, nil
	}
	n := saslNode(t, func(l *Listener) {
		l.SASL = &auth.SASL{Mechanisms: []string{auth.OAuthBearer}, Begin: func(string) auth.Exchange { return auth.NewOAuthBearer(check) }}
		l.MaxReauth = map[string]time.Duration{auth.OAuthBearer: time.Minute}
	}, nil)
	say := func(c *client, said string) *kmsg.SASLAuthenticateResponse {
		a := authenticate(2, said)
		return c.receive(a, c.send(a)).(*kmsg.SASLAuthenticateResponse)
	}
	login := func(c *client, token string) *kmsg.SASLAuthenticateResponse {
		h := handshake(1, auth.OAuthBearer)
		if r := c.receive(h, c.send(h)).(*kmsg.SASLHandshakeResponse); r.ErrorCode != 0 {
			t.Fatalf("%+v", r)
		}
		return say(c, "n,,\x01auth=Bearer "+token+"\x01\x01")
	}
	now := time.Now().UnixMilli()
	for _, lasts := range []struct{ token, least, most int64 }{{3_600_000, 60_000, 60_000}, {30_000, 20_000, 30_000}} {
		until.Store(now + lasts.token)
		if r := login(n.dial(), "alice"); r.ErrorCode != 0 || r.SessionLifetimeMillis < lasts.least || r.SessionLifetimeMillis > lasts.most {
			t.Errorf("%+v: %+v", lasts, r)
		}
	}
	until.Store(now - 1) // within the skew
	c := n.dial()
	if r := login(c, "alice"); r.ErrorCode != 0 || r.SessionLifetimeMillis != 0 {
		t.Errorf("%+v", r)
	}
	c.send(kmsg.NewPtrMetadataRequest())
	if !c.ended() {
		t.Error("a token that is over is good for more")
	}
	until.Store(time.Now().UnixMilli() + 1500) // all that comes before may have taken a while
	c = n.dial()
	if r := login(c, "alice"); r.SessionLifetimeMillis <= 0 || r.SessionLifetimeMillis > 1500 {
		t.Errorf("%+v", r)
	}
	until.Store(now + 30_000)
	if r := login(c, "alice"); r.ErrorCode != 0 || r.SessionLifetimeMillis < 20_000 {
		t.Errorf("again: %+v", r)
	}
	call[*kmsg.MetadataResponse](c, kmsg.NewPtrMetadataRequest())
	c = n.dial()
	login(c, "alice")
	if r := login(c, "bob"); r.ErrorCode != kerr.SaslAuthenticationFailed.Code || !strings.Contains(*r.ErrorMessage, "Cannot change principals") {
		t.Errorf("again, as another: %+v", r)
	}
	c = n.dial()
	if r := login(c, "bad"); r.ErrorCode != 0 || string(r.SASLAuthBytes) != `{"status":"invalid_token"}` || r.SessionLifetimeMillis != 0 {
		t.Errorf("%+v", r)
	}
	if r := say(c, "\x01"); r.ErrorCode != kerr.SaslAuthenticationFailed.Code || *r.ErrorMessage != `{"status":"invalid_token"}` {
		t.Errorf("%+v", r)
	}
	if !c.ended() {
		t.Error("the connection goes on")
	}
	c = n.dial()
	login(c, "bad")
	_ = c.c.Close() // as franz-go does
	eventually(t, "who goes without a word is in the log, too", func() bool { return strings.Count(n.logs.String(), "it was over") == 2 })
	if r := say(n.dialed(auth.OAuthBearer), "n,,\x01auth=Bearer hush"); r.ErrorCode != kerr.SaslAuthenticationFailed.Code || *r.ErrorMessage != "Authentication failed during authentication due to invalid credentials with SASL mechanism OAUTHBEARER" {
		t.Errorf("%+v", r)
	}
	if logs := n.logs.String(); strings.Contains(logs, "hush") || strings.Contains(logs, "Bearer") || !strings.Contains(logs, "it was over") {
		t.Errorf("the log tells too much or too little:\n%s", logs)
	}
}

// dialed is a client that has chosen a mechanism.
func (n *node) dialed(mechanism string) *client {
	c := n.dial()
	h := handshake(1, mechanism)
	c.receive(h, c.send(h))
	return c
}

func TestSASLFailureIsDelayed(t *testing.T) {
	n := saslNode(t, nil, func(d *Deps) { d.FailureDelay = 300 * time.Millisecond })
	began := time.Now()
	if r := n.dial().login("admin", "wrong"); r.ErrorCode == 0 || time.Since(began) < 300*time.Millisecond {
		t.Errorf("%+v after %v", r, time.Since(began))
	}
}

// Credentials are made by an admin, as the tools do it, and franz-go comes in with them.
func TestScramUsersOfFranzGo(t *testing.T) {
	n := saslNode(t, nil, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	admin := kadm.NewClient(newKgo(t, n, kgo.SASL(plain.Auth{User: "admin", Pass: "admin-secret"}.AsMechanism())))
	set := func(user, password string, m kadm.ScramMechanism, iterations int32) error {
		res, err := admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: user, Password: password, Mechanism: m, Iterations: iterations}})
		if err != nil {
			return err
		}
		return res[user].Err
	}
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		if err := set("alice", "first", m, 4096); err != nil {
			t.Fatal(err)
		}
	}
	come := func(password string, as func(scram.Auth) sasl.Mechanism) error {
		return newKgo(t, n, kgo.SASL(as(scram.Auth{User: "alice", Pass: password})), kgo.RetryTimeout(time.Second)).Ping(ctx)
	}
	for _, as := range []func(scram.Auth) sasl.Mechanism{scram.Auth.AsSha256Mechanism, scram.Auth.AsSha512Mechanism} {
		if err := come("first", as); err != nil {
			t.Error(err)
		}
		if err := come("second", as); !errors.Is(err, kerr.SaslAuthenticationFailed) {
			t.Errorf("a wrong password: %v", err)
		}
	}
	if err := set("alice", "second", kadm.ScramSha256, 8192); err != nil {
		t.Fatal(err)
	}
	if err := come("second", scram.Auth.AsSha256Mechanism); err != nil {
		t.Error(err)
	}
	described, err := admin.DescribeUserSCRAMs(ctx)
	if infos := described["alice"].CredInfos; err != nil || len(infos) != 2 || infos[0].Iterations != 8192 || infos[1].Iterations != 4096 {
		t.Errorf("%+v %v", described, err)
	}
	raw := n.dial()
	raw.login("admin", "admin-secret")
	for _, c := range []struct {
		user       string
		mechanism  int8
		iterations int32
		want       *kerr.Error
	}{{"bob", 1, 4095, kerr.UnacceptableCredential}, {"bob", 2, 16385, kerr.UnacceptableCredential}, {"", 1, 4096, kerr.UnacceptableCredential}, {"bob", 3, 4096, kerr.UnsupportedSaslMechanism}} {
		req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
		u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
		u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword = c.user, c.mechanism, c.iterations, []byte("s"), []byte("p")
		req.Upsertions = append(req.Upsertions, u)
		if r := call[*kmsg.AlterUserSCRAMCredentialsResponse](raw, req).Results; len(r) != 1 || r[0].ErrorCode != c.want.Code {
			t.Errorf("%+v: %+v", c, r)
		}
	}
	res, err := admin.AlterUserSCRAMs(ctx, []kadm.DeleteSCRAM{{User: "alice", Mechanism: kadm.ScramSha256}, {User: "nobody", Mechanism: kadm.ScramSha256}},
		[]kadm.UpsertSCRAM{{User: "twice", Password: "x", Mechanism: kadm.ScramSha256, Iterations: 4096}, {User: "twice", Password: "x", Mechanism: kadm.ScramSha512, Iterations: 4096}})
	if err != nil || res["alice"].Err != nil || !errors.Is(res["nobody"].Err, kerr.ResourceNotFound) || !errors.Is(res["twice"].Err, kerr.DuplicateResource) {
		t.Errorf("%+v %v", res, err)
	}
	if err := come("second", scram.Auth.AsSha256Mechanism); !errors.Is(err, kerr.SaslAuthenticationFailed) {
		t.Errorf("a deleted credential: %v", err)
	}
	if len(n.quorum.Image().Scram) != 1 {
		t.Errorf("%d credentials", len(n.quorum.Image().Scram))
	}
}

// FuzzLogin sends anything at all to a listener that asks for SASL: it never panics, and never lets in.
func FuzzLogin(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x10\x00\x11\x00\x00\x00\x00\x00\x01\xff\xff\x00\x05PLAIN\x00\x00\x00\x04\x00a\x00b"))
	f.Add(kmsg.NewRequestFormatter().AppendRequest(kmsg.NewRequestFormatter().AppendRequest(nil, handshake(1, auth.ScramSHA256), 1), authenticate(2, "n,,n=a,r=b"), 2))
	f.Add(kmsg.NewRequestFormatter().AppendRequest(kmsg.NewRequestFormatter().AppendRequest(nil, handshake(1, auth.OAuthBearer), 1), authenticate(2, "n,,\x01auth=Bearer a.b.c\x01\x01"), 2))
	n := newNode(f, nodeOptions{})
	f.Fuzz(func(t *testing.T, b []byte) {
		l := &Listener{Name: "SASL", SASL: &auth.SASL{Mechanisms: []string{auth.Plain, auth.ScramSHA256, auth.OAuthBearer}, Begin: func(m string) auth.Exchange {
			switch m {
			case auth.Plain:
				return auth.NewPlain(nil)
			case auth.OAuthBearer:
				return auth.NewOAuthBearer(auth.Tokens{Keys: func(string) auth.Keys { return nil }, Now: time.Now}.Check)
			}
			return auth.NewScram(m, func(string) (auth.Credential, bool) { return auth.Credential{}, false })
		}}}
		c := newConn(t.Context(), n.s, &replay{Reader: bytes.NewReader(b)}, l)
		c.serve()
		c.close()
		if c.principal != auth.Anonymous || strings.Contains(n.logs.String(), "panic") {
			t.Fatalf("%v %s", c.principal, n.logs)
		}
	})
}

// Strangers take no connection away from those who log in, nor from this process itself.
func TestStrangersMakeRoom(t *testing.T) {
	n := saslNode(t, nil, func(d *Deps) { d.MaxConnections = 2 })
	silent := []*client{n.dial(), n.dial()}
	eventually(t, "both are there", func() bool { return n.conns() == 2 })
	call[*kmsg.ApiVersionsResponse](n.pipe(), apiVersionsRequest(3))
	first, second := n.bob(), n.bob()
	for _, c := range silent {
		if !c.ended() {
			t.Error("a stranger stays")
		}
	}
	if !n.dial().ended() {
		t.Error("a third is served")
	}
	for _, c := range []*client{first, second} {
		call[*kmsg.MetadataResponse](c, kmsg.NewPtrMetadataRequest())
	}
}

// A bare token of more than its connection's buffer takes of the budget, and nothing while it is only announced; one on which its mechanism panics costs its connection.
func TestBareTokens(t *testing.T) {
	n := saslNode(t, func(l *Listener) {
		l.SASL = &auth.SASL{Mechanisms: []string{auth.Plain}, Begin: func(string) auth.Exchange { return panics{} }}
	}, nil)
	open := func() *client {
		c := n.dial()
		h := handshake(0, auth.Plain)
		c.receive(h, c.send(h))
		return c
	}
	say := func(c *client, size, said int) {
		if _, err := c.c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(size)), make([]byte, said)...)); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := n.s.strangers.Take(t.Context(), strangersBytes)
	if err != nil {
		t.Fatal(err)
	}
	large := open()
	say(large, maxUnknownFrame, maxUnknownFrame)
	small := open()
	say(small, 3, 3)
	if !small.ended() {
		t.Error("the connection goes on")
	}
	if strings.Count(n.logs.String(), "out of order") != 1 {
		t.Error("a large token is read beyond the budget, or there is no panic")
	}
	n.s.strangers.Give(taken)
	if !large.ended() {
		t.Error("the connection goes on")
	}
	if logs := n.logs.String(); strings.Count(logs, "out of order") != 2 {
		t.Error(logs)
	}
}

type panics struct{}

func (panics) Step([]byte) ([]byte, string, error) { panic("out of order") }

// A stranger's words are not the log's.
func TestLogOfStrangersIsShort(t *testing.T) {
	n := saslNode(t, nil, nil)
	c := n.dial()
	h := handshake(1, strings.Repeat("\x00", 30_000))
	c.receive(h, c.send(h))
	if !c.ended() {
		t.Error("the connection goes on")
	}
	eventually(t, "it is told of", func() bool {
		return strings.Contains(n.logs.String(), "is not enabled") || strings.Contains(n.logs.String(), "the client's mechanism")
	})
	if logs := n.logs.String(); len(logs) > 4*mostSaid {
		t.Errorf("%d bytes of it", len(logs))
	}
}
