// Package registry is a Schema Registry with Confluent's REST API. What it knows is in the compacted topic _schemas in Confluent's format, so either registry can take
// the other's place. DESIGN.md says why it is built like this.
//
// A Handler may be used concurrently.
package registry
