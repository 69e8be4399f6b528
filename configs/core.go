package configs

import (
	"slices"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/kafkaclient"
	"github.com/forebayhub/forebay/internal/problem"
)

// CoreSpec is what stands under `core`: the flags of `forebay up` and `forebay server` by their names, and the
// address of a log that runs elsewhere. A flag on the command line wins.
var CoreSpec = spec.Spec{
	Doc: "The log. Without it, an embedded node keeps its data in ./forebay-data.",
	Fields: []spec.Field{
		{Name: "bootstrap", Type: spec.Strings, Doc: "Addresses of a Kafka-compatible cluster to use instead of the embedded node.", Example: "[kafka-1:9092]"},
		{Name: "tls", Type: spec.Group, Doc: "TLS to that cluster. Any of its fields turns it on.", Fields: []spec.Field{
			{Name: "enabled", Type: spec.Bool, Default: "true", Doc: "Whether the cluster speaks TLS: for one whose certificate the system's authorities have signed."},
			{Name: "ca", Doc: "A PEM file with the authorities that are believed; without it those of the system."},
			{Name: "certificate", Doc: "A PEM file with this client's certificate chain, and its key unless `key` has it."},
			{Name: "key", Doc: "A PEM file with the certificate's private key, without a password."},
			{Name: "verify_host", Type: spec.Bool, Default: "true", Doc: "Whether the name in the cluster's certificate is looked at."},
		}},
		{Name: "sasl", Type: spec.Group, Doc: "How to log in at that cluster.", Fields: []spec.Field{
			{Name: "mechanism", Type: spec.Enum, Enum: []string{"plain", "scram-sha-256", "scram-sha-512", "oauth"}, Default: "plain", Doc: "The SASL mechanism."},
			{Name: "username", Doc: "Of plain and scram."},
			{Name: "password", Type: spec.Secret, Doc: "Of plain and scram.", Example: "${KAFKA_PASSWORD}"},
			{Name: "token_url", Doc: "Of oauth: the token endpoint, which is asked with the client's credentials."},
			{Name: "client_id", Doc: "Of oauth."},
			{Name: "client_secret", Type: spec.Secret, Doc: "Of oauth."},
			{Name: "scope", Doc: "Of oauth: what the token is asked for."},
		}},
		{Name: "data", Doc: "The data directory."},
		{Name: "kafka", Doc: "HOST:PORT for Kafka clients.", Example: "10.0.0.1:9092"},
		{Name: "http", Doc: "HOST:PORT for the REST API."},
		{Name: "http-token", Doc: "A file with the token that the REST API asks for."},
		{Name: "durability", Type: spec.Enum, Enum: []string{"power-safe", "relaxed"}, Default: "power-safe",
			Doc: "What an acknowledged record survives: a power cut, or the end of the process."},
		{Name: "set", Type: spec.Strings, Doc: "Kafka broker properties, each as key=value.", Example: "[log.retention.hours=24]"},
		{Name: "insecure", Type: spec.Bool, Default: "false", Doc: "Allow listeners that are not on loopback, although nothing secures them."},
		{Name: "id", Type: spec.Int, Doc: "This node's id in the cluster, for good."},
		{Name: "peer", Doc: "HOST:PORT for the other nodes."},
		{Name: "gossip", Doc: "HOST:PORT where nodes find each other."},
		{Name: "gossip-key", Doc: "A file with keys in base64 that encrypt gossip, one a line."},
		{Name: "tls-dir", Doc: "The folder of this node's certificates."},
		{Name: "join", Type: spec.Strings, Doc: "Gossip addresses of other nodes.", Example: "[10.0.0.1:7946]"},
		{Name: "expect", Type: spec.Int, Doc: "How many nodes wait for each other before they found a cluster."},
		{Name: "rack", Doc: "The rack that this node stands in."},
		{Name: "roles", Doc: "What this node does: log, worker or both.", Example: "log,worker"},
	},
}

// Given says whether the text has a field of CoreSpec, or one of the fields that it is a group of.
func Given(core spec.Values, f spec.Field) bool {
	if f.Type != spec.Group {
		return core.Given(f.Name)
	}
	return slices.ContainsFunc(f.Fields, func(m spec.Field) bool { return core.Given(f.Name + "." + m.Name) })
}

// Security is how to come in at core.bootstrap, as `tls` and `sasl` have it.
func Security(core spec.Values) (kafkaclient.Security, error) {
	given := func(group string) bool {
		return slices.ContainsFunc(CoreSpec.Fields, func(f spec.Field) bool { return f.Name == group && Given(core, f) })
	}
	p := map[string]string{"security.protocol": "PLAINTEXT"}
	if given("tls") && core.Bool("tls.enabled") {
		p["security.protocol"] = "SSL"
		p["ssl.truststore.location"], p["ssl.certificate.location"] = core.String("tls.ca"), core.String("tls.certificate")
		if p["ssl.key.location"] = core.String("tls.key"); p["ssl.key.location"] == "" {
			p["ssl.key.location"] = core.String("tls.certificate")
		}
		if !core.Bool("tls.verify_host") {
			p["ssl.endpoint.identification.algorithm"] = ""
		}
	}
	if given("sasl") {
		p["security.protocol"] = "SASL_" + p["security.protocol"]
		p["sasl.mechanism"] = map[string]string{
			"plain": kafkaclient.Plain, "scram-sha-256": kafkaclient.ScramSHA256, "scram-sha-512": kafkaclient.ScramSHA512, "oauth": kafkaclient.OAuth,
		}[core.String("sasl.mechanism")]
		p["sasl.username"], p["sasl.password"] = core.String("sasl.username"), core.Secret("sasl.password").Reveal()
		p["sasl.oauthbearer.token.endpoint.url"], p["sasl.oauthbearer.scope"] = core.String("sasl.token_url"), core.String("sasl.scope")
		p["sasl.oauthbearer.client.credentials.client.id"] = core.String("sasl.client_id")
		p["sasl.oauthbearer.client.credentials.client.secret"] = core.Secret("sasl.client_secret").Reveal()
	}
	s, err := kafkaclient.FromProperties(p)
	if err != nil {
		return s, &problem.Error{Code: "core-security", Class: problem.Input, Where: "core.tls, core.sasl", What: err.Error(), Err: err}
	}
	return s, nil
}
