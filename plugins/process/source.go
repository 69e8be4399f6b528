package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/plugins/process/frame"
	"github.com/forebayhub/forebay/plugins/process/internal/convert"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// credit is how many bytes of frames a source may be ahead of the log; frameBytes how large it shall make one.
const (
	credit     = 4 << 20
	frameBytes = 1 << 20
)

// maxTopics is how many topics a source may have made.
const maxTopics = 10_000

// topicName refuses the topics that are Forebay's own, and Kafka's. The log checks the rest of a name.
func topicName(name string) error {
	if strings.HasPrefix(name, "_forebay.") || strings.HasPrefix(name, "__") {
		return fmt.Errorf("%q is an internal topic", clip(name))
	}
	return nil
}

// source is a source in a plugin.
type source struct {
	p      *Plugin
	env    connectors.Env
	kind   *pb.Kind
	config *pb.Config
}

func (s *source) Capabilities() connectors.Capabilities { return capabilities(s.kind) }

// Check is connectors.Checker.
func (s *source) Check(ctx context.Context) error { return s.p.check(ctx, s.env, s.config) }

func (s *source) Validate(ctx context.Context) []spec.Finding {
	return s.p.validate(ctx, s.env, s.config)
}

func (s *source) Plan(ctx context.Context, most int) (out []connectors.Split, err error) {
	err = s.p.call(ctx, s.env, s.config, lookTimeout, func(ctx context.Context, c *child) error {
		splits, err := c.api.Plan(ctx, &pb.PlanRequest{Config: s.config, Max: uint32(most)})
		if err = errors.Join(c.failed(ctx, err), c.failure(splits.GetFailure())); err != nil {
			return err
		}
		if n := len(splits.GetSplits()); n > most {
			return s.p.bad(fmt.Sprintf("it plans %d splits; %d were asked for", n, most))
		}
		for _, split := range splits.GetSplits() {
			if len(split.GetId())+len(split.GetHost()) > maxText {
				return s.p.bad(fmt.Sprintf("a split has a name of %d bytes", len(split.GetId())+len(split.GetHost())))
			}
			if slices.ContainsFunc(out, func(o connectors.Split) bool { return o.ID == split.GetId() }) {
				return s.p.bad(fmt.Sprintf("it plans two splits that are called %q", clip(split.GetId())))
			}
			if s.kind.GetHostBound() && (split.GetHost() == "" || !strings.Contains(split.GetId(), split.GetHost())) { // hosts that share an id fence each other, and have one position
				return s.p.bad(fmt.Sprintf("it is bound to its host, and plans a split %q for host %q: a split names its host, in its id, too", clip(split.GetId()), clip(split.GetHost())))
			}
			out = append(out, connectors.Split{ID: split.GetId(), Host: split.GetHost()})
		}
		return nil
	})
	return out, err
}

func (s *source) Topics(ctx context.Context) (out []connectors.TopicSpec, err error) {
	err = s.p.call(ctx, s.env, s.config, lookTimeout, func(ctx context.Context, c *child) error {
		topics, err := c.api.Topics(ctx, s.config)
		if err = errors.Join(c.failed(ctx, err), c.failure(topics.GetFailure())); err != nil {
			return err
		}
		if n := len(topics.GetTopics()); n > maxTopics {
			return s.p.bad(fmt.Sprintf("it names %d topics; %d are too many", n, maxTopics))
		}
		for _, t := range topics.GetTopics() {
			if err := topicName(t.GetName()); err != nil {
				return s.p.bad(err.Error())
			}
			out = append(out, connectors.TopicSpec{Name: t.GetName(), Partitions: t.GetPartitions(), Configs: t.GetConfigs()})
		}
		return nil
	})
	return out, err
}

// Compare asks the plugin. When it cannot be asked the first counts as earlier: who waits for a position waits on.
func (s *source) Compare(key connectors.PositionKey, a, b connectors.Position) int {
	order := -1
	err := s.p.call(context.Background(), s.env, s.config, askTimeout, func(ctx context.Context, c *child) error {
		o, err := c.api.Compare(ctx, &pb.CompareRequest{Config: s.config, Key: []byte(key), A: a, B: b})
		if err = errors.Join(c.failed(ctx, err), c.failure(o.GetFailure())); err == nil {
			order = int(o.GetOrder())
		}
		return err
	})
	if err != nil {
		s.env.Logger.Warn("positions cannot be compared", "key", key, "error", err)
	}
	return order
}

func (s *source) Task(split connectors.Split) connectors.SourceTask {
	d := frame.NewDecoder()
	d.Topic = topicName
	return &sourceTask{s: s, split: split, decoder: d}
}

// sourceTask is one life of a source's task: one stream.
type sourceTask struct {
	s     *source
	split connectors.Split
	lease *lease // nil: not open
	child *child // its process

	stream  grpc.BidiStreamingClient[pb.ToSource, pb.FromSource]
	cancel  context.CancelFunc // of the stream
	sending sync.Mutex
	in      chan *pb.FromSource // closed with the stream
	ended   chan struct{}       // closed once err is set and nobody receives any more
	err     error               // of the stream

	decoder *frame.Decoder
	used    int // bytes of the frame that is being read
}

func (t *sourceTask) Open(ctx context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	var err error
	if t.lease, err = t.s.p.acquire(ctx, t.s.env, t.s.config); err != nil {
		return err
	}
	t.child = t.lease.child
	if t.stream, t.cancel, err = begin(ctx, t.child.api.Source); err != nil {
		return t.child.failed(ctx, err)
	}
	t.in, t.ended = make(chan *pb.FromSource), make(chan struct{})
	go t.receive(t.stream.Context())
	open := &pb.OpenSource{Config: t.s.config, Split: &pb.Split{Id: t.split.ID, Host: t.split.Host}, Positions: convert.Positions(positions), FrameBytes: frameBytes}
	_ = t.send(ctx, &pb.ToSource{Message: &pb.ToSource_Open{Open: open}}) // that it fails shows in what is received
	_ = t.send(ctx, &pb.ToSource{Message: &pb.ToSource_Credit{Credit: credit}})
	m, err := t.next(ctx)
	if err != nil {
		return err
	}
	if m.GetOpened() == nil {
		return t.s.p.bad("it sends records before it has opened")
	}
	return nil
}

// receive hands over what comes. It holds one message, and the connection's window a few MiB: whatever a plugin makes of its credit,
// what it sends beyond that stays with it (invariant 9).
func (t *sourceTask) receive(ctx context.Context) {
	defer close(t.ended)
	defer close(t.in)
	for {
		m, err := t.stream.Recv()
		if err != nil {
			t.err = t.child.failed(ctx, err)
			return
		}
		select {
		case t.in <- m:
		case <-ctx.Done():
			t.err = ctx.Err()
			return
		}
	}
}

// next is the next message, or why none will come.
func (t *sourceTask) next(ctx context.Context) (*pb.FromSource, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case m, ok := <-t.in:
		if !ok {
			return nil, t.broken()
		}
		return m, t.child.failure(m.GetFailure())
	}
}

// broken says how the stream has ended.
func (t *sourceTask) broken() error {
	<-t.ended
	if errors.Is(t.err, io.EOF) {
		return t.s.p.bad("it has ended a task without a word")
	}
	return t.err
}

// send gives up with ctx: a plugin that does not read must not hold up its task.
func (t *sourceTask) send(ctx context.Context, m *pb.ToSource) error {
	t.sending.Lock()
	defer t.sending.Unlock()
	if err := ctx.Err(); err != nil {
		return err // nothing was cut off
	}
	stop := context.AfterFunc(ctx, t.cancel)
	defer stop()
	return t.stream.Send(m)
}

func (t *sourceTask) Read(ctx context.Context, b *connectors.Batch) error {
	taken := 0 // bytes of frames, which the records borrow
	for {
		if err := ctx.Err(); err != nil {
			return err // a plugin that always has something to say must not outlast its task
		}
		if err := t.decoder.Fill(b); err != nil {
			return t.s.p.bad(err.Error())
		}
		if t.decoder.Done() && t.used > 0 {
			_ = t.send(ctx, &pb.ToSource{Message: &pb.ToSource_Credit{Credit: uint64(t.used)}})
			t.used = 0
		}
		if !t.decoder.Done() || b.Full() || taken >= frameBytes && !b.Empty() { // what is left of a frame is for the next batch
			return nil
		}
		var m *pb.FromSource
		var err error
		if b.Empty() {
			m, err = t.next(ctx)
		} else {
			select {
			case got, ok := <-t.in:
				if m = got; !ok {
					return t.broken()
				}
				err = t.child.failure(m.GetFailure())
			default:
				return nil
			}
		}
		switch {
		case err != nil:
			return err
		case m.GetEnd() != nil:
			return io.EOF
		}
		t.used = len(m.GetFrame())
		taken += t.used
		t.decoder.Feed(m.GetFrame())
	}
}

func (t *sourceTask) Committed(ctx context.Context, positions map[connectors.PositionKey]connectors.Position) error {
	_ = t.send(ctx, &pb.ToSource{Message: &pb.ToSource_Committed{Committed: convert.Positions(positions)}}) // that it fails shows in Read
	return nil
}

// Close ends the plugin's side in good order, for as long as a process may take to end; what does not end so is killed.
func (t *sourceTask) Close() error {
	if t.lease == nil {
		return nil
	}
	defer t.s.p.release(t.s.env.Name, t.lease)
	if t.stream == nil {
		return nil
	}
	defer t.cancel()
	_ = t.stream.CloseSend() // that it fails shows in what is received
	late := time.AfterFunc(t.s.p.patience, t.cancel)
	var failure error     // the first one: there may be any number
	for m := range t.in { // what was on its way is read again after the next Open
		if failure == nil {
			failure = t.child.failure(m.GetFailure())
		}
	}
	<-t.ended
	return t.s.p.closed(t.s.env.Name, t.lease, t.err, !late.Stop(), failure)
}
