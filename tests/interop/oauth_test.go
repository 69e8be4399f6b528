package interop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"

	yaml "github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/testenv"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/tests/node"
)

// tokenLasts is short, so that clients have to come again while they work (KIP-368). They are told that it is shorter: librdkafka fetches the next one after four fifths of that, and has it
// then when its session is nearly over.
const (
	tokenLasts = 5 * time.Second
	saysLasts  = 2 * time.Second
)

// issuer is an OAuth server: /token gives a client a JWT of its name, by OAuth's client credentials; /keys has the key.
func issuer(t *testing.T) (url string, token func(sub string) string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private := jose.JSONWebKey{Key: key, KeyID: "k", Algorithm: "ES256", Use: "sig"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token = func(sub string) string {
		now := time.Now()
		text, err := jwt.Signed(signer).Claims(map[string]any{"sub": sub, "iss": "https://idp", "aud": "hub", "iat": now.Unix(), "exp": now.Add(tokenLasts).Unix(), "scope": "all"}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the client says so
	}
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		say(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{private.Public()}})
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if secret != id+"-secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		say(w, map[string]any{"access_token": token(id), "token_type": "Bearer", "expires_in": saysLasts.Seconds()})
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL, token
}

// What docs/security.md says of tokens: real clients come with signed ones, are who the token says, and go on when it is over by coming again; without a signature nobody comes in.
func TestOAuthBearer(t *testing.T) {
	idp, token := issuer(t)
	n := node.New(t, "--data", t.TempDir(), "--set", "listener.security.protocol.map=PLAINTEXT:SASL_PLAINTEXT", "--set", "sasl.enabled.mechanisms=OAUTHBEARER",
		"--set", "sasl.oauthbearer.jwks.endpoint.url="+idp+"/keys", "--set", "sasl.oauthbearer.expected.issuer=https://idp", "--set", "sasl.oauthbearer.expected.audience=hub",
		"--set", "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "--set", "super.users=User:svc")
	n.Start()

	t.Run("franz-go", func(t *testing.T) {
		come := func(sub string) *kgo.Client {
			cl, err := kgo.NewClient(kgo.SeedBrokers(n.Kafka), kgo.AllowAutoTopicCreation(), kgo.RecordRetries(1), kgo.RetryTimeout(5*time.Second), kgo.SASL(oauth.Oauth(func(context.Context) (oauth.Auth, error) {
				return oauth.Auth{Token: token(sub), Extensions: map[string]string{"logicalCluster": "x"}}, nil
			})))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cl.Close)
			return cl
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := come("svc").ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("line of franz-go")}).FirstErr(); err != nil {
			t.Error(err)
		}
		if err := come("stranger").ProduceSync(ctx, &kgo.Record{Topic: "orders", Value: []byte("v")}).FirstErr(); err == nil {
			t.Error("a stranger may write")
		}
	})
	t.Run("clients in other languages", func(t *testing.T) { inOtherLanguages(t, n, idp) })
	t.Run("the runtime", func(t *testing.T) { runtimeByToken(t, n, idp) })
	log := n.LogTail(100_000)
	if strings.Contains(log, "eyJ") || !strings.Contains(log, "the token does not count") {
		t.Errorf("the log tells too much or too little:\n%s", log)
	}
}

// inOtherLanguages has librdkafka and Kafka's own tools come in, side by side.
func inOtherLanguages(t *testing.T, n *node.Node, idp string) {
	t.Run("confluent-kafka", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, testenv.Python(t), "oauth.py", n.Kafka, idp+"/token")
		var said strings.Builder // librdkafka has something to say to the end
		cmd.Stderr = &said
		if out, err := cmd.Output(); err != nil || string(out) != "ok\n" {
			t.Errorf("%v\n%s%s", err, out, said.String())
		}
	})
	t.Run("Java", func(t *testing.T) {
		t.Parallel()
		tools, dir := testenv.KafkaTools(t), t.TempDir()
		produce := func(name, login string) (string, error) {
			config := node.WriteFile(t, dir, name+".properties", "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\n"+login)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := tools.Command(ctx, "kafka-console-producer", "--bootstrap-server", n.Kafka, "--command-config", config, "--topic", "orders", "--command-property", "max.block.ms=10000")
			cmd.Args = append([]string{cmd.Args[0], "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=" + idp + "/token"}, cmd.Args[1:]...)
			cmd.Stdin = strings.NewReader("line of Java\n")
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		const module = "sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
		out, err := produce("signed", "sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler\nsasl.oauthbearer.token.endpoint.url="+idp+"/token\n"+
			module+"clientId=\"svc\" clientSecret=\"svc-secret\";\n")
		if err != nil || strings.Contains(out, "ERROR") {
			t.Errorf("%v\n%s", err, out)
		}
		if out, _ = produce("unsecured", module+"unsecuredLoginStringClaim_sub=\"svc\";\n"); !strings.Contains(out, "invalid_token") {
			t.Errorf("without a signature:\n%s", out)
		}
	})
}

// runtimeByToken has core.sasl of YAML come in, as a worker does.
func runtimeByToken(t *testing.T, n *node.Node, idp string) {
	t.Helper()
	for secret, refused := range map[string]string{"svc-secret": "", "wrong": "401"} {
		scalar := func(key, text string) spec.Entry {
			return spec.Entry{Key: key, Value: spec.Node{Shape: spec.Scalar, Text: text}}
		}
		core, findings := yaml.CoreSpec.Parse(spec.Node{Shape: spec.Mapping, Map: []spec.Entry{{Key: "sasl", Value: spec.Node{Shape: spec.Mapping, Map: []spec.Entry{
			scalar("mechanism", "oauth"), scalar("token_url", idp+"/token"), scalar("client_id", "svc"), scalar("client_secret", secret),
		}}}}})
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		sec, err := yaml.Security(core)
		if err != nil {
			t.Fatal(err)
		}
		log, err := hublog.Open(hublog.Options{Bootstrap: []string{n.Kafka}, Security: sec})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		topics, err := log.Topics(ctx)
		cancel()
		if (err == nil) != (refused == "") || err != nil && !strings.Contains(err.Error(), refused) || err == nil && !strings.Contains(fmt.Sprint(topics), "orders") {
			t.Errorf("%v %v", topics, err)
		}
		log.Close()
	}
}
