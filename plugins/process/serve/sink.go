package serve

import (
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/plugins/process/frame"
	"github.com/forebayhub/forebay/plugins/process/internal/convert"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// Sink is one life of a sink's task.
func (s *server) Sink(stream grpc.BidiStreamingServer[pb.ToSink, pb.FromSink]) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	open := m.GetOpen()
	sk, err := s.newSink(open.GetConfig())
	if err != nil {
		return stream.Send(answerTo(m, refusal(err)))
	}
	t := &sinkTask{stream: stream, decoder: frame.NewDecoder(), batch: connectors.NewBatch(frame.MaxBytes + 1)}
	t.task = sk.Task(connectors.SinkEnv{
		Env: s.env(open.GetConfig()), TaskID: open.GetTaskId(), Epoch: open.GetEpoch(),
		Decode: func(r *connectors.Record) error {
			if !s.decoded && (r.RawKey != nil || r.RawValue != nil) {
				return connectors.Fatal(errors.New("records come as bytes"), "a mistake in the plugin: it has to be served with serve.Decoded")
			}
			return nil
		},
		Alive: stream.Context().Err, // the host asks for the lease right before a commit, and ends the stream when it is lost
	})
	if err := t.task.Open(stream.Context()); err != nil {
		return stream.Send(answerTo(m, refusal(errors.Join(err, ignore(t.task.Close())))))
	}
	err = stream.Send(answerTo(m, done()))
	for err == nil {
		if m, err = stream.Recv(); err != nil {
			break
		}
		if answer := t.answer(m); answer != nil {
			err = stream.Send(answerTo(m, answer))
		}
	}
	cerr := t.task.Close()
	if !errors.Is(err, io.EOF) {
		return errors.Join(err, cerr)
	}
	if cerr != nil {
		return stream.Send(refusal(cerr))
	}
	return nil
}

type sinkTask struct {
	stream  grpc.BidiStreamingServer[pb.ToSink, pb.FromSink]
	task    connectors.SinkTask
	decoder *frame.Decoder
	batch   *connectors.Batch
}

// answer does what m asks for; nil: it asks for no answer.
func (t *sinkTask) answer(m *pb.ToSink) *pb.FromSink {
	ctx := t.stream.Context()
	switch m := m.GetMessage().(type) {
	case *pb.ToSink_Recover:
		resume, err := t.task.Recover(ctx, assignments(m.Recover.GetAssignments()))
		if err != nil {
			return refusal(err)
		}
		out := &pb.Offsets{}
		for tp, next := range resume {
			out.Offsets = append(out.Offsets, &pb.Offset{Partition: convert.Partition(tp), Next: next})
		}
		return &pb.FromSink{Message: &pb.FromSink_Resume{Resume: out}}
	case *pb.ToSink_Write:
		return t.write(m.Write)
	case *pb.ToSink_Tick:
		return &pb.FromSink{Message: &pb.FromSink_Due{Due: convert.Partitions(t.task.Tick(time.Unix(0, m.Tick)))}}
	case *pb.ToSink_Prepare:
		tokens, err := t.task.Prepare(ctx, convert.PartitionsFrom(m.Prepare.GetPartitions()), connectors.Cause(m.Prepare.GetCause()))
		if err != nil {
			return refusal(err)
		}
		return t.tokens(tokens)
	case *pb.ToSink_Commit:
		return doneOr(t.task.Commit(ctx, connectors.Token{TopicPartition: convert.PartitionFrom(m.Commit.GetPartition()), Next: m.Commit.GetNext(), Data: m.Commit.GetData()}))
	case *pb.ToSink_Revoke:
		return doneOr(t.task.Revoke(ctx, convert.PartitionsFrom(m.Revoke)))
	case *pb.ToSink_Advance:
		if a, ok := t.task.(connectors.Advancer); ok {
			a.Advance(convert.PartitionFrom(m.Advance.GetPartition()), m.Advance.GetNext())
		}
		return nil
	}
	return refusal(connectors.Fatal(fmt.Errorf("this plugin knows no %T", m.GetMessage()), "it is of another version"))
}

func (t *sinkTask) write(w *pb.Write) *pb.FromSink {
	t.batch.Reset()
	t.decoder.Feed(w.GetFrame())
	var err error
	for n := -1; err == nil && !t.decoder.Done(); { // it ends sooner for the sake of who does not believe the other side
		if n == len(t.batch.Records) {
			err = errors.New("more records than a write has")
			break
		}
		n = len(t.batch.Records)
		err = t.decoder.Fill(t.batch)
	}
	if err != nil {
		return refusal(err)
	}
	rejects, err := t.task.Write(t.stream.Context(), t.batch.Records)
	if err != nil {
		return refusal(err)
	}
	out := &pb.Written{Due: convert.Partitions(t.task.Tick(time.Unix(0, w.GetNow())))}
	for _, r := range rejects {
		out.Rejects = append(out.Rejects, &pb.Reject{Index: uint32(r.Index), Reason: valid(r.Reason.Error())})
	}
	return &pb.FromSink{Message: &pb.FromSink_Written{Written: out}}
}

func (t *sinkTask) tokens(tokens []connectors.Token) *pb.FromSink {
	out := &pb.Tokens{}
	for _, token := range tokens {
		data, ok := token.Data.([]byte)
		if !ok && token.Data != nil {
			return refusal(connectors.Fatal(fmt.Errorf("the data of a token is a %T", token.Data), "a mistake in the plugin: it has to be a []byte"))
		}
		out.Tokens = append(out.Tokens, &pb.Token{Partition: convert.Partition(token.TopicPartition), Next: token.Next, Data: data})
	}
	return &pb.FromSink{Message: &pb.FromSink_Tokens{Tokens: out}}
}

// answerTo numbers an answer as what it answers.
func answerTo(m *pb.ToSink, answer *pb.FromSink) *pb.FromSink {
	answer.Ask = m.GetAsk()
	return answer
}

func done() *pb.FromSink { return &pb.FromSink{Message: &pb.FromSink_Done{Done: &pb.Done{}}} }

func refusal(err error) *pb.FromSink {
	return &pb.FromSink{Message: &pb.FromSink_Failure{Failure: failureOf(err)}}
}

func doneOr(err error) *pb.FromSink {
	if err != nil {
		return refusal(err)
	}
	return done()
}

func assignments(as []*pb.Assignment) (out []connectors.Assignment) {
	for _, a := range as {
		out = append(out, convert.AssignmentFrom(a))
	}
	return out
}
