package wire_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/wire"
)

// endsAfterRead ends a context once it has read a whole response.
type endsAfterRead struct {
	net.Conn
	left int
	end  context.CancelFunc
}

func (c *endsAfterRead) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.left -= n; c.left <= 0 {
		c.end()
	}
	return n, err
}

// answerOnce reads a request and writes frame; the channel has what came of it.
func answerOnce(there net.Conn, frame []byte) <-chan error {
	done := make(chan error, 1)
	go func() {
		var size [4]byte
		_, err := io.ReadFull(there, size[:])
		if err == nil {
			_, err = io.CopyN(io.Discard, there, int64(binary.BigEndian.Uint32(size[:])))
		}
		if err == nil {
			_, err = there.Write(frame)
		}
		done <- err
	}()
	return done
}

// TestContextEndsWithTheResponse is Do's promise that the end of its context breaks the connection, and that Do says so itself, not the next one.
func TestContextEndsWithTheResponse(t *testing.T) {
	here, there := net.Pipe()
	resp := kmsg.NewPtrApiVersionsResponse()
	body := resp.AppendTo(make([]byte, 8))
	binary.BigEndian.PutUint32(body, uint32(len(body)-4))
	binary.BigEndian.PutUint32(body[4:], 1)
	done := answerOnce(there, body)
	ctx, cancel := context.WithCancel(t.Context())
	c := wire.NewClient(&endsAfterRead{here, len(body), cancel}, "test", 1000)
	if got, err := c.Do(ctx, kmsg.NewPtrApiVersionsRequest()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v, want %v", got, err, context.Canceled)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := errors.Join(c.Close(), there.Close()); err != nil {
		t.Error(err)
	}
}

// TestTagCountOfAnAnswer: a peer's count of four billion tags costs nothing, neither at the end of an answer nor within one of its tags.
func TestTagCountOfAnAnswer(t *testing.T) {
	req := kmsg.NewPtrFetchRequest()
	req.Version = 12
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = 12
	part := kmsg.NewFetchResponseTopicPartition()
	part.DivergingEpoch.Epoch, part.DivergingEpoch.EndOffset = 0x01020304, 0x05060708090a0b0c
	resp.Topics = []kmsg.FetchResponseTopic{{Topic: "t", Partitions: []kmsg.FetchResponseTopicPartition{part}}}
	good := append([]byte{0}, resp.AppendTo(nil)...) // a header without tags
	within := []byte{13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0}
	many := []byte{255, 255, 255, 255, 15}
	if bytes.Count(good, within) != 1 {
		t.Fatalf("%x", good)
	}
	inner := append(append([]byte{17}, within[1:13]...), many...)
	for name, body := range map[string][]byte{
		"good": good, "at its end": append(good[:len(good)-1:len(good)-1], many...), "within a tag": bytes.Replace(good, within, inner, 1),
	} {
		here, there := net.Pipe()
		frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))
		done := answerOnce(there, append(binary.BigEndian.AppendUint32(frame, 1), body...))
		c := wire.NewClient(here, "test", 1000)
		begin := time.Now()
		if _, err := c.Do(t.Context(), req); (err == nil) != (name == "good") {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
		if err := errors.Join(<-done, c.Close(), there.Close()); err != nil {
			t.Error(err)
		}
	}
}
