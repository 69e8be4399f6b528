// Command forebay-files is a plugin of Forebay, in a module of its own: a source that reads a folder of CSV files, and a sink that writes
// lines of JSON. It is small, and keeps every promise that the conformance kit asks for.
package main

import (
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/plugins/process/serve"
)

func main() {
	can := connectors.Capabilities{Delivery: connectors.ExactlyOnce}
	serve.Main(serve.Source(csvType(), can), serve.Sink(linesType(), can))
}
