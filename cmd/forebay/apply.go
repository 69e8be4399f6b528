package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/api"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/worker"
)

// declarable is what a cluster's connectors may be.
func declarable(registry connectors.Registry) declared.Types {
	return declared.Types{Registry: registry, SourceCommon: worker.SourceFields, SinkCommon: worker.SinkFields}
}

// applied is what `apply --json` prints.
type applied struct {
	declared.Plan
	Applied bool `json:"applied"`
}

func applyCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "apply FILE…",
		Short: "Make a running cluster's connectors what the files declare",
		Long: "Makes the connectors of a running cluster exactly what the files declare: new ones are started, changed ones restarted with\n" +
			"their new fields, and those that no file declares are removed; name all files in one call. What stays as it is runs on undisturbed.\n" +
			"The plan is printed first, and --dry-run stops there.\n\n" +
			"Removing a connector ends its tasks and deletes nothing: its topics, its positions and what it wrote stay, and declaring it\n" +
			"again goes on from there.\n\n" +
			"Any node takes it. ${VAR} and ${file:PATH} are stored as they are written, and each node resolves them for itself: a\n" +
			"variable must be set where the connector runs, not here.",
		Example: "  forebay apply configs/hub.yaml --dry-run\n  forebay apply configs/hub.yaml",
		Args:    cobra.MinimumNArgs(1),
	}
	dry := c.Flags().Bool("dry-run", false, "print the plan, and do nothing")
	addJSON(c)
	addHTTP(c)
	c.RunE = func(c *cobra.Command, files []string) error {
		o := configOptions()
		o.Remote = true
		config, err := configs.Load(files, o)
		if err != nil {
			return err
		}
		for _, w := range config.Warnings {
			fmt.Fprintln(s.err, w)
		}
		if slices.ContainsFunc(configs.CoreSpec.Fields, func(f spec.Field) bool { return configs.Given(config.Core, f) }) {
			fmt.Fprintln(s.err, "forebay: `core` is left out: the cluster is the one that --http reaches")
		}
		want := declaredConnectors(config)
		var plan declared.Plan
		if err := send(c, http.MethodPost, "/apply", api.Apply{Connectors: want, DryRun: true}, &plan); err != nil {
			return err
		}
		text := !wantsJSON(c)
		if text {
			printPlan(s.out, plan)
		}
		if *dry || plan.Empty() {
			if !text {
				return writeJSON(s.out, applied{plan, false})
			}
			return nil
		}
		if err := send(c, http.MethodPost, "/apply", api.Apply{Connectors: want, Version: &plan.Version}, &plan); err != nil {
			return err
		}
		if !text {
			return writeJSON(s.out, applied{plan, true})
		}
		fmt.Fprintf(s.out, "applied, version %d: `forebay connectors list` shows how they do\n", plan.Version)
		return nil
	}
	return c
}

// declaredConnectors are a config's connectors as they were written.
func declaredConnectors(config *configs.Config) []declared.Connector {
	types := declarable(config.Registry)
	out := []declared.Connector{}
	for _, c := range config.Connectors {
		kind := declared.Source
		if c.Sink {
			kind = declared.Sink
		}
		out = append(out, declared.Connector{Name: c.Name, Kind: kind, Type: c.Type, Fields: types.Fields(kind, c.Type, c.Node, "type")})
	}
	return out
}

// printPlan shows a plan to people.
func printPlan(w io.Writer, p declared.Plan) {
	count := map[declared.Action]int{}
	mark := map[declared.Action]string{declared.Create: "+", declared.Update: "~", declared.Remove: "-", declared.Unchanged: " "}
	for _, c := range p.Changes {
		count[c.Action]++
		fmt.Fprintf(w, "%s %s %s %s (%s)\n", mark[c.Action], c.Action, c.Kind, c.Name, c.Type)
		for _, f := range c.Fields {
			switch {
			case f.From == nil:
				fmt.Fprintf(w, "    %s: %s\n", f.Name, oneLine(*f.To))
			case f.To == nil:
				fmt.Fprintf(w, "    %s: %s -> not given\n", f.Name, oneLine(*f.From))
			default:
				fmt.Fprintf(w, "    %s: %s -> %s\n", f.Name, oneLine(*f.From), oneLine(*f.To))
			}
		}
	}
	fmt.Fprintf(w, "%d to create, %d to change, %d to remove, %d unchanged\n",
		count[declared.Create], count[declared.Update], count[declared.Remove], count[declared.Unchanged])
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", `\n`) }
