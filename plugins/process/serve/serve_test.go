package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// TestTextsOfAnyBytes: an error that quotes a file's name is told, and not lost as a message that cannot be sent.
func TestTextsOfAnyBytes(t *testing.T) {
	f := failureOf(connectors.Fatal(errors.New("no caf\xe9"), "look at caf\xe9"))
	if _, err := proto.Marshal(f); err != nil || f.GetMessage() != "no caf\uFFFD" {
		t.Errorf("%q, %v", f.GetMessage(), err)
	}
}

// host is the host's end of a source's stream: it acknowledges once the split has ended.
type host struct {
	grpc.BidiStreamingServer[pb.ToSource, pb.FromSource]
	ctx   context.Context
	asked int
	ended chan struct{}
	sent  []*pb.FromSource
}

func (h *host) Context() context.Context { return h.ctx }

func (h *host) Send(m *pb.FromSource) error {
	h.sent = append(h.sent, m)
	if m.GetEnd() != nil {
		close(h.ended)
	}
	return nil
}

func (h *host) Recv() (*pb.ToSource, error) {
	switch h.asked++; h.asked {
	case 1:
		return &pb.ToSource{Message: &pb.ToSource_Open{Open: &pb.OpenSource{}}}, nil
	case 2:
		<-h.ended
		return &pb.ToSource{Message: &pb.ToSource_Committed{Committed: &pb.Positions{Positions: []*pb.Position{{Key: []byte("k"), Position: []byte("p")}}}}}, nil
	}
	return nil, io.EOF
}

// short is a source of nothing, which cannot forget what is acknowledged.
type short struct {
	connectors.Source
	connectors.SourceTask
	heard chan error // the context's, as Committed finds it
}

func (s short) Task(connectors.Split) connectors.SourceTask { return s }
func (s short) Open(context.Context, map[connectors.PositionKey]connectors.Position) error {
	return nil
}
func (s short) Read(context.Context, *connectors.Batch) error { return io.EOF }
func (s short) Close() error                                  { return nil }
func (s short) Committed(ctx context.Context, _ map[connectors.PositionKey]connectors.Position) error {
	s.heard <- ctx.Err()
	return errors.New("it is in use")
}

// TestLastAcknowledgement of a split that ends: it can be acted upon, and that it fails is told.
func TestLastAcknowledgement(t *testing.T) {
	src := short{heard: make(chan error, 1)}
	s := &server{source: &connectors.SourceType{New: func(spec.Values, connectors.Env) (connectors.Source, error) { return src, nil }}}
	s.log = slog.New(slog.DiscardHandler)
	h := &host{ctx: t.Context(), ended: make(chan struct{})}
	if err := s.Source(h); err != nil {
		t.Fatal(err)
	}
	if err := <-src.heard; err != nil {
		t.Errorf("the acknowledgement comes with a context that is over: %v", err)
	}
	if last := h.sent[len(h.sent)-1]; last.GetFailure().GetMessage() != "committed: it is in use" {
		t.Errorf("%v", last)
	}
}
