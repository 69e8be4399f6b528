package controller

import (
	"fmt"
	"maps"
	"slices"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/internal/problem"
)

// CheckStatic checks broker properties as they are given at the start, by
// Kafka's names. The error is a *problem.Error about the first bad one.
func CheckStatic(set map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(set)) {
		d := brokerByName[name]
		if d == nil {
			p := &problem.Error{Code: "unknown-property", Class: problem.Input, Where: "--set " + name, What: fmt.Sprintf("there is no broker property %q", name)}
			if near := spec.Nearest(name, slices.Sorted(maps.Keys(brokerByName))); near != "" {
				p.Hint = "did you mean " + near + "?"
			} else if t := topicByName[name]; t != nil && t.broker != "" {
				p.Hint = "that is a topic's config; its default for all topics is " + t.broker
			}
			return p
		}
		if err := d.check(set[name]); err != nil {
			return &problem.Error{Code: "bad-property", Class: problem.Input, Where: "--set " + name, What: err.Error()}
		}
	}
	return nil
}
