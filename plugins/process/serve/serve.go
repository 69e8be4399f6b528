// Package serve makes a plugin of connectors that are written as those which Forebay has compiled in:
//
//	func main() {
//		serve.Main(serve.Source(csv.Type(), connectors.Capabilities{Delivery: connectors.ExactlyOnce}))
//	}
//
// The program is named under `plugins` in YAML (docs/plugins.md). What it logs, with the Logger of its Env or on standard error, goes to
// Forebay's log. It ends with its standard input.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/plugins/process/frame"
	"github.com/forebayhub/forebay/plugins/process/internal/convert"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// Version is that of the protocol.
const Version = 1

// maxMessage is the largest message that is taken.
const maxMessage = frame.MaxBytes + 64<<10

// endTimeout is how long tasks may take to close once Forebay is gone.
const endTimeout = 3 * time.Second

// Option is something that the plugin can be.
type Option func(*server)

// Source makes the plugin a source. Its type's name means nothing: in YAML it has that of the plugin. c is what it can do however it is configured.
func Source(t connectors.SourceType, c connectors.Capabilities) Option {
	return func(s *server) { s.source, s.sourceCan = &t, c }
}

// Sink makes the plugin a sink, which gets the bytes that lie in the log. Its Topics are the field `topics`.
func Sink(t connectors.SinkType, c connectors.Capabilities) Option {
	return func(s *server) { s.sink, s.sinkCan = &t, c }
}

// Decoded makes the sink's records come with Key, Value and Change, and without their bytes.
func Decoded() Option { return func(s *server) { s.decoded = true } }

// Main serves the plugin until Forebay ends it, and does not return.
func Main(options ...Option) {
	signal.Ignore(os.Interrupt) // of a terminal: Forebay closes the tasks
	if err := run(options, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(options []Option, stdin io.Reader, stdout io.Writer) error {
	if os.Getenv("FOREBAY_PLUGIN") == "" {
		return errors.New("this is a plugin of Forebay, which starts it: name it under `plugins` in a YAML file")
	}
	s := &server{log: slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, o := range options {
		o(s)
	}
	dir, err := os.MkdirTemp(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "plugin")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		return err
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage), grpc.InitialWindowSize(4<<20), grpc.InitialConnWindowSize(4<<20),
		grpc.ReadBufferSize(256<<10), grpc.WriteBufferSize(256<<10))
	pb.RegisterPluginServer(g, s)
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	fmt.Fprintf(stdout, "1|%d|unix|%s|grpc\n", Version, l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // its end is all that it has to say
		late := time.AfterFunc(endTimeout, g.Stop)
		defer late.Stop()
		g.GracefulStop()
	}()
	return <-served
}

// server answers for the connectors.
type server struct {
	pb.UnsafePluginServer // a method of plugin.proto that is missing here does not compile
	source                *connectors.SourceType
	sink                  *connectors.SinkType
	sourceCan, sinkCan    connectors.Capabilities
	decoded               bool
	log                   *slog.Logger
}

func (s *server) Describe(context.Context, *pb.DescribeRequest) (*pb.Description, error) {
	d := &pb.Description{}
	if s.source != nil {
		d.Source = kindOf(s.source.Spec, s.sourceCan)
		d.Source.HostBound = s.source.HostBound
	}
	if s.sink != nil {
		d.Sink = kindOf(s.sink.Spec, s.sinkCan)
		d.Sink.Decoded = s.decoded
	}
	return d, nil
}

func kindOf(s spec.Spec, c connectors.Capabilities) *pb.Kind {
	k := &pb.Kind{Doc: s.Doc, Delivery: pb.Delivery(c.Delivery)}
	for _, f := range s.Docs() {
		k.Fields = append(k.Fields, &pb.Field{Name: f.Name, Type: fieldTypes[f.Type], Default: f.Default, Required: f.Required, Enum: f.Allowed, Doc: f.Doc, Example: f.Example})
	}
	return k
}

var fieldTypes = map[string]pb.Field_Type{
	spec.String.String(): pb.Field_STRING, spec.Secret.String(): pb.Field_SECRET, spec.Int.String(): pb.Field_INT, spec.Bool.String(): pb.Field_BOOL,
	spec.Duration.String(): pb.Field_DURATION, spec.Size.String(): pb.Field_SIZE, spec.Enum.String(): pb.Field_ENUM, spec.Strings.String(): pb.Field_STRINGS,
	spec.Tree.String(): -1, // Forebay refuses it
}

// values reads a config by the connector's own Spec, whose checks live here.
func values(s spec.Spec, c *pb.Config) (spec.Values, error) {
	n := spec.Node{Shape: spec.Mapping}
	for _, v := range c.GetValues() {
		if !v.GetGiven() {
			continue
		}
		node := spec.Node{Shape: spec.Scalar, Text: v.GetText()}
		if v.List != nil {
			node = spec.Node{Shape: spec.List}
			for _, text := range v.List {
				node.List = append(node.List, spec.Node{Shape: spec.Scalar, Text: text})
			}
		}
		n.Map = append(n.Map, spec.Entry{Key: v.GetName(), Value: node})
	}
	out, findings := s.Parse(n)
	var errs error
	for _, f := range findings {
		if !f.Warning {
			errs = errors.Join(errs, errors.New(f.Message))
		}
	}
	return out, errs
}

func (s *server) env(c *pb.Config) connectors.Env {
	return connectors.Env{Name: c.GetName(), Group: c.GetGroup(), Host: c.GetHost(), Logger: s.log.With("connector", c.GetName())}
}

// newSource and newSink make the connector of a config; that does no I/O.
func (s *server) newSource(c *pb.Config) (connectors.Source, error) {
	if s.source == nil {
		return nil, connectors.Fatal(errors.New("this plugin is no source"), "")
	}
	v, err := values(s.source.Spec, c)
	if err != nil {
		return nil, connectors.Fatal(err, "")
	}
	src, err := s.source.New(v, s.env(c))
	if err != nil {
		return nil, connectors.Fatal(err, "")
	}
	return src, nil
}

func (s *server) newSink(c *pb.Config) (connectors.Sink, error) {
	if s.sink == nil {
		return nil, connectors.Fatal(errors.New("this plugin is no sink"), "")
	}
	sp := s.sink.Spec.Join(spec.Spec{Fields: []spec.Field{{Name: "topics", Type: spec.Strings}}})
	v, err := values(sp, c)
	if err != nil {
		return nil, connectors.Fatal(err, "")
	}
	sk, err := s.sink.New(v, s.env(c))
	if err != nil {
		return nil, connectors.Fatal(err, "")
	}
	return sk, nil
}

func (s *server) Check(_ context.Context, c *pb.Config) (*pb.Findings, error) {
	var err error
	if c.GetSink() {
		_, err = s.newSink(c)
	} else {
		_, err = s.newSource(c)
	}
	return &pb.Findings{Failure: failureOf(err)}, nil
}

func (s *server) Validate(ctx context.Context, c *pb.Config) (*pb.Findings, error) {
	var validate func(context.Context) []spec.Finding
	if c.GetSink() {
		sk, err := s.newSink(c)
		if err != nil {
			return &pb.Findings{Failure: failureOf(err)}, nil
		}
		validate = sk.Validate
	} else {
		src, err := s.newSource(c)
		if err != nil {
			return &pb.Findings{Failure: failureOf(err)}, nil
		}
		validate = src.Validate
	}
	out := &pb.Findings{}
	for _, f := range validate(ctx) {
		out.Findings = append(out.Findings, &pb.Finding{Path: f.Path, Message: valid(f.Message), Hint: valid(f.Hint), Warning: f.Warning})
	}
	return out, nil
}

func (s *server) Plan(ctx context.Context, r *pb.PlanRequest) (*pb.Splits, error) {
	src, err := s.newSource(r.GetConfig())
	if err != nil {
		return &pb.Splits{Failure: failureOf(err)}, nil
	}
	splits, err := src.Plan(ctx, int(r.GetMax()))
	out := &pb.Splits{Failure: failureOf(err)}
	for _, split := range splits {
		out.Splits = append(out.Splits, &pb.Split{Id: split.ID, Host: split.Host})
	}
	return out, nil
}

func (s *server) Topics(ctx context.Context, c *pb.Config) (*pb.TopicSpecs, error) {
	src, err := s.newSource(c)
	if err != nil {
		return &pb.TopicSpecs{Failure: failureOf(err)}, nil
	}
	topics, err := src.Topics(ctx)
	out := &pb.TopicSpecs{Failure: failureOf(err)}
	for _, t := range topics {
		out.Topics = append(out.Topics, &pb.TopicSpec{Name: t.Name, Partitions: t.Partitions, Configs: t.Configs})
	}
	return out, nil
}

func (s *server) Compare(_ context.Context, r *pb.CompareRequest) (*pb.Order, error) {
	src, err := s.newSource(r.GetConfig())
	if err != nil {
		return &pb.Order{Failure: failureOf(err)}, nil
	}
	return &pb.Order{Order: int32(min(max(src.Compare(connectors.PositionKey(r.GetKey()), r.GetA(), r.GetB()), -1), 1))}, nil
}

// failureOf keeps what is fatal, and the hint.
func failureOf(err error) *pb.Failure {
	if err == nil {
		return nil
	}
	f := &pb.Failure{Message: valid(err.Error())}
	var fatal *connectors.FatalError
	if errors.As(err, &fatal) {
		f.Fatal, f.Hint = true, valid(fatal.Hint)
	}
	if r := (*connectors.RecordError)(nil); errors.As(err, &r) {
		f.Record = &pb.Blame{Partition: convert.Partition(r.TopicPartition), Offset: r.Offset}
	}
	return f
}

// valid makes a text what a message can hold: an error may quote a file's name, which is any bytes.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
