package main

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/plugins/builtin"
	plugin "github.com/forebayhub/forebay/plugins/process"
)

// describePlugin asks a plugin what it can be. Its process ends soon, if no connector uses it.
func describePlugin(name string, v spec.Values) (*connectors.SourceType, *connectors.SinkType, error) {
	p := plugin.New(plugin.Options{Name: name, Command: v.Strings("command"), SHA256: v.Strings("sha256"), Env: v.Strings("env"), Version: version})
	return p.Describe(context.Background())
}

// addPlugins is the flag of commands that know connectors by their types and not from files.
func addPlugins(f *pflag.FlagSet) *string {
	return f.String("plugins", "", "a YAML `FILE` whose `plugins` may be used, too (docs/plugins.md)")
}

// registryOf is our own connectors and the plugins of a file; of "" none.
func registryOf(file string) (connectors.Registry, error) {
	if file == "" {
		return builtin.Registry(), nil
	}
	config, err := configs.Load([]string{file}, configOptions())
	if err != nil {
		return connectors.Registry{}, err
	}
	return config.Registry, nil
}
