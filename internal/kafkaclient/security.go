// Package kafkaclient is how clients of a secured cluster prove who they are: by Kafka's properties, or by fields of YAML. It makes options of
// the Kafka client out of them.
package kafkaclient

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/forebayhub/forebay/internal/jaas"
)

// Security is what a client needs to come in. The zero value is PLAINTEXT.
type Security struct {
	TLS  *TLS  // nil: not encrypted
	SASL *SASL // nil: nobody has to log in
}

// TLS is a client's side of it. The texts are in PEM.
type TLS struct {
	CA         []byte // the authorities that are believed; nil: those of the system
	Chain, Key []byte // the client's own; nil: it has none
	// AnyName leaves the name in the server's certificate unchecked, like an empty ssl.endpoint.identification.algorithm.
	AnyName bool
}

// The mechanisms, by Kafka's names.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
	OAuth       = "OAUTHBEARER"
)

// SASL is how a client logs in.
type SASL struct {
	Mechanism      string
	User, Password string // of PLAIN and SCRAM
	Token          *Token // of OAUTHBEARER
}

func (SASL) String() string   { return "******" }
func (SASL) GoString() string { return "******" }

// Config is the TLS that a client speaks; nil: none.
func (s Security) Config() (*tls.Config, error) {
	if s.TLS == nil {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(s.TLS.CA) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(s.TLS.CA) {
			return nil, errors.New("there is no certificate among the authorities that are to be believed")
		}
	}
	if len(s.TLS.Chain) > 0 || len(s.TLS.Key) > 0 {
		cert, err := tls.X509KeyPair(s.TLS.Chain, s.TLS.Key)
		if err != nil {
			return nil, fmt.Errorf("the client's certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	if s.TLS.AnyName {
		AnyName(c)
	}
	return c, nil
}

// AnyName has a client of TLS check the server's chain of certificates, and not the name in it.
func AnyName(c *tls.Config) {
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(state tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: c.RootCAs, Intermediates: x509.NewCertPool()}
		for _, cert := range state.PeerCertificates[1:] {
			o.Intermediates.AddCert(cert)
		}
		_, err := state.PeerCertificates[0].Verify(o)
		return err
	}
}

// Options are those of the Kafka client.
func (s Security) Options() (opts []kgo.Opt, err error) {
	c, err := s.Config()
	if err != nil {
		return nil, err
	}
	if c != nil {
		opts = append(opts, kgo.DialTLSConfig(c))
	}
	if s.SASL == nil {
		return opts, nil
	}
	m, err := s.SASL.Client()
	if err != nil {
		return nil, err
	}
	return append(opts, kgo.SASL(m)), nil
}

// Client is the client's side of the mechanism.
func (s SASL) Client() (sasl.Mechanism, error) {
	if s.Mechanism == OAuth {
		if s.Token == nil {
			return nil, errors.New("OAUTHBEARER needs to know where tokens come from")
		}
		return s.Token.mechanism(), nil
	}
	if s.User == "" || s.Password == "" {
		return nil, fmt.Errorf("%s needs a username and a password", s.Mechanism)
	}
	switch s.Mechanism {
	case Plain:
		return plain.Auth{User: s.User, Pass: s.Password}.AsMechanism(), nil
	case ScramSHA256:
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism(), nil
	case ScramSHA512:
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("no mechanism %q: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER", s.Mechanism)
}

// known are the properties of security that are understood. Those of librdkafka's names stand beside Kafka's.
var known = map[string]bool{
	"security.protocol": true, "sasl.mechanism": true, "sasl.mechanisms": true, "sasl.jaas.config": true, "sasl.username": true, "sasl.password": true,
	"ssl.truststore.type": true, "ssl.truststore.location": true, "ssl.truststore.certificates": true, "ssl.ca.location": true,
	"ssl.keystore.type": true, "ssl.keystore.location": true, "ssl.keystore.certificate.chain": true, "ssl.keystore.key": true,
	"ssl.certificate.location": true, "ssl.key.location": true, "ssl.endpoint.identification.algorithm": true,
	"sasl.oauthbearer.token.endpoint.url": true, "sasl.oauthbearer.client.credentials.client.id": true,
	"sasl.oauthbearer.client.credentials.client.secret": true, "sasl.oauthbearer.scope": true,
}

// harmless are properties of security that change nothing here, and that tools' files often have.
var harmless = map[string]bool{
	"ssl.protocol": true, "ssl.enabled.protocols": true, "ssl.cipher.suites": true, "ssl.provider": true, "ssl.trustmanager.algorithm": true,
	"ssl.keymanager.algorithm": true, "ssl.secure.random.implementation": true, "sasl.login.callback.handler.class": true, "sasl.client.callback.handler.class": true,
}

// FromProperties makes Security of a client's properties, by Kafka's names. What is not about security is passed over, as Kafka's tools do; what is
// about it and not understood is an error: nobody is to believe that it counted. The error shows nothing of a secret.
func FromProperties(p map[string]string) (Security, error) {
	var s Security
	for name, value := range p {
		if about := strings.HasPrefix(name, "ssl.") || strings.HasPrefix(name, "sasl.") || strings.HasPrefix(name, "security."); !about || known[name] || value == "" {
			continue
		}
		if strings.HasSuffix(name, ".password") {
			return s, fmt.Errorf("%s: stores and keys with a password are not understood; give PEM without one", name)
		}
		if !harmless[name] {
			return s, fmt.Errorf("%s: there is no such property here", name)
		}
	}
	var encrypted, login bool
	switch protocol := strings.ToUpper(p["security.protocol"]); protocol {
	case "", "PLAINTEXT":
	case "SSL":
		encrypted = true
	case "SASL_PLAINTEXT":
		login = true
	case "SASL_SSL":
		encrypted, login = true, true
	default:
		return s, errors.New("security.protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
	}
	var err error
	if encrypted {
		if s.TLS, err = tlsOf(p); err != nil {
			return s, err
		}
	}
	if login {
		if s.SASL, err = saslOf(p); err != nil {
			return s, err
		}
	}
	if _, err := s.Options(); err != nil { // what is wrong is told before anybody is called
		return s, err
	}
	return s, nil
}

func tlsOf(p map[string]string) (*TLS, error) {
	for _, name := range []string{"ssl.truststore.type", "ssl.keystore.type"} {
		if v := p[name]; v != "" && !strings.EqualFold(v, "PEM") {
			return nil, fmt.Errorf("%s: only PEM is there", name)
		}
	}
	t := &TLS{CA: []byte(p["ssl.truststore.certificates"]), Chain: []byte(p["ssl.keystore.certificate.chain"]), Key: []byte(p["ssl.keystore.key"])}
	for _, f := range []struct {
		name string
		to   []*[]byte
	}{
		{"ssl.truststore.location", []*[]byte{&t.CA}}, {"ssl.ca.location", []*[]byte{&t.CA}}, {"ssl.keystore.location", []*[]byte{&t.Chain, &t.Key}},
		{"ssl.certificate.location", []*[]byte{&t.Chain}}, {"ssl.key.location", []*[]byte{&t.Key}},
	} {
		if p[f.name] == "" {
			continue
		}
		text, err := os.ReadFile(p[f.name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		for _, to := range f.to {
			*to = text
		}
	}
	v, given := p["ssl.endpoint.identification.algorithm"]
	switch {
	case !given || v == "https":
	case v == "" || v == "none": // librdkafka's word
		t.AnyName = true
	default:
		return nil, errors.New("ssl.endpoint.identification.algorithm: https, or nothing")
	}
	return t, nil
}

func saslOf(p map[string]string) (*SASL, error) {
	s := &SASL{Mechanism: strings.ToUpper(cmp.Or(p["sasl.mechanism"], p["sasl.mechanisms"])), User: p["sasl.username"], Password: p["sasl.password"]}
	if s.Mechanism == "" {
		return nil, errors.New("sasl.mechanism is not set, and Kafka's default GSSAPI is not there: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
	}
	options := map[string]string{}
	if text := p["sasl.jaas.config"]; text != "" {
		l, err := jaas.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("sasl.jaas.config: %w", err)
		}
		want := map[string]string{Plain: "PlainLoginModule", ScramSHA256: "ScramLoginModule", ScramSHA512: "ScramLoginModule", OAuth: "OAuthBearerLoginModule"}[s.Mechanism]
		if !strings.HasSuffix(l.Module, want) {
			return nil, fmt.Errorf("sasl.jaas.config: the module of %s is %s", s.Mechanism, want)
		}
		options = l.Options
	}
	if s.Mechanism == OAuth {
		s.Token = &Token{
			URL:    p["sasl.oauthbearer.token.endpoint.url"],
			ID:     cmp.Or(p["sasl.oauthbearer.client.credentials.client.id"], options["clientId"]),
			Secret: cmp.Or(p["sasl.oauthbearer.client.credentials.client.secret"], options["clientSecret"]),
			Scope:  cmp.Or(p["sasl.oauthbearer.scope"], options["scope"]),
		}
		return s, s.Token.check()
	}
	s.User, s.Password = cmp.Or(s.User, options["username"]), cmp.Or(s.Password, options["password"])
	return s, nil
}
