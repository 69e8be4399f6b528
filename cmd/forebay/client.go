package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/internal/kafkaclient"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/properties"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// clientTimeout bounds every admin call: an operator would rather see an error than wait.
const clientTimeout = 15 * time.Second

func addBootstrap(c *cobra.Command) {
	c.Flags().StringSlice("bootstrap", []string{"127.0.0.1:9092"}, "`HOST:PORT` of one or more nodes")
	addCommandConfig(c)
}

// addCommandConfig is Kafka's flag of its console tools. A command that has two sides has it once.
func addCommandConfig(c *cobra.Command) {
	if c.Flags().Lookup("command-config") == nil {
		c.Flags().String("command-config", "", "`FILE` with Kafka's properties of a client: security.protocol, sasl.*, ssl.*")
	}
}

// security is what --command-config says.
func security(c *cobra.Command) (kafkaclient.Security, error) {
	path, err := c.Flags().GetString("command-config")
	if err != nil || path == "" {
		return kafkaclient.Security{}, err
	}
	text, err := readSmall("--command-config", path)
	if err != nil {
		return kafkaclient.Security{}, err
	}
	p, err := properties.Parse(text)
	if err != nil {
		return kafkaclient.Security{}, badInput(path, err.Error(), "")
	}
	sec, err := kafkaclient.FromProperties(properties.Map(p))
	if err != nil {
		return sec, badInput(path, err.Error(), "")
	}
	return sec, nil
}

// maxSmall bounds the files that flags name.
const maxSmall = 1 << 20

func readSmall(flag, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", badInput(flag+" "+path, rootCause(err), "")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err != nil {
		return "", badInput(flag+" "+path, rootCause(err), "")
	}
	if len(text) > maxSmall {
		return "", badInput(flag+" "+path, "the file is too long", "")
	}
	return string(text), nil
}

// dial makes a client and checks that somebody answers, so that a wrong address
// is an error at once and not a time-out later.
func dial(c *cobra.Command, opts ...kgo.Opt) (*kgo.Client, error) {
	sec, err := security(c)
	if err != nil {
		return nil, err
	}
	return dialAs(c, sec, opts...)
}

// dialLog is dial for commands that read a config, and where it went to: to the log that the config names in core, unless --bootstrap says another.
func dialLog(c *cobra.Command, config *configs.Config, opts ...kgo.Opt) (*kgo.Client, hublog.Options, error) {
	sec, err := security(c)
	if core := config.Core.Strings("bootstrap"); err == nil && len(core) > 0 && !c.Flags().Changed("bootstrap") {
		for _, addr := range core {
			if err := c.Flags().Set("bootstrap", addr); err != nil {
				return nil, hublog.Options{}, err
			}
		}
		if !c.Flags().Changed("command-config") {
			sec, err = configs.Security(config.Core)
		}
	}
	if err != nil {
		return nil, hublog.Options{}, err
	}
	client, err := dialAs(c, sec, opts...)
	if err != nil {
		return nil, hublog.Options{}, err
	}
	bootstrap, err := c.Flags().GetStringSlice("bootstrap")
	return client, hublog.Options{Bootstrap: bootstrap, Security: sec}, err
}

func dialAs(c *cobra.Command, sec kafkaclient.Security, opts ...kgo.Opt) (*kgo.Client, error) {
	seeds, err := c.Flags().GetStringSlice("bootstrap")
	if err != nil {
		return nil, err
	}
	for _, s := range seeds {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return nil, badInput("--bootstrap "+s, "not an address", "write host:port, as in 127.0.0.1:9092")
		}
	}
	secure, err := sec.Options()
	if err != nil {
		return nil, badInput("--command-config", err.Error(), "")
	}
	client, err := kgo.NewClient(slices.Concat([]kgo.Opt{kgo.SeedBrokers(seeds...), kgo.ClientID("forebay-cli")}, secure, opts)...)
	if err != nil {
		return nil, badInput("", err.Error(), "")
	}
	ctx, cancel := context.WithTimeout(c.Context(), 5*time.Second)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		client.Close()
		var k *kerr.Error
		if errors.As(err, &k) && errors.Is(k, kerr.SaslAuthenticationFailed) {
			return nil, &problem.Error{Code: "not-authenticated", Class: problem.Runtime, Where: strings.Join(seeds, ","), What: "the node does not believe who this is: " + err.Error(),
				Hint: "look at --command-config", Err: err}
		}
		return nil, &problem.Error{Code: "unreachable", Class: problem.Environment, Where: strings.Join(seeds, ","),
			What: "no node answers: " + rootCause(err), Hint: "start one with `forebay up`, or give --bootstrap HOST:PORT; a secured one wants --command-config FILE", Err: err}
	}
	return client, nil
}

func dialAdmin(c *cobra.Command) (*kadm.Client, func(), error) {
	client, err := dial(c)
	if err != nil {
		return nil, nil, err
	}
	admin := kadm.NewClient(client)
	admin.SetTimeoutMillis(int32(clientTimeout.Milliseconds()))
	return admin, client.Close, nil
}

// rootCause is the innermost message: what the network said.
func rootCause(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err.Error()
		}
		err = next
	}
}

// refused turns a broker's error into one for the user.
func refused(where string, err error) error {
	var k *kerr.Error
	if errors.As(err, &k) {
		p := &problem.Error{Code: strings.ToLower(strings.ReplaceAll(k.Message, "_", "-")), Class: problem.Runtime, Where: where, What: k.Description, Err: err}
		if k.Code == kerr.UnknownTopicOrPartition.Code { // "this server does not host it" is for clients that look elsewhere then
			p.What, p.Hint = "there is no such topic or partition", "`forebay topics list` shows the topics"
			return p
		}
		if k.Code == kerr.GroupIDNotFound.Code {
			p.Hint = "`forebay groups list` shows the groups"
		}
		if detail := strings.TrimPrefix(err.Error(), k.Error()); detail != err.Error() && strings.Trim(detail, ": ") != "" {
			p.What = strings.Trim(detail, ": ")
		}
		return p
	}
	if where == "" {
		return err
	}
	return fmt.Errorf("%s: %w", where, err)
}
