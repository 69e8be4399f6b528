package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/pause"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/runtime/dlq"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/task"
)

func dlqCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "dlq", Short: "List, show, replay and drop the dead letters of a connector: the records that it could not handle",
		Long: "A connector with on_error: dlq notes which records could not be handled, and goes on. A sink's records stay where they are in the log; what is noted\n" +
			"is their place, at which stage it was and why. A source's are not in the log yet, so they are kept. Later records of the same key wait behind them\n" +
			"(stage parked), and follow once those are replayed or dropped. See docs/dlq.md."}
	c.AddCommand(dlqList(s), dlqShow(s), dlqReplay(s), dlqDrop(s))
	return c
}

// lettersOf reads the dead letters of a connector from the log at --bootstrap. The caller closes the log.
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
	topic := dlq.Topic(group, sink)
	topics, err := l.Topics(c.Context(), topic)
	if _, there := topics[topic]; err == nil && !there {
		err = &problem.Error{Code: "no-dead-letters", Class: problem.Runtime, Where: sink, What: "it has never had dead letters in group " + group, Hint: "see `forebay connectors list`"}
	}
	if err != nil {
		l.Close()
		return nil, "", nil, refused(sink, err)
	}
	if d, err = dlq.List(c.Context(), l, group, sink); err != nil {
		l.Close()
		return nil, "", nil, refused(sink, err)
	}
	return l, group, d, nil
}

func addDLQ(c *cobra.Command) {
	c.Flags().String("group", defaultGroup, "the `GROUP` of the connector's workers")
	addJSON(c)
	addBootstrap(c)
}

func dlqList(s streams) *cobra.Command {
	c := &cobra.Command{Use: "list CONNECTOR", Short: "List a connector's dead letters, those of a key in their order", Args: cobra.ExactArgs(1)}
	all := c.Flags().Bool("all", false, "also what was replayed or dropped, as long as the log has the records")
	c.RunE = func(c *cobra.Command, args []string) error {
		l, _, d, err := lettersOf(c, args[0])
		if err != nil {
			return err
		}
		defer l.Close()
		entries := d.Select(func(e *dlq.Entry) bool { return *all || e.Waits() })
		if wantsJSON(c) {
			out := make([]listed, len(entries))
			for i, e := range entries {
				out[i] = listed{e, d.Asked(e.Place)}
			}
			return writeJSON(s.out, out)
		}
		var rows [][]string
		for _, e := range entries {
			state := cmp.Or(string(e.State), "waiting")
			if do := d.Asked(e.Place); do != "" {
				state = "to " + string(do)
			}
			rows = append(rows, []string{e.Place.String(), string(e.Stage), state, e.Time.Format(time.RFC3339), inOneLine(e.Reason)})
		}
		return table(s.out, "RECORD STAGE STATE TIME REASON", rows)
	}
	addDLQ(c)
	return c
}

// listed is a dead letter with what is asked for it; "": nothing.
type listed struct {
	dlq.Entry
	Asked dlq.Do `json:"asked,omitempty"`
}

// shown is a dead letter with its record; Record is nil when the log has it no more, which Gone says. Gone beside a record says why it is not whole.
type shown struct {
	dlq.Entry
	Record *task.RecordText `json:"record"`
	Gone   string           `json:"gone,omitempty"`
}

func dlqShow(s streams) *cobra.Command {
	c := &cobra.Command{Use: "show CONNECTOR PLACE", Short: "Show a dead letter with all of its causes, and its record as the log has it or, of a source, as it was before the transforms", Args: cobra.ExactArgs(2)}
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
		if place.OfSource() {
			out.Record, out.Gone, err = kept(c.Context(), d, e)
		} else {
			out.Record, out.Gone, err = recordAt(c.Context(), l, place)
		}
		if err != nil {
			return refused(args[1], err)
		}
		if wantsJSON(c) {
			return writeJSON(s.out, out)
		}
		fmt.Fprintf(s.out, "%s  %s  %s  by %s, task %s\n  %s\n", e.Place, e.Stage, e.Time.Format(time.RFC3339), e.Connector, e.Task, e.Reason)
		for _, cause := range e.Causes {
			fmt.Fprintf(s.out, "  because: %s\n", cause)
		}
		if out.Gone != "" {
			fmt.Fprintln(s.out, out.Gone)
		}
		if out.Record != nil {
			fmt.Fprintln(s.out, out.Record)
		}
		return nil
	}
	addDLQ(c)
	return c
}

func notThere(sink string, p dlq.Place) error {
	return badInput(p.String(), "it is not among the dead letters of "+sink, "see `forebay dlq list "+sink+"`")
}

// kept is the record that a source's letter keeps; gone says so when it is not the whole one.
func kept(ctx context.Context, d *dlq.Letters, e dlq.Entry) (r *task.RecordText, gone string, err error) {
	payloads, err := d.Payloads(ctx, []dlq.Entry{e})
	if err != nil {
		return nil, "", err
	}
	payload, there := payloads[e.Place]
	if !there {
		return nil, dlq.ErrNoPayload.Error(), nil
	}
	p, err := dlq.ParsePayload(payload)
	if err != nil {
		return nil, "", err
	}
	if e.Cut {
		gone = "only the beginning of the record was kept, for it is very large"
	}
	record := connectors.Record{Topic: p.Topic, Timestamp: p.Timestamp}
	for _, h := range p.Headers {
		record.Headers = append(record.Headers, connectors.Header{Key: h.Key, Value: h.Value})
	}
	return task.TextOf(&record, p.Key, p.Value), gone, nil
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

func dlqReplay(s streams) *cobra.Command {
	c := &cobra.Command{Use: "replay CONNECTOR (PLACE… | --all)", Short: "Play dead letters again: the sink writes their records as they are in the log, the source appends those that it kept, and then what is parked behind them", Args: cobra.MinimumNArgs(1)}
	return dlqAsk(s, c, dlq.Replay)
}

func dlqDrop(s streams) *cobra.Command {
	c := &cobra.Command{Use: "drop CONNECTOR (PLACE… | --all)", Short: "Give dead letters up: the sink never writes their records, the source never appends them, and what is parked behind them follows", Args: cobra.MinimumNArgs(1)}
	return dlqAsk(s, c, dlq.Drop)
}

// dlqAsk makes a command that asks a connector's task for something, and waits until it is done.
func dlqAsk(s streams, c *cobra.Command, do dlq.Do) *cobra.Command {
	every := c.Flags().Bool("all", false, "all that there are now")
	wait := c.Flags().Duration("wait", 30*time.Second, "how long to wait until the connector has done it; 0: not at all. One that does not run does it when it starts")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *every == (len(args) > 1) {
			return badInput("", "nothing says which dead letters to "+string(do)+", or too much", "give places as `forebay dlq list` shows them, or --all")
		}
		sink := args[0]
		var places []dlq.Place
		for _, text := range args[1:] {
			p, err := dlq.ParsePlace(text)
			if err != nil {
				return badInput(text, err.Error(), "")
			}
			places = append(places, p)
		}
		l, group, d, err := lettersOf(c, sink)
		if err != nil {
			return err
		}
		defer l.Close()
		if *every {
			for _, e := range d.Waiting() {
				places = append(places, e.Place)
			}
		}
		for _, p := range places {
			switch e, ok := d.At(p); {
			case !ok || !e.Waits():
				return notThere(sink, p)
			case e.State == dlq.Replaying && !*every:
				return badInput(p.String(), "it is being replayed", "wait until `forebay dlq list "+sink+"` shows what became of it")
			}
		}
		if do == dlq.Replay {
			if p, before, found := d.Overtakes(places); found {
				return badInput(p.String(), "it would overtake "+before.Place.String()+", which comes before it in the order of their key", "replay or drop that first, or both with one command")
			}
		}
		if err := d.Ask(c.Context(), group, sink, do, places); err != nil {
			return refused(sink, err)
		}
		out, err := outcome(c.Context(), l, group, sink, do, places, *wait)
		if err != nil {
			return refused(sink, err)
		}
		if wantsJSON(c) {
			err = writeJSON(s.out, out)
		} else {
			_, err = fmt.Fprintf(s.out, "%d replayed, %d dropped, %d dead again, %d not done yet; %s has %d dead letters\n", out.Replayed, out.Dropped, out.Dead, out.Open, sink, out.Left)
		}
		switch {
		case err != nil || out.Dead == 0 && (out.Open == 0 || *wait == 0):
			return err
		case out.Dead > 0:
			return &problem.Error{Code: "dead-again", What: fmt.Sprintf("%d records could not be handled this time either", out.Dead), Hint: "see `forebay dlq list " + sink + "`"}
		}
		return &problem.Error{Code: "not-yet", What: fmt.Sprintf("%s has not done it within %s", sink, *wait), Hint: "it is noted, and done as soon as it runs: see `forebay connectors list`"}
	}
	addDLQ(c)
	return c
}

// outcomes counts what became of places.
type outcomes struct {
	Replayed int `json:"replayed"`
	Dropped  int `json:"dropped"`
	Dead     int `json:"dead"` // again
	Open     int `json:"open"` // not done yet
	Left     int `json:"left"` // of all
}

// outcome waits until a connector has done what it was asked for.
func outcome(ctx context.Context, l *hublog.Log, group, sink string, do dlq.Do, places []dlq.Place, wait time.Duration) (out outcomes, err error) {
	for deadline := time.Now().Add(wait); ; {
		d, err := dlq.List(ctx, l, group, sink)
		if err != nil {
			return out, err
		}
		out = outcomes{Left: d.Count()}
		for _, p := range places {
			e, ok := d.At(p)
			switch {
			case d.Asked(p) != "" || ok && e.State == dlq.Replaying:
				out.Open++
			case !ok && p.OfSource() && do == dlq.Drop: // it forgets what it has settled
				out.Dropped++
			case !ok || e.State == dlq.Replayed: // the target asked for it anew, or the log has it no more
				out.Replayed++
			case e.State == dlq.Dropped:
				out.Dropped++
			default:
				out.Dead++
			}
		}
		if out.Open == 0 || !time.Now().Before(deadline) {
			return out, nil
		}
		if err := pause.For(ctx, 200*time.Millisecond); err != nil {
			return out, err
		}
	}
}
