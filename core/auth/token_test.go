package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

type signer struct {
	public, private any
	id              string
}

func made[K interface{ Public() crypto.PublicKey }](t testing.TB, id string) func(K, error) signer {
	return func(k K, err error) signer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return signer{public: k.Public(), private: k, id: id}
	}
}

func rsaKey(t testing.TB, id string) signer {
	return made[*rsa.PrivateKey](t, id)(rsa.GenerateKey(rand.Reader, 2048))
}

func ecKey(t testing.TB, id string, c elliptic.Curve) signer {
	return made[*ecdsa.PrivateKey](t, id)(ecdsa.GenerateKey(c, rand.Reader))
}

func edKey(t testing.TB, id string) signer {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	return made[ed25519.PrivateKey](t, id)(k, err)
}

// keysOf are the keys as they come in a set; more is put among them.
func keysOf(t testing.TB, signers []signer, more ...string) Keys {
	t.Helper()
	var all []json.RawMessage
	for _, s := range signers {
		text, err := json.Marshal(jose.JSONWebKey{Key: s.public, KeyID: s.id})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	for _, m := range more {
		all = append(all, json.RawMessage(m))
	}
	text, err := json.Marshal(map[string]any{"keys": all})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// sign makes a token of claims; one that is nil is left out.
func (s signer) sign(t testing.TB, a jose.SignatureAlgorithm, claims map[string]any) string {
	t.Helper()
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return s.signText(t, a, payload)
}

func (s signer) signText(t testing.TB, a jose.SignatureAlgorithm, payload []byte) string {
	t.Helper()
	o := &jose.SignerOptions{}
	if s.id != "" {
		o.WithHeader("kid", s.id)
	}
	j, err := jose.NewSigner(jose.SigningKey{Algorithm: a, Key: s.private}, o)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := j.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// noon is when tokens are checked.
var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func checker(keys Keys) Tokens {
	return Tokens{Keys: func(string) Keys { return keys }, Skew: 30 * time.Second, ScopeClaim: "scope", SubClaim: "sub", Now: func() time.Time { return noon }}
}

// good are claims that count, with some changed.
func good(changed map[string]any) map[string]any {
	c := map[string]any{"sub": "alice", "iat": noon.Unix() - 60, "exp": noon.Unix() + 600}
	maps.Copy(c, changed)
	return c
}

func TestTokenAlgorithms(t *testing.T) {
	rs, p256, p384, p521, ed := rsaKey(t, "r"), ecKey(t, "a", elliptic.P256()), ecKey(t, "b", elliptic.P384()), ecKey(t, "c", elliptic.P521()), edKey(t, "e")
	check := checker(keysOf(t, []signer{rs, p256, p384, p521, ed}, `{"kty":"new","kid":"n"}`, `{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0","kid":"o"}`, `7`))
	for a, s := range map[jose.SignatureAlgorithm]signer{
		jose.RS256: rs, jose.RS384: rs, jose.RS512: rs, jose.PS256: rs, jose.PS384: rs, jose.PS512: rs, jose.ES256: p256, jose.ES384: p384, jose.ES512: p521, jose.EdDSA: ed,
	} {
		got, err := check.Check(s.sign(t, a, good(nil)))
		if err != nil || got.Principal != "alice" || !got.Expires.Equal(noon.Add(10*time.Minute)) {
			t.Errorf("%s: %+v %v", a, got, err)
		}
		other := s
		other.id = "" // a token may leave it out
		if _, err := check.Check(other.sign(t, a, good(nil))); err != nil {
			t.Errorf("%s without the key's id: %v", a, err)
		}
	}
}

// What Kafka's validator (jose4j's JwtConsumer and ClaimValidationUtils) lets in, and what not.
func TestTokenClaims(t *testing.T) {
	s := ecKey(t, "k", elliptic.P256())
	now := noon.Unix()
	keys := keysOf(t, []signer{s})
	for what, c := range map[string]struct {
		change  func(*Tokens)
		claims  map[string]any
		want    string // the principal; "": it is refused
		because string
	}{
		"good":                          {nil, nil, "alice", ""},
		"over within the skew":          {nil, map[string]any{"exp": now - 29}, "alice", ""},
		"over":                          {nil, map[string]any{"exp": now - 30}, "", "it was over at 2026-01-01T11:59:30Z"},
		"over, without skew":            {func(c *Tokens) { c.Skew = 0 }, map[string]any{"exp": now}, "", "it was over"},
		"not over, without skew":        {func(c *Tokens) { c.Skew = 0 }, map[string]any{"exp": now + 1}, "alice", ""},
		"no end":                        {nil, map[string]any{"exp": nil}, "", "no exp"},
		"an end in words":               {nil, map[string]any{"exp": "tomorrow"}, "", "exp is of another type"},
		"an end before all time":        {nil, map[string]any{"exp": -1}, "", "exp is no time"},
		"an end after all time":         {nil, map[string]any{"exp": 1e300}, "", "exp is no time"},
		"an end with a fraction":        {nil, map[string]any{"exp": float64(now) + 0.5}, "alice", ""},
		"no issued at":                  {nil, map[string]any{"iat": nil}, "", "no iat"},
		"over before it was issued":     {nil, map[string]any{"iat": now + 700}, "", "over before it begins"},
		"not yet, within the skew":      {nil, map[string]any{"nbf": now + 30}, "alice", ""},
		"not yet":                       {nil, map[string]any{"nbf": now + 31}, "", "does not count before 2026-01-01T12:00:31Z"},
		"no subject":                    {nil, map[string]any{"sub": nil}, "", "the claim sub has no name"},
		"an empty subject":              {nil, map[string]any{"sub": ""}, "", "no name"},
		"a blank subject":               {nil, map[string]any{"sub": " \t"}, "", "no name"},
		"a subject with blanks":         {nil, map[string]any{"sub": " alice "}, "alice", ""},
		"a number for a subject":        {nil, map[string]any{"sub": 7}, "", "no name"},
		"another claim":                 {func(c *Tokens) { c.SubClaim = "azp" }, map[string]any{"azp": "hub"}, "hub", ""},
		"another claim that is missing": {func(c *Tokens) { c.SubClaim = "azp" }, nil, "", "the claim azp has no name"},
		"an issuer":                     {func(c *Tokens) { c.Issuer = "https://idp" }, map[string]any{"iss": "https://idp"}, "alice", ""},
		"another issuer":                {func(c *Tokens) { c.Issuer = "https://idp" }, map[string]any{"iss": "https://idp/"}, "", "its issuer is not https://idp"},
		"no issuer":                     {func(c *Tokens) { c.Issuer = "https://idp" }, nil, "", "its issuer"},
		"an issuer of another type":     {func(c *Tokens) { c.Issuer = "https://idp" }, map[string]any{"iss": []string{"https://idp"}}, "", "its issuer"},
		"any issuer":                    {nil, map[string]any{"iss": "x"}, "alice", ""},
		"for us":                        {func(c *Tokens) { c.Audience = []string{"a", "hub"} }, map[string]any{"aud": "hub"}, "alice", ""},
		"for us and others":             {func(c *Tokens) { c.Audience = []string{"hub"} }, map[string]any{"aud": []string{"x", "hub"}}, "alice", ""},
		"for others":                    {func(c *Tokens) { c.Audience = []string{"hub"} }, map[string]any{"aud": []string{"x", "hub2"}}, "", "its audience"},
		"for nobody":                    {func(c *Tokens) { c.Audience = []string{"hub"} }, nil, "", "its audience"},
		"for somebody unexpected":       {nil, map[string]any{"aud": "hub"}, "", "its audience"},
		"for a number":                  {func(c *Tokens) { c.Audience = []string{"hub"} }, map[string]any{"aud": 7}, "", "aud is of another type"},
		"a scope":                       {nil, map[string]any{"scope": "a b"}, "alice", ""},
		"scopes":                        {nil, map[string]any{"scope": []string{"a", "b"}}, "alice", ""},
		"a scope twice":                 {nil, map[string]any{"scope": []string{"a", " a"}}, "", "scope has an empty value, or one twice"},
		"an empty scope":                {nil, map[string]any{"scope": ""}, "", "scope has an empty value"},
		"an empty scope elsewhere":      {func(c *Tokens) { c.ScopeClaim = "scp" }, map[string]any{"scp": []string{""}}, "", "scp has an empty value"},
		"a scope that is none":          {nil, map[string]any{"scope": 7}, "alice", ""},
	} {
		check := checker(keys)
		if c.change != nil {
			c.change(&check)
		}
		got, err := check.Check(s.sign(t, jose.ES256, good(c.claims)))
		if got.Principal != c.want || (c.want == "") != errors.Is(err, ErrToken) || err != nil && !strings.Contains(err.Error(), c.because) {
			t.Errorf("%s: %+v %v", what, got, err)
		}
	}
	for _, payload := range []string{``, `null`, `7`, `[]`, `{`, `{"sub":"alice","sub":"admin","iat":1,"exp":99999999999}`} {
		if got, err := checker(keys).Check(s.signText(t, jose.ES256, []byte(payload))); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %+v %v", payload, got, err)
		}
	}
}

// RFC 8725: what pretends to be signed.
func TestTokenForgeries(t *testing.T) {
	rs, ec := rsaKey(t, "r"), ecKey(t, "e", elliptic.P256())
	check := checker(keysOf(t, []signer{rs, ec}))
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	token := rs.sign(t, jose.RS256, good(nil))
	parts := strings.Split(token, ".")
	forged := map[string]string{
		"nothing": "", "points": "..", "no signature": parts[0] + "." + parts[1] + ".", "another's claims": parts[0] + "." + part(good(map[string]any{"sub": "admin"})) + "." + parts[2],
		"padded": token + "=", "a fourth part": token + ".x", "a part less": parts[0] + "." + parts[1],
	}
	for _, none := range []string{"none", "None", "NONE", ""} {
		forged["alg "+none] = part(map[string]any{"alg": none, "kid": "r"}) + "." + part(good(nil)) + "."
		forged["alg "+none+" and a signature"] = part(map[string]any{"alg": none, "kid": "r"}) + "." + part(good(nil)) + "." + parts[2]
	}
	der, err := x509.MarshalPKIXPublicKey(rs.public)
	if err != nil {
		t.Fatal(err)
	}
	for what, secret := range map[string][]byte{
		"der": der, "pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "modulus": rs.public.(*rsa.PublicKey).N.Bytes(),
	} {
		forged["HMAC with the public key: "+what] = signer{private: secret, id: "r"}.sign(t, jose.HS256, good(nil))
	}
	stranger := rsaKey(t, "r")
	forged["a stranger's key of the same id"] = stranger.sign(t, jose.RS256, good(nil))
	forged["a key of the other kind"] = signer{private: ec.private, id: "r"}.sign(t, jose.ES256, good(nil))
	forged["an unknown key"] = signer{private: rs.private, id: "x"}.sign(t, jose.RS256, good(nil))
	own, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: stranger.private}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(good(nil)) // a map of plain values
	jws, err := own.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	forged["a key that it brings along"], _ = jws.CompactSerialize()
	forged["as JSON"] = jws.FullSerialize()
	critical, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: rs.private}, (&jose.SignerOptions{}).WithHeader("kid", "r").WithCritical("x").WithHeader("x", 1))
	if err != nil {
		t.Fatal(err)
	}
	if jws, err = critical.Sign(payload); err != nil {
		t.Fatal(err)
	}
	forged["critical and not understood"], _ = jws.CompactSerialize()
	for what, f := range forged {
		got, err := check.Check(f)
		if !errors.Is(err, ErrToken) || got.Principal != "" {
			t.Errorf("%s: %+v %v", what, got, err)
		}
		for _, p := range strings.Split(f, ".") {
			if len(p) > 8 && strings.Contains(err.Error(), p) {
				t.Errorf("%s: the error shows the token: %v", what, err)
			}
		}
	}
	if _, err := check.Check(token); err != nil {
		t.Errorf("the one that is not forged: %v", err)
	}
}

// A key that is for one algorithm, or for encryption, is for nothing else; a weak or private one is not taken as it is.
func TestKeys(t *testing.T) {
	rs := rsaKey(t, "k")
	set := func(k jose.JSONWebKey) ([]byte, error) {
		return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k}})
	}
	text, err := set(jose.JSONWebKey{Key: rs.private, KeyID: "k", Algorithm: "RS256", Use: "sig"})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeys(text)
	if err != nil || len(keys) != 1 || fmt.Sprintf("%T", keys[0].public) != "*rsa.PublicKey" {
		t.Fatalf("%v %v", keys, err)
	}
	if !keys.Has("k") || !keys.Has("") || keys.Has("other") || (Keys)(nil).Has("") {
		t.Error("Has")
	}
	if _, err := checker(keys).Check(rs.sign(t, jose.RS256, good(nil))); err != nil {
		t.Error(err)
	}
	if _, err := checker(keys).Check(rs.sign(t, jose.PS256, good(nil))); !errors.Is(err, ErrToken) {
		t.Error("a key of RS256 has checked PS256")
	}
	weak := "AM" + strings.Repeat("A", 168) + "E" // 1024 bits
	for _, bad := range []string{
		"", "{}", `{"keys":[]}`, `{"keys":7}`, `[]`, `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`, `{"keys":[{"kty":"RSA","n":"` + weak + `","e":"AQAB"}]}`,
		strings.Replace(string(text), `"use":"sig"`, `"use":"enc"`, 1), `{"keys":[` + strings.Repeat("{},", maxKeys) + `{}]}`,
	} {
		if keys, err := ParseKeys([]byte(bad)); err == nil {
			t.Errorf("%.80s: %v", bad, keys)
		}
	}
}

func FuzzToken(f *testing.F) {
	s := ecKey(f, "k", elliptic.P256())
	keys := keysOf(f, []signer{s})
	f.Add(s.sign(f, jose.ES256, good(nil)), []byte(`{"sub":"alice","iat":1,"exp":99999999999,"scope":["a"],"aud":"x"}`))
	f.Add("eyJhbGciOiJub25lIn0.e30.", []byte(`{"exp":1e400}`))
	text, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: s.public, KeyID: "k"}}}) // a public key
	f.Add("a.b.c", text)
	f.Fuzz(func(t *testing.T, token string, payload []byte) {
		check := checker(keys)
		if got, err := check.Check(token); err == nil && token != "" && got.Principal == "" {
			t.Fatal(token)
		}
		got, err := check.Check(s.signText(t, jose.ES256, payload))
		if (err == nil) != (got.Principal != "") || err == nil && got.Expires.Before(noon.Add(-check.Skew)) {
			t.Fatalf("%s: %+v %v", payload, got, err)
		}
		if keys, err := ParseKeys(bytes.Clone(payload)); err == nil && len(keys) == 0 {
			t.Fatal("a set of nothing")
		}
	})
}
