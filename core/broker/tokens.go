package broker

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/forebayhub/forebay/core/auth"
	"github.com/forebayhub/forebay/internal/kafkaclient"
	"github.com/forebayhub/forebay/internal/reload"
)

// tokens is how the listener checks those of OAUTHBEARER. Its properties may have the mechanism's name before them, as Kafka's have.
func (l *listener) tokens() (t auth.Tokens, err error) {
	t = auth.Tokens{Issuer: l.bearer("expected.issuer"), ScopeClaim: strings.TrimSpace(l.bearer("scope.claim.name")), SubClaim: strings.TrimSpace(l.bearer("sub.claim.name")), Now: time.Now}
	for _, claim := range []string{"scope", "sub"} {
		if strings.TrimSpace(l.bearer(claim+".claim.name")) == "" {
			return t, l.bad(bearerPrefix+claim+".claim.name", "is empty", "")
		}
	}
	for _, a := range strings.Split(l.bearer("expected.audience"), ",") {
		if a = strings.TrimSpace(a); a != "" {
			t.Audience = append(t.Audience, a)
		}
	}
	t.Skew = span(l.bearer("clock.skew.seconds"), time.Second)
	t.Keys, err = l.keys()
	return t, err
}

const bearerPrefix = "sasl.oauthbearer."

// bearer is a property of OAUTHBEARER.
func (l *listener) bearer(key string) string {
	return l.mechanismProp(auth.OAuthBearer, bearerPrefix+key)
}

// keys is where a token's key is looked up. Those of a file are there, or it is an error; those of an address come when the node runs.
func (l *listener) keys() (func(id string) auth.Keys, error) {
	const property = bearerPrefix + "jwks.endpoint.url"
	bad := func(what string) error {
		return l.bad(property, what, "where the keys are that tokens are checked with, as in https://idp.example.org/keys or file:///etc/forebay/jwks.json")
	}
	text := l.bearer("jwks.endpoint.url")
	if text == "" {
		return nil, bad("is not set, and tokens without a signature are not accepted")
	}
	c, err := l.bearerLogin()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, bad("is no URL")
	case u.Scheme == "file" && (u.Host == "" || u.Host == "localhost") && u.Path != "":
		v, err := reload.New([]string{u.Path}, func() (auth.Keys, error) { return keysOf(u.Path) }, func(err error) {
			l.logger.Warn("the changed keys of OAUTHBEARER's tokens are not taken over; what was there before goes on to count", "listener", l.name, "err", err)
		})
		if err != nil {
			return nil, bad(err.Error())
		}
		return func(string) auth.Keys { return v.Get() }, nil
	case (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil:
	default:
		return nil, bad("is no URL of https, http or a file")
	}
	config, err := c.Config()
	if err != nil {
		return nil, l.bad("oauthbearer.sasl.jaas.config", err.Error(), "")
	}
	ms := time.Millisecond
	l.jwks = newJWKS(text, config, span(l.bearer("jwks.endpoint.refresh.ms"), ms), span(l.bearer("jwks.endpoint.retry.backoff.ms"), ms), span(l.bearer("jwks.endpoint.retry.backoff.max.ms"), ms),
		l.logger.With("listener", l.name))
	return l.jwks.Keys, nil
}

func keysOf(path string) (auth.Keys, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	keys, err := readKeys(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// bearerLogin reads the mechanism's sasl.jaas.config, which need not be there. Of its options those of ssl. are how the keys are fetched, as in Kafka; with those of
// unsecuredLogin a broker of Kafka comes to others, which ours does not by this mechanism.
func (l *listener) bearerLogin() (s kafkaclient.Security, err error) {
	const key = "oauthbearer.sasl.jaas.config"
	if l.prop(key) == "" {
		return s, nil
	}
	login, err := l.login(auth.OAuthBearer)
	if err != nil {
		return s, err
	}
	p := map[string]string{"security.protocol": "SSL"}
	for _, name := range slices.Sorted(maps.Keys(login.Options)) {
		switch {
		case strings.HasPrefix(name, "ssl."):
			p[name] = login.Options[name]
		case strings.HasPrefix(name, "unsecuredValidator"):
			return s, l.bad(key, "the option "+name+" is about tokens without a signature, which are not accepted", "leave it out, and set "+bearerPrefix+"jwks.endpoint.url")
		}
	}
	if s, err = kafkaclient.FromProperties(p); err != nil {
		return s, l.bad(key, err.Error(), "")
	}
	return s, nil
}
