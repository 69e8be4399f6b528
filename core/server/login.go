package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/core/wire"
)

// login is a connection's way through SASL, as Kafka's SaslServerAuthenticator has it: ApiVersions if the client
// likes, SaslHandshake, then tokens, in SaslAuthenticate (KIP-152) or, after SaslHandshake version 0, bare.
// SaslHandshake on a connection that is through begins anew (KIP-368).
type login struct {
	pending  bool      // nothing but this is answered
	until    time.Time // by when it is over; zero: there is no hurry
	versions bool      // ApiVersions has been answered
	raw      bool      // tokens come bare

	mechanism string
	exchange  auth.Exchange // nil before SaslHandshake

	known   bool          // a principal stands, and must be the same again
	before  string        // the mechanism that it came by
	begun   time.Time     // the last time that it began anew
	expires time.Time     // of the principal; zero: never
	lasts   time.Duration // from its proof to expires, as the client is told; 0: for ever
}

// reauthEvery is the least time between two beginnings on one connection.
const reauthEvery = time.Second

// stands says whether a request is the login's to answer.
func (l *login) stands(key kmsg.Key) bool {
	return l.pending || l.known && key == kmsg.SASLHandshake
}

// expired says whether the principal's time is over. Kafka closes then without a word: the client knew the time.
func (l *login) expired() bool { return !l.expires.IsZero() && time.Now().After(l.expires) }

// errLogin ends a connection that could not say who it is.
var errLogin = errors.New("authentication failed")

// authenticate handles a request that stands at the door.
func (c *conn) authenticate(h wire.Header, a *api, body []byte) error {
	l := &c.login
	if l.known && !l.pending {
		return c.again(h, a, body)
	}
	switch a.key {
	case kmsg.ApiVersions:
		if l.exchange != nil || l.versions {
			break
		}
		l.versions = true
		return c.answer(h, a, body)
	case kmsg.SASLHandshake:
		if l.exchange != nil {
			break
		}
		return c.choose(h, a, body)
	case kmsg.SASLAuthenticate:
		if l.exchange == nil {
			break
		}
		return c.token(h, a, body)
	}
	if l.exchange != nil {
		if resp := refusedInSASL(h, a); resp != nil {
			if err := c.reply(h, a, resp); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("%w: unexpected %s while the client has to authenticate", errLogin, a.key.Name())
}

// refusedInSASL is ILLEGAL_SASL_STATE for who asks for something else in the middle, where a response has a place for it.
func refusedInSASL(h wire.Header, a *api) kmsg.Response {
	var resp kmsg.Response
	switch a.key {
	case kmsg.ApiVersions:
		r := kmsg.NewPtrApiVersionsResponse()
		r.ErrorCode, resp = kerr.IllegalSaslState.Code, r
	case kmsg.SASLHandshake:
		r := kmsg.NewPtrSASLHandshakeResponse()
		r.ErrorCode, resp = kerr.IllegalSaslState.Code, r
	default:
		return nil
	}
	resp.SetVersion(h.Version)
	return resp
}

// again begins a new exchange on a connection that is through.
func (c *conn) again(h wire.Header, a *api, body []byte) error {
	l := &c.login
	if c.acks != nil {
		if err := c.acks.wait(); err != nil {
			return err
		}
	}
	now := time.Now()
	if now.Sub(l.begun) < reauthEvery {
		return c.answer(h, a, body) // the handler's ILLEGAL_SASL_STATE
	}
	l.begun, l.pending = now, true
	l.until = now.Add(loginTimeout)
	return c.choose(h, a, body)
}

// answer lets the ordinary handler answer.
func (c *conn) answer(h wire.Header, a *api, body []byte) error {
	return c.handle(h, a, body, &wire.Frame{})
}

// choose answers SaslHandshake.
func (c *conn) choose(h wire.Header, a *api, body []byte) error {
	req := kmsg.NewPtrSASLHandshakeRequest()
	if err := a.decode(h.Version, body, req); err != nil {
		return fmt.Errorf("%w: SaslHandshake from client %q: %w", wire.ErrFrame, h.ClientID, err)
	}
	l := &c.login
	resp := kmsg.NewPtrSASLHandshakeResponse()
	resp.SetVersion(h.Version)
	resp.SupportedMechanisms = c.door.SASL.Mechanisms
	if !slices.Contains(resp.SupportedMechanisms, req.Mechanism) {
		resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		if err := c.reply(h, a, resp); err != nil {
			return err
		}
		return fmt.Errorf("%w: the client's mechanism %q is not enabled", errLogin, req.Mechanism)
	}
	l.mechanism, l.exchange, l.raw = req.Mechanism, c.door.SASL.Begin(req.Mechanism), h.Version == 0
	return c.reply(h, a, resp)
}

// token answers SaslAuthenticate.
func (c *conn) token(h wire.Header, a *api, body []byte) error {
	req := kmsg.NewPtrSASLAuthenticateRequest()
	if err := a.decode(h.Version, body, req); err != nil {
		return fmt.Errorf("%w: SaslAuthenticate from client %q: %w", wire.ErrFrame, h.ClientID, err)
	}
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	resp.SetVersion(h.Version)
	told, err := c.step(req.SASLAuthBytes)
	if err != nil {
		c.delayed()
		message := c.refusal(err)
		resp.ErrorCode, resp.ErrorMessage, resp.SASLAuthBytes = kerr.SaslAuthenticationFailed.Code, &message, []byte{}
		if werr := c.reply(h, a, resp); werr != nil {
			return werr
		}
		return err
	}
	resp.SASLAuthBytes = told
	if told == nil {
		resp.SASLAuthBytes = []byte{}
	}
	if !c.login.pending {
		resp.SessionLifetimeMillis = c.login.lasts.Milliseconds()
	}
	return c.reply(h, a, resp)
}

// rawToken answers a bare token (KIP-43). An error has no form there: the connection ends.
func (c *conn) rawToken() error {
	f, err := c.in.Token(c.ctx, maxUnknownFrame)
	if err != nil {
		return err
	}
	told, err := c.step(f.B)
	f.Release()
	if err != nil {
		c.delayed()
		return err
	}
	return c.write(append(binary.BigEndian.AppendUint32(nil, uint32(len(told))), told...))
}

// step goes one step on; the last makes the connection its principal's.
func (c *conn) step(said []byte) ([]byte, error) {
	l := &c.login
	told, user, err := l.exchange.Step(said)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errLogin, l.mechanism, err)
	}
	if user == "" {
		return told, nil
	}
	who := auth.User(user)
	switch {
	case l.known && who != c.principal:
		return nil, fmt.Errorf("%w: %w", errLogin, &auth.Refusal{Message: fmt.Sprintf("Cannot change principals during re-authentication from %s: %s", c.principal, who)})
	case l.known && l.mechanism != l.before:
		return nil, fmt.Errorf("%w: %w", errLogin, &auth.Refusal{Message: fmt.Sprintf("Cannot change the mechanism during re-authentication from %s to %s", l.before, l.mechanism)})
	}
	c.principal = who
	l.stay(time.Now(), c.door.MaxReauth[l.mechanism])
	l.known, l.before, l.exchange, l.pending, l.raw = true, l.mechanism, nil, false, false
	l.until = time.Time{}
	c.s.known(c)
	c.in.Admit(c.s.budget, c.limits())
	return told, nil
}

// stay says how long a principal may go on (KIP-368): as long as the listener lets it, and as its proof lasts. A proof that is over already, within the clocks' skew, is good for
// no request more; the client is told 0 then, as Kafka does.
func (l *login) stay(now time.Time, most time.Duration) {
	l.expires, l.lasts = time.Time{}, most
	if most > 0 {
		l.expires = now.Add(most)
	}
	e, ok := l.exchange.(auth.Lasting)
	if !ok {
		return
	}
	if until := e.Until(); most <= 0 || until.Before(l.expires) {
		l.expires, l.lasts = until, max(0, until.Sub(now))
	}
}

// over is why a connection has ended: one whose client went when it was told of a refusal has failed to log in.
func (l *login) over(err error) error {
	if r, ok := l.exchange.(auth.Refuser); ok && r.Refused() != nil && !errors.Is(err, errLogin) {
		return fmt.Errorf("%w: %s: %w", errLogin, l.mechanism, r.Refused())
	}
	return err
}

// refusal is what the client is told, in Kafka's words.
func (c *conn) refusal(err error) string {
	var r *auth.Refusal
	if errors.As(err, &r) {
		return r.Message
	}
	return "Authentication failed during authentication due to invalid credentials with SASL mechanism " + c.login.mechanism
}

// delayed holds the answer to a failure back.
func (c *conn) delayed() {
	if c.s.d.FailureDelay <= 0 {
		return
	}
	t := time.NewTimer(c.s.d.FailureDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.drained:
	case <-c.ctx.Done():
	}
}
