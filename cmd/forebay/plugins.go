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

// pluginOf is a plugin as YAML names it.
func pluginOf(s streams, name string, v spec.Values) *plugin.Plugin {
	return plugin.New(plugin.Options{Name: name, Command: v.Strings("command"), SHA256: v.Strings("sha256"), Env: v.Strings("env"), Version: version, Logger: logger(s)})
}

// startingOptions are configOptions of commands that run connectors: they start the plugins that the files name, and ask them for their fields.
func startingOptions(s streams) configs.Options {
	o := configOptions()
	o.Plugin = func(name string, v spec.Values) (*connectors.SourceType, *connectors.SinkType, error) {
		return pluginOf(s, name, v).Describe(context.Background())
	}
	return o
}

// addPlugins is the flag of commands that know connectors by their types and not from files.
func addPlugins(f *pflag.FlagSet) *string {
	return f.String("plugins", "", "a YAML `FILE` whose `plugins` may be used, too (docs/plugins.md)")
}

// toleratingOptions are startingOptions of who does more than run connectors: a plugin that fails is left out, and must not keep the log from
// being served. Its connectors fail then, and say so.
func toleratingOptions(s streams) configs.Options {
	o := startingOptions(s)
	ask := o.Plugin
	o.Plugin = func(name string, v spec.Values) (*connectors.SourceType, *connectors.SinkType, error) {
		source, sink, err := ask(name, v)
		if err != nil {
			logger(s).Error("a plugin is left out until the next start", "plugin", name, "error", err)
		}
		return source, sink, nil
	}
	return o
}

// registryOf is our own connectors and the plugins of files; of "" none.
func registryOf(o configs.Options, files ...string) (connectors.Registry, error) {
	o.Registry = builtin.Registry()
	for _, file := range files {
		if file == "" {
			continue
		}
		config, err := configs.Load([]string{file}, o)
		if err != nil {
			return connectors.Registry{}, err
		}
		o.Registry = config.Registry
	}
	return o.Registry, nil
}
