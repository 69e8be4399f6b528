// Package audit proves a pipeline: what a source holds, what the log holds and
// what a sink holds are compared at one point of the source.
//
// The log is replayed into the latest version of each key. Records that were
// appended before the point was fixed belong to it for sure; of the few that
// came while it was being fixed the audit cannot tell, so a row may agree with
// any version that its key had in that window. A quiet source leaves no window.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/runtime/converter"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/position"
	"github.com/forebayhub/forebay/runtime/schemas"
	"github.com/forebayhub/forebay/runtime/task"
	"github.com/forebayhub/forebay/runtime/transform"
	"github.com/forebayhub/forebay/runtime/worker"
)

// Options say what to audit.
type Options struct {
	Log        hublog.Options
	Group      string // of the workers; "": default
	Host       string
	Registry   connectors.Registry
	Connectors []worker.Config // all of the config
	Name       string          // a sink, with the sources that feed it, or a source
	// SchemaRegistry is the cluster's own, for connectors that name no other; nil: it has none.
	SchemaRegistry http.Handler
	// Flush asks a running worker to commit what the sink holds. nil: wait for its rotation.
	Flush func(ctx context.Context, sink string) error
	// Wait is how long the pipeline may take to reach the point. 0: 2 minutes.
	Wait time.Duration
	// List is how many differences of each comparison are kept. 0: 10.
	List   int
	Logger *slog.Logger // nil: silent
	// Progress, if set, hears what is being done.
	Progress func(string)
}

// Run audits. The error says why it could not be done, not what was found.
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.Group == "" {
		o.Group = "default"
	}
	if o.Host == "" {
		// As worker.New does it: what a task wrote into headers names its host.
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("the machine's name: %w", err)
		}
		o.Host = name
	}
	if o.Wait == 0 {
		o.Wait = 2 * time.Minute
	}
	if o.List == 0 {
		o.List = 10
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	l, err := hublog.Open(o.Log)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	a := &auditor{o: o, log: l, schemas: schemas.New(l)}
	for _, c := range o.Connectors {
		if c.Name == o.Name {
			return a.run(ctx, c)
		}
	}
	names := make([]string, len(o.Connectors))
	for i, c := range o.Connectors {
		names[i] = c.Name
	}
	return nil, &problem.Error{Code: "no-such-connector", Class: problem.Input, Where: o.Name, What: "no source or sink of that name in the config",
		Hint: "it has " + strings.Join(names, ", ")}
}

type auditor struct {
	o       Options
	log     *hublog.Log
	schemas *schemas.Store
	result  Result
	// Of the source that is compared now, if it is bound to its host: the splits that are this host's, and those of others that were told. Nil: all are.
	here, told map[string]bool
}

func (a *auditor) run(ctx context.Context, c worker.Config) (*Result, error) {
	if !c.Sink {
		if err := a.source(ctx, c, []string{"*"}); err != nil {
			return nil, err
		}
		return &a.result, nil
	}
	sink, err := a.newSink(c)
	if err != nil {
		return nil, err
	}
	globs := sink.Topics()
	for _, s := range a.o.Connectors {
		if s.Sink {
			continue
		}
		if err := a.source(ctx, s, globs); err != nil {
			return nil, fmt.Errorf("source %s: %w", s.Name, err)
		}
	}
	if err := a.matched(ctx, c.Name, globs); err != nil {
		return nil, err
	}
	if err := a.sink(ctx, c, sink, globs); err != nil {
		return nil, fmt.Errorf("sink %s: %w", c.Name, err)
	}
	return &a.result, nil
}

// matched notes each of a sink's patterns that matches nothing in the log: what is misspelt is compared with nothing, and would pass. It is
// an error when none matches. The sources have been waited for: what they are to make is there.
func (a *auditor) matched(ctx context.Context, sink string, globs []string) error {
	topics, err := a.log.Topics(ctx)
	if err != nil {
		return err
	}
	names := slices.Collect(maps.Keys(topics))
	var idle []string
	for _, g := range globs {
		if !slices.ContainsFunc(names, func(topic string) bool { return task.Matches([]string{g}, topic) }) {
			idle = append(idle, "the log has no topic that matches "+g)
		}
	}
	if len(idle) == len(globs) {
		return &problem.Error{Code: "no-topics", Class: problem.Input, Where: sink, What: strings.Join(idle, "\n"), Hint: "`forebay topics list` shows the topics"}
	}
	for _, why := range idle {
		a.result.Incomplete = append(a.result.Incomplete, sink+": "+why)
	}
	return nil
}

// unreachable is the code of a source that does not answer, or lets nobody in.
const unreachable = "source-unreachable"

// away is that error, in one line, whatever lines a driver's has.
func away(err error) error {
	return &problem.Error{Code: unreachable, Class: problem.Environment, What: strings.Join(strings.Fields(err.Error()), " "),
		Hint: "so nothing can be told of it; `forebay doctor FILE` looks at what its url leads to", Err: err}
}

// startsWith says whether one of the patterns may match a topic of the source of that name, which is their first part.
func startsWith(globs []string, name string) bool {
	own := name + "."
	return slices.ContainsFunc(globs, func(g string) bool {
		if i := strings.IndexAny(g, "*?"); i >= 0 {
			return strings.HasPrefix(own, g[:i]) || strings.HasPrefix(g[:i], own)
		}
		return g == name || strings.HasPrefix(g, own)
	})
}

func (a *auditor) env(c worker.Config) connectors.Env {
	return connectors.Env{Name: c.Name, Group: a.o.Group, Host: a.o.Host, Logger: a.o.Logger}
}

func (a *auditor) newSink(c worker.Config) (connectors.Sink, error) {
	for _, t := range a.o.Registry.Sinks {
		if t.Name == c.Type {
			return t.New(c.Values, a.env(c))
		}
	}
	return nil, fmt.Errorf("no sink type %s", c.Type)
}

func (a *auditor) newSource(c worker.Config) (connectors.Source, error) {
	for _, t := range a.o.Registry.Sources {
		if t.Name == c.Type {
			return t.New(c.Values, a.env(c))
		}
	}
	return nil, fmt.Errorf("no source type %s", c.Type)
}

// ends are the high watermarks of topics, by partition.
type ends map[connectors.TopicPartition]hublog.Offsets

func (a *auditor) ends(ctx context.Context, want func(string) bool) (ends, map[string]hublog.Topic, error) {
	topics, err := a.log.Topics(ctx)
	if err != nil {
		return nil, nil, err
	}
	var tps []connectors.TopicPartition
	for name, t := range topics {
		if !want(name) {
			delete(topics, name)
			continue
		}
		for p := range t.Partitions {
			tps = append(tps, connectors.TopicPartition{Topic: name, Partition: p})
		}
	}
	at, err := a.log.Offsets(ctx, tps...)
	return at, topics, err
}

// source compares the topics of a source that the patterns match with the log.
func (a *auditor) source(ctx context.Context, c worker.Config, globs []string) error {
	want := func(topic string) bool { return task.Matches(globs, topic) }
	src, err := a.newSource(c)
	if err != nil {
		return err
	}
	chain, err := task.SourceChain(worker.Transforms(c.Values))
	if err != nil {
		return err
	}
	mine, err := a.feeds(ctx, c.Name, src, chain, globs)
	if err != nil || !mine {
		return err
	}
	if err := chain.Audit(); err != nil {
		a.incomplete(c.Name, err)
		return nil
	}
	sa, ok := src.(connectors.SourceAuditor)
	if !ok {
		a.incomplete(c.Name, fmt.Errorf("a source of type %s has no way to show what it holds", c.Type))
		return nil
	}
	if err := a.bound(ctx, src, chain); err != nil {
		return err
	}
	if err := a.hosts(ctx, c, src); err != nil {
		return err
	}
	before, point, at, err := a.point(ctx, c, src, sa, want)
	if err != nil {
		return err
	}
	defer func() { _ = point.Close() }() // it was only read
	if p, ok := point.(connectors.ReachedPoint); ok {
		if err := p.Reached(at); err != nil {
			return fmt.Errorf("positions of %s: %w", c.Name, err)
		}
	}
	after, _, err := a.ends(ctx, want)
	if err != nil {
		return err
	}
	topics := point.Topics()
	sort.Strings(topics)
	from := map[string]string{} // by the topic that its records go to
	for _, t := range topics {
		to, _ := chain.Topic(t)
		if other, ok := from[to]; ok && to != "" && want(to) {
			a.incomplete(to, fmt.Errorf("%s and %s are both routed to it, and their keys may be the same", other, t))
			return nil
		}
		from[to] = t
	}
	for _, own := range topics {
		topic, _ := chain.Topic(own)
		if topic == "" || !want(topic) {
			continue
		}
		a.o.Progress("comparing " + topic + " with its source")
		count := &Count{Of: topic, limit: a.o.List}
		a.result.Sources = append(a.result.Sources, count)
		r := newReplay(count, worker.Format(c.Values))
		if a.here != nil {
			r.host = a.o.Host
		}
		if err := a.replay(ctx, c, topic, before, after, r); err != nil {
			return err
		}
		if err := point.Rows(ctx, own, a.transformed(chain, own, r.row)); err != nil {
			return fmt.Errorf("read the rows of %s: %w", own, err)
		}
		r.finish()
	}
	return nil
}

// hosts finds out which splits of a source that is bound to its host are this host's: it can show no others.
func (a *auditor) hosts(ctx context.Context, c worker.Config, src connectors.Source) error {
	a.here, a.told = nil, map[string]bool{}
	if !slices.ContainsFunc(a.o.Registry.Sources, func(t connectors.SourceType) bool { return t.Name == c.Type && t.HostBound }) {
		return nil
	}
	splits, err := src.Plan(ctx, worker.MaxSplits)
	if err != nil {
		return away(fmt.Errorf("plan: %w", err))
	}
	a.here = map[string]bool{}
	for _, s := range splits {
		if s.Host == "" || s.Host == a.o.Host {
			a.here[s.ID] = true
		}
	}
	return nil
}

// bound tells a source how large its records may be, as its task does.
func (a *auditor) bound(ctx context.Context, src connectors.Source, chain *transform.Chain) error {
	specs, err := src.Topics(ctx)
	if err != nil {
		return away(fmt.Errorf("list topics: %w", err))
	}
	there, err := a.log.Topics(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, s := range specs {
		if to, sure := chain.Topic(s.Name); sure {
			s.Name = to
		}
		if _, ok := there[s.Name]; ok {
			names = append(names, s.Name)
		}
	}
	_, err = task.Bound(ctx, a.log, src, names...)
	return err
}

// point fixes a point of a source and waits until the log holds it: at are the durable positions then, and what
// lies below before belongs to the point for sure.
//
// A snapshot has its rows as they were later than a point that was fixed during it, and versions between the two never
// come. So the point is fixed anew until none was under way, neither before it nor when it was reached.
func (a *auditor) point(ctx context.Context, c worker.Config, src connectors.Source, sa connectors.SourceAuditor, want func(string) bool) (
	before ends, point connectors.AuditPoint, at map[connectors.PositionKey]connectors.Position, err error,
) {
	snapshots, _ := src.(connectors.SnapshotSource)
	for {
		if snapshots != nil {
			if err := a.copied(ctx, c, src, snapshots); err != nil {
				return nil, nil, nil, err
			}
		}
		if before, _, err = a.ends(ctx, want); err != nil {
			return nil, nil, nil, err
		}
		a.o.Progress("fixing a point of " + c.Name)
		if point, err = sa.AuditPoint(ctx); err != nil {
			return nil, nil, nil, away(fmt.Errorf("fix a point: %w", err))
		}
		at, err = a.reach(ctx, c, src, point.Positions())
		if err == nil && (snapshots == nil || snapshots.Copying(at) == "") {
			return before, point, at, nil
		}
		_ = point.Close() // it was only read
		if err != nil {
			return nil, nil, nil, err
		}
	}
}

// copied waits until a source has no snapshot under way.
func (a *auditor) copied(ctx context.Context, c worker.Config, src connectors.Source, s connectors.SnapshotSource) error {
	said := false
	return a.until(ctx, func() (string, error) {
		at, err := a.positions(ctx, c, src)
		if err != nil {
			return "", err
		}
		what := s.Copying(at)
		if what == "" {
			return "", nil
		}
		if !said {
			said = true
			a.o.Progress("waiting until the snapshot of " + c.Name + " is in the log")
		}
		return fmt.Sprintf("source %s has not copied all that there was when it began within %v: it is at %s", c.Name, a.o.Wait, what), nil
	})
}

// positions are the durable positions of all of a source's splits. Another host's are of other files, though their keys may be the same: machines of one image
// have the same devices and inodes.
func (a *auditor) positions(ctx context.Context, c worker.Config, src connectors.Source) (map[connectors.PositionKey]connectors.Position, error) {
	all, err := position.ReadAll(ctx, a.log, a.o.Group, c.Name)
	if err != nil {
		return nil, err
	}
	at := map[connectors.PositionKey]connectors.Position{}
	for scope, m := range all {
		if a.here != nil && !a.here[scope.Split] {
			if len(m) > 0 && !a.told[scope.Split] {
				a.told[scope.Split] = true
				a.result.Incomplete = append(a.result.Incomplete, fmt.Sprintf("%s: what %s has read lies on another host: audit it there, too", c.Name, scope.Split))
			}
			continue
		}
		for key, p := range m {
			if have, ok := at[key]; !ok || src.Compare(key, p, have) > 0 {
				at[key] = p
			}
		}
	}
	return at, nil
}

// incomplete says that something cannot be compared, and why.
func (a *auditor) incomplete(of string, why error) {
	a.result.Incomplete = append(a.result.Incomplete, fmt.Sprintf("%s cannot be compared with its source: %v", of, why))
	a.result.Sources = append(a.result.Sources, &Count{Of: of, Note: "not compared: " + why.Error()})
}

// transformed gives fn the source's rows as its transforms leave them.
func (a *auditor) transformed(chain *transform.Chain, topic string, fn func(connectors.Record) error) func(connectors.Record) error {
	if chain == nil {
		return fn
	}
	memory := connectors.NewBatch(1 << 20)
	return func(r connectors.Record) error {
		memory.Reset()
		r.Topic = topic
		if keep, err := chain.Apply(memory, &r); err != nil || !keep {
			return err
		}
		return fn(r)
	}
}

// feeds says whether one of the source's topics, as its transforms route them, is wanted, or may be.
// One that cannot be asked, and has none of these by its name, does not feed them.
func (a *auditor) feeds(ctx context.Context, name string, src connectors.Source, chain *transform.Chain, globs []string) (bool, error) {
	specs, err := src.Topics(ctx)
	if err != nil {
		if _, ours := src.(connectors.SourceAuditor); ours && !chain.Routes() && !startsWith(globs, name) { // a plugin's topics have any names
			a.o.Progress("leaving out " + name + ", which cannot be asked for its topics: no pattern matches " + name + ".*")
			return false, nil
		}
		return false, away(fmt.Errorf("list topics: %w", err))
	}
	for _, s := range specs {
		if to, sure := chain.Topic(s.Name); !sure || to != "" && task.Matches(globs, to) {
			return true, nil
		}
	}
	return false, nil
}

// until asks ok again and again. It returns the last reason after o.Wait.
func (a *auditor) until(ctx context.Context, ok func() (reason string, err error)) error {
	deadline := time.Now().Add(a.o.Wait)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		reason, err := ok()
		if err != nil {
			return err
		}
		if reason == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return &problem.Error{Code: "audit-not-reached", Class: problem.Runtime, What: reason, Hint: "is `forebay up` running, and is the connector's state RUNNING?"}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// reach waits until the source's durable positions are at the point or beyond, and returns them.
func (a *auditor) reach(ctx context.Context, c worker.Config, src connectors.Source, want map[connectors.PositionKey]connectors.Position) (at map[connectors.PositionKey]connectors.Position, err error) {
	a.o.Progress("waiting until the log holds " + c.Name + " up to the point")
	err = a.until(ctx, func() (string, error) {
		if at, err = a.positions(ctx, c, src); err != nil {
			return "", err
		}
		for key, p := range want {
			if have, ok := at[key]; !ok || src.Compare(key, have, p) < 0 {
				return fmt.Sprintf("source %s has not come to %s (%s) within %v: it stands at %s", c.Name, p, key, a.o.Wait, text(have)), nil
			}
		}
		return "", nil
	})
	return at, err
}

func text(p connectors.Position) string {
	if p == nil {
		return "its start"
	}
	return string(p)
}

// replay reads a topic's committed records up to its high watermark.
func (a *auditor) replay(ctx context.Context, c worker.Config, topic string, before, after ends, r *replay) error {
	decoder, err := a.decoder(ctx, c)
	if err != nil {
		return err
	}
	for tp, at := range after {
		if tp.Topic != topic {
			continue
		}
		if at.Start > 0 {
			r.count.Note = fmt.Sprintf("the log begins at offset %d: rows that only earlier records held count as missing", at.Start)
		}
		next, stop, err := a.reader(tp, at.Start, at.End)
		if err != nil {
			return err
		}
		err = func() error {
			defer stop()
			for {
				rec, err := next(ctx)
				if err != nil || rec == nil {
					return err
				}
				if err := decoder.Decode(rec); err != nil {
					r.count.add(connectors.Difference{Kind: connectors.DifferentRecord, Where: where(rec), What: err.Error()})
					continue
				}
				r.record(rec, rec.Offset < before[tp].End)
			}
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

func where(r *connectors.Record) string {
	return fmt.Sprintf("%s-%d offset %d", r.Topic, r.Partition, r.Offset)
}

// decoder reads what a source writes, or as a sink reads.
func (a *auditor) decoder(ctx context.Context, c worker.Config) (*converter.Decoder, error) {
	d := converter.NewDecoder(func(id string) (converter.Entry, error) { return a.schemas.Lookup(ctx, id) })
	if c.Sink {
		return d, worker.Read(ctx, d, c.Values, a.o.SchemaRegistry)
	}
	return d, worker.ReadBack(ctx, d, c.Values, a.o.SchemaRegistry)
}

// reader yields a partition's committed records from an offset up to end
// (exclusive), then nil.
func (a *auditor) reader(tp connectors.TopicPartition, from, end int64) (next func(context.Context) (*connectors.Record, error), stop func(), err error) {
	poller, err := a.log.NewPoller()
	if err != nil {
		return nil, nil, err
	}
	if from < end {
		poller.Add(map[connectors.TopicPartition]int64{tp: from})
	}
	var records []connectors.Record
	silent := time.Now()
	next = func(ctx context.Context) (*connectors.Record, error) {
		for len(records) == 0 {
			if from >= end {
				return nil, nil
			}
			runs, err := poller.Poll(ctx, time.Second)
			if err != nil {
				return nil, err
			}
			for _, run := range runs {
				if records == nil {
					records = run.Records
				} else {
					records = append(records, run.Records...)
				}
				from, silent = run.Next, time.Now()
			}
			if time.Since(silent) > a.o.Wait {
				return nil, fmt.Errorf("%s-%d cannot be read beyond offset %d of %d: a transaction may be open", tp.Topic, tp.Partition, from, end)
			}
		}
		r := &records[0]
		if records = records[1:]; len(records) == 0 {
			records = nil
		}
		if r.Offset >= end {
			records, from = nil, end
			return nil, nil
		}
		return r, nil
	}
	return next, poller.Close, nil
}

// sink compares the log with a sink.
func (a *auditor) sink(ctx context.Context, c worker.Config, sink connectors.Sink, globs []string) error {
	sa, ok := sink.(connectors.SinkAuditor)
	if !ok {
		why := fmt.Sprintf("a sink of type %s has no way to show what it holds", c.Type)
		a.result.Incomplete = append(a.result.Incomplete, c.Name+" cannot be compared with the log: "+why)
		a.result.Sinks = append(a.result.Sinks, &Count{Of: c.Name, Note: "not compared: " + why})
		return nil
	}
	at, topics, err := a.ends(ctx, func(topic string) bool { return task.Matches(globs, topic) })
	if err != nil {
		return err
	}
	if err := a.flushed(ctx, c, at); err != nil {
		return err
	}
	tps := make([]connectors.TopicPartition, 0, len(at))
	for tp := range at {
		tps = append(tps, tp)
	}
	sort.Slice(tps, func(i, j int) bool {
		return tps[i].Topic < tps[j].Topic || tps[i].Topic == tps[j].Topic && tps[i].Partition < tps[j].Partition
	})
	var begin map[connectors.TopicPartition]int64
	if start := worker.Start(c.Values); !start.IsZero() {
		if begin, err = a.log.OffsetsAt(ctx, start, tps...); err != nil {
			return err
		}
	}
	for _, tp := range tps {
		a.o.Progress(fmt.Sprintf("comparing %s-%d with %s", tp.Topic, tp.Partition, c.Name))
		as := connectors.Assignment{TopicPartition: tp, TopicID: topics[tp.Topic].ID, StartOffset: max(at[tp].Start, begin[tp]), EndOffset: at[tp].LSO}
		if err := a.partition(ctx, c, sa, as, at[tp].End); err != nil {
			return fmt.Errorf("%s-%d: %w", tp.Topic, tp.Partition, err)
		}
	}
	return nil
}

// partition compares a partition up to end with a sink, or up to where the
// target has come meanwhile when it can be compared only there.
func (a *auditor) partition(ctx context.Context, c worker.Config, sa connectors.SinkAuditor, as connectors.Assignment, end int64) error {
	decoder, err := a.decoder(ctx, c)
	if err != nil {
		return err
	}
	env := connectors.SinkEnv{Env: a.env(c), TaskID: "audit", Decode: decoder.Decode, Alive: func() error { return nil }}
	chain, err := task.NewSinkChain(worker.Transforms(c.Values), decoder)
	if err != nil {
		return err
	}
	if chain != nil {
		env.Decode = chain.Decode
	}
	count := &Count{Of: fmt.Sprintf("%s-%d", as.Topic, as.Partition), limit: a.o.List}
	a.result.Sinks = append(a.result.Sinks, count)
	var view connectors.AuditSnapshot
	if s, ok := sa.(connectors.SnapshotAuditor); ok {
		if view, err = s.AuditSnapshot(ctx, env, as); err != nil {
			return err
		}
		defer func() { _ = view.Close() }() // it was only read
		end = max(end, view.Next())
	}
	next, stop, err := a.reader(as.TopicPartition, as.StartOffset, end)
	if err != nil {
		return err
	}
	defer stop()
	given := 0
	records := func() (*connectors.Record, error) { // what the sink is to hold: the log as its transforms leave it
		for {
			r, err := next(ctx)
			if r == nil && err == nil {
				err = io.EOF
			}
			if err == nil { // a schema that cannot be looked up right now says nothing of the record
				err = decoder.Prepare([]connectors.Record{*r}, task.Itself)
			}
			if err != nil {
				return nil, err
			}
			if decoder.Registered() {
				err = decoder.Decode(r)
			}
			keep := true
			if err == nil && chain != nil {
				if given++; given%1000 == 0 {
					chain.Renew()
				}
				keep, err = chain.Apply(r)
			}
			switch {
			case err != nil:
				count.add(connectors.Difference{Kind: connectors.MissingRecord, Where: where(r),
					What: "the sink cannot take it: " + err.Error() + " (`forebay dlq list` shows what waits)"})
			case keep:
				return r, nil
			}
		}
	}
	if view != nil {
		count.Agreed, err = view.Compare(ctx, records, count.add)
	} else {
		count.Agreed, err = sa.Audit(ctx, env, as, end, records, count.add)
	}
	return err
}

// flushed waits until the target holds the log up to its ends.
func (a *auditor) flushed(ctx context.Context, c worker.Config, at ends) error {
	a.o.Progress("waiting until " + c.Name + " has committed up to the point")
	var asked time.Time
	return a.until(ctx, func() (string, error) {
		var trouble error
		if a.o.Flush != nil && time.Since(asked) > time.Second {
			asked = time.Now()
			fctx, cancel := context.WithTimeout(ctx, 30*time.Second)
			trouble = a.o.Flush(fctx, c.Name)
			cancel()
		}
		have, err := a.log.GroupOffsets(ctx, task.LagGroup(c.Name))
		if err != nil {
			return "", err
		}
		var behind []string
		for tp, end := range at {
			if end.End > end.Start && have[tp] < end.End {
				behind = append(behind, fmt.Sprintf("%s-%d is at %d of %d", tp.Topic, tp.Partition, have[tp], end.End))
			}
		}
		if len(behind) == 0 {
			return "", nil
		}
		sort.Strings(behind)
		reason := fmt.Sprintf("sink %s has not come to the point within %v: %s", c.Name, a.o.Wait, strings.Join(behind, ", "))
		if trouble != nil && !errors.Is(trouble, context.DeadlineExceeded) {
			reason += "; it was asked to flush: " + trouble.Error()
		}
		return reason, nil
	})
}
