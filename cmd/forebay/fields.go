package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/transform"
	"github.com/forebayhub/forebay/runtime/worker"
)

func fieldsCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "fields TYPE", Short: "Show the config fields of a connector type or a transform; `transforms` lists those", Args: cobra.MaximumNArgs(1)}
	schema := c.Flags().Bool("json-schema", false, "print the JSON Schema of config files, for editors, instead")
	plugins := addPlugins(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		if *schema {
			if len(args) > 0 {
				return badInput("--json-schema", "it is of whole files, not of one type", "leave "+args[0]+" out")
			}
			e := json.NewEncoder(s.out)
			e.SetEscapeHTML(false)
			e.SetIndent("", " ")
			return e.Encode(configSchema())
		}
		registry, err := registryOf(startingOptions(s), *plugins)
		if err != nil {
			return err
		}
		var known []string
		for _, t := range registry.Sources {
			if known = append(known, t.Name); len(args) == 1 && t.Name == args[0] {
				if err := t.Spec.Join(worker.SourceFields).Print(s.out, "source "+t.Name); err != nil {
					return err
				}
			}
		}
		for _, t := range registry.Sinks {
			if known = append(known, t.Name); len(args) == 1 && t.Name == args[0] {
				if err := t.Spec.Join(worker.SinkFields).Print(s.out, "sink "+t.Name); err != nil {
					return err
				}
			}
		}
		for _, t := range transform.Types() {
			if len(args) == 1 && t.Name == args[0] {
				known = append(known, t.Name)
				if err := t.Fields().Print(s.out, "transform "+t.Name); err != nil {
					return err
				}
			}
		}
		if len(args) == 1 && args[0] == "transforms" {
			for _, t := range transform.Types() {
				fmt.Fprintf(s.out, "%-12s %s\n", t.Name, t.Spec.Doc)
			}
			return nil
		}
		if len(args) == 0 {
			for _, t := range registry.Sources {
				fmt.Fprintf(s.out, "source  %s\n", t.Name)
			}
			for _, t := range registry.Sinks {
				fmt.Fprintf(s.out, "sink    %s\n", t.Name)
			}
			return nil
		}
		for _, k := range known {
			if k == args[0] {
				return nil
			}
		}
		known = append(known, transform.Names()...)
		slices.Sort(known)
		known = slices.Compact(known)
		hint := "one of " + strings.Join(known, ", ")
		if n := spec.Nearest(args[0], known); n != "" {
			hint = "did you mean '" + n + "'?"
		}
		return badInput(args[0], "no such connector type or transform", hint)
	}
	return c
}

// configSchema is the JSON Schema of a config file, made of what parses it.
func configSchema() map[string]any {
	o := configOptions()
	steps := map[string]spec.Spec{}
	for _, t := range transform.Types() {
		steps[t.Name] = t.Fields()
	}
	trees := map[string]any{"transforms": map[string]any{"$ref": "#/$defs/transform"}}
	sources, sinks := map[string]spec.Spec{}, map[string]spec.Spec{}
	for _, t := range o.Registry.Sources {
		sources[t.Name] = t.Spec.Join(o.SourceCommon)
	}
	for _, t := range o.Registry.Sinks {
		sinks[t.Name] = t.Spec.Join(o.SinkCommon)
	}
	named := func(specs map[string]spec.Spec) map[string]any {
		return map[string]any{"type": []string{"object", "null"}, "additionalProperties": byType(specs, trees)}
	}
	return map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Forebay", "type": "object", "additionalProperties": false,
		"$defs": map[string]any{"transform": byType(steps, nil)},
		"properties": map[string]any{
			"core": configs.CoreSpec.JSONSchema(nil), "plugins": map[string]any{"type": []string{"object", "null"}, "additionalProperties": configs.PluginSpec.JSONSchema(nil)},
			"sources": named(sources), "sinks": named(sinks),
			"tests": map[string]any{"type": []string{"array", "null"}, "items": configs.TestSpec.JSONSchema(nil)},
		},
	}
}

// byType is the schema of a mapping whose type says which fields it has.
func byType(specs map[string]spec.Spec, trees map[string]any) map[string]any {
	names := slices.Sorted(maps.Keys(specs))
	var cases []any
	for _, name := range names {
		s := specs[name].JSONSchema(trees)
		s["properties"].(map[string]any)["type"] = map[string]any{"const": name} //nolint:forcetypeassert // as JSONSchema makes it
		cases = append(cases, map[string]any{"if": map[string]any{"properties": map[string]any{"type": map[string]any{"const": name}}}, "then": s})
	}
	return map[string]any{"type": "object", "required": []string{"type"}, "properties": map[string]any{"type": map[string]any{"enum": names}}, "allOf": cases}
}
