package kafkaclient

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/internal/properties"
	"github.com/forebayhub/forebay/internal/tlsdir"
)

func FuzzProperties(f *testing.F) {
	f.Add("a=b\\\n c\n#d\ne:f\\u0041")
	f.Add("\\")
	f.Add("a\\=b c\r\rx\\u00")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := properties.Parse(text)
		m, n := properties.Map(all), 0
		for k, v := range m {
			n += len(k) + len(v)
		}
		if err == nil && n > 2*len(text)+2 { // \xff may become U+FFFD's neighbours, nothing more
			t.Errorf("%d bytes of %d", n, len(text))
		}
		if s, err := FromProperties(m); err == nil { // no file of the machine is named by chance
			if _, err := s.Options(); err != nil {
				t.Errorf("taken, and of no use: %v", err)
			}
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add([]byte(`{"access_token":"a.b.c","expires_in":3600}`))
	f.Add([]byte(`{"access_token":"a","expires_in":-1e300}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		token, lasts, err := parseToken(body)
		if (token == "") != (err != nil) || lasts < 0 || strings.ContainsAny(token, "\x01\n ") {
			t.Errorf("%q %v %v", token, lasts, err)
		}
	})
}

func TestFromProperties(t *testing.T) {
	dir := t.TempDir()
	if _, err := tlsdir.Init(tlsdir.Plan{Dir: dir, Clients: []string{"alice"}, Days: 1}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "alice", "client.properties"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := properties.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	s, err := FromProperties(properties.Map(p))
	if err != nil || s.TLS == nil || s.SASL != nil {
		t.Fatalf("%+v %v", s, err)
	}
	c, err := s.Config()
	if err != nil || len(c.Certificates) != 1 || c.RootCAs == nil || c.InsecureSkipVerify {
		t.Errorf("%+v %v", c, err)
	}
	ca := filepath.Join(dir, "ca.pem")
	const jaasPlain = `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="hush";`
	for _, c := range []struct {
		p    map[string]string
		want string // of the error
	}{
		{map[string]string{}, ""},
		{map[string]string{"client.id": "x", "group.id": "y"}, ""},
		{map[string]string{"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN", "sasl.jaas.config": jaasPlain}, ""},
		{map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "u", "sasl.password": "hush", "ssl.ca.location": ca}, ""},
		{map[string]string{"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": ""}, ""},
		{map[string]string{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.token.endpoint.url": "https://a/t",
			"sasl.jaas.config": `o.OAuthBearerLoginModule required clientId="a" clientSecret="hush";`}, ""},
		{map[string]string{"security.protocol": "TLS"}, "security.protocol"},
		{map[string]string{"security.protocol": "SASL_SSL"}, "sasl.mechanism is not set"},
		{map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI", "sasl.username": "u", "sasl.password": "hush"}, "no mechanism"},
		{map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u"}, "a username and a password"},
		{map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-256", "sasl.jaas.config": jaasPlain}, "ScramLoginModule"},
		{map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.jaas.config": "hush"}, "not a JAAS"},
		{map[string]string{"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "token endpoint"},
		{map[string]string{"security.protocol": "SSL", "ssl.truststore.type": "JKS"}, "only PEM"},
		{map[string]string{"security.protocol": "SSL", "ssl.truststore.password": "hush"}, "without one"},
		{map[string]string{"security.protocol": "SSL", "ssl.truststore.lokation": "x"}, "no such property"},
		{map[string]string{"security.protocol": "SSL", "ssl.truststore.location": filepath.Join(dir, "none")}, "ssl.truststore.location"},
		{map[string]string{"security.protocol": "SSL", "ssl.truststore.location": filepath.Join(dir, "ca.key")}, "no certificate"},
		{map[string]string{"security.protocol": "SSL", "ssl.keystore.location": ca}, "the client's certificate"},
	} {
		s, err := FromProperties(c.p)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush")) {
			t.Errorf("%v: %v", c.p, err)
		}
		if printed := fmt.Sprintf("%v %+v %#v", s, s, s); strings.Contains(printed, "hush") {
			t.Errorf("a secret is printed: %s", printed)
		}
	}
}

// A token is asked for with the client's secret, kept while it lasts, and asked for anew then.
func TestToken(t *testing.T) {
	asked, lasts := 0, 3600
	at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		user, password, _ := r.BasicAuth()
		if err := r.ParseForm(); err != nil || user != "me%3A" || password != "hush%2B" || r.PostForm.Get("grant_type") != "client_credentials" || r.PostForm.Get("scope") != "log" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprint("t", asked), "expires_in": lasts}) // the test sees it
	}))
	defer at.Close()
	k := &Token{URL: at.URL, ID: "me:", Secret: "hush+", Scope: "log"}
	get := func(want string) {
		t.Helper()
		if token, err := k.get(t.Context()); err != nil || token != want {
			t.Errorf("%q %v, want %q", token, err, want)
		}
	}
	get("t1")
	get("t1")
	lasts = 0
	k.until = k.until.AddDate(0, 0, -1)
	get("t2")
	get("t3")
	k.Secret = "other"
	if _, err := k.get(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Error(err)
	}
}
