// Package builtin is the one list of the connectors that are compiled in. Nothing registers itself.
package builtin

import (
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sinks/file"
	"github.com/forebayhub/forebay/sinks/hdfs"
	mongosink "github.com/forebayhub/forebay/sinks/mongodb"
	pgsink "github.com/forebayhub/forebay/sinks/postgres"
	"github.com/forebayhub/forebay/sources/mongodb"
	"github.com/forebayhub/forebay/sources/postgres"
	"github.com/forebayhub/forebay/sources/tail"
)

// Registry lists our sources and sinks.
func Registry() connectors.Registry {
	return connectors.Registry{
		Sources: []connectors.SourceType{mongodb.Type(), postgres.Type(), tail.Type()},
		Sinks:   []connectors.SinkType{file.Type(), hdfs.Type(), mongosink.Type(), pgsink.Type()},
	}
}
