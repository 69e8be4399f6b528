package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/problem"
)

// listenerPrefix begins what is set for one listener alone: listener.name.external.ssl.keystore.location. Behind the
// listener's name a mechanism's may stand: listener.name.external.plain.sasl.jaas.config.
const listenerPrefix = "listener.name."

var mechanismPrefixes = []string{"plain.", "scram-sha-256.", "scram-sha-512.", "oauthbearer."}

// staticDef finds the config that a property sets; nil: there is none.
func staticDef(name string) *def {
	rest, ok := strings.CutPrefix(name, listenerPrefix)
	if !ok {
		return brokerByName[name]
	}
	_, key, ok := strings.Cut(rest, ".")
	if !ok {
		return nil
	}
	for _, m := range mechanismPrefixes {
		key = strings.TrimPrefix(key, m)
	}
	if !strings.HasPrefix(key, "ssl.") && !strings.HasPrefix(key, "sasl.") && key != "connections.max.reauth.ms" {
		return nil
	}
	return brokerByName[key]
}

// Secret says whether a property's value must not be shown.
func Secret(name string) bool {
	d := staticDef(name)
	return d != nil && d.typ == password
}

// Default is a broker config's value where nothing is set.
func Default(name string) string {
	if d := brokerByName[name]; d != nil {
		return d.value
	}
	return ""
}

// CheckStatic checks broker properties as they are given at the start, by
// Kafka's names. The error is a *problem.Error about the first bad one.
func CheckStatic(set map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		d := staticDef(name)
		if d == nil {
			p := &problem.Error{Code: "unknown-property", Class: problem.Input, Where: "--set " + name, What: fmt.Sprintf("there is no broker property %q", name)}
			if near := spec.Nearest(name, slices.Sorted(maps.Keys(brokerByName))); near != "" {
				p.Hint = "did you mean " + near + "?"
			} else if t := topicByName[name]; t != nil && t.broker != "" {
				p.Hint = "that is a topic's config; its default for all topics is " + t.broker
			}
			return p
		}
		if name == metadata.DrainConfig {
			return &problem.Error{Code: "bad-property", Class: problem.Input, Where: "--set " + name, What: "a node is not drained by its own start", Hint: "use `forebay nodes drain ID`"}
		}
		if err := d.check(set[name]); err != nil {
			return &problem.Error{Code: "bad-property", Class: problem.Input, Where: "--set " + name, What: err.Error()}
		}
	}
	return nil
}
