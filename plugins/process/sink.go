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

// Check is connectors.Checker.
func (s *sink) Check(ctx context.Context) error { return s.p.check(ctx, s.env, s.config) }

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
	lease   *lease // nil: not open
	child   *child // its process
	stream  grpc.BidiStreamingClient[pb.ToSink, pb.FromSink]
	cancel  context.CancelFunc
	encoder *frame.Encoder
	places  []int          // of the frame's records in a Write
	due     *pb.Partitions // as the last Write told; nil: ask
	asked   uint64         // the number of the last question
	broken  error          // why nothing can be asked any more
	ended   error          // of the stream; nil: not yet
}

func (t *sinkTask) Open(ctx context.Context) error {
	var err error
	if t.lease, err = t.s.p.acquire(ctx, t.s.env, t.s.config); err != nil {
		return err
	}
	t.child = t.lease.child
	if t.stream, t.cancel, err = begin(ctx, t.child.api.Sink); err != nil {
		return t.child.failed(ctx, err)
	}
	_, err = t.ask(ctx, &pb.ToSink{Message: &pb.ToSink_Open{Open: &pb.OpenSink{Config: t.s.config, TaskId: t.env.TaskID, Epoch: t.env.Epoch}}}, (*pb.FromSink_Done)(nil))
	return err
}

// ask sends m and waits for the answer, which has to be like want.
func (t *sinkTask) ask(ctx context.Context, m *pb.ToSink, want any) (*pb.FromSink, error) {
	if t.broken != nil {
		return nil, t.broken
	}
	if err := ctx.Err(); err != nil {
		return nil, err // nothing was cut off
	}
	stop := context.AfterFunc(ctx, t.cancel)
	defer stop()
	t.asked++
	m.Ask = t.asked
	_ = t.stream.Send(m) // that it fails shows in what is received
	answer, err := t.stream.Recv()
	t.ended = err
	switch {
	case err != nil && ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		if errors.Is(err, io.EOF) {
			err = t.s.p.bad("it has ended a task without a word")
		} else {
			err = t.child.failed(ctx, err)
		}
	case answer.GetAsk() != t.asked:
		err = t.s.p.bad(fmt.Sprintf("it answers question %d with an answer to %d", t.asked, answer.GetAsk()))
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
	t.encoder.Begin()
	t.places = t.places[:0]
	for i := range records {
		r := &records[i]
		var err error
		if t.s.kind.GetDecoded() {
			err = t.env.Decode(r)
		}
		if err == nil {
			err = t.encoder.Record(r)
		}
		if errors.Is(err, frame.ErrFull) {
			refused, serr := t.send(ctx)
			if serr != nil {
				return nil, serr
			}
			rejects = append(rejects, refused...)
			err = t.encoder.Record(r)
		}
		if err != nil {
			rejects = append(rejects, connectors.Reject{Index: i, Reason: err})
			continue
		}
		t.places = append(t.places, i)
	}
	refused, err := t.send(ctx)
	return append(rejects, refused...), err
}

// send writes the records of the frame, and begins another one.
func (t *sinkTask) send(ctx context.Context) (rejects []connectors.Reject, err error) {
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
	if n := len(w.GetRejects()); n > len(t.places) {
		return nil, t.s.p.bad(fmt.Sprintf("it rejects %d of %d records", n, len(t.places)))
	}
	for _, r := range w.GetRejects() {
		at := int(r.GetIndex())
		if at >= len(t.places) {
			return nil, t.s.p.bad(fmt.Sprintf("it rejects record %d of %d", at, len(t.places)))
		}
		rejects = append(rejects, connectors.Reject{Index: t.places[at], Reason: errors.New(t.child.text(r.GetReason()))})
	}
	t.encoder.Begin()
	t.places = t.places[:0]
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
			t.broken = err // so that Prepare tells it
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
	if t.broken != nil {
		return
	}
	late := time.AfterFunc(askTimeout, t.cancel)
	_ = t.stream.Send(&pb.ToSink{Message: &pb.ToSink_Advance{Advance: &pb.Offset{Partition: convert.Partition(tp), Next: next}}})
	if !late.Stop() {
		t.broken = fmt.Errorf("plugin %s does not take what it is sent", t.s.p.o.Name)
	}
}

// Close ends the plugin's side in good order, for as long as a process may take to end; what does not end so is killed.
func (t *sinkTask) Close() error {
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
	var failure error // the first one: there may be any number
	for t.ended == nil {
		var m *pb.FromSink
		m, t.ended = t.stream.Recv()
		if failure == nil {
			failure = t.child.failure(m.GetFailure())
		}
	}
	return t.s.p.closed(t.s.env.Name, t.lease, t.ended, !late.Stop(), failure)
}
