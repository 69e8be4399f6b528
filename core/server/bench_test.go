package server

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/internal/vfs"
)

// BenchmarkFetch reads slices of several sizes over loopback TCP from a warm
// page cache: what one Fetch costs, client included.
func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			n := newNode(b, nodeOptions{fs: vfs.Disk{}, dir: b.TempDir(), durability: commitlog.Relaxed})
			topic := n.topic("bench", 1)
			c := n.dial()
			call[*kmsg.ProduceResponse](c, produceRequest(9, topic, 0, -1, batch(b, strings.Repeat("x", size-80))))
			frame := kmsg.NewRequestFormatter().AppendRequest(nil, fetchRequest(12, topic, 0), 1)
			buf := make([]byte, 2<<20)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				roundTrip(b, c.c, frame, buf)
			}
		})
	}
}

// BenchmarkProduce appends batches, several requests in flight.
func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1000 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			n := newNode(b, nodeOptions{fs: vfs.Disk{}, dir: b.TempDir(), durability: commitlog.Relaxed})
			topic := n.topic("bench", 1)
			c := n.dial()
			frame := kmsg.NewRequestFormatter().AppendRequest(nil, produceRequest(9, topic, 0, -1, batch(b, strings.Repeat("x", size-80))), 1)
			buf := make([]byte, 1<<10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			const inFlight = 5
			sent := 0
			for b.Loop() {
				if _, err := c.c.Write(frame); err != nil {
					b.Fatal(err)
				}
				if sent++; sent > inFlight {
					readReply(b, c.c, buf)
				}
			}
		})
	}
}

func roundTrip(b *testing.B, c net.Conn, frame, buf []byte) {
	if _, err := c.Write(frame); err != nil {
		b.Fatal(err)
	}
	readReply(b, c, buf)
}

func readReply(b *testing.B, c net.Conn, buf []byte) {
	if _, err := io.ReadFull(c, buf[:4]); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c, buf[:binary.BigEndian.Uint32(buf)]); err != nil {
		b.Fatal(err)
	}
}
