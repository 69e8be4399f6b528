package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func consumeCommand(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "consume TOPIC…",
		Short: "Print records to stdout",
		Args:  cobra.MinimumNArgs(1),
	}
	format := c.Flags().String("format", "text", "text: values, one per line; json: whole records, one object per line")
	group := c.Flags().String("group", "", "read as a member of this group and commit what was printed")
	from := c.Flags().String("from", "earliest", "earliest | latest | an offset (ignored where the group has one)")
	follow := c.Flags().Bool("follow", false, "wait for more instead of ending at the current end")
	count := c.Flags().Int64("records", 0, "stop after this many; 0: all")
	committed := c.Flags().Bool("read-committed", true, "leave out aborted and undecided transactions")
	keys := c.Flags().Bool("keys", false, "text: the key and a tab before the value")
	c.RunE = func(c *cobra.Command, topics []string) error {
		start := kgo.NewOffset()
		switch *from {
		case "earliest":
			start = start.AtStart()
		case "latest":
			start = start.AtEnd()
		default:
			at, err := strconv.ParseInt(*from, 10, 64)
			if err != nil || at < 0 {
				return badInput("--from "+*from, "no such place", "earliest, latest or an offset")
			}
			start = start.At(at)
		}
		if *format != "text" && *format != "json" {
			return badInput("--format "+*format, "no such format", "text or json")
		}
		opts := []kgo.Opt{kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(start), kgo.FetchMaxWait(500 * time.Millisecond)}
		if *committed {
			opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		}
		if *group != "" {
			opts = append(opts, kgo.ConsumerGroup(*group), kgo.AutoCommitMarks())
		}
		client, err := dial(c, opts...)
		if err != nil {
			return err
		}
		defer client.Close()
		p := printer{json: *format == "json", keys: *keys, out: bufio.NewWriterSize(s.out, 1<<16), limit: *count}
		var left map[string]map[int32]int64 // next offset at which each partition is done
		if !*follow {
			if left, err = ends(c.Context(), client, topics, *committed); err != nil {
				return err
			}
		}
		err = p.consume(c.Context(), client, left)
		if ferr := p.out.Flush(); err == nil {
			err = ferr
		}
		if *group != "" && err == nil {
			err = client.CommitMarkedOffsets(c.Context())
			client.LeaveGroup()
		}
		return err
	}
	addBootstrap(c)
	return c
}

// ends are the offsets at which a bounded consume is done, without empty partitions.
func ends(ctx context.Context, client *kgo.Client, topics []string, committed bool) (map[string]map[int32]int64, error) {
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, refused("", err)
	}
	list := admin.ListEndOffsets
	if committed {
		list = admin.ListCommittedOffsets
	}
	listed, err := list(ctx, topics...)
	if err != nil {
		return nil, refused("", err)
	}
	out := map[string]map[int32]int64{}
	var bad error
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			bad = refused(o.Topic, o.Err)
			return
		}
		if s, ok := starts.Lookup(o.Topic, o.Partition); ok && s.Offset >= o.Offset {
			return
		}
		if out[o.Topic] == nil {
			out[o.Topic] = map[int32]int64{}
		}
		out[o.Topic][o.Partition] = o.Offset
	})
	return out, bad
}

type printer struct {
	json, keys bool
	out        *bufio.Writer
	limit, n   int64
}

// idle ends a bounded consume whose last offsets hold nothing readable: control records, or a group that starts behind them.
const idle = 2 * time.Second

func (p *printer) consume(ctx context.Context, client *kgo.Client, left map[string]map[int32]int64) error {
	bounded := left != nil
	for !bounded || len(left) > 0 {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if bounded {
			wait, cancel = context.WithTimeout(ctx, idle)
		}
		fetches := client.PollRecords(wait, 10_000)
		timedOut := wait.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the user has ended it
		}
		for _, e := range fetches.Errors() {
			if errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, context.Canceled) {
				continue
			}
			return refused(e.Topic, e.Err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			if bounded {
				end, ok := left[r.Topic][r.Partition]
				if !ok || r.Offset >= end {
					continue
				}
				if r.Offset == end-1 {
					if delete(left[r.Topic], r.Partition); len(left[r.Topic]) == 0 {
						delete(left, r.Topic)
					}
				}
			}
			if err := p.print(r); err != nil {
				return err
			}
			client.MarkCommitRecords(r)
			if p.n++; p.n == p.limit {
				return nil
			}
		}
		if err := p.out.Flush(); err != nil {
			return err
		}
		if timedOut && fetches.NumRecords() == 0 {
			return nil
		}
	}
	return nil
}

func (p *printer) print(r *kgo.Record) error {
	if p.json {
		j := jsonRecord{Topic: r.Topic, Partition: &r.Partition, Offset: &r.Offset, Timestamp: r.Timestamp.UnixMilli(), Key: textOf(r.Key), Value: textOf(r.Value)}
		for _, h := range r.Headers {
			if j.Headers == nil {
				j.Headers = map[string]string{}
			}
			j.Headers[h.Key] = string(h.Value)
		}
		return json.NewEncoder(p.out).Encode(j)
	}
	if p.keys {
		p.out.Write(r.Key)    //nolint:errcheck // a bufio.Writer keeps its error for Flush
		p.out.WriteByte('\t') //nolint:errcheck
	}
	p.out.Write(r.Value) //nolint:errcheck
	return p.out.WriteByte('\n')
}

func textOf(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}
