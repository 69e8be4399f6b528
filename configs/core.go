package configs

import "github.com/forebayhub/forebay/connectors/spec"

// CoreSpec is what stands under `core`: the flags of `forebay up` and `forebay server` by their names, and the
// address of a log that runs elsewhere. A flag on the command line wins.
var CoreSpec = spec.Spec{
	Doc: "The log. Without it, an embedded node keeps its data in ./forebay-data.",
	Fields: []spec.Field{
		{Name: "bootstrap", Type: spec.Strings, Doc: "Addresses of a Kafka-compatible cluster to use instead of the embedded node.", Example: "[kafka-1:9092]"},
		{Name: "data", Doc: "The data directory."},
		{Name: "kafka", Doc: "HOST:PORT for Kafka clients.", Example: "10.0.0.1:9092"},
		{Name: "http", Doc: "HOST:PORT for the REST API."},
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
