package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/task"
)

func dlqCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "dlq", Short: "List, show and drop the dead letters of a sink: the records that it could not take",
		Long: "A sink with on_error: dlq notes which records could not be handled, and goes on. The records stay where they are in the log; what is noted\n" +
			"is their place, at which stage it was and why. Later records of the same key wait behind them (stage parked). See docs/dlq.md."}
	c.AddCommand(dlqList(s), dlqShow(s), dlqDrop(s))
	return c
}

// lettersOf reads the dead letters of a sink from the log at --bootstrap. The caller closes the log.
func lettersOf(c *cobra.Command, sink string) (l *hublog.Log, group string, d *dlq.Letters, err error) {
	client, err := dial(c) // says at once when nobody answers
	if err != nil {
		return nil, "", nil, err
	}
	client.Close()
	bootstrap, err := c.Flags().GetStringSlice("bootstrap")
	if err != nil {
		return nil, "", nil, err
	}
	sec, err := security(c)
	if err != nil {
		return nil, "", nil, err
	}
	if group, err = c.Flags().GetString("group"); err != nil {
		return nil, "", nil, err
	}
	if l, err = hublog.Open(hublog.Options{Bootstrap: bootstrap, Security: sec, ClientID: "forebay-dlq"}); err != nil {
		return nil, "", nil, err
	}
	if d, err = dlq.List(c.Context(), l, group, sink); err != nil {
		l.Close()
		return nil, "", nil, refused(sink, err)
	}
	return l, group, d, nil
}

func addDLQ(c *cobra.Command) {
	c.Flags().String("group", defaultGroup, "the `GROUP` of the sink's workers")
	addJSON(c)
	addBootstrap(c)
}

func dlqList(s streams) *cobra.Command {
	c := &cobra.Command{Use: "list SINK", Short: "List a sink's dead letters in the order of the log", Args: cobra.ExactArgs(1)}
	c.RunE = func(c *cobra.Command, args []string) error {
		l, _, d, err := lettersOf(c, args[0])
		if err != nil {
			return err
		}
		defer l.Close()
		all := d.All()
		if wantsJSON(c) {
			return writeJSON(s.out, all)
		}
		var rows [][]string
		for _, e := range all {
			rows = append(rows, []string{e.Place.String(), string(e.Stage), e.Time.Format(time.RFC3339), inOneLine(e.Reason)})
		}
		return table(s.out, "RECORD STAGE TIME REASON", rows)
	}
	addDLQ(c)
	return c
}

// shown is a dead letter with its record; Record is nil when the log has it no more, which Gone says.
type shown struct {
	dlq.Entry
	Record *task.RecordText `json:"record"`
	Gone   string           `json:"gone,omitempty"`
}

func dlqShow(s streams) *cobra.Command {
	c := &cobra.Command{Use: "show SINK TOPIC-PARTITION@OFFSET", Short: "Show a dead letter with all of its causes, and its record as the log has it", Args: cobra.ExactArgs(2)}
	c.RunE = func(c *cobra.Command, args []string) error {
		place, err := dlq.ParsePlace(args[1])
		if err != nil {
			return badInput(args[1], err.Error(), "")
		}
		l, _, d, err := lettersOf(c, args[0])
		if err != nil {
			return err
		}
		defer l.Close()
		e, ok := d.At(place)
		if !ok {
			return notThere(args[0], place)
		}
		out := shown{Entry: e}
		if out.Record, out.Gone, err = recordAt(c.Context(), l, place); err != nil {
			return refused(args[1], err)
		}
		if wantsJSON(c) {
			return writeJSON(s.out, out)
		}
		fmt.Fprintf(s.out, "%s  %s  %s  by %s, task %s\n  %s\n", e.Place, e.Stage, e.Time.Format(time.RFC3339), e.Connector, e.Task, e.Reason)
		for _, cause := range e.Causes {
			fmt.Fprintf(s.out, "  because: %s\n", cause)
		}
		if out.Record == nil {
			fmt.Fprintln(s.out, out.Gone)
			return nil
		}
		fmt.Fprintln(s.out, out.Record)
		return nil
	}
	addDLQ(c)
	return c
}

func notThere(sink string, p dlq.Place) error {
	return badInput(p.String(), "it is not among the dead letters of "+sink, "see `forebay dlq list "+sink+"`")
}

// recordAt reads one record; gone says why the log does not have it.
func recordAt(ctx context.Context, l *hublog.Log, p dlq.Place) (r *task.RecordText, gone string, err error) {
	tp := connectors.TopicPartition{Topic: p.Topic, Partition: p.Partition}
	ends, err := l.Offsets(ctx, tp)
	if err != nil {
		return nil, "", err
	}
	at, ok := ends[tp]
	switch {
	case !ok:
		return nil, "the log has the record no more: the topic has been deleted", nil
	case p.Offset < at.Start:
		return nil, fmt.Sprintf("the log has the record no more: retention has removed what is below offset %d", at.Start), nil
	case p.Offset >= at.LSO:
		return nil, fmt.Sprintf("the log does not have the record: it ends at offset %d", at.LSO), nil
	}
	poller, err := l.NewPoller()
	if err != nil {
		return nil, "", err
	}
	defer poller.Close()
	poller.Add(map[connectors.TopicPartition]int64{tp: p.Offset})
	for heard := time.Now(); time.Since(heard) < clientTimeout; {
		runs, err := poller.Poll(ctx, time.Second)
		if err != nil {
			return nil, "", err
		}
		for _, run := range runs {
			if len(run.Records) > 0 && run.Records[0].Offset == p.Offset {
				r := &run.Records[0]
				text := task.TextOf(r, r.RawKey, r.RawValue)
				text.Partition, text.Offset = &p.Partition, &p.Offset
				return text, "", nil
			}
			return nil, "the log has the record no more: compaction has removed it", nil
		}
	}
	return nil, "", errors.New("the log does not answer with the record")
}

func dlqDrop(s streams) *cobra.Command {
	c := &cobra.Command{Use: "drop SINK (TOPIC-PARTITION@OFFSET… | --all)", Short: "Take dead letters out for good: the sink never gets their records", Args: cobra.MinimumNArgs(1)}
	every := c.Flags().Bool("all", false, "all that there are now")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *every == (len(args) > 1) {
			return badInput("", "nothing says which dead letters to drop, or too much", "give places as `forebay dlq list` shows them, or --all")
		}
		var places []dlq.Place
		for _, text := range args[1:] {
			p, err := dlq.ParsePlace(text)
			if err != nil {
				return badInput(text, err.Error(), "")
			}
			places = append(places, p)
		}
		l, group, d, err := lettersOf(c, args[0])
		if err != nil {
			return err
		}
		defer l.Close()
		for _, p := range places {
			if _, ok := d.At(p); !ok {
				return notThere(args[0], p)
			}
		}
		if *every {
			for _, e := range d.All() {
				places = append(places, e.Place)
			}
		}
		if err := d.Drop(c.Context(), group, args[0], places); err != nil {
			return refused(args[0], err)
		}
		if wantsJSON(c) {
			return writeJSON(s.out, map[string]int{"dropped": len(places), "left": d.Count()})
		}
		fmt.Fprintf(s.out, "dropped %d dead letters of %s, %d are left\n", len(places), args[0], d.Count())
		return nil
	}
	addDLQ(c)
	return c
}
