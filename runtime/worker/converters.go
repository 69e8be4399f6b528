package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/kafkaclient"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/registry/client"
)

func converterOf(part, what string, forms []string) spec.Field {
	return spec.Field{Name: part, Type: spec.Group, Doc: "What a record's " + part + " is.", Fields: []spec.Field{{Name: "converter", Type: spec.Enum, Enum: forms, Default: forms[0],
		Doc: "How " + what + ": see docs/converters.md. avro, protobuf and jsonschema are Confluent's wire format, their schemas in a registry."}}}
}

var schemaRegistry = spec.Field{Name: "registry", Type: spec.Group, Doc: "The schema registry of converters that need one.", Fields: []spec.Field{
	{Name: "url", Type: spec.Strings, Check: checkURLs, Example: "[https://registry:8081]",
		Doc: "Addresses of a registry with Confluent's REST API; the next is asked when one does not answer. Without it the node's own."},
	{Name: "username", Doc: "For basic authentication."},
	{Name: "password", Type: spec.Secret, Doc: "For basic authentication.", Example: "${REGISTRY_PASSWORD}"},
	{Name: "token", Type: spec.Secret, Doc: "A bearer token, instead."},
	{Name: "ca", Doc: "A PEM file with the authorities that are believed; without it those of the system."},
	{Name: "certificate", Doc: "A PEM file with this client's certificate chain, and its key unless `registry.key` has it."},
	{Name: "key", Doc: "A PEM file with the certificate's private key, without a password."},
	{Name: "verify_host", Type: spec.Bool, Default: "true", Doc: "Whether the name in the registry's certificate is looked at."},
}}

func checkURLs(v any) error {
	for _, text := range v.([]string) {
		u, err := url.Parse(text)
		if strings.Contains(text, "@") { // whatever else is wrong with it: it may hold a password
			return errors.New("an address is like http://registry:8081; the login stands in registry.username and registry.password, which are not shown")
		}
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%q is no address like http://registry:8081", text)
		}
	}
	return nil
}

type pair struct{ key, value converter.Form }

func (p pair) registered() bool { return p.key.Registered() || p.value.Registered() }

// forms are the converters of a connector; "" where its fields have none.
func forms(v spec.Values) (p pair) {
	if v.Has("key.converter") {
		p.key = converter.Form(v.String("key.converter"))
	}
	if v.Has("value.converter") {
		p.value = converter.Form(v.String("value.converter"))
	}
	return p
}

// Reading is how a sink of these SinkFields reads what has no schema header.
func Reading(v spec.Values) converter.Reading {
	f := forms(v)
	return converter.Reading{Key: f.key, Value: f.value}
}

// Read has a decoder read as a sink of these SinkFields does, until ctx ends.
func Read(ctx context.Context, d *converter.Decoder, v spec.Values, own http.Handler) error {
	return read(ctx, d, Reading(v), v, own)
}

// ReadBack has a decoder read what a source of these SourceFields writes, until ctx ends: bytes that came without types stand as they
// came in a topic of JSON, too.
func ReadBack(ctx context.Context, d *converter.Decoder, v spec.Values, own http.Handler) error {
	r := Reading(v)
	for _, f := range []*converter.Form{&r.Key, &r.Value} {
		if !f.Registered() {
			*f = converter.Auto
		}
	}
	return read(ctx, d, r, v, own)
}

func read(ctx context.Context, d *converter.Decoder, r converter.Reading, v spec.Values, own http.Handler) error {
	c, err := Registry(v, own)
	if err != nil {
		return err
	}
	r.Schema = func(id int32) (converter.SchemaText, error) { return c.Schema(ctx, id) }
	d.Read(r)
	return nil
}

func registryURLs(v spec.Values) []string {
	if v.Has("registry.url") {
		return v.Strings("registry.url")
	}
	return nil
}

// Registry makes the client of the registry that a connector's converters need, which may be the node's own; nil when they need none.
func Registry(v spec.Values, own http.Handler) (*client.Client, error) {
	if !forms(v).registered() {
		return nil, nil
	}
	o := client.Options{URLs: registryURLs(v), Own: own, Username: v.String("registry.username"), Password: v.Secret("registry.password").Reveal(), Token: v.Secret("registry.token").Reveal()}
	p := map[string]string{"security.protocol": "SSL", "ssl.truststore.location": v.String("registry.ca"),
		"ssl.certificate.location": v.String("registry.certificate"), "ssl.key.location": v.String("registry.key")}
	if p["ssl.key.location"] == "" {
		p["ssl.key.location"] = p["ssl.certificate.location"]
	}
	if !v.Bool("registry.verify_host") {
		p["ssl.endpoint.identification.algorithm"] = ""
	}
	var err error
	if o.Security, err = kafkaclient.FromProperties(p); err != nil {
		return nil, fmt.Errorf("registry: %s", strings.TrimPrefix(err.Error(), "ssl."))
	}
	return client.New(o)
}
