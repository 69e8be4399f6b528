// Package hublog is the log as the runtime sees it: append in transactions,
// poll what is committed, look at topics and offsets. It speaks nothing but the
// Kafka protocol, so the log may be the embedded node, reached in memory, or
// any Kafka-compatible cluster (wall 1: core and runtime meet here).
//
// A Log may be used concurrently. An Appender and a Poller belong to one goroutine each.
package hublog

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/internal/kafkaclient"
)

// Options say where the log is.
type Options struct {
	// Bootstrap are addresses of a Kafka-compatible cluster. With Dial they may be empty.
	Bootstrap []string
	// Dial, if set, connects to the one node there is, whatever its address:
	// broker.Dial of an embedded node.
	Dial func(ctx context.Context) (net.Conn, error)
	// DialAddr, if set, connects to the node at an address: broker.DialAddr of an embedded node that is one of several.
	DialAddr func(ctx context.Context, addr string) (net.Conn, error)
	// Security is how this process comes in at Bootstrap. With Dial or DialAddr nobody is asked.
	Security kafkaclient.Security
	// ClientID names this process to the log, like client.id. "": forebay.
	ClientID string
	// Logger takes what the Kafka client has to say at warn and above. nil: silent.
	Logger *slog.Logger
}

// retryTimeout bounds how long one request is retried before the task hears of
// it and goes through its own backoff.
const retryTimeout = 10 * time.Second

// client makes a Kafka client with the common options and more.
func (o Options) client(more ...kgo.Opt) (*kgo.Client, error) {
	opts := []kgo.Opt{
		kgo.ClientID(or(o.ClientID, "forebay")),
		kgo.RetryTimeout(retryTimeout),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.DialTimeout(3 * time.Second), // the next node may answer
		kgo.DisableClientMetrics(),
	}
	seeds := o.Bootstrap
	if o.Dial != nil {
		dial := o.Dial
		opts = append(opts, kgo.Dialer(func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }))
		if len(seeds) == 0 {
			seeds = []string{"embedded:9092"} // never resolved: Dial knows the way
		}
	}
	if o.Dial == nil && o.DialAddr == nil {
		secure, err := o.Security.Options()
		if err != nil {
			return nil, err
		}
		opts = append(opts, secure...)
	}
	if o.DialAddr != nil {
		dial := o.DialAddr
		opts = append(opts, kgo.Dialer(func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, addr) }))
	}
	opts = append(opts, kgo.SeedBrokers(seeds...))
	if o.Logger != nil {
		opts = append(opts, kgo.WithLogger(clientLog{o.Logger}))
	}
	return kgo.NewClient(append(opts, more...)...)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// clientLog hands the Kafka client's warnings on. They are for developers: what
// a user must know comes back as an error.
type clientLog struct{ l *slog.Logger }

func (c clientLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }
func (c clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level <= kgo.LogLevelWarn {
		c.l.Debug("log client: "+msg, keyvals...)
	}
}
