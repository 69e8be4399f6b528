// Package wire plays requests that real clients have sent, captured by the recorder below it. A file of testdata is
// named after its client and holds frames as they were on the wire, one after the other.
package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/tests/node"
)

// frame is one captured request.
type frame struct {
	raw  []byte // with its length
	req  kmsg.Request
	body []byte
}

func (f frame) String() string {
	return fmt.Sprintf("%s v%d", kmsg.NameForKey(f.req.Key()), f.req.GetVersion())
}

func read(t *testing.T, file string) []frame {
	t.Helper()
	all, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var frames []frame
	for len(all) > 0 {
		size := 4 + binary.BigEndian.Uint32(all)
		raw := all[:size]
		all = all[size:]
		b := kbin.Reader{Src: raw[4:]}
		key, version := b.Int16(), b.Int16()
		b.Int32()
		b.NullableString()
		req := kmsg.RequestForKey(key)
		if req == nil {
			t.Fatalf("%s: key %d", file, key)
		}
		req.SetVersion(version)
		if req.IsFlexible() {
			kmsg.SkipTags(&b)
		}
		if b.Complete() != nil {
			t.Fatalf("%s: the header of %s v%d", file, kmsg.NameForKey(key), version)
		}
		frames = append(frames, frame{raw, req, b.Src})
	}
	return frames
}

func TestCapturedRequests(t *testing.T) {
	files, err := filepath.Glob("testdata/*.frames")
	if err != nil || len(files) < 6 {
		t.Fatal(files, err)
	}
	n := node.New(t, "--data", t.TempDir(), "--durability", "relaxed")
	n.Start()
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".frames"), func(t *testing.T) {
			frames := read(t, file)
			if len(frames) < 30 {
				t.Fatalf("%d frames", len(frames))
			}
			for _, f := range frames {
				if err := f.req.ReadFrom(f.body); err != nil {
					t.Errorf("%s: %v", f, err)
					continue
				}
				if again := f.req.AppendTo(nil); !bytes.Equal(again, f.body) {
					t.Errorf("%s: %d bytes that are %d when they are written again", f, len(f.body), len(again))
				}
				if err := play(n.Kafka, f); err != nil {
					t.Errorf("%s: %v", f, err)
				}
			}
		})
	}
	if log := n.LogTail(1000); strings.Contains(log, "panic") || strings.Contains(log, "level=ERROR") {
		t.Error(log)
	}
}

// play sends a frame on a connection of its own and reads the response to its end.
func play(addr string, f frame) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(f.raw); err != nil {
		return err
	}
	if p, ok := f.req.(*kmsg.ProduceRequest); ok && p.Acks == 0 {
		return nil
	}
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	if !bytes.Equal(head[4:], f.raw[8:12]) {
		return fmt.Errorf("answered with another correlation id")
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if f.req.IsFlexible() && f.req.Key() != int16(kmsg.ApiVersions) {
		b = b[1:]
	}
	resp := f.req.ResponseKind()
	resp.SetVersion(f.req.GetVersion())
	if err := resp.ReadFrom(b); err != nil {
		return err
	}
	if again := resp.AppendTo(nil); len(again) != len(b) {
		return fmt.Errorf("a response of %d bytes whose fields are %d", len(b), len(again))
	}
	return nil
}
