package interop

import (
	"context"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	yaml "github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// The runtime comes in at a secured Apache Kafka: by core.tls and core.sasl with a password, with SCRAM's, and with a token of OAuth.
func TestRuntimeAtSecuredKafka(t *testing.T) {
	ca := testenv.NewAuthority(t)
	secure, token := testenv.FreeAddr(t), testenv.FreeAddr(t)
	at := "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SECURE://" + secure + ",TOKEN://" + token
	kafka := testenv.NewKafka(t, "listeners="+at, "advertised.listeners="+at,
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,TOKEN:SASL_PLAINTEXT", "ssl.keystore.type=PEM",
		"ssl.keystore.location="+ca.Keystore(pkix.Name{CommonName: "kafka"}), "listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512",
		"listener.name.token.sasl.enabled.mechanisms=OAUTHBEARER",
		`listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="alice-secret";`,
		"listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		`listener.name.token.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="kafka";`)
	admin, err := kgo.NewClient(kgo.SeedBrokers(kafka.Bootstrap))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	made, err := kadm.NewClient(admin).AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: "alice", Mechanism: kadm.ScramSha512, Iterations: 8192, Password: "alice-secret"}})
	if err != nil || made["alice"].Err != nil {
		t.Fatal(made, err)
	}
	part := func(v map[string]any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); id != "hub" || secret != "hub-secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		now := time.Now().Unix() // an unsecured token, which a broker without an issuer takes
		said := part(map[string]any{"alg": "none"}) + "." + part(map[string]any{"sub": "hub", "iat": now - 10, "exp": now + 600}) + "."
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": said, "expires_in": 600}) // the client says so
	}))
	defer tokens.Close()

	scalar := func(key, text string) spec.Entry {
		return spec.Entry{Key: key, Value: spec.Node{Shape: spec.Scalar, Text: text}}
	}
	group := func(key string, of ...spec.Entry) spec.Entry {
		return spec.Entry{Key: key, Value: spec.Node{Shape: spec.Mapping, Map: of}}
	}
	tls := group("tls", scalar("ca", ca.Path))
	password := func(mechanism, password string) spec.Entry {
		return group("sasl", scalar("mechanism", mechanism), scalar("username", "alice"), scalar("password", password))
	}
	oauth := func(secret string) spec.Entry {
		return group("sasl", scalar("mechanism", "oauth"), scalar("token_url", tokens.URL), scalar("client_id", "hub"), scalar("client_secret", secret))
	}
	for what, c := range map[string]struct {
		at      string
		core    []spec.Entry
		refused string // what the error says; "": there is none
	}{
		"plain":            {secure, []spec.Entry{tls, password("plain", "alice-secret")}, ""},
		"scram":            {secure, []spec.Entry{tls, password("scram-sha-512", "alice-secret")}, ""},
		"oauth":            {token, []spec.Entry{oauth("hub-secret")}, ""},
		"a wrong password": {secure, []spec.Entry{tls, password("scram-sha-512", "wrong")}, "SASL_AUTHENTICATION_FAILED"},
		"a wrong secret":   {token, []spec.Entry{oauth("wrong")}, "401 Unauthorized"},
		"no authority":     {secure, []spec.Entry{group("tls", scalar("enabled", "true")), password("plain", "alice-secret")}, "certificate signed by unknown authority"},
	} {
		t.Run(what, func(t *testing.T) {
			core, findings := yaml.CoreSpec.Parse(spec.Node{Shape: spec.Mapping, Map: c.core})
			if len(findings) > 0 {
				t.Fatal(findings)
			}
			sec, err := yaml.Security(core)
			if err != nil {
				t.Fatal(err)
			}
			log, err := hublog.Open(hublog.Options{Bootstrap: []string{c.at}, Security: sec})
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if _, err := log.Topics(ctx); (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Error(err)
			}
		})
	}
}
