package process

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// Bounds of what a plugin says about itself.
const (
	maxFields = 200
	maxText   = 4 << 10
)

func (p *Plugin) sourceType(k *pb.Kind) (*connectors.SourceType, error) {
	s, err := p.specOf(k)
	if err != nil {
		return nil, err
	}
	return &connectors.SourceType{Name: p.o.Name, Spec: s, HostBound: k.GetHostBound(), New: func(cfg spec.Values, env connectors.Env) (connectors.Source, error) {
		return &source{p: p, env: env, kind: k, config: configOf(s, cfg, env, false)}, nil
	}}, nil
}

func (p *Plugin) sinkType(k *pb.Kind) (*connectors.SinkType, error) {
	s, err := p.specOf(k)
	if err != nil {
		return nil, err
	}
	s = s.Join(spec.Spec{Fields: []spec.Field{{Name: "topics", Type: spec.Strings, Required: true, Example: `["shop.public.*", weblogs]`, Doc: "Globs of the topics to write; `*` crosses dots."}}})
	for _, f := range s.Fields {
		if f.Name == "topics" && f.Type != spec.Strings {
			return nil, p.bad("its field topics is no list")
		}
	}
	return &connectors.SinkType{Name: p.o.Name, Spec: s, New: func(cfg spec.Values, env connectors.Env) (connectors.Sink, error) {
		return &sink{p: p, env: env, kind: k, config: configOf(s, cfg, env, true), topics: cfg.Strings("topics")}, nil
	}}, nil
}

// check is connectors.Checker. When the plugin cannot be asked the connector says so once it runs: a crash is no mistake in a config.
func (p *Plugin) check(ctx context.Context, env connectors.Env, config *pb.Config) error {
	var found []spec.Finding
	err := p.call(ctx, env, config, askTimeout, func(ctx context.Context, c *child) error {
		f, err := c.api.Check(ctx, config)
		if err == nil {
			found = c.findings(ctx, f, nil)
		}
		return err
	})
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	var all, hints []string
	for _, f := range found {
		if f.Warning {
			continue
		}
		if f.Path != "" {
			f.Message = f.Path + ": " + f.Message
		}
		if all = append(all, f.Message); f.Hint != "" {
			hints = append(hints, f.Hint)
		}
	}
	if all != nil {
		return connectors.Fatal(errors.New(text(strings.Join(all, "; "))), text(strings.Join(hints, "; ")))
	}
	return nil
}

func (p *Plugin) bad(what string) error {
	return connectors.Fatal(fmt.Errorf("plugin %s: %s", p.o.Name, what), "a mistake in the plugin")
}

// specOf makes the fields that a plugin names.
func (p *Plugin) specOf(k *pb.Kind) (spec.Spec, error) {
	if len(k.GetFields()) > maxFields {
		return spec.Spec{}, p.bad(fmt.Sprintf("it has %d fields; %d are too many", len(k.GetFields()), maxFields))
	}
	s := spec.Spec{Doc: text(k.GetDoc())}
	groups := map[string]int{} // by name, places in s.Fields
	for _, f := range k.GetFields() {
		out := spec.Field{Name: text(f.GetName()), Default: text(f.GetDefault()), Required: f.GetRequired(), Doc: text(f.GetDoc()), Example: text(f.GetExample())}
		for _, e := range f.GetEnum()[:min(len(f.GetEnum()), maxFields)] {
			out.Enum = append(out.Enum, text(e))
		}
		var ok bool
		if out.Type, ok = fieldTypes[f.GetType()]; !ok {
			return s, p.bad(fmt.Sprintf("its field %q is of an unknown type, %d", out.Name, f.GetType()))
		}
		if out.Type == spec.Secret {
			p.mu.Lock()
			p.mu.secret[out.Name] = true
			p.mu.Unlock()
		}
		group, name, dotted := strings.Cut(out.Name, ".")
		if group == "type" || strings.Contains(name, ".") || !spec.ValidName(strings.ReplaceAll(group, "_", "-")) || dotted && name == "" {
			return s, p.bad(fmt.Sprintf("%q cannot be a field's name", out.Name))
		}
		if !dotted {
			s.Fields = append(s.Fields, out)
			continue
		}
		out.Name = name
		at, ok := groups[group]
		if !ok {
			at = len(s.Fields)
			groups[group] = at
			s.Fields = append(s.Fields, spec.Field{Name: group, Type: spec.Group})
		}
		s.Fields[at].Fields = append(s.Fields[at].Fields, out)
	}
	if err := s.Check(); err != nil {
		return s, p.bad(err.Error())
	}
	return s, nil
}

var fieldTypes = map[pb.Field_Type]spec.Type{
	pb.Field_STRING: spec.String, pb.Field_SECRET: spec.Secret, pb.Field_INT: spec.Int, pb.Field_BOOL: spec.Bool,
	pb.Field_DURATION: spec.Duration, pb.Field_SIZE: spec.Size, pb.Field_ENUM: spec.Enum, pb.Field_STRINGS: spec.Strings,
}

// text is a text of a plugin, cut where nobody would read on. It is a copy, for what it is cut from may be large.
func text(s string) string {
	return strings.Clone(strings.ToValidUTF8(s[:min(len(s), maxText)], "�"))
}

// text is a text of a plugin without secrets.
func (c *child) text(s string) string {
	if c.run != nil {
		s = c.run.logs.clean(s)
	}
	return text(s)
}

// configOf is a connector's config as it goes to the plugin.
func configOf(s spec.Spec, cfg spec.Values, env connectors.Env, sink bool) *pb.Config {
	out := &pb.Config{Sink: sink, Name: env.Name, Group: env.Group, Host: env.Host}
	for _, f := range s.Docs() {
		v := &pb.Value{Name: f.Name, Given: cfg.Given(f.Name)}
		switch f.Type {
		case spec.Secret.String():
			v.Text = cfg.Secret(f.Name).Reveal()
		case spec.Int.String():
			v.Text = strconv.FormatInt(cfg.Int(f.Name), 10)
		case spec.Bool.String():
			v.Text = strconv.FormatBool(cfg.Bool(f.Name))
		case spec.Duration.String():
			v.Text = strconv.FormatInt(int64(cfg.Duration(f.Name)), 10) + "ns"
		case spec.Size.String():
			v.Text = strconv.FormatInt(cfg.Size(f.Name), 10)
		case spec.Strings.String():
			v.List = cfg.Strings(f.Name)
		default:
			v.Text = cfg.String(f.Name)
		}
		out.Values = append(out.Values, v)
	}
	return out
}

func capabilities(k *pb.Kind) connectors.Capabilities {
	var out connectors.Capabilities
	switch k.GetDelivery() {
	case pb.Delivery_IDEMPOTENT_BY_KEY:
		out.Delivery = connectors.IdempotentByKey
	case pb.Delivery_EXACTLY_ONCE:
		out.Delivery = connectors.ExactlyOnce
	}
	return out
}

// findings are what a plugin has found; err says why it could not look.
func (c *child) findings(ctx context.Context, f *pb.Findings, err error) []spec.Finding {
	if err = errors.Join(c.failed(ctx, err), c.failure(f.GetFailure())); err != nil {
		found := spec.Finding{Message: err.Error()}
		if fatal := (*connectors.FatalError)(nil); errors.As(err, &fatal) {
			found.Hint = fatal.Hint
		}
		return []spec.Finding{found}
	}
	var out []spec.Finding
	for _, f := range f.GetFindings()[:min(len(f.GetFindings()), maxFields)] {
		out = append(out, spec.Finding{Path: text(f.GetPath()), Message: c.text(f.GetMessage()), Hint: c.text(f.GetHint()), Warning: f.GetWarning()})
	}
	return out
}

// validate lets a plugin look at what it reaches.
func (p *Plugin) validate(ctx context.Context, env connectors.Env, config *pb.Config) (out []spec.Finding) {
	err := p.call(ctx, env, config, lookTimeout, func(ctx context.Context, c *child) error {
		f, err := c.api.Validate(ctx, config)
		out = c.findings(ctx, f, err)
		return nil
	})
	if err != nil {
		return []spec.Finding{{Message: err.Error()}}
	}
	return out
}
