package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/plugins/process/frame"
	"github.com/forebayhub/forebay/plugins/process/internal/convert"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// sink is a sink in a plugin.
type sink struct {
	p      *Plugin
	env    connectors.Env
	kind   *pb.Kind
	config *pb.Config
	topics []string
}

func (s *sink) Capabilities() connectors.Capabilities { return capabilities(s.kind) }
func (s *sink) Topics() []string                      { return s.topics }

func (s *sink) Validate(ctx context.Context) []spec.Finding {
	return s.p.validate(ctx, s.env, s.config)
}

func (s *sink) Task(env connectors.SinkEnv) connectors.SinkTask {
	t := &sinkTask{s: s, env: env, encoder: frame.NewEncoder()}
	t.encoder.Raw = !s.kind.GetDecoded()
	return t
}

// sinkTask is one life of a sink's task: one stream, on which each message but an Advance has one answer.
type sinkTask struct {
	s       *sink
	env     connectors.SinkEnv
	child   *child
	release func()
	stream  grpc.BidiStreamingClient[pb.ToSink, pb.FromSink]
	cancel  context.CancelFunc
	encoder *frame.Encoder
	due     *pb.Partitions // as the last Write told; nil: ask
	broken  error          // why a Tick could not be answered
}

func (t *sinkTask) Open(ctx context.Context) error {
	var err error
	if t.child, t.release, err = t.s.p.acquire(ctx, t.s.env.Name, t.s.env.Logger); err != nil {
		return err
	}
	var sctx context.Context
	sctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if t.stream, err = t.child.api.Sink(sctx); err != nil {
		return t.child.failed(err)
	}
	_, err = t.ask(ctx, &pb.ToSink{Message: &pb.ToSink_Open{Open: &pb.OpenSink{Config: t.s.config, TaskId: t.env.TaskID, Epoch: t.env.Epoch}}}, (*pb.FromSink_Done)(nil))
	return err
}

// ask sends m and waits for the answer, which has to be like want.
func (t *sinkTask) ask(ctx context.Context, m *pb.ToSink, want any) (*pb.FromSink, error) {
	if t.broken != nil {
		return nil, t.broken
	}
	stop := context.AfterFunc(ctx, t.cancel)
	defer stop()
	_ = t.stream.Send(m) // that it fails shows in what is received
	answer, err := t.stream.Recv()
	switch {
	case err != nil && ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		if errors.Is(err, io.EOF) {
			err = t.s.p.bad("it has ended a task without a word")
		} else {
			err = t.child.failed(err)
		}
	case answer.GetFailure() != nil:
		return nil, t.child.failure(answer.GetFailure())
	case fmt.Sprintf("%T", answer.GetMessage()) != fmt.Sprintf("%T", want):
		err = t.s.p.bad(fmt.Sprintf("it answers %T with %T", m.GetMessage(), answer.GetMessage()))
	}
	t.broken = err
	return answer, err
}

func (t *sinkTask) Recover(ctx context.Context, as []connectors.Assignment) (map[connectors.TopicPartition]int64, error) {
	m := &pb.Assignments{}
	for _, a := range as {
		m.Assignments = append(m.Assignments, convert.Assignment(a))
	}
	answer, err := t.ask(ctx, &pb.ToSink{Message: &pb.ToSink_Recover{Recover: m}}, (*pb.FromSink_Resume)(nil))
	if err != nil {
		return nil, err
	}
	out := map[connectors.TopicPartition]int64{}
	for _, o := range answer.GetResume().GetOffsets() {
		out[convert.PartitionFrom(o.GetPartition())] = o.GetNext()
	}
	return out, nil
}

func (t *sinkTask) Write(ctx context.Context, records []connectors.Record) ([]connectors.Reject, error) {
	var rejects []connectors.Reject
	var places []int // in records, of those in the frame; nil: all of them
	t.encoder.Begin()
	sent := 0
	for i := range records {
		r := &records[i]
		var err error
		if t.s.kind.GetDecoded() {
			err = t.env.Decode(r)
		}
		if err == nil {
			err = t.encoder.Record(r)
		}
		if err != nil {
			if places == nil {
				places = make([]int, i, len(records))
				for j := range places {
					places[j] = j
				}
			}
			rejects = append(rejects, connectors.Reject{Index: i, Reason: err})
			continue
		}
		if places != nil {
			places = append(places, i)
		}
		sent++
	}
	now := time.Now().UnixNano()
	answer, err := t.ask(ctx, &pb.ToSink{Message: &pb.ToSink_Write{Write: &pb.Write{Frame: t.encoder.Bytes(), Now: now}}}, (*pb.FromSink_Written)(nil))
	if err != nil {
		return nil, err
	}
	w := answer.GetWritten()
	t.due = w.GetDue()
	if t.due == nil {
		t.due = &pb.Partitions{}
	}
	for _, r := range w.GetRejects() {
		at := int(r.GetIndex())
		if at >= sent {
			return nil, t.s.p.bad(fmt.Sprintf("it rejects record %d of %d", at, sent))
		}
		if places != nil {
			at = places[at]
		}
		rejects = append(rejects, connectors.Reject{Index: at, Reason: errors.New(text(r.GetReason()))})
	}
	return rejects, nil
}

// Tick after a Write has its answer already. When the plugin cannot be asked something is due, so that Prepare tells why.
func (t *sinkTask) Tick(now time.Time) []connectors.TopicPartition {
	due := t.due
	t.due = nil
	if due == nil {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		answer, err := t.ask(ctx, &pb.ToSink{Message: &pb.ToSink_Tick{Tick: now.UnixNano()}}, (*pb.FromSink_Due)(nil))
		if err != nil {
			t.broken = err
			return []connectors.TopicPartition{{}}
		}
		due = answer.GetDue()
	}
	return convert.PartitionsFrom(due)
}

func (t *sinkTask) Prepare(ctx context.Context, tps []connectors.TopicPartition, cause connectors.Cause) ([]connectors.Token, error) {
	m := &pb.Prepare{Partitions: convert.Partitions(tps), Cause: pb.Prepare_Cause(cause)}
	answer, err := t.ask(ctx, &pb.ToSink{Message: &pb.ToSink_Prepare{Prepare: m}}, (*pb.FromSink_Tokens)(nil))
	if err != nil {
		return nil, err
	}
	var out []connectors.Token
	for _, token := range answer.GetTokens().GetTokens() {
		out = append(out, connectors.Token{TopicPartition: convert.PartitionFrom(token.GetPartition()), Next: token.GetNext(), Data: token.GetData()})
	}
	return out, nil
}

// Commit asks for the lease itself: the plugin cannot.
func (t *sinkTask) Commit(ctx context.Context, token connectors.Token) error {
	if err := t.env.Alive(); err != nil {
		return err
	}
	data, _ := token.Data.([]byte)
	m := &pb.Token{Partition: convert.Partition(token.TopicPartition), Next: token.Next, Data: data}
	_, err := t.ask(ctx, &pb.ToSink{Message: &pb.ToSink_Commit{Commit: m}}, (*pb.FromSink_Done)(nil))
	return err
}

func (t *sinkTask) Revoke(ctx context.Context, tps []connectors.TopicPartition) error {
	t.due = nil
	_, err := t.ask(ctx, &pb.ToSink{Message: &pb.ToSink_Revoke{Revoke: convert.Partitions(tps)}}, (*pb.FromSink_Done)(nil))
	return err
}

// Advance is connectors.Advancer. It has no answer: that the plugin is gone shows in the next question.
func (t *sinkTask) Advance(tp connectors.TopicPartition, next int64) {
	_ = t.stream.Send(&pb.ToSink{Message: &pb.ToSink_Advance{Advance: &pb.Offset{Partition: convert.Partition(tp), Next: next}}})
}

// Close ends the plugin's side in good order, for as long as a process may take to end.
func (t *sinkTask) Close() error {
	if t.release == nil {
		return nil
	}
	defer t.release()
	if t.cancel != nil {
		defer t.cancel()
	}
	if t.stream == nil || t.broken != nil {
		return nil
	}
	if err := t.stream.CloseSend(); err != nil {
		return t.child.failed(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, t.cancel)
	defer stop()
	m, err := t.stream.Recv()
	if ctx.Err() != nil {
		return fmt.Errorf("plugin %s does not end a task; it was cut off", t.child.name)
	}
	if err != nil {
		return nil //nolint:nilerr // io.EOF is how a stream ends, and what else it is was asked for before
	}
	return t.child.failure(m.GetFailure())
}
