package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/plugins/process/frame"
	"github.com/forebayhub/forebay/plugins/process/internal/convert"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// Source is one life of a source's task.
func (s *server) Source(stream grpc.BidiStreamingServer[pb.ToSource, pb.FromSource]) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	failed := func(err error) error {
		return stream.Send(&pb.FromSource{Message: &pb.FromSource_Failure{Failure: failureOf(err)}})
	}
	open := m.GetOpen()
	src, err := s.newSource(open.GetConfig())
	if err != nil {
		return failed(err)
	}
	t := &sourceTask{stream: stream, task: src.Task(connectors.Split{ID: open.GetSplit().GetId(), Host: open.GetSplit().GetHost()}), frameBytes: int(open.GetFrameBytes())}
	t.more = sync.NewCond(&t.mu)
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	if err := t.task.Open(ctx, convert.PositionsFrom(open.GetPositions())); err != nil {
		return failed(errors.Join(fmt.Errorf("open: %w", err), ignore(t.task.Close())))
	}
	if err := stream.Send(&pb.FromSource{Message: &pb.FromSource_Opened{Opened: &pb.Done{}}}); err != nil {
		return errors.Join(err, t.task.Close())
	}
	heard := make(chan error, 1)
	go func() {
		err := t.listen(stream.Context()) // the last acknowledgement comes when reading is over
		t.stop()
		cancel()
		heard <- err
	}()
	err = t.read(ctx)
	ended := ctx.Err() != nil // the host has closed its side, or is gone
	cancel()
	switch {
	case ended:
		err = nil
	case errors.Is(err, io.EOF):
		err = stream.Send(&pb.FromSource{Message: &pb.FromSource_End{End: &pb.Done{}}})
	default:
		err = failed(err)
	}
	// Committed may still be said of what was sent, until the host closes its side.
	herr := <-heard
	if cerr := t.task.Close(); cerr != nil {
		err = errors.Join(err, failed(fmt.Errorf("close: %w", cerr)))
	}
	if herr != nil {
		return failed(herr)
	}
	return err
}

func ignore(error) error { return nil } // the first error tells more

type sourceTask struct {
	stream     grpc.BidiStreamingServer[pb.ToSource, pb.FromSource]
	task       connectors.SourceTask
	frameBytes int

	mu     sync.Mutex
	more   *sync.Cond // credit, or the end
	credit int64
	over   bool
}

// listen takes credit and acknowledgements until the host ends its side.
func (t *sourceTask) listen(ctx context.Context) error {
	for {
		m, err := t.stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // whichever way, it has ended
		}
		if n := m.GetCredit(); n > 0 {
			t.mu.Lock()
			t.credit += int64(n)
			t.mu.Unlock()
			t.more.Signal()
		}
		if c := m.GetCommitted(); c != nil {
			if err := t.task.Committed(ctx, convert.PositionsFrom(c)); err != nil {
				return fmt.Errorf("committed: %w", err)
			}
		}
	}
}

// stop ends the wait for credit.
func (t *sourceTask) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	t.more.Broadcast()
}

// spend waits for credit, and takes n of it; false: there will be none.
func (t *sourceTask) spend(n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.credit <= 0 && !t.over {
		t.more.Wait()
	}
	t.credit -= int64(n)
	return !t.over
}

// read sends what the task reads until it ends.
func (t *sourceTask) read(ctx context.Context) error {
	b := connectors.NewBatch(t.frameBytes)
	e := frame.NewEncoder()
	for {
		b.Reset()
		err := t.task.Read(ctx, b)
		if ferr := t.send(e, b); ferr != nil {
			return ferr
		}
		if err != nil {
			return err
		}
	}
}

// send sends a batch: one frame, or several when it is larger than one may be.
func (t *sourceTask) send(e *frame.Encoder, b *connectors.Batch) error {
	e.Begin()
	marks := b.Marks
	for i := 0; i <= len(b.Records); i++ {
		for len(marks) > 0 && marks[0].Upto <= i {
			e.Mark(marks[0].Key, marks[0].Position, marks[0].Boundary)
			marks = marks[1:]
		}
		if i == len(b.Records) {
			break
		}
		err := e.Record(&b.Records[i])
		if errors.Is(err, frame.ErrFull) {
			if err := t.flush(e.Bytes()); err != nil {
				return err
			}
			e.Begin()
			err = e.Record(&b.Records[i])
		}
		if err != nil {
			return connectors.Fatal(err, "")
		}
	}
	if e.Len() == 0 {
		return nil
	}
	return t.flush(e.Bytes())
}

func (t *sourceTask) flush(p []byte) error {
	if !t.spend(len(p)) {
		return context.Canceled
	}
	return t.stream.Send(&pb.FromSource{Message: &pb.FromSource_Frame{Frame: p}})
}
