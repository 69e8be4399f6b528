package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/registry"
	"github.com/forebayhub/forebay/runtime/schemas"
	"github.com/forebayhub/forebay/runtime/task"
	"github.com/forebayhub/forebay/runtime/worker"
)

func previewCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "preview FILE… NAME",
		Short: "Show what a source would append, or a sink would write; nothing is written",
		Long: "Of a source: its first rows, documents or lines, as the records that it would append. Of a sink: the first records of its topics\n" +
			"as it decodes them, from the log at --bootstrap. One JSON object a line. Nothing is appended, written or remembered; a\n" +
			"database is read in a snapshot of its own, which leaves no slot behind.",
		Args: cobra.MinimumNArgs(2),
	}
	n := c.Flags().Int("records", 10, "how many records of each topic")
	addBootstrap(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if *n < 1 {
			return badInput("--records", "at least one", "")
		}
		name := args[len(args)-1]
		config, err := configs.Load(args[:len(args)-1], startingOptions(s))
		if err != nil {
			return err
		}
		found := config.Find(name)
		if found == nil {
			return badInput(name, "no source or sink of that name in the config", "")
		}
		p := &previewer{registry: config.Registry, out: bufio.NewWriter(s.out), limit: *n, count: map[string]int{}}
		if found.Sink {
			err = p.sink(c, config, *found)
		} else {
			err = p.source(c.Context(), *found)
		}
		return errors.Join(err, p.out.Flush())
	}
	return c
}

type previewer struct {
	registry connectors.Registry
	out      *bufio.Writer
	limit    int            // records of each topic
	count    map[string]int // of a sink: printed so far
}

// print writes a record without its time: before the append a source's means nothing.
func (p *previewer) print(r *task.RecordText) error {
	r.Timestamp = ""
	_, err := fmt.Fprintln(p.out, r)
	return err
}

func (p *previewer) source(ctx context.Context, c configs.Connector) error {
	var src connectors.Source
	hostBound := false
	for _, t := range p.registry.Sources {
		if t.Name == c.Type {
			hostBound = t.HostBound
			var err error
			if src, err = t.New(c.Values, connectorEnv(c.Name)); err != nil {
				return badInput(c.Name, err.Error(), "")
			}
		}
	}
	encoder := converter.NewEncoder(worker.Format(c.Values))
	chain, err := task.SourceChain(c.Values.Tree("transforms"))
	if err != nil {
		return badInput(c.Name, err.Error(), "")
	}
	memory := connectors.NewBatch(1 << 20)
	show := func(r connectors.Record) error {
		memory.Reset()
		out, err := task.Appended(chain, encoder, memory, &r)
		if err != nil || out == nil {
			return err
		}
		return p.print(out)
	}
	if hostBound { // files: a task reads them and changes nothing
		return p.read(ctx, src, show)
	}
	auditor, ok := src.(connectors.SourceAuditor)
	if !ok {
		return badInput(c.Name, "this type of source cannot be previewed", "")
	}
	topics, err := p.topic(ctx, auditor, "", show)
	for _, topic := range topics {
		if err == nil {
			_, err = p.topic(ctx, auditor, topic, show)
		}
	}
	return err
}

// topic shows the first rows of one topic, none of "", and returns the source's topics. Each has a view of the source of
// its own, for one that was not read to its end is of no more use.
func (p *previewer) topic(ctx context.Context, auditor connectors.SourceAuditor, topic string, show func(connectors.Record) error) ([]string, error) {
	point, err := auditor.AuditPoint(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = point.Close() }() // it was only read
	if topic == "" {
		return point.Topics(), nil
	}
	shown := 0
	err = point.Rows(ctx, topic, func(r connectors.Record) error {
		if shown == p.limit {
			return io.EOF
		}
		shown++
		r.Topic = topic
		return show(r)
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", topic, err)
	}
	return nil, nil
}

// quiet is how long a source may have nothing to say before a preview ends.
const quiet = time.Second

// read takes records from the source's tasks as the runtime would.
func (p *previewer) read(ctx context.Context, src connectors.Source, show func(connectors.Record) error) error {
	splits, err := src.Plan(ctx, 1)
	if err != nil {
		return err
	}
	total := 0
	for _, split := range splits {
		if err := func() error {
			t := src.Task(split)
			defer func() { _ = t.Close() }() // it was only read
			if err := t.Open(ctx, nil); err != nil {
				return err
			}
			b := connectors.NewBatch(1 << 20)
			for total < p.limit {
				rctx, cancel := context.WithTimeout(ctx, quiet)
				err := t.Read(rctx, b)
				cancel()
				for _, r := range b.Records {
					if total < p.limit {
						if err := show(r); err != nil {
							return err
						}
						total++
					}
				}
				b.Reset()
				if errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
					return nil
				}
				if err != nil {
					return err
				}
			}
			return nil
		}(); err != nil {
			return err
		}
	}
	return nil
}

func (p *previewer) sink(c *cobra.Command, config *configs.Config, k configs.Connector) error {
	ctx := c.Context()
	client, where, err := dialLog(c, config) // says at once when nobody answers
	if err != nil {
		return err
	}
	client.Close()
	where.ClientID = "forebay-preview"
	log, err := hublog.Open(where)
	if err != nil {
		return err
	}
	defer log.Close()
	topics, err := log.Topics(ctx)
	if err != nil {
		return err
	}
	store := schemas.New(log)
	decoder := converter.NewDecoder(func(id string) (converter.Entry, error) { return store.Lookup(ctx, id) })
	own := registry.New(registry.Options{Log: where}) // the cluster's, read from its topic; it opens nothing unless it is asked
	defer own.Close()
	if err := worker.Read(ctx, decoder, k.Values, own); err != nil {
		return badInput(k.Name, err.Error(), "")
	}
	globs := k.Values.Strings("topics")
	chain, err := task.NewSinkChain(k.Values.Tree("transforms"), decoder)
	if err != nil {
		return badInput(k.Name, err.Error(), "")
	}
	matched := false
	for name, topic := range topics {
		if !task.Matches(globs, name) {
			continue
		}
		matched = true
		for part := range topic.Partitions {
			if err := p.partition(ctx, log, decoder, chain, connectors.TopicPartition{Topic: name, Partition: part}); err != nil {
				return err
			}
		}
	}
	if !matched {
		return badInput(k.Name, "the log has no topic that matches "+strings.Join(globs, ", "), "")
	}
	return nil
}

func (p *previewer) partition(ctx context.Context, log *hublog.Log, decoder *converter.Decoder, chain *task.SinkChain, tp connectors.TopicPartition) error {
	ends, err := log.Offsets(ctx, tp)
	if err != nil {
		return err
	}
	poller, err := log.NewPoller()
	if err != nil {
		return err
	}
	defer poller.Close()
	at := ends[tp]
	poller.Add(map[connectors.TopicPartition]int64{tp: at.Start})
	for heard := time.Now(); poller.Next(tp) < at.LSO && time.Since(heard) < 2*quiet; {
		runs, err := poller.Poll(ctx, quiet)
		if err != nil {
			return err
		}
		for _, run := range runs {
			heard = time.Now()
			for i := range run.Records {
				if p.count[tp.Topic] == p.limit {
					return nil
				}
				r := &run.Records[i]
				if err := decoder.Decode(r); err != nil {
					return fmt.Errorf("%s-%d offset %d cannot be decoded: %w", tp.Topic, tp.Partition, r.Offset, err)
				}
				if chain != nil {
					chain.Reset()
					if keep, err := chain.Apply(r); err != nil {
						return fmt.Errorf("%s-%d offset %d: %w", tp.Topic, tp.Partition, r.Offset, err)
					} else if !keep {
						continue
					}
				}
				p.count[tp.Topic]++
				text := task.TextOf(r, r.RawKey, r.RawValue)
				text.Partition, text.Offset = &r.Partition, &r.Offset
				if err := p.print(text); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
