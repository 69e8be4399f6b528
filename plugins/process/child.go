package process

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	pluginrunner "github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/plugins/process/frame"
	"github.com/forebayhub/forebay/plugins/process/internal/convert"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// Version is that of the protocol. A plugin of another version is refused.
const Version = 1

// Cookie is set in the environment of a plugin, so that one that a person starts can say what it is. It is no secret.
const (
	CookieKey   = "FOREBAY_PLUGIN"
	CookieValue = "1"
)

// window is how many bytes one side of a connection sends before the other has read them.
const window = 4 << 20

// maxMessage is the largest message of the protocol: a frame and what is around it.
const maxMessage = frame.MaxBytes + 64<<10

// inherited are the variables that every plugin gets. Others may hold secrets: `env` names those that it needs.
var inherited = []string{"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ"}

// child is a plugin that runs.
type child struct {
	name   string
	run    *runner
	client *goplugin.Client
	conn   *grpc.ClientConn // nil: not connected
	api    pb.PluginClient
}

// start runs the plugin and connects to it.
func (o *Options) start(ctx context.Context, logs *logLines) (*child, error) {
	path, err := o.program()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, o.Command[1:]...)
	c := &child{name: o.Name, run: newRunner(cmd, logs)}
	socketDir := ""
	c.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  goplugin.HandshakeConfig{ProtocolVersion: Version, MagicCookieKey: CookieKey, MagicCookieValue: CookieValue},
		Plugins:          goplugin.PluginSet{o.Name: &dispenser{c: c}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		StartTimeout:     startTimeout,
		SkipHostEnv:      true,
		Logger:           hclog.NewNullLogger(), // what it would say comes as an error, too
		SyncStdout:       c.run.logs,
		SyncStderr:       c.run.logs,
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithContextDialer(c.dialOnce()), grpc.WithIdleTimeout(0),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
			grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window), grpc.WithReadBufferSize(256 << 10), grpc.WithWriteBufferSize(256 << 10),
			grpc.WithChainStreamInterceptor(noBroker),
		},
		RunnerFunc: func(_ hclog.Logger, with *exec.Cmd, dir string) (pluginrunner.Runner, error) {
			socketDir = dir
			cmd.Env = with.Env
			for _, name := range append(slices.Clone(inherited), o.Env...) {
				if v, ok := os.LookupEnv(name); ok {
					cmd.Env = append(cmd.Env, name+"="+v)
				}
			}
			return c.run, nil
		},
	})
	connected := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-c.run.began:
			_ = c.run.Kill(ctx)
		case <-connected:
		}
	})
	err = c.connect()
	close(connected)
	stop()
	if socketDir != "" {
		_ = os.RemoveAll(socketDir) // the connection is all that is needed, and who is killed removes nothing
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.stop()
		return nil, c.why(ctx, err)
	}
	return c, nil
}

// connect waits for the plugin's first line, and for its first answer.
func (c *child) connect() error {
	protocol, err := c.client.Client()
	if err != nil {
		return err
	}
	_, err = protocol.Dispense(c.name)
	return err
}

// why makes an error of a start that failed.
func (c *child) why(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !c.run.runs():
		return fmt.Errorf("plugin %s cannot be started: %w", c.name, err)
	case c.run.greet.refused != nil:
		return connectors.Fatal(fmt.Errorf("plugin %s %w", c.name, c.run.greet.refused), "")
	case !c.run.greet.said:
		return fmt.Errorf("plugin %s does not say how it is reached: %s", c.name, c.run.epitaph())
	}
	return fmt.Errorf("plugin %s: %w: %s", c.name, err, c.run.epitaph())
}

// stop ends the process. Tasks that nobody has closed end with the connection: the plugin would wait for them.
func (c *child) stop() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
	c.run.end()
	c.client.Kill()
}

// dead says that the process has ended.
func (c *child) dead() bool {
	select {
	case <-c.run.done:
		return true
	default:
		return false
	}
}

// failed makes an error of what a call gave back that had this context.
func (c *child) failed(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("plugin %s: %w", c.name, err)
	}
	said := errors.New(clip(c.text(s.Message())))
	switch s.Code() {
	case codes.Canceled:
		if err := ctx.Err(); err != nil {
			return err
		}
		return fmt.Errorf("plugin %s has cancelled a call: %w", c.name, said)
	case codes.DeadlineExceeded:
		return fmt.Errorf("plugin %s does not answer: %w", c.name, context.DeadlineExceeded)
	case codes.ResourceExhausted:
		return connectors.Fatal(fmt.Errorf("plugin %s: a message is larger than %d bytes, or the plugin has run out of something: %w", c.name, maxMessage, said), "a mistake in the plugin, or a record that is too large")
	case codes.Unimplemented:
		return connectors.Fatal(fmt.Errorf("plugin %s: %w", c.name, said), "a mistake in the plugin, or it is of another version")
	case codes.Unavailable:
		if c.run.ended(pipeTimeout) { // the connection ends a moment before the process
			return fmt.Errorf("plugin %s has ended: %s", c.name, c.run.epitaph())
		}
	}
	return fmt.Errorf("plugin %s: %w", c.name, said)
}

// failure makes an error of what a plugin has answered.
func (c *child) failure(f *pb.Failure) error {
	if f == nil {
		return nil
	}
	err := errors.New(c.text(f.GetMessage()))
	if r := f.GetRecord(); r != nil {
		err = &connectors.RecordError{TopicPartition: convert.PartitionFrom(r.GetPartition()), Offset: r.GetOffset(), Err: err}
	}
	if f.GetFatal() {
		return connectors.Fatal(err, c.text(f.GetHint()))
	}
	return err
}

// dispenser takes the connection from go-plugin.
type dispenser struct {
	goplugin.NetRPCUnsupportedPlugin
	c *child
}

func (*dispenser) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return errors.New("it is the host's side")
}

func (d *dispenser) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	d.c.conn, d.c.api = conn, pb.NewPluginClient(conn)
	return d.c.api, nil
}

// dialOnce dials a single time: a plugin whose connection is lost is started anew.
func (c *child) dialOnce() func(context.Context, string) (net.Conn, error) {
	first := make(chan struct{}, 1)
	return func(ctx context.Context, _ string) (net.Conn, error) {
		select {
		case first <- struct{}{}:
			return (&net.Dialer{}).DialContext(ctx, "unix", c.run.greet.socket)
		default:
			return nil, errors.New("the connection is lost")
		}
	}
}

// noBroker keeps go-plugin from opening its broker, by which a plugin could have it wait for as many connections as it names. The protocol has no use for it.
func noBroker(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if strings.HasPrefix(method, "/plugin.GRPCBroker/") {
		return nil, status.Error(codes.Unimplemented, "there is no broker")
	}
	return streamer(ctx, desc, conn, method, opts...)
}

// program finds the plugin's program and compares what the command names with its checksums.
func (o *Options) program() (string, error) {
	path, err := exec.LookPath(o.Command[0])
	if err != nil {
		return "", fmt.Errorf("plugin %s cannot be started: %w", o.Name, err)
	}
	if len(o.SHA256) == 0 {
		return path, nil
	}
	have := map[string]string{}
	var names []string
	for _, name := range append([]string{path}, o.Command[1:]...) {
		sum, err := sumOf(name)
		if err != nil {
			continue // an argument, and no file
		}
		have[sum] = name
		names = append(names, fmt.Sprintf("%s has %s", name, sum))
	}
	for _, want := range o.SHA256 {
		if _, ok := have[strings.ToLower(want)]; !ok {
			return "", connectors.Fatal(fmt.Errorf("plugin %s is not started: no file of its command has the checksum %s: %s", o.Name, want, strings.Join(names, ", ")),
				"find out who changed it; if it was you, change sha256")
		}
		delete(have, strings.ToLower(want))
	}
	return path, nil
}

// begin opens a task's stream. It outlives ctx and ends with cancel, but while it is not there, since a plugin grants no more streams, ctx ends the wait.
func begin[S any](ctx context.Context, open func(context.Context, ...grpc.CallOption) (S, error)) (stream S, cancel context.CancelFunc, err error) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, cancel)()
	if stream, err = open(own); err != nil {
		cancel()
	}
	return stream, cancel, err
}

func sumOf(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, errors.New("no file"))
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
