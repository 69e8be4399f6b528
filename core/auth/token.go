package auth

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Token is what a token of OAUTHBEARER has proved.
type Token struct {
	Principal string
	Expires   time.Time
}

// Tokens checks signed JWTs (RFC 7519) as Kafka's OAuthBearerValidatorCallbackHandler does (KIP-768).
type Tokens struct {
	// Keys are the keys that there are; it may wait for one of an id that it does not know. "": the token names none. Like sasl.oauthbearer.jwks.endpoint.url.
	Keys func(id string) Keys
	// Audience is whom a token is for: one of these. A token that is for somebody is refused where there are none (RFC 7519, 4.1.3). Like
	// sasl.oauthbearer.expected.audience.
	Audience []string
	// Issuer is who has made the token. "": anybody who has the keys. Like sasl.oauthbearer.expected.issuer.
	Issuer string
	// Skew is how far clocks may be apart. Like sasl.oauthbearer.clock.skew.seconds.
	Skew time.Duration
	// ScopeClaim and SubClaim are the claims that have the scope and the principal. Like sasl.oauthbearer.scope.claim.name and sub.claim.name.
	ScopeClaim, SubClaim string
	Now                  func() time.Time
}

// ErrToken is a token that does not count. The error says why, and has nothing of a token of which it is not proved who has made it.
var ErrToken = errors.New("the token does not count")

func refuseToken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrToken, fmt.Sprintf(format, args...))
}

// Check says whose a token is.
func (t Tokens) Check(token string) (Token, error) {
	payload, err := t.signed(token)
	if err != nil {
		return Token{}, err
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil || c == nil {
		return Token{}, refuseToken("its claims are no JSON object")
	}
	expires, err := t.stands(c)
	if err != nil {
		return Token{}, err
	}
	if err := t.meant(c); err != nil {
		return Token{}, err
	}
	if err := c.scope(t.ScopeClaim); err != nil {
		return Token{}, err
	}
	var who string
	if err := c.read(t.SubClaim, &who); err != nil || strings.TrimSpace(who) == "" {
		return Token{}, refuseToken("the claim %s has no name in it", t.SubClaim)
	}
	return Token{Principal: strings.TrimSpace(who), Expires: expires}, nil
}

// signed gives the payload of a token that one of the keys has signed.
func (t Tokens) signed(token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, refuseToken("it is no JWT with a signature by RSA, ECDSA or EdDSA")
	}
	header := jws.Signatures[0].Protected
	named := false
	for _, k := range t.Keys(header.KeyID) {
		if !k.named(header.KeyID) || k.algorithm != "" && k.algorithm != header.Algorithm || !signs(jose.SignatureAlgorithm(header.Algorithm), k.public) {
			continue
		}
		named = true
		if payload, err := jws.Verify(k.public); err == nil {
			return payload, nil
		}
	}
	if !named {
		return nil, refuseToken("there is no key of its id and algorithm")
	}
	return nil, refuseToken("its signature is not that of the key")
}

// stands checks when a token counts, and says when it is over.
func (t Tokens) stands(c claims) (time.Time, error) {
	var at [3]time.Time
	for i, name := range []string{"exp", "iat", "nbf"} {
		var err error
		if at[i], err = c.time(name); err != nil {
			return time.Time{}, err
		}
		if at[i].IsZero() && name != "nbf" {
			return time.Time{}, refuseToken("it has no %s", name)
		}
	}
	now := t.Now()
	expires, issued, begins := at[0], at[1], at[2]
	switch {
	case !now.Add(-t.Skew).Before(expires):
		return expires, refuseToken("it was over at %s", expires.UTC().Format(time.RFC3339))
	case now.Add(t.Skew).Before(begins):
		return expires, refuseToken("it does not count before %s", begins.UTC().Format(time.RFC3339))
	case expires.Before(issued) || expires.Before(begins):
		return expires, refuseToken("it is over before it begins")
	}
	return expires, nil
}

// meant checks who has made a token, and whom it is for.
func (t Tokens) meant(c claims) error {
	var issuer string
	if err := c.read("iss", &issuer); t.Issuer != "" && (err != nil || issuer != t.Issuer) {
		return refuseToken("its issuer is not %s", t.Issuer)
	}
	audience, err := c.list("aud")
	if err != nil {
		return err
	}
	if len(t.Audience) == 0 && len(audience) == 0 {
		return nil
	}
	if !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(t.Audience, a) }) {
		return refuseToken("its audience is not the expected one")
	}
	return nil
}

// claims are what a token says. Names are looked at as they are, case and all, and none stands there twice: go-jose's JSON sees to both.
type claims map[string]json.RawMessage

// read takes a claim's value; one that is not there is null.
func (c claims) read(name string, to any) error {
	text, ok := c[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(text, to); err != nil {
		return refuseToken("the claim %s is of another type", name)
	}
	return nil
}

// time is a NumericDate (RFC 7519, 2); the zero time: there is none.
func (c claims) time(name string) (time.Time, error) {
	var seconds *float64
	if err := c.read(name, &seconds); err != nil || seconds == nil {
		return time.Time{}, err
	}
	if *seconds < 0 || *seconds > maxNumericDate || math.IsNaN(*seconds) {
		return time.Time{}, refuseToken("the claim %s is no time", name)
	}
	return time.Unix(int64(*seconds), 0), nil
}

// maxNumericDate is the year 9999.
const maxNumericDate = 253402300799

// list is a claim that is one string or several.
func (c claims) list(name string) (list []string, err error) {
	if text := c[name]; len(text) > 0 && text[0] == '"' {
		list = make([]string, 1)
		return list, c.read(name, &list[0])
	}
	err = c.read(name, &list)
	return list, err
}

// scope checks a scope's form as Kafka's ClaimValidationUtils does. What it allows is the business of authorizers that look at it; ours looks at ACLs.
func (c claims) scope(name string) error {
	scopes, err := c.list(name)
	if err != nil {
		return nil //nolint:nilerr // of another type: Kafka takes it for none
	}
	seen := map[string]bool{}
	for _, s := range scopes {
		if s = strings.TrimSpace(s); s == "" || seen[s] {
			return refuseToken("the claim %s has an empty value, or one twice", name)
		}
		seen[s] = true
	}
	return nil
}
