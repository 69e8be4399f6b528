package auth

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sasl/oauth"
)

// only lets one token in, whoever it is of.
func only(token, who string) func(string) (Token, error) {
	return func(t string) (Token, error) {
		if t != token {
			return Token{}, refuseToken("it is another")
		}
		return Token{Principal: who, Expires: time.Unix(100, 0)}, nil
	}
}

func TestOAuthBearer(t *testing.T) {
	for _, a := range []oauth.Auth{{Token: "a.b.c"}, {Token: "a.b.c", Zid: "alice"}, {Token: "a.b.c", Extensions: map[string]string{"logicalCluster": "x=1", "other": "y"}}} {
		x := NewOAuthBearer(only("a.b.c", "alice"))
		if got, err := talk(t, a.AsMechanism(), x); got != "alice" || err != nil || x.(Lasting).Until() != time.Unix(100, 0) {
			t.Errorf("%+v: %q %v", a, got, err)
		}
	}
	if got, err := talk(t, oauth.Auth{Token: "a.b.c", Zid: "a=2Cb"}.AsMechanism(), NewOAuthBearer(only("a.b.c", "a,b"))); got != "a,b" || err != nil {
		t.Error(got, err)
	}
}

// RFC 7628, 3.2.3: a refusal is told first, answered by %x01, and then final; whatever else is said, another token too.
func TestOAuthBearerRefusal(t *testing.T) {
	for _, answer := range []string{"\x01", "", "n,,\x01auth=Bearer a.b.c\x01\x01"} {
		x := NewOAuthBearer(only("a.b.c", "alice"))
		told, user, err := x.Step([]byte("n,,\x01auth=Bearer x.y.z\x01\x01"))
		if string(told) != `{"status":"invalid_token"}` || user != "" || err != nil {
			t.Fatalf("%q %q %v", told, user, err)
		}
		var r *Refusal
		if told, user, err = x.Step([]byte(answer)); told != nil || user != "" || !errors.As(err, &r) || r.Message != `{"status":"invalid_token"}` || !errors.Is(err, ErrToken) {
			t.Errorf("%q: %q %q %v", answer, told, user, err)
		}
	}
	var r *Refusal
	if _, user, err := NewOAuthBearer(only("a.b.c", "alice")).Step([]byte("n,a=bob,\x01auth=Bearer a.b.c\x01\x01")); user != "" || !errors.As(err, &r) || strings.Contains(r.Message, "alice") {
		t.Errorf("as another: %q %v", user, err)
	}
}

// Kafka's OAuthBearerClientInitialResponseTest and RFC 7628, 4, and what they leave out.
func TestOAuthBearerFirstMessage(t *testing.T) {
	for said, want := range map[string]bearerResponse{
		"n,,\x01auth=Bearer 123.345.567\x01\x01": {"", "123.345.567"},
		"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhb\x01\x01": {"user@example.com", "vF9dft4qmTc2Nvb3RlckBhb"},
		"n,,\x01auth=bEARER   a-_.9\x01a=b=c\td\r\n\x01\x01":                                                          {"", "a-_.9"},
		"n,a=a=2Cb=3Dc,\x01auth=Bearer t\x01\x01":                                                                     {"a,b=c", "t"},
	} {
		if got, err := parseBearer(said); got != want || err != nil {
			t.Errorf("%q: %+v %v", said, got, err)
		}
	}
	for _, said := range []string{
		"", "\x01", "\x00", "n,,", "n,,\x01", "n,,\x01\x01", "auth=Bearer t\x01\x01", "n,\x01auth=Bearer t\x01\x01", "y,,\x01auth=Bearer t\x01\x01", "p=tls-unique,,\x01auth=Bearer t\x01\x01",
		"n,,\x01auth=Bearer t\x01", "n,,\x01auth=Bearer t", "n,,auth=Bearer t\x01\x01", "n,,\x01auth=Bearer t\x01\x01\x01", "n,,\x01auth=Bearer t\x01\x01x", "n,b=x,\x01auth=Bearer t\x01\x01", "n,a=,\x01auth=Bearer t\x01\x01",
		"n,a=x=,\x01auth=Bearer t\x01\x01", "n,a=x,y,\x01auth=Bearer t\x01\x01", "n,a=\u00e9,\x01auth=Bearer t\x01\x01", "n,a=x\x00,\x01auth=Bearer t\x01\x01", "n,,\x01auth=Basic t\x01\x01", "n,,\x01auth=Bearer\x01\x01", "n,,\x01auth=Bearer \x01\x01",
		"n,,\x01auth=Bearer a b\x01\x01", "n,,\x01auth=Bearer a+/\x01\x01", "n,,\x01auth=\x01\x01", "n,,\x01auth\x01\x01", "n,,\x01=x\x01auth=Bearer t\x01\x01", "n,,\x01a1=x\x01auth=Bearer t\x01\x01", "n,,\x01x=\x01auth=Bearer t\x01\x01",
		"n,,\x01x=\x7f\x01auth=Bearer t\x01\x01", "n,,\x01x=\u00e9\x01auth=Bearer t\x01\x01", "n,,\x01auth=Bearer t\x01auth=Bearer u\x01\x01", "n,,\x01x=1\x01x=2\x01auth=Bearer t\x01\x01", "n,,\x01host=h\x01\x01",
	} {
		if got, err := parseBearer(said); err == nil || got.token != "" && !errors.Is(err, errBearer) {
			t.Errorf("%q: %+v %v", said, got, err)
		}
	}
}

func FuzzOAuthBearer(f *testing.F) {
	f.Add("n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer a.b.c\x01\x01", "\x01")
	f.Add("n,,\x01auth=Bearer hush\x01x=y\x01\x01", "")
	f.Fuzz(func(t *testing.T, first, second string) {
		if r, err := parseBearer(first); err == nil && (r.token == "" || len(r.token)+len(r.as) > len(first) || !strings.Contains(first, r.token)) {
			t.Fatalf("%q: %+v", first, r)
		} else if err != nil && len(err.Error()) > 100 {
			t.Fatalf("%q: %v", first, err)
		}
		x := NewOAuthBearer(func(string) (Token, error) { return Token{}, ErrToken })
		for _, said := range []string{first, second} {
			if _, user, _ := x.Step([]byte(said)); user != "" {
				t.Fatalf("%q %q: %q came in", first, second, user)
			}
		}
	})
}
